import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { BarrelError } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/base/random.ts";
import { DIGEST_BYTES } from "../../src/replica/digests.ts";
import { headMessage, originIn } from "../../src/replica/head.ts";
import { MAX_OPEN_STORES, MAX_OWN_STORES, MAX_RELAYED_STORES } from "../../src/replica/limits.ts";
import { decodeControl, encodeControl, encodeDelta } from "../../src/replica/messages.ts";
import { Replica } from "../../src/replica/replica.ts";
import type { ReplicaEffect } from "../../src/replica/replica.ts";
import { readSaved, savedLife, savedMove } from "../../src/replica/saved_rows.ts";
import { SetHash } from "../../src/replica/set_hash.ts";
import type { Write } from "../../src/storage/contract.ts";
import { describe, test } from "../harness.ts";
import { sha256, signAs } from "./world.ts";

const KEY = sha256(utf8("author"));

function replicaOf(name = "a", epoch = 1): Replica {
  return new Replica({
    self: `${name}@test`,
    publicKey: sha256(utf8(name)),
    epoch,
    random: seededRandom(1),
    sha256,
    intervalMs: 10_000,
  }, 0);
}

function delta(store: string, epoch = 1) {
  const put = { seq: 1, key: "k", value: utf8("v") };
  const sum = new SetHash(sha256);
  sum.add(put.seq, put.key, put.value);
  const body = { author: KEY, epoch, seq: 1, hash: sum.digest() };
  const head = { ...body, signature: signAs(KEY, headMessage(store, body)) };
  return { head, from: 0, earlier: { type: "removed", dots: [] }, puts: [put] } as const;
}

function broadcast(store: string, epoch?: number): Bytes {
  return encodeDelta(store, delta(store, epoch))[0] as Bytes;
}

/** Feeds a broadcast and says that its signature is good. */
function take(replica: Replica, body: Bytes): ReplicaEffect[] {
  const effects = replica.handle({ type: "broadcast", body }, 0);
  return effects.concat(
    effects.flatMap((effect) =>
      effect.type === "verify"
        ? replica.handle({ type: "verified", id: effect.id, isGood: true }, 0)
        : []
    ),
  );
}

/** A table on a disk. */
function fileOf() {
  const entries = new Map<string, Bytes>();
  return {
    entries,
    take(writes: readonly Write[]) {
      for (const { key, value } of writes) {
        if (value === undefined) entries.delete(key);
        else entries.set(key, value);
      }
    },
    read: (store: string) => readSaved(store, [...entries].sort(([a], [b]) => a < b ? -1 : 1)),
  };
}

const validate = () => undefined;
const types = (effects: readonly ReplicaEffect[]) => effects.map(({ type }) => type);

describe("shared stores", () => {
  test("are held for others by a node that did not open them, and told once it does", () => {
    const replica = replicaOf();
    take(replica, broadcast("kept/map/x"));
    assert.equal(replica.store("kept/map/x")?.rowsOf("k").length, 1);
    const effects = replica.handle({ type: "createStore", name: "kept/map/x", validate }, 0);
    assert.deepEqual(effects.filter(({ type }) => type === "change").length, 1);
    assert.equal(replica.store("kept/map/x")?.rowsOf("k").length, 1);
    assert.equal(take(replica, broadcast("own store")).length, 0, "others are not");
  });

  test("that nobody here opened are bounded, and take no place from those that are", () => {
    const replica = replicaOf();
    const refused: string[] = [];
    for (let i = 0; i < MAX_RELAYED_STORES + 5; i++) {
      for (const effect of take(replica, broadcast(`kept/map/${i}`))) {
        if (effect.type === "refused") refused.push(effect.reason);
      }
    }
    assert.deepEqual(refused, new Array(5).fill("too_many_relayed_stores"));
    const open = (name: string) => replica.handle({ type: "createStore", name, validate }, 0);
    for (let i = 0; i < MAX_OPEN_STORES; i++) open(`kept/map/own ${i}`);
    // Nor do these take it from the node's own.
    for (let i = 0; i < MAX_OWN_STORES; i++) open(`own ${i}`);
    const full = (error: unknown) =>
      error instanceof BarrelError && error.code === "replica_limit" &&
      error.message.startsWith("32 maps and replicas are open");
    assert.throws(() => open("kept/map/more"), full);
    assert.throws(() => open("live/merged/more"), full);
    assert.throws(() => open("more"), /8 stores of nodes' own rows/);
    // All of them fit what is said of them to a neighbour.
    const peer = "peer@test";
    replica.handle({ type: "neighbourUp", peer }, 0);
    const body = encodeControl({ type: "root", digest: new Uint8Array(DIGEST_BYTES) });
    const [said] = replica.handle({ type: "control", from: peer, body }, 0)
      .flatMap((effect) => effect.type === "sendControl" ? [decodeControl(effect.body)] : [])
      .flatMap((message) => message.type === "stores" ? [message.stores.length] : []);
    assert.equal(said, MAX_OPEN_STORES + MAX_OWN_STORES + MAX_RELAYED_STORES);
  });

  test("keep what each life of a node wrote, side by side", () => {
    const replica = replicaOf();
    replica.handle({ type: "createStore", name: "kept/map/x", validate }, 0);
    take(replica, broadcast("kept/map/x", 1));
    take(replica, broadcast("kept/map/x", 2));
    assert.equal(replica.store("kept/map/x")?.rowsOf("k").length, 2);
    replica.handle({ type: "life", what: "retire", publicKey: KEY, epoch: 2 }, 0);
    assert.equal(replica.store("kept/map/x")?.rowsOf("k").length, 2, "the dead leave them behind");
  });

  test("that go with their node hide a life that is over, also one they hear of later", () => {
    const replica = replicaOf();
    replica.handle({ type: "createStore", name: "live/map/x", validate }, 0);
    take(replica, broadcast("live/map/x", 1));
    replica.handle({ type: "life", what: "retire", publicKey: KEY, epoch: 2 }, 0);
    assert.equal(replica.store("live/map/x")?.rowsOf("k").length, 0);
    take(replica, broadcast("live/map/x", 2));
    assert.equal(replica.store("live/map/x")?.rowsOf("k").length, 0);
    take(replica, broadcast("live/map/other", 2));
    assert.equal(
      replica.store("live/map/other")?.rowsOf("k").length,
      0,
      "in a store of later, too",
    );
    take(replica, broadcast("live/map/x", 3));
    assert.equal(replica.store("live/map/x")?.rowsOf("k").length, 1);
    replica.handle({ type: "life", what: "restore", publicKey: KEY, epoch: 2 }, 0);
    assert.equal(replica.store("live/map/x")?.rowsOf("k").length, 2);
  });

  test("publish nothing before the disk has it, and take it back when the disk refuses", () => {
    const replica = replicaOf();
    const store = "kept/map/x";
    const saved = readSaved(store, []);
    replica.handle({ type: "createStore", name: store, validate, saved }, 0);
    replica.handle({ type: "neighbourUp", peer: "b@test" }, 0);
    const write = (text: string) => {
      replica.handle({ type: "put", store, key: "k", value: utf8(text) }, 0);
      replica.handle({ type: "turnEnded" }, 0);
      const effects = replica.handle({ type: "signed", store, signature: new Uint8Array(64) }, 0);
      assert.deepEqual(types(effects), ["save"]);
      const [save] = effects as [ReplicaEffect & { type: "save" }];
      return save.id as number;
    };
    const first = write("one");
    assert.deepEqual(types(replica.handle({ type: "saved", store, id: first, isSaved: true }, 0)), [
      "publish",
    ]);
    const second = write("two");
    const effects = replica.handle({ type: "saved", store, id: second, isSaved: false }, 0);
    assert.deepEqual(types(effects), ["change"]);
    assert.deepEqual(replica.store(store)?.rowsOf("k")[0]?.value, utf8("one"));
    assert.deepEqual(replica.handle({ type: "saved", store, id: second, isSaved: true }, 0), []);
  });

  test("skip what a damaged table says, and take up the rest", () => {
    const store = "kept/map/x";
    const good = delta(store);
    const origin = originIn(store, KEY, 1, sha256);
    const entries = savedMove(store, origin, good.head, { gone: [], added: good.puts })
      .map(({ key, value }) => [key, value as Bytes] as const)
      .sort(([a], [b]) => a < b ? -1 : 1);
    const open = (saved: Parameters<typeof readSaved>[1]) => {
      const replica = replicaOf();
      const effects = replica.handle({
        type: "createStore",
        name: store,
        validate,
        saved: readSaved(store, saved),
        // Nobody is known yet when a node starts; what it had it keeps.
        admission: { isMember: () => false, strangers: 0 },
      }, 0);
      return [types(effects), replica.store(store)?.rowsOf("k").length] as const;
    };
    assert.deepEqual(open(entries), [["change"], 1]);
    assert.deepEqual(open(entries.slice(1)), [["damaged", "save"], 0], "a row is missing");
    const [[row, value], head] = entries as [readonly [string, Bytes], readonly [string, Bytes]];
    const changed = value.slice();
    changed[changed.length - 1] = 0;
    // Its sum vouches for each row, but for those of a time without sums.
    const late = { isUnproven: true };
    assert.deepEqual(open([[row, changed, late], head]), [["damaged", "save"], 0], "it is changed");
    const keysOf = (writes: readonly { readonly key: string; readonly value: unknown }[]) =>
      writes.map(({ key, value }) => {
        assert.equal(value, undefined);
        return key;
      }).sort();
    const headless = readSaved(store, [[row, value], [head[0], utf8("short")]]);
    assert.deepEqual(keysOf(headless.strays), [head[0]]);
    assert.equal(open([[row, value], [head[0], utf8("short")]])[1], 0, "a row without its head");
    const unnamed = readSaved(store, [["own", utf8("")], ["aa/x", value], [row, value], head]);
    assert.deepEqual([keysOf(unnamed.strays), unnamed.origins.length], [["aa/x"], 1]);
    const renamed = [[`${"00".repeat(16)}/h`, head[1]], [
      `${"00".repeat(16)}/${row.slice(33)}`,
      value,
    ]];
    assert.deepEqual(open(renamed as never), [["damaged", "save"], 0], "an origin of another name");
    const damaged = replicaOf();
    const [, save] = damaged.handle({
      type: "createStore",
      name: store,
      validate,
      saved: readSaved(store, [[row, changed, late], head]),
    }, 0) as [ReplicaEffect, ReplicaEffect & { type: "save" }];
    assert.deepEqual(keysOf(save.writes), [row, head[0]], "what is damaged does not stay");
    // A life of ours whose rows are gone must not be written a second time.
    const own = replicaOf("a", 7);
    const life = savedLife(store, 3);
    const lost = readSaved(store, [[life.key, life.value as Bytes]]);
    own.handle({ type: "createStore", name: store, validate, saved: lost }, 0);
    assert.equal(own.store(store)?.self.epoch, 7);
  });

  test("keep what was held for others where the disk has such rows without a head", () => {
    const store = "kept/map/x";
    const { head, puts } = delta(store);
    const file = fileOf();
    const added = [...puts, { seq: 9, key: "stray", value: utf8("") }];
    file.take(savedMove(store, originIn(store, KEY, 1, sha256), head, { gone: [], added }));
    for (const key of [...file.entries.keys()]) if (key.endsWith("/h")) file.entries.delete(key);
    const replica = replicaOf();
    take(replica, broadcast(store));
    const saved = file.read(store);
    const effects = replica.handle({ type: "createStore", name: store, validate, saved }, 0);
    assert.ok(types(effects).includes("damaged"));
    for (const effect of effects) if (effect.type === "save") file.take(effect.writes);
    const again = file.read(store);
    assert.deepEqual([again.origins.length, again.origins[0]?.puts.length], [1, 1]);
    assert.ok(again.origins[0]?.head !== undefined);
  });

  test("keep of a damaged life of ours what was sound when it was read, and nothing else", () => {
    const store = "kept/map/x";
    const author = sha256(utf8("a"));
    const puts = [1, 2, 3].map((seq) => ({ seq, key: `k${seq}`, value: utf8("v") }));
    const body = { author, epoch: 3, seq: 9, hash: new Uint8Array(32) };
    const head = { ...body, signature: signAs(author, headMessage(store, body)) };
    const origin = originIn(store, author, 3, sha256);
    const writes = savedMove(store, origin, head, { gone: [], added: puts });
    const entries = [savedLife(store, 3), ...writes].map(({ key, value }) => (
      [key, value as Bytes, { isUnproven: key.endsWith("2") }] as const
    ));
    const replica = replicaOf("a", 7);
    const file = fileOf();
    for (const [key, value] of entries) file.entries.set(key, value);
    const saved = readSaved(store, entries);
    const effects = replica.handle({ type: "createStore", name: store, validate, saved }, 0);
    assert.deepEqual(types(effects), ["damaged", "save", "save", "change", "change"]);
    const held = replica.store(store);
    assert.deepEqual([...held?.rows() ?? []].map(({ key, seq }) => [key, seq]), [["k1", 1], [
      "k3",
      3,
    ]]);
    assert.equal(held?.knownUpTo(origin), 9, "what others say of later rows is believed");
    assert.deepEqual([...held?.heads() ?? []], [], "nothing is passed on that nobody signed");
    for (const effect of effects) if (effect.type === "save") file.take(effect.writes);
    assert.equal(file.read(store).origins[0]?.puts.length, 2);
    replica.handle({ type: "neighbourUp", peer: "b@test" }, 1_000_000);
    const ticks = [1, 10, 100].flatMap((minutes) =>
      replica.handle({ type: "tick" }, 1_000_000 + minutes * 60_000)
    );
    assert.deepEqual(ticks.filter(({ type }) => type === "sign" || type === "save"), []);
    // An older copy would bring back what was deleted since; one that is as new has all.
    const headAt = (seq: number) => ({ ...body, seq, signature: head.signature });
    assert.deepEqual([8, 9, 10].map((seq) => held?.isNews(origin, headAt(seq))), [
      false,
      true,
      true,
    ]);
    const versions = [8, 9].map((seq) => held?.isClosed(origin, { epoch: 3, seq }));
    assert.deepEqual(versions, [true, false], "nor is it asked for");
  });

  for (const isTaken of [true, false]) {
    const fate = isTaken ? "takes" : "refuses";
    test(`add up on a disk that ${fate} a batch of a life that was given up meanwhile`, () => {
      const store = "kept/map/x";
      const file = fileOf();
      const write = (replica: Replica, key: string) => {
        replica.handle({ type: "put", store, key, value: utf8(key) }, 0);
        replica.handle({ type: "turnEnded" }, 0);
        const effects = replica.handle({ type: "signed", store, signature: new Uint8Array(64) }, 0);
        return effects[0] as ReplicaEffect & { type: "save" };
      };
      const open = (epoch: number) => {
        const replica = replicaOf("a", epoch);
        const saved = file.read(store);
        const effects = replica.handle({ type: "createStore", name: store, validate, saved }, 0);
        return { replica, effects };
      };
      const { replica: first } = open(3);
      file.take(write(first, "old").writes);
      const { replica } = open(7);
      replica.handle({ type: "put", store, key: "old", value: utf8("newer") }, 0);
      const batch = write(replica, "new");
      assert.equal(batch.type, "save");
      const sum = new SetHash(sha256);
      const put = { seq: 5, key: "lost", value: utf8("lost") };
      sum.add(put.seq, put.key, put.value);
      const author = sha256(utf8("a"));
      const body = { author, epoch: 3, seq: 5, hash: sum.digest() };
      const head = { ...body, signature: signAs(author, headMessage(store, body)) };
      const news = { head, from: 0, earlier: { type: "removed", dots: [] }, puts: [put] } as const;
      const effects = take(replica, encodeDelta(store, news)[0] as Bytes);
      assert.equal(replica.store(store)?.self.epoch, 7, "it goes on as another life");
      const changes = effects.flatMap((effect) => effect.type === "change" ? [effect.change] : []);
      assert.deepEqual(
        changes.map(({ type, row }) => [type, row.key, row.epoch]).slice(0, 4),
        [["put", "old", 3], ["put", "old", 7], ["put", "new", 7], ["removed", "new", 3]],
        "with what is not signed yet",
      );
      if (isTaken) file.take(batch.writes);
      for (const effect of effects) if (effect.type === "save") file.take(effect.writes);
      const { replica: last, effects: told } = open(8);
      assert.ok(!types(told).includes("save"), "nothing of it is dropped");
      assert.equal(last.store(store)?.rowsOf("lost").length, 1);
    });
  }
});
