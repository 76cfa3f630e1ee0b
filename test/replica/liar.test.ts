import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { pick, randomBelow } from "../../src/base/random.ts";
import type { Version } from "../../src/crdt/version_vector.ts";
import { decodeControl, decodeData, encodeDelta } from "../../src/replica/messages.ts";
import type { Delta } from "../../src/replica/origin_rows.ts";
import { describe, test } from "../harness.ts";
import { signAs, snapshotOf, STORE, World } from "./world.ts";
import type { Node } from "./world.ts";

type Lie = (truth: Delta, world: World, author: Node) => Delta;

/** What a relay may do to rows that another node wrote. The author has k0…k9, then removed k3. */
const LIES: Record<string, Lie> = {
  "forges a value": (truth) => ({
    ...truth,
    puts: truth.puts.map((put, i) => i === 1 ? { ...put, value: utf8("forged") } : put),
  }),
  "adds a row": (truth) => ({
    ...truth,
    puts: [
      ...truth.puts.slice(0, 3),
      { seq: 4, key: "added", value: utf8("") },
      ...truth.puts.slice(3),
    ],
  }),
  "hides a row": (truth) => ({ ...truth, puts: truth.puts.slice(1) }),
  "hides every row": (truth) => ({ ...truth, puts: [] }),
  "renames a row": (truth) => ({
    ...truth,
    puts: truth.puts.map((put, i) => i === 2 ? { ...put, key: "renamed" } : put),
  }),
  "swaps two values": (truth) => ({
    ...truth,
    puts: truth.puts.map((put, i) => (
      i > 1 ? put : { ...put, value: (truth.puts[1 - i] as { value: Bytes }).value }
    )),
  }),
  "moves a row to another dot": (truth) => ({
    ...truth,
    puts: truth.puts.map((put) => put.key === "k2" ? { ...put, seq: 4 } : put)
      .sort((a, b) => a.seq - b.seq),
  }),
  "gives the rows a later version": (truth) => ({
    ...truth,
    head: { ...truth.head, seq: truth.head.seq + 5 },
  }),
  "gives the rows a later life": (truth) => ({
    ...truth,
    head: { ...truth.head, epoch: truth.head.epoch + 1 },
  }),
  "signs with its own key": (truth, world) => {
    const { publicKey } = world.nodes[1] as Node;
    return { ...truth, head: { ...truth.head, signature: signAs(publicKey, truth.head.hash) } };
  },
  "says that it is a short way from where we stand": (truth) => ({
    ...truth,
    from: truth.head.seq - 1,
    earlier: { type: "kept", runs: [{ first: 1, last: 9 }] },
    puts: [],
  }),
};

function lyingRelay(
  lie: Lie,
): { world: World; author: Node; relay: Node; victim: Node; honest: Node } {
  const world = new World(5, { loss: 0, duplication: 0, minDelayMs: 1, maxDelayMs: 1 });
  const author = world.addNode(), relay = world.addNode();
  const victim = world.addNode(), honest = world.addNode();
  world.run(5);
  for (let i = 0; i < 10; i++) world.put(author, `k${i}`, utf8(`v${i}`));
  world.run(10);
  world.remove(author, "k3");
  world.run(10);
  world.tamper = (kind, from, to, body) => {
    // The victim hears of the author from its neighbours alone.
    if (kind === "broadcast") return to === victim ? undefined : body;
    if (kind !== "data" || from !== relay || to !== victim) return body;
    const message = decodeData(body);
    if (
      message.type !== "delta" || String(message.delta.head.author) !== String(author.publicKey)
    ) {
      return body;
    }
    return encodeDelta(STORE, lie(message.delta, world, author))[0];
  };
  world.link(author, relay);
  world.link(author, honest);
  world.run(1_000);
  return { world, author, relay, victim, honest };
}

function shown(world: World, at: Node, of: Node): string {
  return snapshotOf([...world.state(at).rowsBy(of.publicKey)].map((row) => [row.key, row.value]));
}

describe("replica, behind a lying relay", () => {
  for (const [what, lie] of Object.entries(LIES)) {
    test(`a relay that ${what} is refused, and an honest one asked`, () => {
      const { world, author, relay, victim, honest } = lyingRelay(lie);
      world.link(relay, victim);
      world.run(60_000);
      assert.equal(shown(world, victim, author), "");
      assert.ok([...victim.refusals.values()].reduce((a, b) => a + b, 0) > 0);
      world.link(honest, victim);
      world.run(300_000);
      assert.equal(shown(world, victim, author), snapshotOf(author.truth));
    });
  }

  test("with an honest neighbour at hand, a lie costs one more question", () => {
    const { world, author, relay, victim, honest } = lyingRelay(LIES["forges a value"] as Lie);
    world.split(new Set([honest, author]));
    world.heal();
    world.link(relay, victim);
    world.link(honest, victim);
    world.link(author, honest);
    world.run(3_000);
    assert.equal(shown(world, victim, author), snapshotOf(author.truth));
  });

  test("after a lie the whole origin is asked for, and a liar alone is asked less and less", () => {
    const { world, author, relay, victim, honest } = lyingRelay((truth) => truth);
    world.link(relay, victim);
    world.run(1_000);
    assert.equal(shown(world, victim, author), snapshotOf(author.truth));
    const { tamper } = world;
    const pulls: [Node, Version][] = [];
    world.tamper = (kind, from, to, body) => {
      if (kind === "control" && from === victim) {
        const message = decodeControl(body);
        if (message.type === "pull") {
          for (const { version } of message.items) pulls.push([to, version]);
        }
      }
      if (kind === "broadcast" && to === victim) return undefined;
      if (kind !== "data" || from !== relay || to !== victim) return body;
      const message = decodeData(body);
      if (message.type !== "delta") return tamper?.(kind, from, to, body);
      return encodeDelta(STORE, (LIES["hides every row"] as Lie)(message.delta, world, author))[0];
    };
    const { seq } = world.state(author).version(author.origin);
    world.put(author, "k11", utf8("v11"));
    world.run(600_000);
    assert.deepEqual(pulls[0], [relay, { epoch: 1, seq }]);
    assert.ok(pulls.length >= 3 && pulls.length <= 12, `${pulls.length} pulls in ten minutes`);
    pulls.length = 0;
    world.link(honest, victim);
    world.run(400_000);
    assert.equal(shown(world, victim, author), snapshotOf(author.truth));
    // Now with both at hand: the second question is for everything.
    pulls.length = 0;
    world.unlink(honest, victim);
    world.put(author, "k12", utf8("v12"));
    world.run(1);
    world.unlink(relay, victim);
    world.link(relay, victim);
    world.link(honest, victim);
    world.run(30_000);
    const ofHonest = pulls.filter(([to]) => to === honest).map(([, version]) => version);
    assert.equal(pulls[0]?.[0], relay);
    assert.deepEqual(ofHonest, [{ epoch: 0, seq: 0 }]);
    assert.equal(shown(world, victim, author), snapshotOf(author.truth));
  });

  test("an old head cannot bring a removed row back", () => {
    const { world, author, relay, victim } = lyingRelay((truth) => truth);
    const old: Bytes[] = [];
    const { tamper } = world;
    world.tamper = (kind, from, to, body) => {
      if (kind === "data" && to === victim) old.push(body);
      return tamper?.(kind, from, to, body);
    };
    world.link(relay, victim);
    world.run(1_000);
    world.remove(author, "k5");
    world.run(30_000);
    assert.doesNotMatch(shown(world, victim, author), /k5/);
    assert.ok(old.length > 0);
    for (const body of old) {
      world.feed(victim, { type: "data", from: relay.name, body });
      world.feed(victim, { type: "broadcast", body });
    }
    world.run(30_000);
    assert.doesNotMatch(shown(world, victim, author), /k5/);
  });

  test("a head of one store says nothing in another", () => {
    const { world, author, victim } = lyingRelay((truth) => truth);
    world.checks = false;
    world.feed(victim, { type: "createStore", name: "other", validate: () => undefined });
    const delta = world.state(author).signedRows.deltaFrom({ epoch: 0, seq: 0 }) as Delta;
    world.feed(victim, { type: "broadcast", body: encodeDelta("other", delta)[0] as Bytes });
    world.run(10);
    assert.equal(victim.refusals.get("bad_signature"), 1);
    assert.equal(victim.replica.store("other")?.version(author.origin).epoch, 0);
  });

  test("random lies on every way never show anywhere, and end when the liar goes", {
    timeoutMs: 120_000,
  }, () => {
    for (let seed = 1; seed <= 40; seed++) {
      const world = new World(seed, {
        loss: 0.05,
        duplication: 0.1,
        minDelayMs: 1,
        maxDelayMs: 80,
      });
      const { random } = world;
      for (let i = 0; i < 5; i++) world.addNode();
      const [liar, ...others] = world.nodes as [Node, ...Node[]];
      const old: Bytes[] = [];
      world.tamper = (kind, from, _to, body) => {
        // What is broadcast passes through the liar too.
        if (kind === "control" || (from !== liar && randomBelow(random, 4) > 0)) return body;
        old.push(body);
        switch (randomBelow(random, 4)) {
          case 0:
            return pick(random, old);
          case 1: {
            const bad = body.slice();
            bad[randomBelow(random, bad.length)] = random.uint32() & 0xff;
            return bad;
          }
          case 2: {
            const message = decodeData(body);
            if (message.type !== "delta") return undefined;
            const lie = pick(random, Object.values(LIES)) as Lie;
            try {
              return encodeDelta(STORE, lie(message.delta, world, liar))[0];
            } catch {
              return undefined;
            }
          }
          default:
            return body;
        }
      };
      for (let i = 0; i < 60; i++) {
        const author = pick(random, others) as Node;
        if (randomBelow(random, 3) === 0) world.remove(author, `k${randomBelow(random, 6)}`);
        else world.put(author, `k${randomBelow(random, 6)}`, random.bytes(2));
        world.link(pick(random, world.nodes) as Node, pick(random, world.nodes) as Node);
        world.run(randomBelow(random, 800));
      }
      world.crash(liar);
      world.tamper = undefined;
      world.network.loss = 0;
      for (const a of others) for (const b of others) world.link(a, b);
      // Distrust of an origin lasts up to five minutes.
      world.run(700_000);
      for (const a of others) {
        for (const b of others) {
          assert.equal(shown(world, a, b), snapshotOf(b.truth), `seed ${seed}`);
        }
      }
    }
  });
});
