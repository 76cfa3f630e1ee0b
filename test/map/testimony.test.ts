import assert from "node:assert/strict";
import fc from "fast-check";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { BarrelError } from "../../src/base/errors.ts";
import { HybridLogicalClock } from "../../src/crdt/hlc.ts";
import { decodeEntry, encodeEntry, MAX_OVER } from "../../src/map/entry.ts";
import type { Entry } from "../../src/map/entry.ts";
import { LwwState } from "../../src/map/lww_state.ts";
import type { LwwEffect } from "../../src/map/lww_state.ts";
import { openMap } from "../../src/map/map.ts";
import type { MapEvent } from "../../src/map/map.ts";
import { MAX_REMOVALS, patienceOf, TESTIMONY_MS } from "../../src/map/testimony.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import type { Store, StoreOptions } from "../../src/replica/driver.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { describe, test } from "../harness.ts";

const OWN = "o".repeat(16);
const WRITER = "w".repeat(16);
const DELETER = "d".repeat(16);
const START_MS = 1_000_000;
const PATIENCE_MS = patienceOf(OWN);
const originOf = (i: number) => String.fromCharCode(i & 0xff, i >> 8).padEnd(16, "x");
const text = (value: Bytes | undefined) => value && new TextDecoder().decode(value);

/** A state of `origin`, beside a store that the test plays. */
function stateOf(origin: string = OWN) {
  const dots = new Map<string, number>();
  const known: Record<string, number> = {};
  const away = new Set<string>();
  const state = new LwwState({
    origin,
    dotOf: (key) => dots.get(key),
    knownUpTo: (of) => known[of] ?? 0,
    isAway: (of) => away.has(of),
    judge: () => undefined,
  }, 5_000);
  state.loaded();
  let seq = 0;
  const row = (of: string, at: number, entry: Entry, key = "k") => {
    known[of] = Math.max(known[of] ?? 0, at);
    return state.put({ origin: of, seq: at, key, value: encodeEntry(entry) }, START_MS);
  };
  return {
    state,
    known,
    away,
    row,
    put: (of: string, at: number, value: string, wallMs: number, over = new Map(), key = "k") =>
      row(of, at, { type: "put", over, stamp: { wallMs, counter: 0 }, value: utf8(value) }, key),
    /** Another's row is gone by its own word. */
    end: (of: string, key = "k") => {
      known[of] = (known[of] ?? 0) + 1;
      return state.remove({ origin: of, key });
    },
    /** Our own row, signed at once. */
    write: (value: Bytes, key = "k") => {
      dots.set(key, ++seq);
      known[origin] = seq;
      return state.put({ origin, seq: 0, key, value }, START_MS);
    },
    drop: (key = "k") => {
      dots.delete(key);
      known[origin] = ++seq;
      return state.remove({ origin, key });
    },
  };
}

const over = (...dots: [string, number][]) => new Map(dots);
const ofType = <T extends LwwEffect["type"]>(effects: readonly LwwEffect[], type: T) =>
  effects.filter((effect): effect is LwwEffect & { type: T } => effect.type === type);
/** What it says after so long, if it has not before. */
function testimonies({ state }: ReturnType<typeof stateOf>, fromMs = START_MS): LwwEffect[] {
  const first = state.tick(fromMs);
  assert.deepEqual(ofType(first, "testify"), []);
  assert.deepEqual(ofType(state.tick(fromMs + PATIENCE_MS - 1), "testify"), []);
  return state.tick(fromMs + PATIENCE_MS);
}
const only = (effects: readonly LwwEffect[]): { row: Bytes; entry: Entry } => {
  const [effect, ...more] = ofType(effects, "testify");
  assert.ok(effect !== undefined && more.length === 0, "one row");
  return { row: effect.value, entry: decodeEntry(effect.value) as Entry };
};

/** Who heard the writer's row, the deletion and its end; nothing of the writer after. */
function remembering(own?: { value: string; wallMs: number }) {
  const node = stateOf();
  if (own !== undefined) {
    const { value, wallMs } = own;
    const stamp = { wallMs, counter: 0 };
    node.write(encodeEntry({ type: "put", over: over(), stamp, value: utf8(value) }));
  }
  node.put(WRITER, 3, "old", 10);
  node.row(DELETER, 1, { type: "removed", over: over([WRITER, 3]) });
  node.end(DELETER);
  return node;
}

describe("what only a replica's memory hides", () => {
  test("is said after a minute or two, once, in a row over just that", () => {
    const node = remembering();
    node.put("x".repeat(16), 1, "alive", 20);
    const { row, entry } = only(testimonies(node));
    assert.deepEqual(entry, { type: "removed", over: over([WRITER, 3]) });
    assert.ok(PATIENCE_MS >= TESTIMONY_MS / 2 && PATIENCE_MS <= TESTIMONY_MS);
    node.write(row);
    assert.deepEqual(ofType(testimonies(node, START_MS + 1e6), "testify"), []);
    assert.equal(text(node.state.get("k")), "alive");
    // Who remembers nothing hides it, too; and once the writer says that it is gone so does the row.
    const other = stateOf("p".repeat(16));
    other.put(WRITER, 3, "old", 10);
    other.row(OWN, 1, entry);
    assert.equal(other.state.get("k"), undefined);
    assert.equal(ofType(node.end(WRITER), "drop").length, 1);
  });

  test("is not said when the writer's word comes seconds later", () => {
    const node = remembering();
    for (let ms = 0; ms < 30_000; ms += 5_000) node.state.tick(START_MS + ms);
    node.end(WRITER);
    assert.deepEqual(ofType(node.state.tick(START_MS + TESTIMONY_MS), "testify"), []);
    // Another row of the key has its own time.
    node.put(WRITER, 9, "again", 10);
    node.row(DELETER, 7, { type: "removed", over: over([WRITER, 9]) });
    node.end(DELETER);
    assert.deepEqual(ofType(node.state.tick(START_MS + 2 * TESTIMONY_MS), "testify"), []);
  });

  test("is not said when another replica says it first", () => {
    const node = remembering();
    node.state.tick(START_MS);
    node.row("p".repeat(16), 1, { type: "removed", over: over([WRITER, 3]) });
    assert.deepEqual(ofType(testimonies(node, START_MS + PATIENCE_MS), "testify"), []);
  });

  test("is added to a deletion of ours, and waits while one is not signed", () => {
    const node = remembering();
    node.put("x".repeat(16), 1, "other", 5);
    const first = encodeEntry({ type: "removed", over: over(["x".repeat(16), 1]) });
    node.state.put({ origin: OWN, seq: 0, key: "k", value: first }, START_MS);
    assert.deepEqual(ofType(testimonies(node), "testify"), []);
    node.write(first);
    const { entry } = only(node.state.tick(START_MS + PATIENCE_MS));
    assert.deepEqual(entry, { type: "removed", over: over(["x".repeat(16), 1], [WRITER, 3]) });
  });

  test("is said by a write of ours once more, which stays the write that it was", () => {
    const node = remembering({ value: "ours", wallMs: 5 });
    const { row, entry } = only(testimonies(node));
    assert.deepEqual(entry, {
      type: "put",
      over: over([WRITER, 3]),
      stamp: { wallMs: 5, counter: 0 },
      value: utf8("ours"),
      born: 1,
    });
    assert.deepEqual(ofType(node.write(row), "shown"), [], "nobody is told of a change");
    assert.equal(text(node.state.get("k")), "ours");
    // Who replaced the first row has replaced this one, on every node, and its writer drops it.
    const concurrent = over([OWN, 1]);
    assert.equal(ofType(node.put("z".repeat(16), 1, "z", 1, concurrent), "drop").length, 1);
    for (const order of ["before", "after"]) {
      const other = stateOf("p".repeat(16));
      const steps = [
        () => other.put("z".repeat(16), 1, "z", 1, concurrent),
        () => other.row(OWN, 2, entry),
      ];
      for (const step of order === "before" ? steps : steps.toReversed()) step();
      assert.equal(text(other.state.get("k")), "z", order);
      // Nor does it come back when that row goes, or to who writes next.
      other.end("z".repeat(16));
      assert.equal(other.state.get("k"), undefined, order);
      const next = decodeEntry(other.state.set("k", utf8("n"), { wallMs: 99, counter: 0 }));
      assert.equal(next?.over.get(OWN), 1);
    }
  });

  test("is said again later when it did not get into our rows", () => {
    const node = remembering();
    only(testimonies(node));
    only(testimonies(node, START_MS + PATIENCE_MS + 5_000));
  });

  test("is said by a presence map whose deleter died before the writer heard", () => {
    const node = stateOf();
    node.put(WRITER, 3, "old", 10);
    node.row(DELETER, 1, { type: "removed", over: over([WRITER, 3]) });
    assert.deepEqual(ofType(testimonies(node), "testify"), []);
    node.away.add(DELETER);
    node.state.setAway({ origin: DELETER, key: "k" });
    const { entry } = only(testimonies(node, START_MS + TESTIMONY_MS));
    const writer = stateOf(WRITER);
    const stamp = { wallMs: 10, counter: 0 };
    writer.write(encodeEntry({ type: "put", over: over(), stamp, value: utf8("old") }));
    const effects = writer.row(OWN, 1, { ...entry, over: over([WRITER, 1]) });
    assert.deepEqual(ofType(effects, "drop"), [{ type: "drop", key: "k" }]);
    assert.equal(writer.state.get("k"), undefined);
  });

  test("is not said of a row whose node is down, before it is back", () => {
    const node = remembering();
    node.away.add(WRITER);
    node.state.setAway({ origin: WRITER, key: "k" });
    assert.deepEqual(ofType(testimonies(node), "testify"), []);
    node.away.delete(WRITER);
    node.put(WRITER, 3, "old", 10);
    only(testimonies(node, START_MS + TESTIMONY_MS));
  });

  test("that cannot be said in a full row is counted, and what fits is said", () => {
    const node = stateOf();
    for (let i = 0; i < MAX_OVER + 3; i++) node.put(originOf(i), 1, `v${i}`, i);
    for (let i = 0; i < MAX_OVER + 3; i++) {
      node.row(DELETER, 2 * i + 1, { type: "removed", over: over([originOf(i), 1]) });
    }
    node.end(DELETER);
    const effects = testimonies(node);
    assert.equal(only(effects).entry.over.size, MAX_OVER);
    assert.deepEqual(ofType(effects, "unsaid"), [{ type: "unsaid", key: "k", reason: "row_full" }]);
  });

  test("is not said beyond a number of removals, whatever others write and take back", () => {
    const node = stateOf();
    for (let i = 0; i < MAX_REMOVALS + 10; i++) {
      node.put(WRITER, i + 1, "v", 1, over(), `k${i}`);
      node.row(DELETER, i + 1, { type: "removed", over: over([WRITER, i + 1]) }, `k${i}`);
      node.state.remove({ origin: DELETER, key: `k${i}` });
    }
    node.known[DELETER] = 9_999;
    node.state.tick(START_MS);
    let written = 0;
    let refused = 0;
    for (let round = 1; round <= 3; round++) {
      const effects = node.state.tick(START_MS + round * TESTIMONY_MS);
      for (const { key, value } of ofType(effects, "testify")) {
        written++;
        node.write(value, key);
      }
      refused += ofType(effects, "unsaid").length;
    }
    assert.equal(written, MAX_REMOVALS);
    assert.ok(refused >= 10, String(refused));
  });

  test("yields where its author said that it knew our next rows: all go by the stamps", () => {
    const node = stateOf();
    node.put(WRITER, 3, "liar", 10, over([OWN, 60_000]));
    node.row(DELETER, 1, { type: "removed", over: over([WRITER, 3]) });
    node.end(DELETER);
    const { row, entry } = only(testimonies(node));
    node.write(row);
    testimonies(node, START_MS + TESTIMONY_MS);
    const other = stateOf("p".repeat(16));
    other.put(WRITER, 3, "liar", 10, over([OWN, 60_000]));
    other.row(OWN, 1, entry);
    assert.equal(text(other.state.get("k")), "liar");
    assert.equal(text(node.state.get("k")), "liar");
    assert.deepEqual(ofType(testimonies(node, START_MS + 9 * TESTIMONY_MS), "testify"), []);
  });
});

describe("the dot that a write was born with", () => {
  const put = (born: number): Entry => ({
    type: "put",
    over: over(),
    stamp: { wallMs: 9, counter: 0 },
    value: utf8("v"),
    born,
  });

  test("is no later than its row, whatever its writer says", () => {
    const node = stateOf();
    node.row(WRITER, 5, put(2 ** 40));
    const next = decodeEntry(node.state.set("k", utf8("n"), { wallMs: 10, counter: 0 }));
    assert.deepEqual(next?.over, over([WRITER, 5]));
    node.row(DELETER, 1, { type: "removed", over: over([WRITER, 5]) });
    assert.equal(node.state.get("k"), undefined);
  });

  test("when it is one that was replaced hides the row, and all come to agree", () => {
    const node = stateOf();
    node.put(WRITER, 1, "first", 1);
    node.end(WRITER);
    node.row(WRITER, 5, put(1));
    assert.equal(node.state.get("k"), undefined);
    const newcomer = stateOf("p".repeat(16));
    newcomer.row(WRITER, 5, put(1));
    assert.equal(text(newcomer.state.get("k")), "v");
    const { entry } = only(testimonies(node));
    newcomer.row(OWN, 1, entry);
    assert.equal(newcomer.state.get("k"), undefined);
    assert.ok(newcomer.state.isWaiting);
  });

  test("is read as it was written, and any bytes are read or refused", () => {
    const entries = fc.record({
      over: fc.array(fc.tuple(fc.nat(999), fc.maxSafeNat()), { maxLength: 9 })
        .map((dots) => new Map(dots.map(([of, seq]) => [originOf(of), seq]))),
      stamp: fc.record({ wallMs: fc.nat(), counter: fc.nat(0xffff) }, { noNullPrototype: true }),
      value: fc.uint8Array({ maxLength: 50 }).map((bytes) => new Uint8Array(bytes)),
      born: fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }),
    });
    fc.assert(fc.property(entries, fc.nat(), fc.nat(255), (fields, at, byte) => {
      const entry = { type: "put", ...fields } as const;
      const bytes = encodeEntry(entry);
      assert.deepEqual(decodeEntry(bytes), entry);
      const spoiled = bytes.slice();
      spoiled[at % bytes.length] = byte;
      const read = decodeEntry(spoiled);
      assert.ok(read === undefined || read.type === "removed" || read.born !== 0);
      assert.doesNotThrow(() => decodeEntry(bytes.slice(0, at % bytes.length)));
    }));
    fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => {
      decodeEntry(new Uint8Array([2, ...bytes]));
    }));
    assert.equal(decodeEntry(encodeEntry(put(0))), undefined);
  });
});

/** A map over a store that the test plays, which takes no row while it is full. */
function mapOverStore() {
  const clock = createVirtualClock();
  const { clock: view } = clock.view();
  const meter = memoryMeter();
  const logs: string[] = [];
  const rows = new Map<string, Bytes>();
  const played = { isFull: true };
  let onChange: StoreOptions["onChange"];
  const author = new Uint8Array(32);
  const store = {
    origin: OWN,
    dotOf: (key: string) => rows.has(key) ? 1 : undefined,
    knownUpTo: () => 9,
    isAway: () => false,
    flushed: () => Promise.resolve(),
    put(key: string, value: Bytes) {
      if (played.isFull) throw new BarrelError("replica_limit", "too many rows");
      rows.set(key, value);
      onChange?.({ type: "put", row: { author, epoch: 1, origin: OWN, seq: 0, key, value } });
    },
  } as unknown as Store;
  const { map, close } = openMap<string>("m", {}, undefined, {
    replication: {
      createStore: (options) => {
        onChange = options.onChange;
        return store;
      },
      watch: () => {},
    },
    hlc: new HybridLogicalClock({ wall: () => view.wall() }, 5_000),
    maxDriftMs: 5_000,
    decode: {} as never,
    clock: view,
    logger: { log: (_level: string, message: string) => void logs.push(message) } as never,
    meter,
  });
  const tell = (type: "put" | "removed", origin: string, entry: Entry) =>
    onChange?.({
      type,
      row: { author, epoch: 1, origin, seq: 1, key: "k", value: encodeEntry(entry) },
    });
  return { clock, meter, logs, rows, played, map, close, tell };
}

describe("a map whose node has no room for a row more", () => {
  test("lives on, counts, says so once, and says it when there is room", async () => {
    const { clock, meter, logs, rows, played, map, close, tell } = mapOverStore();
    const told: MapEvent<string>[] = [];
    map.on((event) => void told.push(event));
    const stamp = { wallMs: 1, counter: 0 };
    // No more than a deletion of what came before: the value itself is never decoded.
    tell("put", DELETER, { type: "removed", over: over([WRITER, 1]) });
    tell("put", WRITER, { type: "put", over: over(), stamp, value: utf8("") });
    tell("removed", DELETER, { type: "removed", over: over() });
    await clock.run(3 * TESTIMONY_MS);
    assert.equal(rows.size, 0);
    const refused = () => meter.snapshot();
    assert.match(JSON.stringify(refused()), /barrel_map_unsaid_total/);
    assert.equal(logs.filter((line) => /cannot tell the others/.test(line)).length, 1);
    played.isFull = false;
    await clock.run(2 * TESTIMONY_MS);
    assert.deepEqual(decodeEntry(rows.get("k") as Bytes), {
      type: "removed",
      over: over([WRITER, 1]),
    });
    assert.deepEqual(told, []);
    close();
  });
});
