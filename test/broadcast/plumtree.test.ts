import assert from "node:assert/strict";
import fc from "fast-check";
import { EMPTY } from "../../src/base/bytes.ts";
import { seededRandom } from "../../src/base/random.ts";
import { MAX_CACHED, MAX_CACHED_BYTES } from "../../src/broadcast/message_cache.ts";
import {
  decodeControl,
  decodeGossip,
  encodeControl,
  encodeGossip,
} from "../../src/broadcast/messages.ts";
import type { Control, Gossip, MessageId } from "../../src/broadcast/messages.ts";
import { MAX_MISSING, MAX_MISSING_BY_PEER } from "../../src/broadcast/missing.ts";
import { Plumtree } from "../../src/broadcast/plumtree.ts";
import type { PlumtreeEffect, PlumtreeEvent } from "../../src/broadcast/events.ts";
import { describe, test } from "../harness.ts";
import { arbitraryControl, arbitraryGossip } from "./arbitrary.ts";

/** A message of origin 4 on tree 0. */
function gossip(seq: number, more: Partial<Gossip> = {}): Gossip {
  return { origin: 4, seq, hops: 2, tree: 0, topic: "t", payload: EMPTY, ...more };
}

class Bench {
  readonly machine = new Plumtree(1, seededRandom(1));
  now = 0;

  /** A machine with neighbours, in a cluster that has not sent anything yet. */
  constructor(...neighbours: string[]) {
    for (const peer of neighbours) this.handle({ type: "neighbourUp", peer });
  }

  /** The first neighbour is the parent in all trees, and the others are lazy. */
  static settled(parent: string, ...others: string[]): Bench {
    const bench = new Bench(parent, ...others);
    bench.shape(parent, 1);
    for (const peer of others) bench.shape(peer, 2);
    bench.pass(2_000);
    return bench;
  }

  /** `from` tells its distance from the root of each tree. */
  shape(from: string, hops: number, wave: number = 1): PlumtreeEffect[] {
    const shapes = [0, 1, 2, 3].map((tree) => ({ tree, term: 1, root: 4, wave, hops }));
    return this.control(from, { type: "shape", shapes });
  }

  eager(tree: number): string[] {
    return this.machine.eagerPeers(tree);
  }

  handle(event: PlumtreeEvent): PlumtreeEffect[] {
    return this.machine.handle(event, this.now);
  }

  gossip(from: string, message: Gossip): PlumtreeEffect[] {
    return this.handle({ type: "gossip", from, gossip: message });
  }

  control(from: string, message: Control): PlumtreeEffect[] {
    return this.handle({ type: "control", from, message });
  }

  announce(from: string, ...entries: readonly MessageId[]) {
    const full = entries.map(({ origin, seq }) => ({ origin, seq, tree: 0 }));
    return this.control(from, { type: "ihave", entries: full });
  }

  /** Lets time pass until a tick is due, and ticks. */
  next(): PlumtreeEffect[] {
    assert.ok(this.machine.wakeAt < Infinity);
    this.now = Math.max(this.now, this.machine.wakeAt);
    return this.handle({ type: "tick" });
  }

  pass(ms: number): PlumtreeEffect[] {
    const end = this.now + ms;
    const effects: PlumtreeEffect[] = [];
    while (this.machine.wakeAt <= end) {
      this.now = Math.max(this.now, this.machine.wakeAt);
      effects.push(...this.handle({ type: "tick" }));
    }
    this.now = end;
    return effects;
  }
}

function pushes(effects: readonly PlumtreeEffect[]): string[] {
  return effects.flatMap((effect) =>
    effect.type === "push" ? effect.peers.map((peer) => `${peer} ${effect.gossip.seq}`) : []
  );
}

function sends(effects: readonly PlumtreeEffect[], type: Control["type"]) {
  return effects.flatMap((effect) =>
    effect.type === "send" && effect.message.type === type ? [effect] : []
  );
}

const recipients = (effects: readonly PlumtreeEffect[], type: Control["type"]) =>
  sends(effects, type).map(({ peer }) => peer);

describe("Plumtree", () => {
  test("a new message is delivered once and pushed to all but who sent it", () => {
    const bench = new Bench("a", "b", "c");
    const first = bench.gossip("a", gossip(1));
    assert.deepEqual(pushes(first), ["b 1", "c 1"]);
    assert.equal(first.filter(({ type }) => type === "deliver").length, 1);
    const push = first.find((effect) => effect.type === "push");
    assert.ok(push?.type === "push" && push.gossip.hops === 3);
    const again = bench.gossip("b", gossip(1));
    assert.deepEqual(again.filter(({ type }) => type === "deliver"), []);
  });

  test("the first sender makes itself the root of a tree, and what comes later takes the tree", () => {
    const bench = new Bench("a", "b");
    const first = bench.handle({ type: "publish", topic: "t", payload: EMPTY });
    assert.deepEqual(pushes(first), ["a 1", "b 1"], "flooded");
    const shapes = sends(first, "shape").map(({ peer, message }) => [
      peer,
      message.type === "shape" ? message.shapes : [],
    ]);
    const shape = { tree: 1, term: 1, root: 1, wave: 1, hops: 0 };
    assert.deepEqual(shapes, [["a", [shape]], ["b", [shape]]]);
    bench.control("b", { type: "graft", trees: 0b0010, ids: [] });
    bench.control("a", { type: "shape", shapes: [{ ...shape, hops: 2 }] });
    bench.pass(2_000);
    const later = bench.handle({ type: "publish", topic: "t", payload: EMPTY });
    assert.deepEqual(pushes(later), ["b 2"]);
    assert.deepEqual(recipients(bench.pass(100), "ihave"), ["a"]);
  });

  test("a message takes the tree whose root is nearest to the sender", () => {
    const bench = new Bench("a", "b");
    const shape = (tree: number, hops: number) => ({ tree, term: 1, root: 4, wave: 1, hops });
    const far = [shape(0, 5), shape(1, 7), shape(2, 9), shape(3, 6)];
    bench.control("a", { type: "shape", shapes: far });
    bench.control("b", { type: "shape", shapes: [shape(2, 4)] });
    bench.pass(2_000);
    const effects = bench.handle({ type: "publish", topic: "t", payload: EMPTY });
    assert.deepEqual(pushes(effects), ["b 1"]);
    const push = effects.find(({ type }) => type === "push");
    assert.ok(push?.type === "push" && push.gossip.tree === 2 && push.gossip.hops === 0);
  });

  test("who sends for a while, and nobody else does, makes itself the root", () => {
    const bench = Bench.settled("a", "b");
    const publish = () => bench.handle({ type: "publish", topic: "t", payload: EMPTY });
    // Not for a burst, in which nobody else could have sent anything.
    for (let i = 0; i < 20; i++) assert.deepEqual(sends(publish(), "shape"), []);
    bench.pass(6_000);
    const claims = sends(publish(), "shape");
    assert.deepEqual(claims.map(({ peer }) => peer), ["a", "b"]);
    assert.ok(
      claims.every(({ message }) =>
        message.type === "shape" && message.shapes[0]?.term === 2 && message.shapes[0].root === 1
      ),
    );
    const other = Bench.settled("a", "b");
    for (let i = 1; i < 100; i++) {
      const effects = other.handle({ type: "publish", topic: "t", payload: EMPTY });
      assert.deepEqual(sends(effects, "shape"), []);
      other.pass(1_000);
      other.gossip("a", gossip(i));
    }
  });

  test("a duplicate over an edge of the tree changes nothing, one over another edge ends that", () => {
    const bench = Bench.settled("a", "b", "c");
    bench.control("c", { type: "graft", trees: 1, ids: [] });
    bench.gossip("a", gossip(1));
    assert.deepEqual(recipients(bench.gossip("c", gossip(1)), "prune"), []);
    assert.deepEqual(recipients(bench.gossip("b", gossip(1)), "prune"), ["b"]);
    assert.deepEqual(bench.eager(0), ["a", "c"]);
  });

  test("lazy neighbours hear the id, batched, and not if they announced it themselves", () => {
    const bench = Bench.settled("a", "b", "c");
    bench.announce("c", { origin: 4, seq: 2 });
    bench.gossip("a", gossip(1));
    bench.gossip("a", gossip(2));
    const effects = bench.pass(100);
    const ids = sends(effects, "ihave").map(({ peer, message }) => [
      peer,
      message.type === "ihave" ? message.entries.map(({ seq }) => seq) : [],
    ]);
    assert.deepEqual(ids, [["b", [1, 2]], ["c", [1]]]);
  });

  test("a message that was announced and does not come is asked for, from one after another", () => {
    const bench = new Bench("a", "b", "c");
    bench.announce("a", { origin: 4, seq: 1 });
    bench.announce("b", { origin: 4, seq: 1 });
    const first = bench.next();
    assert.ok(bench.now >= 200 && bench.now <= 400, `${bench.now} ms`);
    assert.deepEqual(recipients(first, "graft"), ["a"]);
    assert.deepEqual(sends(first, "graft")[0]?.message, {
      type: "graft",
      trees: 0,
      ids: [{ origin: 4, seq: 1 }],
    });
    assert.deepEqual(recipients(bench.next(), "graft"), ["b"]);
    assert.deepEqual(bench.next(), [{ type: "count", what: "missed" }]);
    assert.equal(bench.machine.sizes.missing, 0);
    assert.equal(bench.machine.wakeAt, Infinity);
  });

  test("a message that comes in time is not asked for", () => {
    const bench = new Bench("a", "b");
    bench.announce("b", { origin: 4, seq: 1 });
    bench.gossip("a", gossip(1));
    assert.deepEqual(recipients(bench.pass(60_000), "graft"), []);
  });

  test("the wait for the tree follows how late it is, and is forgotten when it is in time again", () => {
    const bench = Bench.settled("a", "b");
    let seq = 0;
    const waited = () => {
      const since = bench.now;
      bench.announce("b", { origin: 4, seq: ++seq });
      while (recipients(bench.next(), "graft").length === 0);
      const ms = bench.now - since;
      bench.gossip("b", gossip(seq));
      bench.pass(10_000);
      return ms;
    };
    const behind = (ms: number) => {
      bench.announce("b", { origin: 4, seq: ++seq });
      // Whoever is asked meanwhile has nothing to give.
      bench.pass(ms);
      bench.gossip("a", gossip(seq));
    };
    for (let i = 0; i < 30; i++) behind(300);
    const late = waited();
    assert.ok(late >= 300 && late <= 700, `${late} ms`);
    for (let i = 0; i < 1_000; i++) bench.gossip("a", gossip(++seq));
    const early = waited();
    assert.ok(early >= 120 && early <= 240, `${early} ms`);
  });

  test("what is late each time, as large messages are between small ones, is not asked for", () => {
    const bench = Bench.settled("a", "b");
    let asked = 0;
    for (let seq = 1; seq <= 2_000; seq++) {
      if (seq % 20 > 0) bench.gossip("a", gossip(seq));
      else {
        bench.announce("b", { origin: 4, seq });
        const effects = bench.pass(300);
        if (seq > 1_000) asked += recipients(effects, "graft").length;
        bench.gossip("a", gossip(seq));
      }
    }
    assert.ok(asked <= 5, `${asked} of 50 were asked for`);
  });

  test("an edge that was made too early is unmade when the tree brings the message after all", () => {
    const bench = Bench.settled("a", "b");
    bench.announce("b", { origin: 4, seq: 1 });
    assert.deepEqual(recipients(bench.next(), "graft"), ["b"]);
    bench.gossip("b", gossip(1));
    const late = bench.gossip("a", gossip(1));
    assert.deepEqual(recipients(late, "prune"), ["b"]);
  });

  test("a child's copy of what was asked for ends no edge: it may have asked as we did", () => {
    const bench = Bench.settled("a", "b", "c");
    bench.control("c", { type: "graft", trees: 1, ids: [] });
    bench.announce("b", { origin: 4, seq: 1 });
    bench.next();
    bench.gossip("b", gossip(1));
    assert.deepEqual(recipients(bench.gossip("c", gossip(1)), "prune"), []);
    bench.gossip("c", gossip(2));
    assert.deepEqual(recipients(bench.gossip("b", gossip(2)), "prune"), []);
  });

  test("who gave what was asked for pushes what comes, until the other wants no more", () => {
    const bench = Bench.settled("a", "b");
    bench.gossip("a", gossip(1));
    bench.control("b", { type: "graft", trees: 0, ids: [{ origin: 4, seq: 1 }] });
    assert.deepEqual(bench.eager(0), ["a", "b"]);
    bench.control("b", { type: "prune", trees: 1 });
    assert.deepEqual(bench.eager(0), ["a"]);
  });

  test("of two that were asked one is enough, and not none", () => {
    const bench = Bench.settled("a", "b", "c");
    for (const [peer, seq] of [["b", 1], ["c", 2]] as const) {
      bench.announce(peer, { origin: 4, seq });
      while (recipients(bench.next(), "graft").length === 0);
      bench.gossip(peer, gossip(seq));
    }
    bench.gossip("b", gossip(3));
    assert.deepEqual(recipients(bench.gossip("c", gossip(3)), "prune"), ["c"]);
    // Was on its way while we gave it up, and is first.
    bench.gossip("c", gossip(4));
    assert.deepEqual(recipients(bench.gossip("b", gossip(4)), "prune"), []);
  });

  test("when one message had to be asked for, no other of that tree is waited for", () => {
    const bench = Bench.settled("a", "b", "c");
    bench.announce("b", { origin: 4, seq: 1 });
    while (recipients(bench.next(), "graft").length === 0);
    const tree1 = { origin: 4, seq: 7, tree: 1 };
    bench.control("c", { type: "ihave", entries: [tree1] });
    bench.announce("c", { origin: 4, seq: 2 });
    bench.gossip("b", gossip(1));
    const since = bench.now;
    const effects = bench.pass(1);
    const asked = sends(effects, "graft").flatMap(({ message }) =>
      message.type === "graft" ? message.ids.map(({ seq }) => seq) : []
    );
    assert.deepEqual([asked, bench.now - since], [[2], 1], "that of another tree is");
  });

  test("who asks gets the message and an edge; what is not kept is counted", () => {
    const bench = Bench.settled("a", "b");
    bench.gossip("a", gossip(1));
    const ids = [{ origin: 4, seq: 1 }, { origin: 4, seq: 9 }];
    const effects = bench.control("b", { type: "graft", trees: 0, ids });
    assert.deepEqual(pushes(effects), ["b 1"]);
    assert.deepEqual(effects.at(-1), { type: "count", what: "graft_unserved" });
    assert.deepEqual(bench.eager(0), ["a", "b"]);
  });

  test("one message is not sent again without end, however often it is asked for", () => {
    const bench = new Bench("a");
    bench.gossip("a", gossip(1));
    let served = 0;
    for (let i = 0; i < 1_000; i++) {
      const message: Control = { type: "graft", trees: 1, ids: [{ origin: 4, seq: 1 }] };
      served += pushes(bench.control("b", message)).length;
    }
    assert.ok(served <= 32);
  });

  test("a new neighbour hears of recent messages, not of old ones", () => {
    const bench = new Bench("a");
    bench.gossip("a", gossip(1));
    bench.pass(60_000);
    bench.gossip("a", gossip(2));
    bench.handle({ type: "neighbourUp", peer: "b" });
    const [ihave] = sends(bench.pass(100), "ihave");
    assert.ok(ihave?.message.type === "ihave");
    assert.deepEqual(ihave.message.entries.map(({ seq }) => seq), [2]);
  });

  test("a neighbour that frames did not reach hears of recent messages again", () => {
    const bench = Bench.settled("a", "b");
    bench.pass(10_000);
    bench.gossip("a", gossip(1));
    bench.handle({ type: "undelivered", peer: "b" });
    assert.deepEqual(recipients(bench.pass(100), "ihave"), ["b"]);
    bench.handle({ type: "undelivered", peer: "b" });
    assert.deepEqual(recipients(bench.pass(100), "ihave"), [], "not at once");
    const later = bench.pass(6_000);
    assert.deepEqual(recipients(later, "ihave"), ["b"]);
    assert.deepEqual(recipients(later, "shape"), ["b"]);
    assert.equal(bench.machine.wakeAt, Infinity);
  });

  test("a neighbour whose broadcast was started anew is another one for the trees", () => {
    const bench = Bench.settled("a", "b");
    bench.control("a", { type: "hello", origin: 7 });
    bench.control("a", { type: "hello", origin: 7 });
    assert.deepEqual(bench.eager(0), ["a"]);
    bench.pass(5_000);
    const effects = bench.control("a", { type: "hello", origin: 8 });
    assert.deepEqual(recipients(effects, "reshape"), ["b", "a"], "a way is asked for");
    assert.deepEqual(recipients(effects, "shape"), ["a"], "and it hears of the trees");
    // Once a second, so that nobody can have it done over and over.
    assert.deepEqual(bench.control("a", { type: "hello", origin: 9 }), []);
  });

  test("a million false announcements are bounded and leave honest ones their room", () => {
    const bench = new Bench("liar", "honest");
    let refused = 0;
    for (let i = 0; i < 1_000; i++) {
      const entries = Array.from({ length: 1_000 }, (_, j) => ({
        origin: 40,
        seq: 1 + i * 1_000 + j,
      }));
      refused += bench.announce("liar", ...entries).length;
    }
    assert.equal(bench.machine.sizes.missing, MAX_MISSING_BY_PEER);
    assert.equal(refused, 1_000_000 - MAX_MISSING_BY_PEER);
    assert.ok(MAX_MISSING > 2 * MAX_MISSING_BY_PEER);
    bench.announce("honest", { origin: 4, seq: 1 });
    const effects = bench.pass(1_100);
    const asked = sends(effects, "graft").filter(({ peer }) => peer === "honest");
    assert.deepEqual(asked.map(({ message }) => message.type === "graft" ? message.ids : []), [
      [{ origin: 4, seq: 1 }],
    ]);
    bench.pass(60_000);
    assert.equal(bench.machine.sizes.missing, 0);
  });

  test("what is kept is bounded by count and by bytes", () => {
    const bench = new Bench("a");
    for (let seq = 1; seq <= 10_000; seq++) bench.gossip("a", gossip(seq));
    assert.equal(bench.machine.sizes.cached, MAX_CACHED);
    const payload = new Uint8Array(1024 * 1024);
    for (let seq = 10_001; seq <= 10_050; seq++) bench.gossip("a", gossip(seq, { payload }));
    assert.ok(bench.machine.sizes.cachedBytes <= MAX_CACHED_BYTES);
    assert.ok(bench.machine.sizes.cached >= 15);
  });

  test("whatever happens: delivered once, sizes bounded, and all it says can be encoded", () => {
    const peer = fc.constantFrom("a", "b", "c", "d", "e");
    const event: fc.Arbitrary<PlumtreeEvent> = fc.oneof(
      fc.tuple(peer, arbitraryGossip).map(([from, message]) => ({
        type: "gossip" as const,
        from,
        gossip: message,
      })),
      fc.tuple(peer, arbitraryControl).map(([from, message]) => ({
        type: "control" as const,
        from,
        message,
      })),
      fc.constant<PlumtreeEvent>({ type: "tick" }),
      fc.constant<PlumtreeEvent>({ type: "publish", topic: "t", payload: EMPTY }),
      peer.map((name) => ({ type: "neighbourUp" as const, peer: name })),
      peer.map((name) => ({ type: "neighbourDown" as const, peer: name })),
      peer.map((name) => ({ type: "undelivered" as const, peer: name })),
    );
    const step = fc.tuple(event, fc.integer({ min: 0, max: 2_000 }));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 300, size: "max" }), fc.nat(), (steps, seed) => {
        const machine = new Plumtree(3, seededRandom(seed));
        const delivered = new Set<string>();
        const neighbours = new Set<string>();
        let now = 0;
        for (const [happening, waitMs] of steps) {
          now += waitMs;
          if (happening.type === "neighbourUp") neighbours.add(happening.peer);
          if (happening.type === "neighbourDown") neighbours.delete(happening.peer);
          const asker = happening.type === "control" ? happening.from : "";
          for (const effect of machine.handle(happening, now)) {
            if (effect.type === "deliver") {
              const key = `${effect.gossip.origin}/${effect.gossip.seq}`;
              assert.ok(!delivered.has(key), `${key} once`);
              delivered.add(key);
            } else if (effect.type === "push") {
              assert.deepEqual(decodeGossip(encodeGossip(effect.gossip), 100), effect.gossip);
              for (const name of effect.peers) assert.ok(neighbours.has(name) || name === asker);
            } else if (effect.type === "send") {
              assert.deepEqual(decodeControl(encodeControl(effect.message)), effect.message);
              assert.ok(neighbours.has(effect.peer));
            }
          }
          for (let tree = 0; tree < 4; tree++) {
            for (const name of machine.eagerPeers(tree)) assert.ok(neighbours.has(name));
          }
          assert.ok(machine.wakeAt > now || happening.type !== "tick", "a tick does what is due");
        }
      }),
      { numRuns: 150 },
    );
  });
});
