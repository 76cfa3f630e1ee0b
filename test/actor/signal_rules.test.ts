import assert from "node:assert/strict";
import fc from "fast-check";
import { Down, Exit } from "../../src/actor/messages.ts";
import type { Ref } from "../../src/wire/ref.ts";
import { describe, test } from "../harness.ts";
import { Wires } from "./wires.ts";
import type { Puppet, WiredNode } from "./wires.ts";

/** What was asked for, written down beside what is done. */
class Play {
  readonly wires = new Wires(["a@x", "b@x", "c@x"]);
  readonly puppets: Puppet[] = [];
  readonly ended = new Map<Puppet, unknown>();
  readonly monitors: { owner: Puppet; target: Puppet; ref: Ref; isStopped: boolean }[] = [];
  /** Pairs that were ever linked, and those that were ever unlinked. */
  readonly linked = new Set<string>();
  readonly unlinked = new Set<string>();
  /** Pairs of nodes whose connection ever broke. */
  readonly broken = new Set<string>();
  readonly reasons = new Set<unknown>(["noproc", "noconnection"]);
  readonly #sent = new Map<string, number>();

  spawn(node: number, trap: boolean): void {
    if (this.puppets.length >= 12) return;
    const puppet = this.wires.puppet(node % 3, trap);
    this.puppets.push(puppet);
    puppet.node.system.exitListeners.add((pid, reason) => {
      if (pid.equals(puppet.process.pid)) this.ended.set(puppet, reason);
    });
  }

  alive(index: number): Puppet | undefined {
    const puppet = this.puppets[index % Math.max(1, this.puppets.length)];
    return puppet?.process.isAlive ? puppet : undefined;
  }

  any(index: number): Puppet | undefined {
    return this.puppets[index % Math.max(1, this.puppets.length)];
  }

  pair(a: Puppet, b: Puppet): string {
    return [a, b].map((puppet) => this.puppets.indexOf(puppet)).sort((x, y) => x - y).join();
  }

  nodes(a: WiredNode, b: WiredNode): string {
    return [a, b].map((node) => node.identity.name).sort().join();
  }

  do(step: Step): void {
    const { wires } = this;
    switch (step.type) {
      case "spawn":
        return this.spawn(step.x, step.trap);
      case "deliver":
        return void wires.step(step.x);
      case "settle":
        return wires.settle();
      case "cut":
      case "hear": {
        const [a, b] = [wires.nodes[step.x % 3], wires.nodes[step.y % 3]] as [WiredNode, WiredNode];
        if (a === b) return;
        if (step.type === "hear") return wires.hear(a, b);
        this.broken.add(this.nodes(a, b));
        return wires.cut(a, b);
      }
    }
    const [owner, target] = [this.alive(step.x), this.any(step.y)];
    if (owner === undefined || target === undefined || owner === target) return;
    const { system } = owner.node;
    const { process } = owner;
    const { pid } = target.process;
    switch (step.type) {
      case "monitor":
        return void this.monitors.push({
          owner,
          target,
          ref: system.monitor(process, pid),
          isStopped: false,
        });
      case "demonitor": {
        const one = this.monitors.filter((monitor) => monitor.owner === owner).at(-1);
        if (one === undefined) return;
        one.isStopped = true;
        return system.demonitor(process, one.ref, false);
      }
      case "link":
        this.linked.add(this.pair(owner, target));
        return system.link(process, pid);
      case "unlink":
        this.unlinked.add(this.pair(owner, target));
        return system.unlink(process, pid);
      case "send": {
        const key = this.pair(owner, target) + String(this.puppets.indexOf(owner));
        const n = (this.#sent.get(key) ?? 0) + 1;
        this.#sent.set(key, n);
        return void system.send(pid, { from: this.puppets.indexOf(owner), n });
      }
      case "end":
        this.reasons.add(step.reason);
        return system.terminate(process, step.reason);
      case "exit":
        this.reasons.add(step.reason === "kill" ? "killed" : step.reason);
        return system.exit(pid, step.reason, process.pid);
    }
  }

  /** What must hold once everything has arrived. */
  check(): void {
    this.wires.settle();
    this.#checkMonitors();
    this.#checkLinks();
    this.#checkOrder();
    this.#checkHolds();
    for (const reason of this.ended.values()) {
      assert.ok(this.reasons.has(reason), "a reason of nobody");
    }
  }

  #isBroken(a: Puppet, b: Puppet): boolean {
    return this.broken.has(this.nodes(a.node, b.node));
  }

  #checkMonitors(): void {
    for (const { owner, target, ref, isStopped } of this.monitors) {
      const downs = owner.got.filter((got): got is Down => {
        return got instanceof Down && got.ref.equals(ref);
      });
      assert.ok(downs.length <= 1, "a Down came twice");
      const [down] = downs;
      if (down !== undefined) {
        if (down.reason === "noconnection") {
          const isTold = this.#isBroken(owner, target) || this.ended.get(target) === down.reason;
          assert.ok(isTold, "noconnection without a break");
        } else if (down.reason !== "noproc") {
          assert.equal(down.reason, this.ended.get(target), "not the reason of the end");
        } else assert.ok(this.ended.has(target), "noproc of a live process");
      } else if (!isStopped && owner.process.isAlive) {
        assert.ok(target.process.isAlive, "a Down was lost");
        const isWatched = [...target.process.watchers?.values() ?? []].some((watcher) =>
          watcher.ref === ref.id && watcher.node === ref.node
        );
        assert.ok(isWatched, "the other side does not know the monitor");
      }
    }
    const waiting = this.monitors.filter(({ owner, ref }) => owner.process.monitors?.has(ref.id));
    const known = this.puppets.reduce((sum, { process }) => sum + (process.watchers?.size ?? 0), 0);
    assert.equal(known, waiting.length, "a monitor that nobody wants is kept");
  }

  #checkLinks(): void {
    const byPid = new Map(this.puppets.map((one) => [String(one.process.pid), one]));
    for (const puppet of this.puppets) {
      for (const { pid, unlinking } of puppet.process.links?.values() ?? []) {
        const other = byPid.get(String(pid)) as Puppet;
        assert.equal(unlinking, 0, "an unlink was never acknowledged");
        assert.ok(other.process.isAlive, "an exit signal was lost: a link to a dead process");
        const isMutual = [...other.process.links?.values() ?? []].some((back) =>
          back.pid.equals(puppet.process.pid)
        );
        assert.ok(isMutual, "one side is linked, the other is not");
      }
      const exits = puppet.got.filter((got): got is Exit => got instanceof Exit);
      for (const { from, reason } of exits) {
        const other = byPid.get(String(from)) as Puppet;
        if (reason !== "noconnection" || this.ended.get(other) === reason) continue;
        assert.ok(this.#isBroken(puppet, other), "noconnection without a break");
      }
    }
    // Links that nobody took back and no break touched: the end of one is the end of the other.
    for (const pair of this.linked) {
      const [a, b] = pair.split(",").map((index) => this.puppets[Number(index)]) as [
        Puppet,
        Puppet,
      ];
      if (this.unlinked.has(pair) || this.#isBroken(a, b)) continue;
      for (const [dead, other] of [[a, b], [b, a]] as const) {
        if (dead.process.isAlive || !other.process.isAlive) continue;
        const told = other.got.filter((got) =>
          got instanceof Exit && got.from.equals(dead.process.pid)
        );
        if (other.process.trapExit) assert.ok(told.length > 0, "an Exit was lost");
        else {
          const isCalm = this.ended.get(dead) === "normal";
          assert.ok(isCalm, `linked with one that ended, and lives on`);
        }
      }
    }
  }

  #checkOrder(): void {
    for (const { got } of this.puppets) {
      const last = new Map<number, number>();
      const over = new Set<number>();
      for (const message of got) {
        if (message instanceof Down || message instanceof Exit) {
          const pid = message instanceof Down ? message.target : message.from;
          const from = this.puppets.findIndex((one) => String(one.process.pid) === String(pid));
          const isEnd = message instanceof Down && message.reason !== "noconnection";
          if (isEnd) over.add(from);
          continue;
        }
        const { from, n } = message as { from: number; n: number };
        assert.ok(n > (last.get(from) ?? 0), "two messages changed places, or one came twice");
        assert.ok(!over.has(from), "a message came behind the word of its sender's end");
        last.set(from, n);
      }
    }
  }

  #checkHolds(): void {
    for (const node of this.wires.nodes) {
      for (const peer of this.wires.nodes) {
        if (node === peer) continue;
        const crosses = this.puppets.some(({ process, node: home }) => {
          if (home !== node) return false;
          const name = peer.identity.name;
          return [...process.monitors?.values() ?? []].some((one) => one.node === name) ||
            [...process.watchers?.values() ?? []].some((one) => one.node === name) ||
            [...process.links?.values() ?? []].some((one) => one.pid.node === name);
        });
        assert.equal(node.holds.get(peer.identity.name) ?? 0, crosses ? 1 : 0, "a wrong hold");
      }
    }
  }
}

type Step =
  | { type: "spawn"; x: number; trap: boolean }
  | { type: "deliver"; x: number }
  | { type: "settle" }
  | { type: "cut" | "hear"; x: number; y: number }
  | { type: "monitor" | "demonitor" | "link" | "unlink" | "send"; x: number; y: number }
  | { type: "end" | "exit"; x: number; y: number; reason: string };

const index = fc.nat({ max: 11 });
const reason = fc.constantFrom("normal", "boom", "kill", "shutdown");
const pairStep = <T extends string>(...types: T[]) =>
  fc.record({ type: fc.constantFrom(...types), x: index, y: index });
const quiet = fc.oneof(
  {
    weight: 2,
    arbitrary: fc.record({ type: fc.constant("spawn" as const), x: index, trap: fc.boolean() }),
  },
  {
    weight: 8,
    arbitrary: fc.record({ type: fc.constant("deliver" as const), x: fc.nat({ max: 20 }) }),
  },
  { weight: 6, arbitrary: pairStep("monitor", "demonitor", "link", "unlink") },
  { weight: 6, arbitrary: pairStep("send") },
  {
    weight: 1,
    arbitrary: fc.record({ type: fc.constantFrom("end", "exit"), x: index, y: index, reason }),
  },
  { weight: 1, arbitrary: fc.constant({ type: "settle" as const }) },
);
const stormy = fc.oneof(
  { weight: 9, arbitrary: quiet },
  { weight: 2, arbitrary: pairStep("cut", "hear") },
);
const cast: Step[] = Array.from({ length: 6 }, (_, i) => ({ type: "spawn", x: i, trap: i > 2 }));

function run(steps: readonly Step[]): void {
  const play = new Play();
  for (const step of [...cast, ...steps]) play.do(step);
  play.check();
}

describe("whatever processes, links, monitors and ends there are", () => {
  test("each signal comes once, in order, and both sides agree", { timeoutMs: 60_000 }, () => {
    fc.assert(fc.property(fc.array(quiet as fc.Arbitrary<Step>, { maxLength: 80 }), run), {
      numRuns: 1_500,
    });
  });

  test("so it is when connections break at any moment", { timeoutMs: 60_000 }, () => {
    fc.assert(fc.property(fc.array(stormy as fc.Arbitrary<Step>, { maxLength: 80 }), run), {
      numRuns: 1_500,
    });
  });

  test(
    "so it is for links that both sides make and take back at once",
    { timeoutMs: 60_000 },
    () => {
      const two = fc.nat({ max: 1 });
      const step = fc.oneof(
        fc.record({ type: fc.constantFrom("link" as const, "unlink" as const), x: two, y: two }),
        fc.record({ type: fc.constant("deliver" as const), x: fc.nat({ max: 3 }) }),
      );
      fc.assert(fc.property(fc.array(step as fc.Arbitrary<Step>, { maxLength: 40 }), run), {
        numRuns: 2_000,
      });
    },
  );
});

describe("with the connection cut after every frame", () => {
  const scenes: Record<string, (play: Play) => void> = {
    "a monitor and the end of who is watched": (play) => {
      play.do({ type: "monitor", x: 3, y: 1 });
      play.wires.step(0);
      for (let i = 0; i < 3; i++) play.do({ type: "send", x: 1, y: 3 });
      play.do({ type: "end", x: 1, y: 0, reason: "boom" });
    },
    "a link and the end of one": (play) => {
      play.do({ type: "link", x: 3, y: 1 });
      play.do({ type: "end", x: 1, y: 0, reason: "boom" });
    },
    "a link, taken back and made again": (play) => {
      for (const type of ["link", "unlink", "link"] as const) play.do({ type, x: 3, y: 4 });
      play.do({ type: "unlink", x: 4, y: 3 });
      play.do({ type: "link", x: 4, y: 3 });
      play.do({ type: "end", x: 4, y: 0, reason: "boom" });
    },
    "a chain of links across three nodes": (play) => {
      for (const [x, y] of [[0, 1], [1, 2], [2, 3]] as const) play.do({ type: "link", x, y });
      play.do({ type: "monitor", x: 3, y: 0 });
      play.wires.step(0);
      play.do({ type: "exit", x: 3, y: 1, reason: "kill" });
    },
    "monitors both ways, stopped and begun": (play) => {
      for (const [x, y] of [[3, 4], [4, 3], [3, 4]] as const) play.do({ type: "monitor", x, y });
      play.do({ type: "demonitor", x: 3, y: 4 });
      play.do({ type: "end", x: 3, y: 0, reason: "normal" });
    },
  };
  for (const [title, scene] of Object.entries(scenes)) {
    test(`${title}: one signal each, on every side`, () => {
      // First without a cut, to learn how many frames there are.
      const count = framesOf(scene, undefined);
      assert.ok(count > 0);
      for (let at = 0; at <= count; at++) {
        for (const heard of [0, 1, 2]) {
          for (const pick of [0, 1, 2]) framesOf(scene, { at, heard, pick });
        }
      }
    });
  }
});

/** Plays a scene; cuts a@x from b@x after `at` frames. `heard`: who learns of it before the
 * rest; `pick`: which pipe delivers first. */
function framesOf(
  scene: (play: Play) => void,
  cut: { readonly at: number; readonly heard: number; readonly pick: number } | undefined,
): number {
  const play = new Play();
  for (const step of cast) play.do(step);
  scene(play);
  const before = play.wires.delivered;
  while (play.wires.delivered - before < (cut?.at ?? Infinity) && play.wires.step(cut?.pick ?? 0));
  if (cut !== undefined) {
    play.do({ type: "cut", x: 0, y: 1 });
    if (cut.heard > 0) play.do({ type: "hear", x: cut.heard - 1, y: 2 - cut.heard });
    // Life goes on, on both sides of the break.
    play.do({ type: "monitor", x: 0, y: 4 });
    play.do({ type: "link", x: 4, y: 0 });
  }
  play.check();
  return play.wires.delivered - before;
}
