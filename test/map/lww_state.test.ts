import assert from "node:assert/strict";
import fc from "fast-check";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { BarrelError } from "../../src/base/errors.ts";
import { decodeEntry, encodeEntry, MAX_MAP_VALUE_BYTES, MAX_OVER } from "../../src/map/entry.ts";
import { LwwState } from "../../src/map/lww_state.ts";
import type { LwwEffect } from "../../src/map/lww_state.ts";
import { ReplacedDots } from "../../src/map/replaced.ts";
import { MAX_VALUE_BYTES } from "../../src/replica/limits.ts";
import { describe, test } from "../harness.ts";
import { MapWorld } from "./world.ts";
import type { Node } from "./world.ts";

const OWN = "o".repeat(16);
const originOf = (i: number) => String.fromCharCode(i & 0xff, i >> 8).padEnd(16, "x");

/** A state beside a store that the test plays. */
function alone(known: Record<string, number> = {}) {
  const own = new Map<string, number>();
  const away = new Set<string>();
  const state = new LwwState({
    origin: OWN,
    dotOf: (key) => own.get(key),
    knownUpTo: (origin) => known[origin] ?? 0,
    isAway: (origin) => away.has(origin),
    judge: (_, value) => value[0] === 33 ? "no exclamation marks" : undefined,
  }, 5_000);
  state.loaded();
  const put = (origin: string, seq: number, text: string, wallMs: number, over = new Map()) =>
    state.put({
      origin,
      seq,
      key: "k",
      value: encodeEntry({
        type: "put",
        over,
        stamp: { wallMs, counter: 0 },
        value: utf8(text),
      }),
    }, 1_000_000);
  return { state, own, known, away, put };
}

const text = (value: Bytes | undefined) => value && new TextDecoder().decode(value);
const types = (effects: readonly LwwEffect[]) => effects.map(({ type }) => type);

describe("a map's state", () => {
  test("shows the greatest stamp of rows that did not know each other, then the greatest origin", () => {
    const { state, put } = alone();
    put("a".repeat(16), 1, "early", 5);
    put("b".repeat(16), 1, "late", 9);
    put("c".repeat(16), 1, "middle", 7);
    assert.equal(text(state.get("k")), "late");
    put("d".repeat(16), 1, "tie", 9);
    assert.equal(text(state.get("k")), "tie");
  });

  test("shows a row that replaces another whatever their stamps say", () => {
    const { state, put } = alone();
    put("a".repeat(16), 4, "fast clock", 900);
    put("b".repeat(16), 1, "knew it", 5, new Map([["a".repeat(16), 4]]));
    assert.equal(text(state.get("k")), "knew it");
  });

  test("hides a row from the future, says so, and shows it when our clock gets there", () => {
    const { state, put } = alone();
    put("a".repeat(16), 1, "now", 1_000_000);
    const effects = put("b".repeat(16), 1, "tomorrow", 1_005_001, new Map([["a".repeat(16), 1]]));
    assert.deepEqual(effects, [{ type: "hidden", key: "k", reason: "future" }]);
    assert.equal(text(state.get("k")), "now", "nor does it replace anything yet");
    assert.equal(state.wakeAt(), 1_000_001);
    assert.deepEqual(state.tick(1_000_000), []);
    assert.ok(types(state.tick(1_000_001)).includes("shown"));
    assert.equal(text(state.get("k")), "tomorrow");
    assert.equal(state.wakeAt(), Infinity);
  });

  test("a write of ours replaces what it hides, too", () => {
    const { state, own, put } = alone();
    put("b".repeat(16), 3, "tomorrow", 9_000_000);
    const row = state.set("k", utf8("today"), { wallMs: 1_000_000, counter: 1 });
    own.set("k", 1);
    state.put({ origin: OWN, seq: 1, key: "k", value: row }, 1_000_000);
    state.tick(9_000_000);
    assert.equal(text(state.get("k")), "today");
  });

  test("a value that is refused counts for nothing, and comes to light when asked again", () => {
    const { state, put } = alone();
    put("a".repeat(16), 1, "good", 1);
    assert.deepEqual(types(put("b".repeat(16), 1, "!", 2, new Map([["a".repeat(16), 1]]))), [
      "hidden",
    ]);
    assert.equal(text(state.get("k")), "good");
  });

  test("an unreadable row is held and not shown", () => {
    const { state } = alone();
    const effects = state.put({ origin: OWN, seq: 1, key: "k", value: utf8("\u0007") }, 0);
    assert.deepEqual(effects, [{ type: "hidden", key: "k", reason: "unreadable" }]);
    assert.equal(state.size, 0);
  });

  test("a row whose node is down is away, and back as it was when that was wrong", () => {
    const { state, put } = alone();
    put("a".repeat(16), 1, "v", 1);
    const row = { origin: "a".repeat(16), key: "k" };
    assert.deepEqual(types(state.setAway(row)), ["shown"]);
    assert.equal(state.get("k"), undefined);
    put("a".repeat(16), 1, "v", 1);
    assert.equal(text(state.get("k")), "v");
  });

  test("a row that went while its node was down is gone when the node is back, or is over", () => {
    for (const end of ["back", "over"]) {
      const { state, known, away, put } = alone();
      const a = "a".repeat(16);
      put(a, 1, "v", 1);
      known[a] = 1;
      away.add(a);
      state.setAway({ origin: a, key: "k" });
      state.tick(1_000_000);
      assert.equal(state.heldKeys, 1);
      assert.ok(state.isWaiting);
      if (end === "over") known[a] = Infinity;
      else {
        known[a] = 2;
        away.delete(a);
      }
      state.tick(1_000_000);
      assert.equal(state.heldKeys, 0, end);
    }
  });

  test("a deletion waits for its writers and is dropped once they have taken their rows back", () => {
    const { state, own, known, put } = alone();
    const a = "a".repeat(16);
    put(a, 1, "v", 1);
    known[a] = 1;
    const row = state.delete("k") as Bytes;
    own.set("k", 1);
    assert.deepEqual(
      types(state.put({ origin: OWN, seq: 1, key: "k", value: row }, 0)),
      ["replaced", "shown"],
    );
    assert.ok(state.isWaiting);
    known[a] = 2;
    assert.deepEqual(types(state.remove({ origin: a, key: "k" })), ["drop"]);
    own.delete("k");
    state.remove({ origin: OWN, key: "k" });
    assert.equal(state.heldKeys, 0);
    // An old word of that writer, from somebody who is behind.
    known[a] = 0;
    put(a, 1, "v", 1);
    assert.equal(state.get("k"), undefined);
  });

  test("a deletion names what the deleted row replaced before we had heard of that, settled or not", () => {
    const { state, known, put } = alone();
    const [first, second] = ["a".repeat(16), "b".repeat(16)];
    // We never had the first row: its end is all that comes of it, after the row that replaced it.
    known[second] = 1;
    put(second, 1, "second", 2, new Map([[first, 1]]));
    known[first] = 2;
    const row = state.delete("k");
    const over = row instanceof Uint8Array ? decodeEntry(row)?.over : undefined;
    assert.deepEqual(over, new Map([[first, 1], [second, 1]]));
    // Who has the first still, and not its end, does not show it.
    const behind = alone({ [first]: 1 });
    behind.put(first, 1, "first", 1);
    behind.state.put({ origin: OWN, seq: 1, key: "k", value: row as Bytes }, 1_000_000);
    assert.equal(behind.state.get("k"), undefined);
  });

  test("more writers than a row can name: a write leaves some out, a deletion says so", () => {
    const { state, known, put } = alone();
    for (let i = 0; i < MAX_OVER + 5; i++) {
      known[originOf(i)] = 1;
      put(originOf(i), 1, `v${i}`, i);
    }
    const entry = decodeEntry(state.set("k", utf8("v"), { wallMs: 9_999, counter: 0 }));
    assert.equal(entry?.over.size, MAX_OVER);
    assert.throws(
      () => state.delete("k"),
      (error) => error instanceof BarrelError && error.code === "map_limit",
    );
  });

  test("a claim far ahead of what its origin wrote replaces nothing, whoever comes first", () => {
    const liar = "l".repeat(16), victim = "v".repeat(16);
    const lie = new Map([[victim, 2 ** 50]]);
    for (const order of ["lie first", "truth first"]) {
      const { state, known, put } = alone();
      const effects: LwwEffect[] = [];
      const steps = [
        () => void effects.push(...put(liar, 1, "lie", 5, lie)),
        () => {
          known[victim] = 7;
          put(victim, 7, "truth", 9);
        },
      ];
      for (const step of order === "lie first" ? steps : steps.toReversed()) step();
      assert.equal(text(state.get("k")), "truth", order);
      const refused = { type: "claimRefused", key: "k", origin: liar, reason: "never_written" };
      assert.deepEqual(effects.filter(({ type }) => type === "claimRefused"), [refused]);
      // Nor does anybody tell it on.
      const own = decodeEntry(state.set("k", utf8("ours"), { wallMs: 10, counter: 0 }));
      assert.deepEqual(own?.over, new Map([[liar, 1], [victim, 7]]), order);
    }
  });

  test("a claim far ahead of our own writes does not take them out", () => {
    const { state, own, known, put } = alone({ [OWN]: 3 });
    own.set("k", 3);
    const row = state.set("k", utf8("ours"), { wallMs: 5, counter: 0 });
    state.put({ origin: OWN, seq: 3, key: "k", value: row }, 1_000_000);
    const effects = put("l".repeat(16), 1, "lie", 1, new Map([[OWN, 2 ** 50]]));
    assert.ok(!types(effects).includes("drop"));
    assert.equal(text(state.get("k")), "ours");
    known[OWN] = 4;
    assert.ok(types(put("m".repeat(16), 1, "true", 1, new Map([[OWN, 4]]))).includes("drop"));
  });

  test("a claim counts as soon as its origin comes near, without a word about the key", () => {
    const { state, known, put } = alone({ ["v".repeat(16)]: 1 });
    put("v".repeat(16), 1, "old", 9);
    put("l".repeat(16), 1, "new", 5, new Map([["v".repeat(16), 100_000]]));
    assert.equal(text(state.get("k")), "old");
    assert.ok(state.isWaiting);
    known["v".repeat(16)] = 50_000;
    state.tick(1_000_000);
    assert.equal(text(state.get("k")), "new");
  });

  test("a claim on our next writes does not take out one that knew of it", () => {
    const liar = "l".repeat(16);
    const { state, own, known, put } = alone({ [OWN]: 3, [liar]: 1 });
    put(liar, 1, "lie", 1, new Map([[OWN, 60_000]]));
    const row = state.set("k", utf8("ours"), { wallMs: 5, counter: 0 });
    own.set("k", 4);
    known[OWN] = 4;
    const effects = state.put({ origin: OWN, seq: 4, key: "k", value: row }, 1_000_000);
    assert.ok(!types(effects).includes("drop"), "by our own state");
    assert.equal(text(state.get("k")), "ours");
    const over = decodeEntry(row)?.over;
    for (const order of ["lie first", "truth first"]) {
      const other = alone();
      const steps = [
        () => other.put(liar, 1, "lie", 1, new Map([["v".repeat(16), 60_000]])),
        () => other.put("v".repeat(16), 4, "ours", 5, new Map(over)),
      ];
      for (const step of order === "lie first" ? steps : steps.toReversed()) step();
      assert.equal(text(other.state.get("k")), "ours", order);
    }
  });

  test("the same rows come to the same, in whatever order, also where they lie", () => {
    const origins = ["a", "b", "c", "d", "e"].map((name) => name.repeat(16));
    const rows = fc.tuple(...origins.map((origin, i) =>
      fc.record({
        seq: fc.integer({ min: 1, max: 6 }),
        wallMs: fc.nat(3),
        claims: fc.array(fc.tuple(fc.nat(4), fc.constantFrom(1, 3, 6, 60_000, 2 ** 50)), {
          maxLength: 4,
        }),
      }).map(({ seq, wallMs, claims }) => ({
        origin,
        seq,
        wallMs,
        over: new Map(claims.filter(([of]) => of !== i).map(([of, at]) => [origins[of], at])),
      }))
    ));
    const orders = fc.array(fc.shuffledSubarray([0, 1, 2, 3, 4], { minLength: 5 }), {
      minLength: 6,
      maxLength: 6,
    });
    fc.assert(
      fc.property(rows, orders, (all, ways) => {
        const shown = ways.map((way) => {
          const { state, known, put } = alone();
          for (const i of way) {
            const { origin, seq, wallMs, over } = all[i] as (typeof all)[number];
            known[origin] = seq;
            put(origin, seq, origin, wallMs, over);
          }
          state.tick(1_000_000);
          return text(state.get("k"));
        });
        assert.deepEqual(new Set(shown).size, 1, String(shown));
      }),
      { numRuns: 1_000 },
    );
  });

  test("what is claimed of a name without a head takes no memory", () => {
    const { state, put } = alone();
    const names = new Map(Array.from({ length: MAX_OVER }, (_, i) => [originOf(i), 1]));
    const effects = put("l".repeat(16), 1, "lie", 5, names);
    assert.ok(!types(effects).includes("replaced"));
    assert.equal(state.isWaiting, false);
  });

  test("a name of nobody that a row claims to replace keeps no deletion from fitting", () => {
    const { state, known, put } = alone();
    const names = new Map(Array.from({ length: MAX_OVER }, (_, i) => [originOf(1_000 + i), 1]));
    put("l".repeat(16), 1, "lie", 5, names);
    for (let i = 0; i < 20; i++) {
      known[originOf(i)] = 1;
      put(originOf(i), 1, `v${i}`, i);
    }
    const row = state.delete("k");
    const over = row instanceof Uint8Array ? decodeEntry(row)?.over : undefined;
    assert.equal(over?.size, MAX_OVER);
    for (let i = 0; i < 20; i++) assert.ok(over?.has(originOf(i)), `writer ${i}`);
  });

  test("one replica cannot fill the memory of what was replaced", () => {
    const replaced = new ReplacedDots();
    const liar = "l".repeat(16);
    let full = 0;
    for (let i = 0; i < 10_000; i++) {
      if (replaced.add({ key: `k${i}`, origin: originOf(i), seq: 1 }, liar) === "full") full++;
    }
    assert.ok(full > 0);
    const honest = { key: "honest", origin: originOf(1), seq: 1 };
    assert.equal(replaced.add(honest, "h".repeat(16)), "new");
    assert.equal(replaced.add(honest, liar), "known");
    assert.equal(replaced.add({ ...honest, seq: 2 }, liar), "more");
    // What is forgotten makes room.
    for (const wallMs of [0, 600_000]) {
      for (const key of [...replaced.keys()]) replaced.settle(key, wallMs, () => true);
    }
    assert.equal(replaced.size, 0);
    assert.equal(replaced.add({ key: "k", origin: originOf(1), seq: 1 }, liar), "new");
  });

  test("what was confirmed uses up nobody's allowance, and goes first when there is no more room", () => {
    const replaced = new ReplacedDots();
    const busy = "b".repeat(16);
    const add = (i: number, author: string) =>
      replaced.add({ key: `k${i}`, origin: originOf(1), seq: 1 }, author);
    for (let i = 0; i < 65_536; i++) {
      assert.equal(add(i, busy), "new");
      if (i % 2 === 0) replaced.settle(`k${i}`, i, () => true);
      // The allowance of one is 8,192.
      else if (i > 16_000) replaced.settle(`k${i}`, i, () => true);
    }
    const other = "o".repeat(16);
    assert.equal(add(70_000, other), "full");
    assert.deepEqual(replaced.makeRoom(), { key: "k0", origin: originOf(1) });
    assert.equal(replaced.makeRoom(), undefined, "there is room");
    assert.equal(add(70_000, other), "new");
    // One that was confirmed and is not any more is needed still.
    replaced.settle("k2", 70_000, () => false);
    assert.deepEqual(replaced.makeRoom(), { key: "k4", origin: originOf(1) });
    assert.equal(replaced.seqOf("k2", originOf(1)), 1);
  });

  test("the largest entry fits a row of a store", () => {
    const over = new Map(
      Array.from({ length: MAX_OVER }, (_, i) => [originOf(i), Number.MAX_SAFE_INTEGER]),
    );
    const stamp = { wallMs: 2 ** 48 - 1, counter: 2 ** 16 - 1 };
    const value = new Uint8Array(MAX_MAP_VALUE_BYTES);
    const entry = { type: "put", over, stamp, value, born: Number.MAX_SAFE_INTEGER } as const;
    const row = encodeEntry(entry);
    assert.ok(row.length <= MAX_VALUE_BYTES, `${row.length} bytes`);
    assert.deepEqual(decodeEntry(row), entry);
  });

  test("bytes that are no entry are none", () => {
    const whole = encodeEntry({
      type: "put",
      over: new Map([[originOf(1), 5]]),
      stamp: { wallMs: 1, counter: 0 },
      value: utf8("v"),
    });
    for (let length = 0; length < whole.length - 1; length++) {
      assert.equal(decodeEntry(whole.slice(0, length)), undefined);
    }
    assert.equal(decodeEntry(Uint8Array.of(3, 0)), undefined);
    assert.equal(decodeEntry(Uint8Array.of(1, 0, 9)), undefined, "bytes behind the end");
    assert.equal(decodeEntry(Uint8Array.of(1, 255, 127)), undefined, "too many origins");
  });
});

describe("a map on replicas", () => {
  test("a clock an hour ahead moves no honest clock, and its writes lose to the next", () => {
    const world = new MapWorld(4, { loss: 0, duplication: 0, maxDelayMs: 1 });
    const fast = world.addNode(false, 3_600_000);
    const [a, b] = [world.addNode(false), world.addNode(false)] as [Node, Node];
    for (const one of world.nodes) for (const other of world.nodes) world.link(one, other);
    world.set(a, "k");
    world.run(100);
    world.set(fast, "k");
    world.set(fast, "only");
    world.run(100);
    assert.equal(a.shown.get("k"), 0);
    assert.equal(a.shown.has("only"), false);
    world.set(b, "k");
    world.run(100);
    assert.ok(world.nodes.every((node) => node.shown.get("k") === 3));
    assert.ok(b.hlc.now().wallMs - world.wall(b) <= 0);
    world.run(3_600_000);
    world.sweep(a);
    assert.equal(a.shown.get("only"), 2);
    assert.equal(a.shown.get("k"), 3);
  });
});
