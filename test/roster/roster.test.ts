import { EMPTY } from "../../src/base/bytes.ts";
import assert from "node:assert/strict";
import * as fc from "fast-check";
import { seededRandom } from "../../src/base/random.ts";
import {
  ACCUSATION_PREFIX,
  decodeAccusation,
  decodeRecord,
  encodeAccusation,
  encodeRecord,
  SELF_KEY,
  validateRow,
} from "../../src/roster/messages.ts";
import type { Evidence } from "../../src/roster/messages.ts";
import { LIVENESS_DEFAULTS } from "../../src/roster/options.ts";
import { Roster, TICK_MS } from "../../src/roster/roster.ts";
import type { RosterEffect, RosterEvent } from "../../src/roster/roster.ts";
import { describe, test } from "../harness.ts";

const keyOf = (index: number) => new Uint8Array(32).fill(index + 1);
const nameOf = (index: number) => `n${index}@x`;

/** The roster of node 0 in a cluster, with time and a record of its effects. */
class Bench {
  now = 0;
  readonly roster: Roster;
  readonly effects: RosterEffect[] = [];
  readonly size: number;

  constructor(size: number, isOld = true) {
    this.size = size;
    this.roster = new Roster({
      self: { name: nameOf(0), publicKey: keyOf(0), epoch: 1, addresses: [] },
      liveness: LIVENESS_DEFAULTS,
      random: seededRandom(1),
      isAcceptable: () => true,
      hasFollowed: () => false,
    });
    this.feed({ type: "neighbourUp", peer: "first@x" });
    this.feed({ type: "neighbourDown", peer: "first@x" });
    // It has found the cluster long ago, or just now.
    if (isOld) {
      this.now = 100_000;
      this.feed({ type: "tick", heard: [] });
    }
    for (let i = 1; i < size; i++) this.record(i);
    this.effects.length = 0;
  }

  feed(event: RosterEvent): void {
    this.effects.push(...this.roster.handle(event, this.now));
  }

  record(index: number, more: { epoch?: number; incarnation?: number; left?: boolean } = {}): void {
    const { epoch = 1, incarnation = 0, left = false } = more;
    const record = {
      name: nameOf(index),
      incarnation,
      addresses: [],
      ephemeral: false,
      left,
      successions: EMPTY,
    };
    this.feed({ type: "record", author: keyOf(index), epoch, record });
  }

  accuse(by: number, target: number, evidence: Evidence = "silent", incarnation = 0): void {
    const accusation = { target: nameOf(target), epoch: 1, incarnation, evidence };
    this.feed({ type: "accusation", author: keyOf(by), accusation });
  }

  /** Lets time pass; only `heard` are heard of. */
  pass(ms: number, heard: readonly number[] = []): void {
    for (const end = this.now + ms; this.now < end;) {
      this.now += TICK_MS;
      this.feed({ type: "tick", heard: heard.map(nameOf) });
    }
  }

  events(): string[] {
    return this.effects.flatMap((effect) =>
      effect.type === "emit" ? [`${effect.change.type} ${effect.change.node}`] : []
    );
  }

  has(type: RosterEffect["type"]): boolean {
    return this.effects.some((effect) => effect.type === type);
  }

  /** What it accused others on, in order. */
  accusations(): Evidence[] {
    return this.effects.flatMap((one) => one.type === "accuse" ? [one.accusation.evidence] : []);
  }
}

test("one accuser is enough between two nodes, two are needed among three", () => {
  const two = new Bench(2);
  two.feed({ type: "neighbourUp", peer: nameOf(1) });
  two.pass(13_000);
  assert.deepEqual(two.events(), ["nodeUnreachable n1@x", "nodeDown n1@x"]);
  const three = new Bench(3);
  three.accuse(1, 2);
  three.pass(60_000, [1]);
  assert.deepEqual(three.events(), ["nodeUnreachable n2@x"]);
  three.feed({ type: "probed", peer: nameOf(2), result: "refused" });
  assert.deepEqual(three.events(), ["nodeUnreachable n2@x", "nodeDown n2@x"]);
});

test("a neighbour is pinged, probed, suspected and only then accused", () => {
  const bench = new Bench(4);
  bench.feed({ type: "neighbourUp", peer: nameOf(1) });
  bench.pass(1_000);
  assert.ok(bench.has("ping") && !bench.has("probe"));
  bench.pass(1_000);
  assert.ok(bench.has("probe") && !bench.has("askProbe"));
  bench.pass(1_000);
  assert.ok(bench.has("askProbe"));
  bench.pass(8_000);
  assert.deepEqual(bench.accusations(), ["suspected"], "eleven seconds of silence are no proof");
  assert.deepEqual(bench.events(), []);
  bench.pass(1_000);
  assert.deepEqual(bench.accusations(), ["suspected", "silent"]);
});

test("a host that refuses is proof at once, and with our own silence also for others", () => {
  const bench = new Bench(4);
  bench.feed({ type: "neighbourUp", peer: nameOf(1) });
  bench.pass(1_500);
  bench.accuse(2, 1, "refused");
  bench.pass(1_000);
  assert.ok(!bench.has("accuse"));
  bench.pass(500);
  assert.deepEqual(bench.events(), ["nodeUnreachable n1@x", "nodeDown n1@x"]);
});

test("after a mistake of ours the rows are read again: nothing is told twice, nothing is missed", () => {
  const bench = new Bench(6);
  bench.record(1, { left: true });
  for (const target of [2, 3]) bench.accuse(4, target);
  const told = bench.events();
  assert.deepEqual(told, ["nodeDown n1@x", "nodeUnreachable n2@x", "nodeUnreachable n3@x"]);
  // It was not heard that the accusation of node 3 was taken back.
  bench.feed({ type: "resumed" });
  bench.accuse(4, 2);
  for (let index = 2; index < 6; index++) bench.record(index);
  bench.record(1, { left: true });
  bench.pass(TICK_MS);
  assert.deepEqual(bench.events().slice(told.length), ["nodeUp n3@x"]);
  const published = bench.effects.findLast(({ type }) => type === "publish");
  assert.deepEqual(published, { type: "publish", incarnation: 0, left: false });
});

test("who is heard again is not accused", () => {
  const bench = new Bench(4);
  bench.feed({ type: "neighbourUp", peer: nameOf(1) });
  for (let i = 0; i < 10; i++) {
    bench.pass(9_000);
    bench.pass(500, [1]);
  }
  assert.deepEqual(bench.events(), []);
  assert.deepEqual(bench.accusations(), ["suspected"]);
});

test("a suspicion that somebody has told is not told again, until it is refuted", () => {
  const bench = new Bench(4);
  bench.feed({ type: "neighbourUp", peer: nameOf(1) });
  bench.accuse(2, 1, "suspected");
  bench.pass(9_000);
  assert.deepEqual(bench.accusations(), []);
  bench.record(1, { incarnation: 1 });
  bench.pass(4_000);
  assert.deepEqual(bench.accusations(), ["suspected"]);
  assert.deepEqual(bench.events(), []);
  bench.record(1, { incarnation: 2 });
  assert.ok(bench.has("withdraw"));
});

test("our own stall is not held against others", () => {
  const bench = new Bench(4);
  bench.feed({ type: "neighbourUp", peer: nameOf(1) });
  bench.pass(1_000, [1]);
  bench.now += 60_000;
  bench.feed({ type: "tick", heard: [] });
  bench.pass(1_000, [1]);
  assert.ok(!bench.has("accuse"));
});

test("we answer an accusation of ourselves with a higher incarnation, once", () => {
  const bench = new Bench(3);
  bench.accuse(1, 0);
  bench.accuse(2, 0);
  const published = bench.effects.filter((effect) => effect.type === "publish");
  assert.deepEqual(published, [{ type: "publish", incarnation: 1, left: false }]);
  bench.accuse(2, 0, "silent", 1);
  assert.deepEqual(bench.effects.at(-1), { type: "publish", incarnation: 2, left: false });
});

test("a wrong verdict is taken back by a higher incarnation, and by nothing less", () => {
  const bench = new Bench(3);
  bench.accuse(1, 2, "refused");
  bench.feed({ type: "probed", peer: nameOf(2), result: "refused" });
  bench.record(2);
  assert.equal(bench.roster.member(nameOf(2))?.status, "down");
  bench.record(2, { incarnation: 1 });
  assert.equal(bench.roster.member(nameOf(2))?.status, "alive");
  assert.deepEqual(bench.events(), ["nodeUnreachable n2@x", "nodeDown n2@x", "nodeUp n2@x"]);
  assert.ok(bench.has("restore") && bench.has("withdraw"));
});

test("a node's goodbye is its own verdict, and its next life ends the one before", () => {
  const bench = new Bench(4);
  bench.record(1, { left: true });
  bench.record(2, { epoch: 2 });
  bench.record(2, { epoch: 1, incarnation: 9 });
  assert.deepEqual(bench.events(), ["nodeDown n1@x", "nodeDown n2@x", "nodeUp n2@x"]);
  assert.equal(bench.roster.member(nameOf(2))?.epoch, 2);
});

test("the dead do not vote", () => {
  const bench = new Bench(5);
  bench.record(1, { left: true });
  bench.accuse(1, 4, "refused");
  bench.accuse(2, 4, "refused");
  bench.pass(60_000);
  assert.ok(!bench.events().includes("nodeDown n4@x"));
});

test("when half of a large cluster falls silent, no verdict is drawn", () => {
  const bench = new Bench(10);
  for (let target = 5; target < 10; target++) {
    for (const by of [1, 2, 3]) bench.accuse(by, target);
    bench.pass(500, [1, 2, 3, 4]);
  }
  bench.pass(600_000, [1, 2, 3, 4]);
  assert.ok(!bench.events().some((event) => event.startsWith("nodeDown")));
  // The heal: all answer.
  for (let index = 5; index < 10; index++) bench.record(index, { incarnation: 1 });
  assert.equal(bench.roster.members().filter(({ status }) => status === "alive").length, 9);
});

test("one that was silent before the cut is not declared down before the others", () => {
  const near = Array.from({ length: 14 }, (_, index) => index + 1);
  const far = Array.from({ length: 15 }, (_, index) => index + 15);
  const bench = new Bench(30);
  for (const target of far) bench.accuse(1, target, "suspected");
  bench.pass(5_000, near);
  for (const by of [1, 2, 3]) bench.accuse(by, 22);
  bench.pass(60_000, near);
  assert.deepEqual(bench.events(), ["nodeUnreachable n22@x"]);
  // The heal: all answer what was said of them.
  for (const target of far) bench.record(target, { incarnation: 1 });
  for (const by of [1, 2]) bench.accuse(by, 22, "silent", 1);
  bench.pass(20_000, near);
  assert.equal(bench.events().at(-1), "nodeDown n22@x");
});

test("when a cut heals, the others have their time again: no verdict before they can answer", () => {
  const near = [1, 2, 3, 4], far = [5, 6, 7, 8, 9];
  const bench = new Bench(10);
  for (const target of far) for (const by of [1, 2, 3]) bench.accuse(by, target);
  bench.pass(120_000, near);
  for (const target of [5, 6]) bench.record(target, { incarnation: 1 });
  bench.pass(10_000, [...near, 5, 6]);
  assert.ok(!bench.events().some((event) => event.startsWith("nodeDown")));
  for (const target of [7, 8]) bench.record(target, { incarnation: 1 });
  bench.pass(10_000, [...near, 5, 6, 7, 8]);
  assert.ok(!bench.events().some((event) => event.startsWith("nodeDown")));
  // The last one is dead.
  bench.pass(10_000, [...near, 5, 6, 7, 8]);
  assert.equal(bench.events().at(-1), "nodeDown n9@x");
});

test("each cut is held anew", () => {
  const near = [1, 2, 3, 4, 5], far = [6, 7, 8, 9];
  const bench = new Bench(10);
  for (const incarnation of [0, 1]) {
    for (const target of far) {
      for (const by of [1, 2]) bench.accuse(by, target, "silent", incarnation);
    }
    bench.pass(20_000, near);
    assert.ok(!bench.events().some((event) => event.startsWith("nodeDown")));
    for (const target of far) bench.record(target, { incarnation: incarnation + 1 });
    bench.pass(600_000, [...near, ...far]);
  }
});

test("an accusation of another incarnation than the present one says nothing", () => {
  const bench = new Bench(4);
  for (const by of [1, 2]) bench.accuse(by, 3, "refused", 7);
  bench.accuse(1, 0, "refused", 7);
  bench.pass(1_000);
  assert.deepEqual(bench.events(), []);
  assert.ok(!bench.has("publish"));
  const accusation = { target: "n@x", epoch: 1, incarnation: 2 ** 33, evidence: "silent" as const };
  const row = encodeAccusation(accusation);
  assert.equal(validateRow(ACCUSATION_PREFIX + "n@x", row), "malformed");
});

test("a link with one that others cannot reach is told; a few mend the overlay after a cut", () => {
  const linkUp = (bench: Bench, index: number, epoch = 1) => {
    const peer = { name: nameOf(index), publicKey: keyOf(index), epoch, addresses: [] };
    bench.feed({ type: "linkUp", peer });
  };
  const returned = (bench: Bench) =>
    bench.effects.flatMap((one) => one.type === "returned" ? [one] : []);
  const bench = new Bench(10);
  for (const target of [7, 8]) bench.accuse(1, target);
  bench.accuse(2, 8);
  bench.pass(5_000, [1, 2, 3, 4, 5]);
  assert.equal(bench.roster.member(nameOf(8))?.status, "down");
  bench.record(9, { left: true });
  for (const index of [6, 7, 8, 9]) linkUp(bench, index);
  linkUp(bench, 7, 2);
  const lone = returned(bench).map(({ member, isCut }) => [member.name, isCut]);
  assert.deepEqual(lone, [["n7@x", false], ["n8@x", false]]);

  const half = new Bench(40);
  for (let target = 20; target < 40; target++) half.accuse(1, target);
  half.pass(5_000, [1]);
  for (let time = 0; time < 10; time++) {
    for (let target = 20; target < 40; target++) linkUp(half, target);
  }
  const bridges = returned(half).filter(({ isCut }) => isCut).length;
  assert.ok(bridges > 0 && bridges < 20, `${bridges} of 200 are bridges`);
});

test("the larger half goes on after the hold", () => {
  const bench = new Bench(10);
  for (let target = 6; target < 10; target++) for (const by of [1, 2]) bench.accuse(by, target);
  bench.pass(29_000, [1, 2, 3, 4, 5]);
  assert.ok(!bench.events().some((event) => event.startsWith("nodeDown")));
  bench.pass(10_000, [1, 2, 3, 4, 5]);
  assert.equal(bench.events().filter((event) => event.startsWith("nodeDown")).length, 4);
});

test("an operator's word ends the waiting, here and for all who find the node silent, too", () => {
  const near = [1, 2, 3, 4], far = [5, 6, 7, 8, 9];
  const bench = new Bench(10);
  for (const target of far) for (const by of [1, 2]) bench.accuse(by, target);
  bench.pass(60_000, near);
  assert.ok(!bench.events().some((event) => event.startsWith("nodeDown")));
  bench.feed({ type: "forget", node: nameOf(5) });
  assert.equal(bench.events().at(-1), "nodeDown n5@x");
  assert.deepEqual(bench.accusations().slice(-1), ["forgotten"]);
  bench.feed({ type: "forget", node: nameOf(5) });
  assert.equal(bench.accusations().length, 1);
  // Somebody else's operator.
  bench.accuse(3, 6, "forgotten");
  assert.equal(bench.events().at(-1), "nodeDown n6@x");
  assert.equal(bench.events().filter((event) => event.startsWith("nodeDown")).length, 2);
  // Whoever lives takes it back.
  bench.record(6, { incarnation: 1 });
  bench.record(5, { incarnation: 1 });
  assert.deepEqual(bench.events().slice(-2), ["nodeUp n6@x", "nodeUp n5@x"]);
  assert.ok(bench.has("withdraw"));
});

test("an operator's word alone brings nobody down elsewhere", () => {
  const bench = new Bench(10);
  bench.accuse(3, 6, "forgotten");
  bench.pass(600_000, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(bench.events(), ["nodeUnreachable n6@x"]);
});

test("who has left knows nobody and says nothing, until it joins again", () => {
  const bench = new Bench(5);
  for (const index of [1, 2]) bench.feed({ type: "neighbourUp", peer: nameOf(index) });
  bench.feed({ type: "leave" });
  assert.deepEqual(bench.roster.members(), []);
  bench.effects.length = 0;
  const peer = { name: nameOf(1), publicKey: keyOf(1), epoch: 1, addresses: [] };
  bench.feed({ type: "linkDown", peer, reason: "lost" });
  bench.feed({ type: "probed", peer: nameOf(2), result: "refused" });
  bench.feed({ type: "probeRequest", request: { target: nameOf(3), epoch: 1 } });
  bench.record(7);
  for (const by of [1, 2]) bench.accuse(by, 3);
  bench.feed({ type: "linkUp", peer });
  bench.feed({ type: "forget", node: nameOf(3) });
  bench.pass(600_000);
  assert.deepEqual(bench.effects, []);
  bench.feed({ type: "rejoin" });
  assert.equal(bench.roster.members().length, 4);
  // The rows are told again, the dead of the meantime among them, before it has caught up.
  for (const by of [1, 2]) bench.accuse(by, 7);
  bench.record(7);
  bench.feed({ type: "neighbourUp", peer: nameOf(1) });
  bench.pass(4_000, [1, 2, 3, 4]);
  assert.ok(!bench.events().includes("nodeUp n7@x"), "nobody rises to be declared down");
  bench.pass(2_000, [1]);
  assert.deepEqual(bench.events(), []);
  bench.pass(60_000, [1]);
  assert.ok(bench.events().includes("nodeUnreachable n2@x"), "it is watched anew");
});

test("one dead node of a large cluster is no partition", () => {
  const bench = new Bench(30);
  bench.accuse(1, 5);
  bench.accuse(2, 5);
  bench.pass(4_000);
  assert.deepEqual(bench.events(), ["nodeUnreachable n5@x", "nodeDown n5@x"]);
});

test("whatever happens, each member's transitions alternate and nothing throws", () => {
  const index = fc.integer({ min: 1, max: 5 });
  const step = fc.oneof(
    fc.record({
      do: fc.constant("record"),
      i: index,
      epoch: fc.integer({ min: 1, max: 3 }),
      inc: fc.nat(3),
      left: fc.boolean(),
    }),
    fc.record({
      do: fc.constant("accuse"),
      i: index,
      by: index,
      inc: fc.nat(3),
      left: fc.boolean(),
      epoch: fc.constant(1),
    }),
    fc.record({
      do: fc.constant("pass"),
      i: index,
      inc: fc.nat(20),
      left: fc.boolean(),
      epoch: fc.constant(1),
    }),
    fc.record({
      do: fc.constant("probe"),
      i: index,
      inc: fc.nat(2),
      left: fc.boolean(),
      epoch: fc.constant(1),
    }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const bench = new Bench(6);
      for (const one of steps) {
        if (one.do === "record") {
          bench.record(one.i, { epoch: one.epoch, incarnation: one.inc, left: one.left });
        } else if (one.do === "accuse" && "by" in one) {
          bench.accuse(one.by, one.i, one.left ? "suspected" : "silent", one.inc);
        } else if (one.do === "pass") bench.pass(one.inc * 500, one.left ? [one.i] : []);
        else {
          const result = (["alive", "refused", "silent"] as const)[one.inc] ?? "silent";
          bench.feed({ type: "probed", peer: nameOf(one.i), result });
        }
      }
      const last = new Map<string, string>();
      for (const event of bench.events()) {
        const [type, node] = event.split(" ") as [string, string];
        const before = last.get(node) ?? "nodeUp";
        assert.notEqual(type, before, event);
        if (type === "nodeUnreachable") assert.equal(before, "nodeUp");
        last.set(node, type);
      }
    }),
    { numRuns: 500 },
  );
});

test("rows survive encoding; broken ones are refused by name", () => {
  const record = {
    name: "n@[::1]",
    incarnation: 5,
    addresses: ["quic://[::1]:9", "wss://x/y"],
    ephemeral: true,
    left: false,
    successions: EMPTY,
  };
  assert.deepEqual(decodeRecord(encodeRecord(record)), record);
  const key = ACCUSATION_PREFIX + "n@x";
  for (const evidence of ["refused", "silent", "suspected"] as const) {
    const accusation = { target: "n@x", epoch: 7, incarnation: 3, evidence };
    assert.deepEqual(decodeAccusation(key, encodeAccusation(accusation)), accusation);
  }
  assert.equal(validateRow("other", new Uint8Array(0)), "unknown_key");
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 60 }),
      fc.constantFrom(SELF_KEY, key, "accuse:"),
      (bytes, row) => {
        const verdict = validateRow(row, bytes as Uint8Array<ArrayBuffer>);
        assert.ok(verdict === undefined || verdict === "malformed");
      },
    ),
  );
});

test("the dead of the past are not told to a node that has just come", () => {
  const late = new Roster({
    self: { name: nameOf(0), publicKey: keyOf(0), epoch: 1, addresses: [] },
    liveness: LIVENESS_DEFAULTS,
    random: seededRandom(1),
    isAcceptable: () => true,
    hasFollowed: () => false,
  });
  const told: string[] = [];
  const feed = (event: RosterEvent, now: number) => {
    for (const effect of late.handle(event, now)) {
      if (effect.type === "emit") told.push(`${effect.change.type} ${effect.change.node}`);
    }
  };
  const record = (index: number, now: number, epoch = 1) => {
    const one = {
      name: nameOf(index),
      incarnation: 0,
      addresses: [],
      ephemeral: false,
      left: false,
      successions: EMPTY,
    };
    feed({ type: "record", author: keyOf(index), epoch, record: one }, now);
  };
  const accuse = (by: number, target: number, now: number) => {
    const accusation = {
      target: nameOf(target),
      epoch: 1,
      incarnation: 0,
      evidence: "refused" as const,
    };
    feed({ type: "accusation", author: keyOf(by), accusation }, now);
  };
  feed({ type: "neighbourUp", peer: nameOf(1) }, 0);
  for (const index of [1, 2, 3, 4]) record(index, 10);
  assert.deepEqual(told, ["nodeUp n1@x"], "a neighbour is told at once");
  accuse(1, 4, 20);
  accuse(2, 4, 30);
  assert.equal(late.member(nameOf(4))?.status, "down");
  feed({ type: "tick", heard: [] }, 300);
  feed({ type: "tick", heard: [] }, 2_900);
  assert.deepEqual(told, ["nodeUp n1@x"], "what is said of the others may still be on its way");
  const peer = { name: nameOf(3), publicKey: keyOf(3), epoch: 1, addresses: [] };
  feed({ type: "linkUp", peer }, 2_950);
  assert.equal(told.at(-1), "nodeUp n3@x", "unless there is a link with them");
  feed({ type: "tick", heard: [] }, 3_100);
  assert.deepEqual(told, ["nodeUp n1@x", "nodeUp n3@x", "nodeUp n2@x"]);
  record(4, 3_200, 2);
  assert.equal(told.at(-1), "nodeUp n4@x");
  record(5, 5_000);
  assert.equal(told.at(-1), "nodeUp n4@x", "an accusation may come right behind");
  feed({ type: "tick", heard: [] }, 5_600);
  assert.equal(told.at(-1), "nodeUp n5@x");
  record(6, 100_000);
  assert.equal(told.at(-1), "nodeUp n6@x");
});

test("who is accused when a newcomer hears of it is not told, unless it answers", () => {
  const bench = new Bench(4, false);
  bench.accuse(1, 2);
  bench.accuse(1, 3);
  bench.pass(5_000, [1]);
  assert.deepEqual(bench.events(), ["nodeUp n1@x"]);
  assert.equal(bench.roster.member(nameOf(2))?.status, "unreachable");
  bench.record(2, { incarnation: 1 });
  bench.accuse(2, 3);
  bench.pass(2_000, [1]);
  assert.deepEqual(bench.events(), ["nodeUp n1@x", "nodeUp n2@x"]);
  assert.equal(bench.roster.member(nameOf(3))?.status, "down");
});

test("the end of a former life says nothing of a peer whose next life is linked with us", () => {
  const bench = new Bench(6);
  const peer = { name: nameOf(5), publicKey: keyOf(5), epoch: 2, addresses: [] };
  bench.feed({ type: "linkUp", peer });
  for (const by of [1, 2, 3]) bench.accuse(by, 5, "refused");
  bench.pass(4_000, [1, 2, 3, 4]);
  assert.deepEqual(bench.events(), []);
  bench.record(5, { epoch: 2 });
  assert.deepEqual(bench.events(), ["nodeDown n5@x", "nodeUp n5@x"]);
  // The link is lost before the record of yet another life has come: the known one is judged again.
  const other = new Bench(6);
  other.feed({ type: "linkUp", peer });
  for (const by of [1, 2, 3]) other.accuse(by, 5, "refused");
  other.feed({ type: "linkDown", peer, reason: "lost" });
  other.pass(4_000, [1, 2, 3, 4]);
  assert.equal(other.roster.member(nameOf(5))?.status, "down");
});

describe("failures that others met", () => {
  test("a sync of old rows does not bring back the dead (memberlist 312)", () => {
    const bench = new Bench(6);
    for (const by of [1, 2]) bench.accuse(by, 5);
    bench.pass(4_000, [1, 2, 3, 4]);
    assert.equal(bench.roster.member(nameOf(5))?.status, "down");
    bench.effects.length = 0;
    // Somebody who was away offers all that it kept: the record, and what was said of it.
    bench.record(5);
    bench.accuse(3, 5);
    bench.pass(60_000, [1, 2, 3, 4]);
    assert.equal(bench.roster.member(nameOf(5))?.status, "down");
    assert.deepEqual(bench.events(), []);
  });

  test("a node that restarts after the verdict is alive at once (memberlist PR 345)", () => {
    const bench = new Bench(6);
    // It had refuted often in its last life; the next one counts from nought.
    bench.record(5, { incarnation: 9 });
    for (const by of [1, 2]) bench.accuse(by, 5, "silent", 9);
    bench.pass(4_000, [1, 2, 3, 4]);
    assert.equal(bench.roster.member(nameOf(5))?.status, "down");
    bench.record(5, { epoch: 2 });
    assert.equal(bench.roster.member(nameOf(5))?.status, "alive");
    bench.pass(60_000, [1, 2, 3, 4, 5]);
    assert.deepEqual(bench.events().slice(-2), ["nodeDown n5@x", "nodeUp n5@x"]);
  });

  test("who has left or died is forgotten in the end (memberlist 253)", () => {
    const bench = new Bench(6);
    bench.record(1, { left: true });
    for (const by of [2, 3]) bench.accuse(by, 5);
    bench.pass(LIVENESS_DEFAULTS.forgetAfterMs - 10_000, [2, 3, 4]);
    assert.ok(bench.roster.member(nameOf(1)) !== undefined && !bench.has("forget"));
    bench.pass(20_000, [2, 3, 4]);
    assert.deepEqual([1, 5].map((index) => bench.roster.member(nameOf(index))), [
      undefined,
      undefined,
    ]);
    assert.equal(bench.effects.filter(({ type }) => type === "forget").length, 2);
  });

  test("one slow node that accuses everybody brings nobody down (pekko 578)", () => {
    const bench = new Bench(10);
    for (let target = 1; target < 9; target++) bench.accuse(9, target);
    bench.pass(120_000, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert.ok(!bench.events().some((event) => event.startsWith("nodeDown")));
    for (let index = 1; index < 9; index++) bench.record(index, { incarnation: 1 });
    assert.equal(bench.roster.members().filter(({ status }) => status === "alive").length, 9);
  });
});
