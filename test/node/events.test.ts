import assert from "node:assert/strict";
import type { NodeEvent } from "../../mod.ts";
import { Emitter } from "../../src/base/events.ts";
import type { EventSource, Overflow } from "../../src/base/events.ts";
import { randomBelow, sample, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { coalesce } from "../../src/node/events.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";

/** What a subscriber believes; throws at an event that contradicts those before it. */
class Belief {
  readonly peers = new Set<string>();
  readonly members = new Map<string, string>();
  isJoined = false;
  lost = 0;

  take(event: NodeEvent | Overflow): void {
    const fits = (holds: boolean) => assert.ok(holds, `${JSON.stringify(event)} does not fit`);
    switch (event.type) {
      case "overflow":
        this.lost += event.lost;
        return;
      case "joined":
      case "left":
        fits(this.isJoined === (event.type === "left"));
        this.isJoined = event.type === "joined";
        return;
      case "peerUp":
        fits(!this.peers.has(event.node));
        this.peers.add(event.node);
        return;
      case "peerDown":
        return fits(this.peers.delete(event.node));
      case "nodeUp":
        fits(this.members.get(event.node) !== "alive");
        this.members.set(event.node, "alive");
        return;
      case "nodeUnreachable":
        fits(this.members.get(event.node) === "alive");
        this.members.set(event.node, "unreachable");
        return;
      case "nodeDown":
        return fits(this.members.delete(event.node));
    }
  }

  get state(): unknown {
    return [this.isJoined, [...this.peers].sort(), [...this.members].sort(byName)];
  }
}

const byName = ([a]: readonly [string, string], [b]: readonly [string, string]) => a < b ? -1 : 1;

/** An event that may follow, of one of `names`. */
function next({ peers, members, isJoined }: Belief, names: readonly string[], random: Random) {
  const [node] = sample(random, names, 1) as [string];
  const what = randomBelow(random, 20);
  let event: NodeEvent;
  if (what === 0) event = { type: isJoined ? "left" : "joined" };
  else if (what < 8) {
    event = peers.has(node)
      ? { type: "peerDown", node, reason: "evicted" }
      : { type: "peerUp", node };
  } else if (members.get(node) === undefined) event = { type: "nodeUp", node };
  else if (what < 12) event = { type: "nodeDown", node, reason: "unreachable" };
  else if (members.get(node) === "alive") event = { type: "nodeUnreachable", node };
  else event = { type: "nodeUp", node };
  return event;
}

describe("membership events", () => {
  test("never contradict each other, however slowly and unevenly they are taken", async () => {
    for (let seed = 0; seed < 30; seed++) {
      const random = seededRandom(seed);
      const names = Array.from({ length: 1 + randomBelow(random, 150) }, (_, i) => `n${i}@t`);
      const emitter = new Emitter<NodeEvent>(() => {}, coalesce);
      const truth = new Belief(), told = new Belief();
      const subscription = emitter.events();
      let waiting = 0;
      const take = async () => {
        const { value } = await subscription.next();
        if (value !== undefined) told.take(value);
      };
      for (let i = 0; i < 6_000; i++) {
        const event = next(truth, names, random);
        truth.take(event);
        emitter.emit(event);
        waiting++;
        if (randomBelow(random, 4) > 0) continue;
        // Now and then it takes a handful; never all of them.
        for (let n = randomBelow(random, 4); n > 0 && waiting > 0; n--, waiting--) await take();
      }
      emitter.close();
      for await (const event of subscription) told.take(event);
      assert.equal(told.lost, 0);
      assert.deepEqual(told.state, truth.state);
    }
  });

  test("that find no room even so are counted", async () => {
    const emitter = new Emitter<NodeEvent>(() => {}, coalesce);
    const subscription = emitter.events();
    for (let i = 0; i < 2_000; i++) emitter.emit({ type: "nodeUp", node: `n${i}@t` });
    emitter.close();
    const told = new Belief();
    for await (const event of subscription) told.take(event);
    assert.equal(told.members.size, 1_024);
    assert.equal(told.lost, 976);
  });

  test("come in one order for all, also when a listener causes further ones", async () => {
    const sim = await createSimulation({ seed: 3, nodes: 9 });
    await sim.until(() => sim.nodes.every(({ membership }) => membership.members().length === 9));
    await sim.run({ forMs: 60_000 });
    const { membership } = sim.node(0);
    const told: string[][] = [[], [], []];
    const note = (index: number, event: NodeEvent | Overflow) => {
      if (event.type.startsWith("node")) told[index]?.push(event.type);
    };
    membership.on((event) => note(0, event));
    membership.on((event) => event.type === "nodeUnreachable" && membership.forget(event.node));
    membership.on((event) => note(1, event));
    const iteration = membership.events();
    sim.crash(sim.node(5));
    await sim.until(() => membership.members().length === 8, { withinMs: 60_000 });
    void iteration.return?.();
    const controller = new AbortController();
    const later = membership.events({ signal: controller.signal });
    sim.crash(sim.node(6));
    await sim.until(() => membership.members().length === 7, { withinMs: 60_000 });
    controller.abort();
    for await (const event of later) note(2, event);
    assert.deepEqual(told[0], ["nodeUnreachable", "nodeDown", "nodeUnreachable", "nodeDown"]);
    assert.deepEqual(told[1], told[0]);
    assert.deepEqual(told[2], ["nodeUnreachable", "nodeDown"]);
    await sim.close();
  });

  test("refuse what they cannot use, and nothing of it is left when the node closes", async () => {
    const sim = await createSimulation({ seed: 3, nodes: 1 });
    const { membership, registry } = sim.node(0);
    const sources: readonly EventSource<unknown>[] = [membership, registry];
    for (const source of sources) {
      // The controller itself in place of its signal.
      for (const signal of [new AbortController(), 3, null]) {
        const refused = { code: "config", path: "signal" };
        assert.throws(() => source.events({ signal } as never), refused);
      }
      assert.throws(() => source.events({ sigal: 1 } as never), { path: "sigal" });
      assert.throws(() => source.events(null as never), { code: "config" });
      assert.throws(() => source.on("nodeUp" as never), TypeError);
    }
    await sim.close();
  });

  test("of a restart between two looks tell of the end and of the beginning", () => {
    const node = "a@t";
    const events: NodeEvent[] = [
      { type: "nodeUnreachable", node },
      { type: "nodeDown", node, reason: "restarted" },
      { type: "nodeUp", node },
      { type: "nodeUnreachable", node },
      { type: "nodeUp", node },
    ];
    assert.deepEqual(coalesce(events).map(({ type }) => type), ["nodeDown", "nodeUp"]);
  });

  test("lead every subscriber to the same present while nodes crash, restart and stall", {
    timeoutMs: 120_000,
  }, async () => {
    const random = seededRandom(21);
    const sim = await createSimulation({ seed: 21, nodes: 9, loss: 0.02 });
    const subscribers = [1, 3, 1_000].map((every) => ({
      every,
      belief: new Belief(),
      iteration: sim.node(0).membership.events(),
      waiting: false,
    }));
    // What it already knows: the simulation has joined its first nodes.
    for (const { belief } of subscribers) {
      const { membership } = sim.node(0);
      belief.isJoined = membership.activeView().length > 0;
      for (const peer of membership.activeView()) belief.peers.add(peer);
      for (const { name, status } of membership.members().slice(1)) {
        belief.members.set(name, status);
      }
    }
    const look = (subscriber: (typeof subscribers)[number]) => {
      if (subscriber.waiting) return;
      subscriber.waiting = true;
      void subscriber.iteration.next().then(({ value }) => {
        subscriber.waiting = false;
        if (value !== undefined) subscriber.belief.take(value);
      });
    };
    await sim.until(() => sim.nodes.every(({ membership }) => membership.members().length === 9));
    for (let second = 0; second < 240; second++) {
      const victim = sim.node(1 + randomBelow(random, 8));
      if (second % 15 === 0) await sim.restart(victim);
      if (second % 15 === 7) sim.stall(victim, 6_000);
      await sim.run({ forMs: 1_000 });
      for (const subscriber of subscribers) if (second % subscriber.every === 0) look(subscriber);
    }
    const { membership } = sim.node(0);
    await sim.until(() =>
      membership.members().length === 9 &&
      membership.members().every(({ status }) => status === "alive")
    );
    await sim.run({ forMs: 10_000 });
    const present = [
      true,
      [...membership.activeView()].sort(),
      membership.members().slice(1).map(({ name, status }) => [name, status] as const).sort(byName),
    ];
    for (const { belief, iteration } of subscribers) {
      while (JSON.stringify(belief.state) !== JSON.stringify(present)) {
        const { value } = await sim.run(iteration.next());
        if (value !== undefined) belief.take(value);
      }
      assert.equal(belief.lost, 0);
    }
    await sim.close();
  });
});

test("a node's own events() makes fewer of what a slow subscriber has not taken", {
  timeoutMs: 60_000,
}, async () => {
  const sim = await createSimulation({ seed: 2, nodes: 2 });
  const [watcher, wanderer] = [sim.node(0), sim.node(1)];
  await sim.until(() => watcher.membership.members().length === 2);
  let told = 0;
  watcher.membership.on(() => void told++);
  const slow = watcher.membership.events()[Symbol.asyncIterator]();
  const belief = new Belief();
  belief.isJoined = true;
  for (const name of watcher.membership.activeView()) belief.peers.add(name);
  belief.members.set(wanderer.name, "alive");
  // Enough for a queue of 1,024 to fill.
  while (told <= 1_100) {
    await sim.run(wanderer.membership.leave());
    await sim.until(() => watcher.membership.members().length === 1);
    await sim.run(wanderer.membership.join(watcher.addresses[0] as string));
    await sim.until(() => watcher.membership.activeView().length === 1);
  }
  await sim.run(wanderer.membership.leave());
  await sim.until(() => watcher.membership.members().length === 1);
  // What waits in the queue is there at once.
  const take = () =>
    Promise.race([slow.next(), new Promise<void>((resolve) => setTimeout(resolve))]);
  let taken = 0;
  for (let next = await take(); next !== undefined; next = await take(), taken++) {
    belief.take(next.value);
  }
  assert.deepEqual([belief.lost, [...belief.members]], [0, []]);
  assert.ok(taken < told - 512, `${taken} of ${told}`);
  await slow.return?.();
  await sim.close();
});
