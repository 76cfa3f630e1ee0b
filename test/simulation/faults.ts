/** Whole nodes on virtual time under churn and faults: nobody alive is declared dead, all dead are. */
import assert from "node:assert/strict";
import { fromUtf8, utf8 } from "../../src/base/bytes.ts";
import { randomBelow, randomFraction, sample, seededRandom } from "../../src/base/random.ts";
import type { Node } from "../../src/node/node.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import type { Simulation } from "../../src/testing/simulation.ts";

/** What one run is made of; equal settings give equal runs. */
export interface FaultsOptions {
  readonly seed: number;
  readonly nodes: number;
  /** Rounds of faults, some seconds apart. */
  readonly rounds: number;
}

/** What happened. */
export interface FaultsResult {
  readonly trace: string;
  readonly virtualMs: number;
  /** How often each fault was made. */
  readonly faults: Readonly<Record<string, number>>;
  /** From a crash to the verdict, for each witness, ms, ascending. */
  readonly detectionMs: readonly number[];
  readonly messages: number;
}

/** A verdict on a former life may come so long after the next one began, ms. */
const LATE_VERDICT_MS = 60_000;
/** A node stalls no more often, ms. */
const REST_MS = 20_000;
const HOUR_MS = 3_600_000;

interface Life {
  readonly bornAt: number;
  goneAt: number | undefined;
  readonly heard: Set<string>;
}

/** Runs the story; throws, with the seed, at the first thing that must not be. */
export async function runFaults({ seed, nodes, rounds }: FaultsOptions): Promise<FaultsResult> {
  const random = seededRandom(seed + 0x5eed);
  const offsets = new Map(Array.from({ length: nodes }, (_, i) => {
    return [i, i % 7 === 3 ? (randomFraction(random) * 2 - 1) * HOUR_MS : 0];
  }));
  const sim = await createSimulation({
    seed,
    nodes,
    latencyMs: [5, 40],
    loss: 0.01,
    wallOffsetMs: (index) => offsets.get(index) ?? 0,
  });
  const story = new Story(sim);
  for (const node of sim.nodes) story.begin(node);
  await sim.until(() => sim.nodes.every(({ membership }) => membership.members().length === nodes));
  await sim.run({ forMs: 10_000 });

  const faults: Record<string, number> = {};
  const gone: Node[] = [];
  const stalledAt = new Map<string, number>();
  // The first node is the contact of all that start again.
  const others = () => sim.nodes.filter((node) => node !== sim.node(0) && story.isAlive(node));
  const two = () => sample(random, others(), 2) as [Node, Node];
  const makers: Record<string, () => void | Promise<void>> = {
    crash() {
      const most = Math.min(
        Math.max(1, Math.floor(nodes / 8)),
        Math.floor(nodes / 3) - gone.length,
      );
      for (const node of sample(random, others(), most > 0 ? 1 + randomBelow(random, most) : 0)) {
        story.end(node);
        gone.push(node);
        story.note(`${node.name} crashes`);
        sim.crash(node);
      }
    },
    async restart() {
      for (const node of gone.splice(0, 1 + randomBelow(random, 3))) {
        story.begin(await sim.restart(node));
      }
    },
    async swift() {
      // Away and back before anybody can have noticed.
      const [node] = two();
      story.note(`${node.name} restarts at once`);
      story.end(node);
      story.begin(await sim.restart(node));
    },
    stall() {
      // Two stalls in a row are a longer silence than a node may keep.
      const rested = others().filter(({ name }) =>
        sim.now() - (stalledAt.get(name) ?? -Infinity) > REST_MS
      );
      for (const node of sample(random, rested, Math.max(1, Math.floor(nodes / 10)))) {
        stalledAt.set(node.name, sim.now());
        const forMs = 5_000 + randomFraction(random) * 3_000;
        story.note(`${node.name} stalls for ${forMs} ms`);
        sim.stall(node, forMs);
      }
    },
    oneWay() {
      const [from, to] = two();
      story.note(`nothing passes from ${from.name} to ${to.name}`);
      sim.cut(from, to);
    },
    halfOpen() {
      const [node] = two();
      const [peer] = node.membership.activeView();
      const other = others().find(({ name }) => name === peer);
      if (other === undefined) return;
      story.note(`the connection from ${node.name} to ${other.name} is half-open`);
      sim.halfOpen(node, other);
    },
  };
  for (let round = 0; round < rounds; round++) {
    const name = sample(random, Object.keys(makers), 1)[0] as string;
    faults[name] = (faults[name] ?? 0) + 1;
    await makers[name]?.();
    for (let i = 0; i < 3; i++) {
      story.publish(sample(random, others(), 1)[0] as Node);
      await sim.run({ forMs: 1_000 + randomFraction(random) * 3_000 });
    }
    sim.heal();
    story.check();
  }
  await story.settled();
  const result = {
    trace: sim.trace(),
    virtualMs: Math.round(sim.now()),
    faults,
    detectionMs: story.detectionMs.sort((a, b) => a - b),
    messages: story.published,
  };
  await sim.close();
  return result;
}

/** The observer: what is true, and what each node says. */
class Story {
  readonly detectionMs: number[] = [];
  published = 0;
  readonly #sim: Simulation;
  readonly #lives = new Map<string, Life[]>();
  readonly #sent: { readonly text: string; readonly from: string; readonly at: number }[] = [];

  constructor(sim: Simulation) {
    this.#sim = sim;
  }

  #life(name: string): Life {
    return this.#lives.get(name)?.at(-1) as Life;
  }

  isAlive(node: Node): boolean {
    return this.#life(node.name).goneAt === undefined;
  }

  begin(node: Node): void {
    const life: Life = { bornAt: this.#sim.now(), goneAt: undefined, heard: new Set() };
    this.#lives.set(node.name, [...this.#lives.get(node.name) ?? [], life]);
    node.broadcast.subscribe("news", (bytes) => {
      const text = fromUtf8(bytes);
      if (life.heard.has(text)) this.#broken(`${node.name} got "${text}" twice`);
      life.heard.add(text);
    });
    node.membership.on((event) => {
      if (event.type === "nodeDown") this.#verdict(node, event.node);
    });
  }

  end(node: Node): void {
    this.#life(node.name).goneAt = this.#sim.now();
  }

  publish(node: Node): void {
    const text = `${this.published++}`;
    this.#sent.push({ text, from: node.name, at: this.#sim.now() });
    void node.broadcast.publish("news", utf8(text));
  }

  #verdict(witness: Node, name: string): void {
    const now = this.#sim.now();
    const life = this.#life(name);
    if (life.goneAt !== undefined) {
      this.detectionMs.push(now - life.goneAt);
      return;
    }
    const isLate = (this.#lives.get(name)?.length ?? 0) > 1 && now - life.bornAt < LATE_VERDICT_MS;
    if (!isLate) this.#broken(`${witness.name} declared ${name} down, which lives`);
  }

  #violation: string | undefined;
  readonly #notes: string[] = [];

  /** Remembered for a failure. */
  note(what: string): void {
    this.#notes.push(`at ${this.#sim.now()} ms: ${what}`);
  }

  /** @throws Error with what was found so far, and the faults before */
  check(): void {
    if (this.#violation === undefined) return;
    throw new Error([...this.#notes, this.#violation].join("\n"));
  }

  // Thrown where the story looks next: a listener's error would only be logged.
  #broken(what: string): void {
    this.#violation ??= `at ${this.#sim.now()} ms: ${what}`;
  }

  /** Waits until all agree on who lives and views are whole, then looks at everything. */
  async settled(): Promise<void> {
    const sim = this.#sim;
    const live = sim.nodes.filter((node) => this.isAlive(node));
    const names = live.map(({ name }) => name).sort();
    const agrees = ({ membership }: Node) => {
      const members = membership.members();
      return members.length === names.length && members.every(({ status }) => status === "alive");
    };
    try {
      await sim.until(() => live.every(agrees) && isSound(live), { withinMs: 300_000 });
    } catch (cause) {
      const wrong = live.filter((node) => !agrees(node)).map(({ name }) => name);
      throw new Error(`members disagree at ${wrong.join(" ")}, components ${components(live)}`, {
        cause,
      });
    }
    await sim.run({ forMs: 30_000 });
    this.check();
    for (const { name, membership } of live) {
      const known = membership.members().map((member) => member.name).sort();
      assert.deepEqual(known, names, `the members that ${name} knows`);
    }
    assert.deepEqual(components(live), [live.length]);
    this.#checkDelivery(live);
  }

  // Who lived from before a message until now has it, if its sender lived on for a while.
  #checkDelivery(live: readonly Node[]): void {
    for (const { text, from, at } of this.#sent) {
      const stayed = this.#lives.get(from)?.some(({ bornAt, goneAt = Infinity }) =>
        bornAt <= at && goneAt > at + 20_000
      );
      if (!stayed) continue;
      for (const { name } of live) {
        const { bornAt, heard } = this.#life(name);
        if (name === from || bornAt + 20_000 > at) continue;
        assert.ok(heard.has(text), `${name} lacks message ${text} of ${from}, sent at ${at} ms`);
      }
    }
  }
}

function isSound(live: readonly Node[]): boolean {
  const views = new Map(live.map(({ name, membership }) => [name, membership.activeView()]));
  return [...views].every(([name, view]) =>
    view.length > 0 && view.every((peer) => views.get(peer)?.includes(name))
  );
}

/** Sizes of the components of the overlay, largest first. */
function components(live: readonly Node[]): number[] {
  const rest = new Map(live.map((node) => [node.name as string, node]));
  const sizes: number[] = [];
  for (const [name, start] of rest) {
    rest.delete(name);
    const todo = [start];
    let size = 0;
    for (let node = todo.pop(); node !== undefined; node = todo.pop()) {
      size++;
      for (const peer of node.membership.activeView()) {
        const next = rest.get(peer);
        if (next !== undefined && rest.delete(peer)) todo.push(next);
      }
    }
    sizes.push(size);
  }
  return sizes.sort((a, b) => b - a);
}
