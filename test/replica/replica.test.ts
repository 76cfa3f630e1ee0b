import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { BarrelError, ConflictError } from "../../src/base/errors.ts";
import { headMessage, originOf } from "../../src/replica/head.ts";
import {
  MAX_KEY_BYTES,
  MAX_ORIGIN_BYTES,
  MAX_ROW_BYTES,
  MAX_STRANGERS,
  MAX_VALUE_BYTES,
} from "../../src/replica/limits.ts";
import {
  decodeControl,
  decodeData,
  encodeControl,
  encodeDelta,
} from "../../src/replica/messages.ts";
import type { Put } from "../../src/replica/origin_rows.ts";
import { Replica } from "../../src/replica/replica.ts";
import { SetHash } from "../../src/replica/set_hash.ts";
import { describe, test } from "../harness.ts";
import { INTERVAL_MS, sha256, signAs, snapshotOf, STORE, World } from "./world.ts";
import type { Node } from "./world.ts";

const CALM = { loss: 0, duplication: 0, minDelayMs: 1, maxDelayMs: 1 };

function worldOf(size: number): { world: World; nodes: Node[] } {
  const world = new World(size, { ...CALM });
  for (let i = 0; i < size; i++) world.addNode();
  world.run(10);
  return { world, nodes: world.nodes };
}

function shown(world: World, at: Node, of: Node): string {
  return snapshotOf([...world.state(at).rowsBy(of.publicKey)].map((row) => [row.key, row.value]));
}

function root(world: World, at: Node): string {
  return String(world.state(at).digests.root());
}

/** What a delta signed by `author` looks like, whether or not an honest one would sign it. */
function signed(author: Node, seq: number, puts: readonly Put[], from = 0): Bytes {
  const sum = new SetHash(sha256);
  for (const put of puts) sum.add(put.seq, put.key, put.value);
  const body = { author: author.publicKey, epoch: author.epoch, seq, hash: sum.digest() };
  const head = { ...body, signature: signAs(author.publicKey, headMessage(STORE, body)) };
  return encodeDelta(STORE, {
    head,
    from,
    earlier: { type: "removed", dots: [] },
    puts,
  })[0] as Bytes;
}

describe("replica", () => {
  test("a write is visible here at once and there after one broadcast", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.link(a, b);
    world.run(100);
    world.put(a, "k", utf8("v"));
    assert.deepEqual(world.state(a).get(a.publicKey, "k")?.value, utf8("v"));
    const { broadcast } = world.frames;
    world.run(5);
    assert.deepEqual(world.state(b).get(a.publicKey, "k"), {
      author: a.publicKey,
      epoch: 1,
      origin: a.origin,
      seq: 1,
      key: "k",
      value: utf8("v"),
    });
    assert.deepEqual(world.state(b).rowsOf("k").map((row) => row.author), [a.publicKey]);
    assert.equal(world.frames.broadcast, broadcast + 1);
  });

  test("the writes of one turn are one head, and writing what is there already is none", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.link(a, b);
    world.run(100);
    const { broadcast } = world.frames;
    for (let i = 0; i < 50; i++) world.put(a, `k${i}`, utf8("v"));
    world.put(a, "k7", utf8("w"));
    world.remove(a, "k8");
    world.run(10);
    assert.equal(world.frames.broadcast, broadcast + 1);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
    world.put(a, "k7", utf8("w"));
    world.run(10);
    assert.equal(world.frames.broadcast, broadcast + 1);
    assert.equal(world.state(a).version(a.origin).seq, 49);
  });

  test("a delta that comes before its predecessor waits for it and nobody is asked", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.link(a, b);
    world.run(100);
    const late: Bytes[] = [];
    world.tamper = (kind, _from, _to, body) => {
      if (kind !== "broadcast" || late.length > 0) return body;
      late.push(body);
      return undefined;
    };
    world.put(a, "first", utf8("1"));
    world.run(5);
    world.put(a, "second", utf8("2"));
    world.run(5);
    assert.equal(shown(world, b, a), "");
    const { control } = world.frames;
    world.feed(b, { type: "broadcast", body: late[0] as Bytes });
    world.run(500);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
    assert.equal(world.frames.control, control);
  });

  test("a delta that is lost is pulled when the next one shows the gap", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.link(a, b);
    world.run(100);
    world.put(a, "old", utf8("0"));
    world.run(5);
    world.network.loss = 1;
    world.put(a, "first", utf8("1"));
    world.remove(a, "old");
    world.run(5);
    world.network.loss = 0;
    world.put(a, "second", utf8("2"));
    world.run(500);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
    assert.equal(b.refusals.size, 0);
  });

  test("a delta that is lost and followed by nothing is found by the next comparison", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.link(a, b);
    world.run(100);
    world.network.loss = 1;
    world.put(a, "k", utf8("1"));
    world.run(5);
    world.network.loss = 0;
    world.run(1.5 * INTERVAL_MS + 100);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
  });

  test("a new link alone tells each side what it lacks, within one exchange", () => {
    for (const [few, many] of [[3, 5], [3, 30], [18, 20]] as const) {
      const world = new World(few * many, { ...CALM });
      for (let i = 0; i < few + many; i++) {
        const node = world.addNode();
        world.run(5);
        world.put(node, "k", utf8(String(i)));
        world.run(5);
      }
      const left = world.nodes.slice(0, few), right = world.nodes.slice(few);
      world.split(new Set(left));
      // Two islands, each of one mind.
      for (const side of [left, right]) {
        for (const node of side) world.link(side[0] as Node, node);
      }
      world.run(30_000);
      assert.equal(shown(world, left[0] as Node, right[0] as Node), "");
      world.heal();
      const { frames: { broadcast } } = world;
      world.link(left[1] as Node, right[1] as Node);
      world.run(50);
      for (const at of [left[1], right[1]] as Node[]) {
        for (const of of world.nodes) assert.equal(shown(world, at, of), snapshotOf(of.truth));
      }
      // And the news spread through both, without a broadcast, before the next round.
      world.run(2_000);
      assert.equal(new Set(world.nodes.map((node) => root(world, node))).size, 1);
      assert.equal(world.frames.broadcast, broadcast);
    }
  });

  test("a late joiner learns everything from one peer, for a tenth more than its bytes", () => {
    const world = new World(14, { ...CALM });
    world.checks = false;
    const authors = Array.from({ length: 50 }, () => world.addNode());
    for (const [i, author] of authors.entries()) {
      for (let k = 0; k < 10; k++) {
        world.put(author, `worker_pool_${i}/${k}`, new Uint8Array(40).fill(i));
      }
    }
    world.run(10);
    for (const author of authors) world.link(authors[0] as Node, author);
    world.run(120_000);
    for (const [i, a] of authors.slice(1, 8).entries()) {
      for (const b of authors.slice(2 + i, 9)) world.link(a, b);
    }
    world.run(30_000);
    const state = authors.reduce((sum, author) => {
      const delta = world.state(author).signedRows.deltaFrom({ epoch: 0, seq: 0 });
      assert.ok(delta !== undefined);
      return sum + (encodeDelta(STORE, delta)[0] as Bytes).length;
    }, 0);
    const joiner = world.addNode();
    const before = { ...world.sent };
    const servers = new Set<Node>();
    let received = 0;
    world.tamper = (kind, from, to, body) => {
      if (to === joiner) received += body.length;
      if (to === joiner && kind === "data") servers.add(from);
      return body;
    };
    for (const peer of authors.slice(1, 6)) world.link(joiner, peer);
    world.run(3_000);
    assert.equal(root(world, joiner), root(world, authors[0] as Node));
    assert.equal(servers.size, 1);
    const all = world.sent.data + world.sent.control - before.data - before.control;
    assert.ok(received <= 1.1 * state, `${received} bytes for ${state}`);
    assert.ok(all <= 1.2 * state, `${all} bytes in all for ${state}`);
  });

  test("neighbours that agree exchange one frame of 17 bytes a round and nothing else", () => {
    const { world, nodes } = worldOf(6);
    for (const a of nodes) for (const b of nodes) world.link(a, b);
    world.put(nodes[0] as Node, "k", utf8("v"));
    world.run(60_000);
    const before = { frames: { ...world.frames }, sent: { ...world.sent } };
    world.run(100 * INTERVAL_MS);
    const control = world.frames.control - before.frames.control;
    assert.ok(control >= 500 && control <= 700, `${control} frames`);
    assert.equal(world.sent.control - before.sent.control, control * 17);
    assert.equal(world.sent.data, before.sent.data);
  });

  test("a new life replaces the old one even when it writes nothing", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    world.link(a, b);
    world.link(b, c);
    world.put(a, "k", utf8("v"));
    world.run(1_000);
    assert.notEqual(shown(world, c, a), "");
    world.crash(a);
    world.start(a);
    world.run(5);
    world.link(a, b);
    world.run(2_000);
    assert.equal(shown(world, c, a), "");
    assert.equal(world.state(c).version(a.origin).epoch, 2);
  });

  test("what was written in solitude is published to the first neighbour (horde 90)", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    world.link(b, c);
    world.run(10);
    world.put(a, "k", utf8("v"));
    world.run(10);
    const { broadcast } = world.frames;
    world.link(a, b);
    world.run(3);
    assert.ok(world.frames.broadcast > broadcast);
    assert.equal(shown(world, c, a), snapshotOf(a.truth));
  });

  test("a life declared over is hidden, not compared, and restored when that was wrong", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    for (const peer of [a, b]) world.link(peer, c);
    world.put(a, "k", utf8("v"));
    world.run(1_000);
    const verdict = { store: STORE, publicKey: a.publicKey, epoch: 1 };
    world.feed(c, { type: "retire", ...verdict });
    assert.equal(shown(world, c, a), "");
    assert.notEqual(root(world, c), root(world, b));
    world.feed(b, { type: "retire", ...verdict });
    assert.equal(root(world, c), root(world, b));
    // It lives, and goes on writing, behind its verdict.
    const before = root(world, c);
    world.put(a, "k2", utf8("w"));
    world.run(1_000);
    assert.equal(shown(world, c, a), "");
    assert.equal(root(world, c), before);
    world.feed(c, { type: "restore", ...verdict });
    assert.equal(shown(world, c, a), snapshotOf(a.truth));
  });

  test("a life that is restored leaves the one before it over", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.link(a, b);
    world.put(a, "k", utf8("of the first life"));
    world.run(100);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
    world.crash(a);
    // Of the second life it hears the verdict, and that it was wrong, before any row.
    const life = { store: STORE, publicKey: a.publicKey, epoch: 2 } as const;
    world.feed(b, { type: "retire", ...life });
    assert.equal(shown(world, b, a), "");
    world.feed(b, { type: "restore", ...life });
    assert.equal(shown(world, b, a), "");
    world.start(a);
    world.put(a, "l", utf8("of the second"));
    world.link(a, b);
    world.run(1_000);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
  });

  test("a life that is forgotten stays away, whoever still offers it, until it is restored", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    for (const peer of [a, b]) world.link(peer, c);
    world.put(a, "k", utf8("v"));
    world.run(1_000);
    world.crash(a);
    const verdict = { store: STORE, publicKey: a.publicKey, epoch: 1 };
    world.feed(c, { type: "forget", ...verdict });
    assert.equal(world.state(c).version(a.origin).epoch, 0);
    world.run(5 * INTERVAL_MS);
    const late = signed(a, 9, [{ seq: 9, key: "late", value: utf8("") }]);
    world.feed(c, { type: "broadcast", body: late });
    world.run(10);
    assert.equal(world.state(c).version(a.origin).epoch, 0);
    world.feed(c, { type: "restore", ...verdict });
    world.run(5 * INTERVAL_MS);
    assert.equal(shown(world, c, a), snapshotOf(a.truth));
    // A later life needs no restoring.
    world.feed(c, { type: "forget", ...verdict });
    world.start(a);
    world.put(a, "new", utf8("w"));
    world.link(a, c);
    world.run(100);
    assert.equal(shown(world, c, a), snapshotOf(a.truth));
  });

  test("a row that the validator refuses is held and relayed but not shown", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    const name = "picky";
    const validate = (key: string) => {
      if (key === "throws") throw new Error("a validator's bug");
      return key.startsWith("bad") ? "bad_key" : undefined;
    };
    for (const node of [a, b, c]) {
      world.checks = false;
      world.feed(node, {
        type: "createStore",
        name,
        validate: node === b ? validate : () => undefined,
      });
    }
    world.link(a, b);
    world.link(b, c);
    world.split(new Set([a]));
    world.heal();
    world.link(a, b);
    for (const key of ["bad1", "good", "throws"]) {
      world.feed(a, { type: "put", store: name, key, value: utf8("v") });
    }
    world.feed(a, { type: "turnEnded" });
    world.run(30_000);
    const keys = (at: Node) =>
      [...at.replica.store(name)?.rowsBy(a.publicKey) ?? []].map((row) => row.key).sort();
    assert.deepEqual(keys(b), ["good"]);
    assert.deepEqual(keys(c), ["bad1", "good", "throws"]);
    assert.equal(b.refusals.get("invalid_row:bad_key"), 1);
    assert.equal(b.refusals.get("invalid_row:validator_threw"), 1);
    assert.throws(
      () => b.replica.handle({ type: "put", store: name, key: "bad", value: utf8("") }, world.now),
      (error) => error instanceof BarrelError && error.code === "invalid_row",
    );
  });

  test("an origin of megabytes arrives whole, in parts", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    for (let i = 0; i < 400; i++) world.put(a, `k${i}`, world.random.bytes(8_000));
    world.run(1_000);
    world.link(a, b);
    world.run(1_000);
    assert.ok(world.frames.data > 60);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
    assert.equal(b.refusals.size, 0);
  });

  test("a state larger than one answer is pulled answer by answer (delta_crdt_ex 65)", () => {
    const world = new World(3, { ...CALM });
    world.checks = false;
    const authors = Array.from({ length: 12 }, () => world.addNode());
    for (const author of authors) {
      for (let i = 0; i < 60; i++) world.put(author, `k${i}`, world.random.bytes(8_000));
    }
    world.run(1_000);
    for (const author of authors) world.link(authors[0] as Node, author);
    world.run(20_000);
    const joiner = world.addNode();
    let partial = 0;
    world.tamper = (kind, _from, to, body) => {
      if (to !== joiner || kind !== "data") return body;
      const message = decodeData(body);
      if (message.type === "done" && message.isPartial) partial++;
      return body;
    };
    world.link(joiner, authors[0] as Node);
    world.run(5_000);
    assert.equal(root(world, joiner), root(world, authors[0] as Node));
    assert.ok(partial >= 3, `${partial} partial answers`);
    assert.equal(joiner.refusals.size, 0);
  });

  test("our own writes are held to the limits, by name", () => {
    const { world, nodes: [a] } = worldOf(1) as { world: World; nodes: [Node] };
    const put = (key: string, value: Bytes) => () =>
      a.replica.handle({ type: "put", store: STORE, key, value }, world.now);
    const limit = (error: unknown) =>
      error instanceof BarrelError && error.code === "replica_limit";
    assert.throws(put("k".repeat(MAX_KEY_BYTES + 1), utf8("")), limit);
    assert.throws(put("\ud800", utf8("")), limit);
    assert.throws(put("k", new Uint8Array(MAX_VALUE_BYTES + 1)), limit);
    const key = (i: number) => String(i).padStart(MAX_KEY_BYTES, "0");
    const full = Math.floor(MAX_ORIGIN_BYTES / MAX_ROW_BYTES);
    for (let i = 0; i < full; i++) put(key(i), new Uint8Array(MAX_VALUE_BYTES))();
    assert.throws(put(key(full), new Uint8Array(MAX_VALUE_BYTES)), limit);
    assert.throws(
      () => a.replica.handle({ type: "createStore", name: STORE, validate: () => undefined }, 0),
      ConflictError,
    );
    assert.throws(
      () => a.replica.handle({ type: "createStore", name: "", validate: () => undefined }, 0),
      limit,
    );
  });

  test("a full author may replace everything at once and every head stays within the limits", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.checks = false;
    world.link(a, b);
    const full = Math.floor(MAX_ORIGIN_BYTES / MAX_ROW_BYTES) - 1;
    for (let i = 0; i < full; i++) world.put(a, `a${i}`, new Uint8Array(MAX_VALUE_BYTES).fill(1));
    world.run(5_000);
    // New rows are written before the old ones shrink to make room in the order of writes.
    for (let i = 0; i < full; i++) world.remove(a, `a${i}`);
    for (let i = 0; i < full; i++) world.put(a, `b${i}`, new Uint8Array(MAX_VALUE_BYTES).fill(2));
    for (let i = 0; i < full; i++) world.put(a, `a${i}`, utf8(""));
    world.run(60_000);
    assert.equal(shown(world, b, a), snapshotOf(a.truth));
    assert.equal(b.refusals.size, 0);
  });

  test("rows of a hostile author beyond the limits, or twice under a key, are refused", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    const twice: Put[] = [1, 2].map((seq) => ({ seq, key: "k", value: utf8("v") }));
    world.feed(b, { type: "broadcast", body: signed(a, 2, twice) });
    world.run(10);
    assert.equal(b.refusals.get("duplicate_key"), 1);
    assert.equal(shown(world, b, a), "");
  });

  test("of two histories that an author signed for one version all replicas take the same", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    world.checks = false;
    world.crash(a);
    const of = (value: string) => signed(a, 1, [{ seq: 1, key: "k", value: utf8(value) }]);
    world.feed(b, { type: "broadcast", body: of("one") });
    world.feed(c, { type: "broadcast", body: of("two") });
    world.run(10);
    assert.notEqual(shown(world, b, a), shown(world, c, a));
    world.link(b, c);
    world.run(2 * INTERVAL_MS);
    assert.equal(shown(world, b, a), shown(world, c, a));
    assert.equal(root(world, b), root(world, c));
  });

  test("another process with our key is noticed and its rows are not taken for ours", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.put(a, "k", utf8("v"));
    world.run(10);
    const twin = { ...a, epoch: 9 };
    world.feed(a, {
      type: "broadcast",
      body: signed(twin, 1, [{ seq: 1, key: "x", value: utf8("y") }]),
    });
    world.run(10);
    assert.equal(a.refusals.get("impostor"), 1);
    assert.equal(shown(world, a, a), snapshotOf(a.truth));
    assert.equal(b.refusals.size, 0);
  });

  test("one signature is verified once, whoever brings it", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    const body = signed(a, 1, [{ seq: 1, key: "k", value: utf8("v") }]);
    const jobs = [1, 2, 3].flatMap(() => b.replica.handle({ type: "broadcast", body }, world.now))
      .filter((effect) => effect.type === "verify");
    assert.equal(jobs.length, 1);
    const forged = body.slice();
    forged[120] = (forged[120] as number) ^ 1;
    const verify = b.replica.handle({ type: "broadcast", body: forged }, world.now);
    assert.equal(verify.length, 1);
    const id = (verify[0] as { id: number }).id;
    b.replica.handle({ type: "verified", id, isGood: false }, world.now);
    const again = b.replica.handle({ type: "broadcast", body: forged }, world.now);
    assert.deepEqual(again.map((effect) => effect.type), ["refused"]);
  });

  test("what waits for its signature to be verified is bounded by count and by bytes", () => {
    for (const [valueBytes, least, most] of [[0, 1_024, 1_024], [8_000, 800, 850]] as const) {
      const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
      const rows = valueBytes === 0 ? 1 : 5;
      let verifying = 0;
      let refused = 0;
      for (let i = 1; i <= 1_100; i++) {
        const puts = Array.from({ length: rows }, (_, k) => (
          { seq: i + k, key: `k${k}`, value: new Uint8Array(valueBytes) }
        ));
        const body = signed(a, i + rows, puts);
        for (const effect of b.replica.handle({ type: "broadcast", body }, world.now)) {
          if (effect.type === "verify") verifying++;
          else if (effect.type === "refused" && effect.reason === "verify_backlog") refused++;
        }
      }
      assert.equal(verifying + refused, 1_100);
      assert.ok(verifying >= least && verifying <= most, `${verifying} of ${valueBytes} bytes`);
    }
  });

  test("a signature that fails is asked for again and nothing is lost", () => {
    const replica = new Replica({
      self: "a@test",
      publicKey: sha256(utf8("a")),
      epoch: 1,
      random: new World(1, CALM).random,
      sha256,
      intervalMs: INTERVAL_MS,
    }, 0);
    replica.handle({ type: "createStore", name: STORE, validate: () => undefined }, 0);
    replica.handle({ type: "put", store: STORE, key: "k", value: utf8("v") }, 0);
    const first = replica.handle({ type: "turnEnded" }, 0);
    assert.deepEqual(first.map((effect) => effect.type), ["sign"]);
    replica.handle({ type: "signed", store: STORE, signature: undefined }, 0);
    const at = replica.wakeAt();
    assert.ok(at > 0 && at <= 1_000);
    assert.deepEqual(replica.handle({ type: "tick" }, at), first);
    replica.handle({ type: "signed", store: STORE, signature: new Uint8Array(64) }, at);
    assert.equal(replica.store(STORE)?.own.signedWrites, 1);
    assert.equal(replica.store(STORE)?.signedRows.size, 1);
  });
});

describe("replica, towards peers that do not answer", () => {
  test("a peer that claims and never delivers is left for another", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    world.link(b, c);
    // A node that is silent behind its vectors: `b` answers comparisons, never pulls.
    world.tamper = (kind, from, to, body) =>
      (kind === "data" && from === b) || (kind === "broadcast" && to === a) ? undefined : body;
    world.put(c, "k", utf8("v"));
    world.run(100);
    world.link(a, b);
    world.run(20);
    assert.equal(shown(world, a, c), "");
    world.link(a, c);
    world.run(12_000);
    assert.equal(a.refusals.get("unanswered_pull"), 1);
    assert.equal(shown(world, a, c), snapshotOf(c.truth));
  });

  test("a peer that trickles is cut off, and what it holds up comes from another", () => {
    const { world, nodes: [a, b, c] } = worldOf(3) as { world: World; nodes: [Node, Node, Node] };
    for (let i = 0; i < 40; i++) world.put(c, `k${i}`, world.random.bytes(8_000));
    world.run(100);
    world.link(b, c);
    world.run(1_000);
    let released = 0;
    const parts: Bytes[] = [];
    world.tamper = (kind, from, to, body) => {
      if (kind !== "data" || from !== b || to !== a) return body;
      parts.push(body);
      return undefined;
    };
    world.link(a, b);
    world.run(100);
    world.link(a, c);
    const trickle = () => {
      const body = parts[released++];
      if (body !== undefined) world.feed(a, { type: "data", from: b.name, body });
    };
    for (let i = 0; i < 6; i++) {
      trickle();
      world.run(4_500);
    }
    assert.ok((a.refusals.get("unanswered_pull") ?? 0) >= 1);
    assert.equal(shown(world, a, c), snapshotOf(c.truth));
  });

  test("who makes keys up fills the strangers' places alone, and a late joiner is complete", {
    timeoutMs: 60_000,
  }, () => {
    const world = new World(1, { ...CALM });
    world.checks = false;
    const made = new Set<string>();
    world.isMember = (author) => !made.has(String(author));
    const [a, b] = [world.addNode(), world.addNode()] as const;
    // Signed heads without a row.
    const extra = 100;
    for (let i = 0; i < MAX_STRANGERS + extra; i++) {
      const publicKey = world.random.bytes(32);
      made.add(String(publicKey));
      const stranger = { ...a, publicKey, epoch: 1 };
      world.feed(a, { type: "broadcast", body: signed(stranger, 1, []) });
      if (i % 500 === 0) world.run(10);
    }
    world.run(10);
    assert.equal(world.state(a).originCount, 1 + MAX_STRANGERS);
    assert.equal(a.refusals.get("too_many_origins"), extra);
    world.put(b, "k", utf8("of a member"));
    world.link(a, b);
    world.run(100);
    assert.equal(shown(world, a, b), snapshotOf(b.truth));
    const late = world.addNode();
    world.link(late, a);
    world.run(5_000);
    assert.equal(shown(world, late, b), snapshotOf(b.truth));
    assert.equal(world.state(late).version(a.origin).seq, world.state(a).version(a.origin).seq);
    // A stranger that becomes a member makes room for another.
    const [first] = made;
    made.delete(first as string);
    const next = { ...a, publicKey: world.random.bytes(32), epoch: 1 };
    made.add(String(next.publicKey));
    const offer = () => {
      world.feed(a, { type: "broadcast", body: signed(next, 1, []) });
      world.run(5);
    };
    for (let i = 0; i < MAX_STRANGERS / 64; i++) offer();
    assert.equal(world.state(a).version(originOf(next.publicKey, sha256)).seq, 1);
  });

  test("rows that nobody asked for are counted and dropped", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.link(a, b);
    world.run(100);
    const body = signed(a, 9, [{ seq: 9, key: "k", value: utf8("v") }]);
    world.feed(b, { type: "data", from: a.name, body });
    world.run(10);
    assert.equal(b.refusals.get("unasked"), 1);
    assert.equal(shown(world, b, a), "");
  });

  test("a peer that pulls without end gets what its allowance holds", () => {
    const { world, nodes: [a, b] } = worldOf(2) as { world: World; nodes: [Node, Node] };
    world.checks = false;
    for (let i = 0; i < 1_500; i++) world.put(a, `k${i}`, new Uint8Array(8_000));
    world.run(5_000);
    const pull = {
      type: "pull",
      store: STORE,
      request: 1,
      items: [{ origin: a.origin, version: { epoch: 0, seq: 0 } }],
    } as const;
    const before = world.sent.data;
    for (let i = 0; i < 100; i++) {
      world.feed(a, { type: "control", from: b.name, body: encodePull(pull) });
      world.run(10);
    }
    const sent = (world.sent.data - before) / (1 << 20);
    assert.ok(sent >= 12 && sent <= 36, `${sent} MiB in a second`);
    assert.ok((a.refusals.get("pull_flood") ?? 0) > 50);
  });
});

function encodePull(message: Parameters<typeof encodeControl>[0]): Bytes {
  const body = encodeControl(message);
  assert.deepEqual(decodeControl(body), message);
  return body;
}
