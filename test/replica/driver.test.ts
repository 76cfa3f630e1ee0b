import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ClosedError, ConflictError, ProtocolError } from "../../src/base/errors.ts";
import { realCrypto } from "../../src/base/real.ts";
import { originOf } from "../../src/replica/head.ts";
import type { Store } from "../../src/replica/driver.ts";
import { decodeData } from "../../src/replica/messages.ts";
import { tableOf } from "../../src/replica/saved_rows.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test, waitFor } from "../harness.ts";
import { network, open } from "./network.ts";

describe("replication", () => {
  test("a name that is taken changes nothing of where the first store is kept", async () => {
    const { add, close } = await network();
    const { replication } = await add("a@test");
    const [disk, other] = [memoryStore(), memoryStore()];
    const store = replication.createStore({ name: "kept/test/x", disk });
    assert.throws(
      () => replication.createStore({ name: "kept/test/x", disk: other }),
      ConflictError,
    );
    store.put("k", utf8("1"));
    await store.flushed();
    const table = tableOf("kept/test/x");
    assert.deepEqual([disk.entries(table).length, other.entries(table).length], [3, 0]);
    close();
  });

  test("rows travel between nodes with real signatures, by broadcast and by pull", async () => {
    const { add, link, close } = await network();
    const [a, b] = [await add("a@test"), await add("b@test")];
    const [onA, onB] = [open(a), open(b)];
    onA.store.put("early", utf8("1"));
    await onA.store.flushed();
    const pulled = onB.next(({ row }) => row.key === "early");
    link(a, b);
    assert.deepEqual((await pulled).row.value, utf8("1"));
    const told = onB.next(({ row }) => row.key === "k");
    onA.store.put("k", utf8("2"));
    assert.deepEqual((await told).row, {
      author: a.identity.publicKey,
      epoch: 1,
      origin: originOf(a.identity.publicKey, (await realCrypto()).sha256),
      seq: 2,
      key: "k",
      value: utf8("2"),
    });
    assert.deepEqual(onB.store.get(a.identity.publicKey, "k")?.value, utf8("2"));
    assert.equal(onB.store.rows("k").length, 1);
    assert.equal([...onB.store.rowsBy(a.identity.publicKey)].length, 2);
    assert.equal([...onB.store.entries()].length, 2);
    const gone = onB.next(({ type }) => type === "removed");
    assert.equal(onA.store.remove("k"), true);
    assert.equal(onA.store.remove("k"), false);
    assert.equal((await gone).row.key, "k");
    const hidden = onB.next(({ type }) => type === "hidden");
    onB.store.retire(a.identity.publicKey, 1);
    assert.equal((await hidden).row.key, "early");
    const restored = onB.next(({ type }) => type === "restored");
    onB.store.restore(a.identity.publicKey, 1);
    await restored;
    onB.store.forget(a.identity.publicKey, 1);
    assert.equal([...onB.store.entries()].length, 0);
    const applied = Object.keys(b.meter.snapshot())
      .filter((name) => name.startsWith("barrel_replica_applied_total"));
    assert.ok(applied.length > 0);
    assert.deepEqual([a.log, b.log], [[], []]);
    close();
  });

  test("two stores ride one driver and know nothing of each other", async () => {
    const { add, link, close } = await network();
    const [a, b] = [await add("a@test"), await add("b@test")];
    const [rosterA, registryA] = [open(a, "roster"), open(a, "registry")];
    const [rosterB, registryB] = [open(b, "roster"), open(b, "registry")];
    rosterA.store.put("k", utf8("roster"));
    registryA.store.put("k", utf8("registry"));
    const both = Promise.all([rosterB, registryB].map(({ next }) => next(() => true)));
    link(a, b);
    assert.deepEqual((await both).map(({ row }) => row.value), [utf8("roster"), utf8("registry")]);
    assert.throws(() => open(a, "roster"), ConflictError);
    close();
  });

  test("a listener that writes or throws disturbs nobody", async () => {
    const { add, close } = await network();
    const a = await add("a@test");
    const seen: string[] = [];
    const store: Store = a.replication.createStore({
      name: "test",
      onChange({ row: { key } }) {
        seen.push(key);
        if (key === "first") {
          store.put("second", utf8(""));
          throw new Error("a listener's bug");
        }
      },
    });
    store.put("first", utf8(""));
    await store.flushed();
    assert.deepEqual(seen, ["first", "second"]);
    assert.equal(a.log.length, 1);
    close();
  });

  test("a flush resolves for its own writes although others go on", async () => {
    let isOver = false;
    const { add, close } = await network((base) => ({
      ...base,
      async sign(message, keys) {
        const signature = await base.sign(message, keys);
        // Whenever a batch is signed, the next write is there already.
        if (!isOver) store.put("busy", signature.slice(0, 8));
        return signature;
      },
    }));
    const { store } = open(await add("a@test"));
    for (let i = 0; i < 5; i++) {
      store.put("mine", utf8(String(i)));
      await store.flushed();
    }
    isOver = true;
    await store.flushed();
    close();
  });

  test("a signature that fails is logged, tried again and lost on nobody", async () => {
    let failures = 2;
    const { add, close } = await network((base) => ({
      ...base,
      sign: (message, keys) =>
        failures-- > 0 ? Promise.reject(new Error("no entropy")) : base.sign(message, keys),
    }));
    const a = await add("a@test");
    const { store } = open(a);
    store.put("k", utf8("v"));
    await store.flushed();
    assert.equal(a.log.length, 2);
    close();
  });

  test("a frame that breaks the protocol throws to the link; a broadcast is only counted", async () => {
    const { add, close } = await network();
    const [a, b] = [await add("a@test"), await add("b@test")];
    open(a);
    for (const type of [FrameType.REPLICA_CONTROL, FrameType.REPLICA_DATA]) {
      assert.throws(
        () => a.channels.get(type)?.onFrame?.(new Uint8Array([99]), b.identity),
        ProtocolError,
      );
    }
    for (let i = 0; i < 3; i++) a.replication.receive(new Uint8Array([99]) as Bytes);
    const refused = 'barrel_replica_refused_total{reason="bad_replica_message",store="none"}';
    assert.equal(a.meter.snapshot()[refused], 3);
    assert.equal(a.log.length, 1);
    close();
  });

  test("what comes long before what it builds on is nobody's fault: counted, and pulled", async () => {
    const held: Bytes[] = [];
    let isHeld = true;
    const { add, link, close } = await network(undefined, (type, _from, to, body) => {
      if (type !== "broadcast" || to.identity.name !== "b@test") return body;
      const message = decodeData(body);
      if (isHeld && message.type === "delta" && message.delta.puts.length > 0) held.push(body);
      return isHeld ? undefined : body;
    });
    const [a, b] = [await add("a@test"), await add("b@test")];
    const [onA, onB] = [open(a), open(b)];
    // Without a link there is nobody to broadcast to, nor to pull from.
    link(a, await add("c@test"));
    for (let i = 0; i < 20; i++) {
      onA.store.put(`k${i}`, utf8(""));
      await onA.store.flushed();
    }
    await waitFor(() => held.length === 20, { what: "the broadcasts" });
    // The first one is late, as when the tree changes under way.
    for (const body of held.slice(1)) b.replication.receive(body);
    const overtook = () => b.meter.snapshot()['barrel_replica_overtook_total{store="test"}'];
    await waitFor(() => overtook() === 3, { what: "sixteen that wait, and three that do not" });
    assert.equal([...onB.store.entries()].length, 0);
    isHeld = false;
    link(a, b);
    await waitFor(() => [...onB.store.entries()].length === 20, { what: "the pull" });
    assert.deepEqual(b.log.map(([level]) => level), ["debug"]);
    assert.equal(Object.keys(b.meter.snapshot()).some((name) => /refused/.test(name)), false);
    close();
  });

  test("closing rejects what was not published and silences everything", async () => {
    const { add, link, close } = await network();
    const [a, b] = [await add("a@test"), await add("b@test")];
    const { store } = open(a);
    link(a, b);
    store.put("k", utf8("v"));
    const flush = store.flushed();
    close();
    await assert.rejects(flush, ClosedError);
    await assert.rejects(store.flushed(), ClosedError);
    assert.equal(a.channels.get(FrameType.REPLICA_DATA)?.onFrame, undefined);
    a.replication.receive(new Uint8Array([99]) as Bytes);
    assert.deepEqual(a.log, []);
  });
});
