import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, EMPTY, equalBytes } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { sealing } from "../../src/base/sealing.ts";
import { syncHashes } from "../../src/base/noble_crypto.ts";
import { pipeKey, sealer, unsealer } from "../../src/identity/session.ts";
import { FrameReader } from "../../src/link/frame_reader.ts";
import { FramedPipe } from "../../src/link/framed_pipe.ts";
import { sealConnection } from "../../src/link/sealed_connection.ts";
import { SealedPipe } from "../../src/link/sealed_pipe.ts";
import type { PipeSeals } from "../../src/link/sealed_pipe.ts";
import type { Connection } from "../../src/transport/contract.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test } from "../harness.ts";
import { pipePair } from "./pipes.ts";

const crypto = { ...syncHashes, ...sealing };
const IGNORE = { onFrame() {}, onEnd() {}, onAbort() {}, onFailure() {}, onDrain() {} };
const SESSION = new Uint8Array(32).fill(3);

const seals = (own: "client" | "server", number = 1): PipeSeals => {
  const peer = own === "client" ? "server" : "client";
  return {
    out: sealer(pipeKey(SESSION, { opener: "client", number, sender: own }, crypto), crypto),
    in: unsealer(pipeKey(SESSION, { opener: "client", number, sender: peer }, crypto), crypto),
  };
};

/** What arrives on a pipe. */
function listen(pipe: SealedPipe): { bytes: () => Bytes; readonly told: string[] } {
  const chunks: Bytes[] = [];
  const told: string[] = [];
  pipe.onData = (chunk) => void chunks.push(chunk);
  pipe.onEnd = (clean) => void told.push(`end ${clean}`);
  pipe.onFault = (error) => void told.push(error.reason);
  return { bytes: () => concat(chunks), told };
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 0));

/** Records on the wire, whole. */
function recordsOf(bytes: Bytes): Bytes[] {
  const reader = new FrameReader(70_000);
  const records: Bytes[] = [];
  reader.push(bytes);
  let before = reader.unread;
  let at = 0;
  while (reader.next()) {
    records.push(bytes.slice(at, at + before - reader.unread));
    at += before - reader.unread;
    before = reader.unread;
  }
  return records;
}

describe("a sealed pipe", () => {
  test("carries bytes whole both ways, however they are cut, and nothing of them is seen", async () => {
    for (const cut of [1, 7, 1_000, Infinity]) {
      const [a, b] = pipePair(cut);
      const seen: Uint8Array[] = [];
      const write = a.write.bind(a);
      a.write = (chunk) => {
        seen.push(chunk.slice());
        return write(chunk);
      };
      const opener = new SealedPipe(a, { seals: seals("client"), number: 1 });
      const acceptor = new SealedPipe(b, { sealsOf: (number) => seals("server", number) });
      const [there, back] = [listen(acceptor), listen(opener)];
      const plain = new Uint8Array(cut === 1 ? 3_000 : 200_000).map((_, i) => i % 7);
      opener.write(plain.slice(0, 100));
      opener.write(plain.slice(100));
      await settle();
      acceptor.write(plain.slice());
      opener.end();
      await settle();
      assert.ok(equalBytes(there.bytes(), plain));
      assert.ok(equalBytes(back.bytes(), plain));
      assert.deepEqual(there.told, ["end true"]);
      const wire = concat(seen);
      const needle = String(plain.slice(50, 70));
      for (let i = 0; i < 2_000; i++) assert.notEqual(String(wire.slice(i, i + 20)), needle);
    }
  });

  test("that was accepted writes and ends once it knows its number, not before", async () => {
    const [a, b] = pipePair();
    const acceptor = new SealedPipe(b, { sealsOf: (number) => seals("server", number) });
    acceptor.write(new Uint8Array([1, 2, 3]));
    acceptor.end();
    listen(acceptor);
    assert.equal(b.written, 0);
    const opener = new SealedPipe(a, { seals: seals("client", 5), number: 5 });
    const back = listen(opener);
    await settle();
    assert.deepEqual(back.bytes(), new Uint8Array([1, 2, 3]));
    assert.deepEqual(back.told, ["end true"]);
  });

  test("delivers what the peer sealed, from the beginning and in order, or names a fault", async () => {
    const faults = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1, maxLength: 6 }),
        fc.constantFrom("none", "flip", "drop", "double", "swap", "cut", "insert", "reflect"),
        fc.nat(),
        fc.nat(),
        async (sizes, how, which, where) => {
          const [a, sink] = pipePair();
          const wire: Uint8Array[] = [];
          sink.onData = (chunk) => void wire.push(chunk);
          const opener = new SealedPipe(a, { seals: seals("client"), number: 1 });
          const plain = sizes.map((size, i) => new Uint8Array(size).fill(i + 1));
          for (const chunk of plain) opener.write(chunk);
          await settle();
          const records = recordsOf(concat(wire));
          assert.equal(records.length, sizes.length + 1);
          // The first says the number.
          const at = 1 + which % sizes.length;
          const record = records[at] as Bytes;
          if (how === "flip") {
            const byte = where % record.length;
            record[byte] = (record[byte] as number) ^ (1 << where % 8);
          }
          if (how === "drop") records.splice(at, 1);
          if (how === "double") records.splice(at, 0, record);
          if (how === "swap" && at + 1 < records.length) {
            records.splice(at, 2, records[at + 1] as Bytes, record);
          }
          if (how === "insert") records.splice(at, 0, Uint8Array.of(3, FrameType.SEALED, 1, 2));
          if (how === "cut") records.splice(at, records.length, record.slice(0, -1));
          if (how === "reflect") {
            const other = seals("server").out.seal(new Uint8Array(3));
            records.splice(at, 1, concat([Uint8Array.of(20, FrameType.SEALED), other]));
          }
          const [feed, b] = pipePair();
          const acceptor = new SealedPipe(b, { sealsOf: (number) => seals("server", number) });
          const heard = listen(acceptor);
          for (const one of records) feed.write(one);
          feed.end();
          await settle();
          const whole = concat(plain);
          const got = heard.bytes();
          assert.ok(equalBytes(got, whole.slice(0, got.length)), how);
          const isHarmless = how === "none" || (how === "swap" && at + 1 > sizes.length);
          if (isHarmless) {
            assert.equal(got.length, whole.length);
            assert.deepEqual(heard.told, ["end true"]);
            return;
          }
          // A record that never came, or only in part, shows at the next one or at the end: the
          // frames inside have an END of their own.
          assert.ok(got.length < whole.length || how === "double" || how === "insert", how);
          assert.equal(heard.told.length, 1);
          faults.add(`${how} ${heard.told}`);
        },
      ),
      { numRuns: 500 },
    );
    for (const how of ["flip", "drop", "double", "swap", "insert", "reflect"]) {
      assert.ok(faults.has(`${how} unsealed`), `${how}: ${[...faults]}`);
    }
  });

  test("takes nothing in the clear, and no bytes of another pipe", async () => {
    const wires: Bytes[][] = [];
    for (const number of [1, 2]) {
      const [a, sink] = pipePair();
      const wire: Bytes[] = [];
      sink.onData = (chunk) => void wire.push(chunk);
      new SealedPipe(a, { seals: seals("client", number), number }).write(new Uint8Array(50));
      await settle();
      wires.push(recordsOf(concat(wire)));
    }
    const [one, two] = wires as [Bytes[], Bytes[]];
    const clear = Uint8Array.of(3, FrameType.DATA, 1, 2);
    const cases: Bytes[][] = [
      [clear],
      [one[0] as Bytes, clear],
      [one[0] as Bytes, two[1] as Bytes],
      [one[1] as Bytes],
      [one[0] as Bytes, one[0] as Bytes],
    ];
    for (const records of cases) {
      const [feed, b] = pipePair();
      const acceptor = new SealedPipe(b, { sealsOf: (number) => seals("server", number) });
      const heard = listen(acceptor);
      for (const record of records) feed.write(record);
      await settle();
      assert.deepEqual(heard.bytes(), EMPTY);
      assert.deepEqual(heard.told, ["unsealed"]);
    }
  });

  test("names the fault of a number that is refused", async () => {
    const [feed, b] = pipePair();
    const acceptor = new SealedPipe(b, {
      sealsOf() {
        throw new ProtocolError("unsealed", "it came twice");
      },
    });
    const heard = listen(acceptor);
    feed.write(Uint8Array.of(2, FrameType.SEALED_PIPE, 1));
    await settle();
    assert.deepEqual(heard.told, ["unsealed"]);
  });
});

test("a sealed connection tells where the peer is now", async () => {
  const control = new FramedPipe(pipePair()[0], IGNORE, { maxMessageBytes: 0, autoConsume: true });
  control.pause();
  let remoteAddress = "quic://192.0.2.1:9100";
  const bare = {
    role: "client",
    mode: "edge",
    closed: new Promise(() => {}),
    get remoteAddress() {
      return remoteAddress;
    },
  } as unknown as Connection;
  const { connection } = sealConnection(bare, control, SESSION, crypto);
  assert.equal(connection.remoteAddress, "quic://192.0.2.1:9100");
  remoteAddress = "quic://192.0.2.2:9100";
  assert.equal(connection.remoteAddress, "quic://192.0.2.2:9100");
  await settle();
});
