import assert from "node:assert/strict";
import { concat, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { randomBelow } from "../../src/base/random.ts";
import { decodeEntry, encodeEntry } from "../../src/map/entry.ts";
import { decodeData, encodeDelta } from "../../src/replica/messages.ts";
import type { Delta, Put } from "../../src/replica/origin_rows.ts";
import type { StoreState } from "../../src/replica/store_state.ts";
import { describe, test } from "../harness.ts";
import { MapWorld, STORE } from "./world.ts";
import type { Node } from "./world.ts";

type Lie = (truth: Delta) => Delta;
const each = (change: (put: Put) => Put): Lie => (truth) => {
  return { ...truth, puts: truth.puts.map(change) };
};
const entry = (put: Put) => decodeEntry(put.value) as NonNullable<ReturnType<typeof decodeEntry>>;

/** What a relay may do to the entries that another replica wrote. */
const LIES: Record<string, Lie> = {
  "forges a value": each((put) => ({ ...put, value: concat([put.value, utf8("0")]) })),
  "turns values into deletions": each((put) => (
    { ...put, value: encodeEntry({ type: "removed", over: entry(put).over }) }
  )),
  "gives a write an earlier stamp": each((put) => {
    const { over } = entry(put);
    const stamp = { wallMs: 1, counter: 0 };
    return { ...put, value: encodeEntry({ type: "put", over, stamp, value: utf8("0") }) };
  }),
  "hides what a write replaced": each((put) => {
    const old = entry(put);
    return { ...put, value: encodeEntry({ ...old, over: new Map() }) };
  }),
  "hides an entry": (truth) => ({ ...truth, puts: truth.puts.slice(1) }),
  "hides all entries": (truth) => ({ ...truth, puts: [] }),
  "adds an entry": (truth) => ({
    ...truth,
    puts: [...truth.puts, {
      seq: truth.head.seq,
      key: "added",
      value: encodeEntry({ type: "removed", over: new Map() }),
    }],
  }),
  "moves entries to another key": each((put) => ({ ...put, key: `${put.key}x` })),
  "claims a later version": (truth) => (
    { ...truth, head: { ...truth.head, seq: truth.head.seq + 9 } }
  ),
  "claims another life": (truth) => (
    { ...truth, head: { ...truth.head, epoch: truth.head.epoch + 1 } }
  ),
};

interface Cast {
  readonly world: MapWorld;
  readonly author: Node;
  readonly relay: Node;
  readonly victim: Node;
  readonly honest: Node;
}

function cast(lie: Lie): Cast {
  const world = new MapWorld(5, { loss: 0, duplication: 0, maxDelayMs: 1 });
  const author = world.addNode(true), relay = world.addNode(true);
  const victim = world.addNode(true), honest = world.addNode(true);
  world.tamper = (kind, from, to, body) => {
    // The victim hears of the others from its neighbours alone.
    if (kind === "broadcast") return to === victim ? undefined : body;
    if (kind !== "data" || from !== relay || to !== victim) return body;
    const message = decodeData(body);
    return message.type === "delta" ? encodeDelta(STORE, lie(message.delta))[0] : body;
  };
  world.link(author, relay);
  world.link(author, honest);
  world.run(100);
  for (let i = 0; i < 5; i++) world.set(author, `k${i}`);
  world.run(100);
  for (const key of ["k1", "k2"]) world.set(honest, key);
  world.run(100);
  world.delete(author, "k4");
  for (const key of ["k0", "k1"]) world.set(author, key);
  world.run(1_000);
  return { world, author, relay, victim, honest };
}

describe("a map behind a lying relay", () => {
  for (const [what, lie] of Object.entries(LIES)) {
    test(`a relay that ${what} is refused, and the truth comes from another`, () => {
      const { world, relay, victim, honest } = cast(lie);
      world.link(relay, victim);
      // The world itself fails when a row is shown that nobody wrote.
      world.run(60_000);
      assert.ok([...victim.refusals.values()].reduce((a, b) => a + b, 0) > 0);
      world.link(honest, victim);
      world.run(400_000);
      assert.deepEqual([...victim.shown].sort(byKey), [...world.truth()].sort(byKey));
      assert.equal(victim.shown.size, 4);
    });
  }

  test("a relay that replays and reorders brings nothing back", () => {
    const { world, author, relay, victim } = cast((truth) => truth);
    const old: Bytes[] = [];
    const { tamper } = world;
    world.tamper = (kind, from, to, body) => {
      if (kind !== "control" && to === victim) old.push(body);
      return tamper?.(kind, from, to, body);
    };
    world.link(relay, victim);
    for (let round = 0; round < 20; round++) {
      world.run(2_000);
      const key = `k${round % 5}`;
      if (round % 3 === 0) world.delete(author, key);
      else world.set(round % 2 === 0 ? relay : author, key);
      world.run(100);
      for (let i = 0; i < 5; i++) {
        const body = old[randomBelow(world.random, Math.max(1, old.length))];
        if (body === undefined) continue;
        world.feed(victim, { type: "broadcast", body });
        world.feed(victim, { type: "data", from: relay.name, body });
      }
    }
    world.run(60_000);
    assert.ok(old.length > 5);
    assert.deepEqual([...victim.shown].sort(byKey), [...world.truth()].sort(byKey));
  });
});

describe("a persistent map", () => {
  test("whose disk went back to an old copy loses nothing that others know", () => {
    const world = new MapWorld(8, { loss: 0, duplication: 0, maxDelayMs: 0 });
    const nodes = [world.addNode(true), world.addNode(true), world.addNode(true)];
    const [a, b] = nodes as [Node, Node, Node];
    const linkAll = () => {
      for (const one of nodes) for (const other of nodes) world.link(one, other);
    };
    linkAll();
    for (let i = 0; i < 5; i++) world.set(a, `k${i}`);
    world.run(1_000);
    const backup = [new Map(a.disk), new Map(a.replaced)] as const;
    for (let i = 0; i < 5; i++) world.set(a, `k${i}`);
    world.set(a, "later");
    world.run(1_000);
    const { epoch } = (a.replica.store(STORE) as StoreState).self;
    world.crash(a);
    [a.disk, a.replaced] = backup.map((copy) => new Map(copy)) as [typeof a.disk, typeof a.disk];
    a.known = new Set([0, 1, 2, 3, 4]);
    a.dead = new Set();
    a.gone = new Set();
    world.start(a);
    assert.equal((a.replica.store(STORE) as StoreState).self.epoch, epoch);
    // Before it learns better: from here it signs a second history.
    world.set(a, "k0");
    world.run(100);
    linkAll();
    world.run(60_000);
    assert.ok((a.replica.store(STORE) as StoreState).self.epoch > epoch);
    world.set(a, "k1");
    world.run(60_000);
    assert.ok(a.shown.has("later"));
    for (const node of nodes) {
      assert.deepEqual([...node.shown].sort(byKey), [...a.shown].sort(byKey), node.name);
    }
    assert.equal(b.shown.get("k1"), world.writes.length - 1);
    world.crash(a);
    world.start(a);
    linkAll();
    world.run(60_000);
    assert.deepEqual([...a.shown].sort(byKey), [...b.shown].sort(byKey));
  });
});

function byKey([a]: [string, number], [b]: [string, number]): number {
  return a < b ? -1 : 1;
}
