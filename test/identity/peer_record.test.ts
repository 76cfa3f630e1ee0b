import assert from "node:assert/strict";
import { encodeHex } from "@std/encoding/hex";
import fc from "fast-check";
import { concat, equalBytes, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { decodeRecord, recordVerifier, signRecord } from "../../src/identity/peer_record.ts";
import type { PeerRecord } from "../../src/identity/peer_record.ts";
import { ByteWriter } from "../../src/wire/byte_writer.ts";
import { MAX_RECORD_BYTES } from "../../src/wire/limits.ts";
import { describe, test } from "../harness.ts";

const crypto = nobleCrypto(seededRandom(1));
const keys = await crypto.generateKeyPair();
const otherKeys = await crypto.generateKeyPair();

const said: Omit<PeerRecord, "publicKey"> = {
  name: "node1@127.0.0.1",
  epoch: 1_763_900_000_000,
  incarnation: 3,
  addresses: ["quic://127.0.0.1:9100", "wss://example.org/barrel"],
};
const good = await signRecord(said, keys, crypto);

/** A record whose fields nobody checked before they were written and signed. */
async function forge(
  fields: Partial<{
    name: Uint8Array;
    publicKey: Uint8Array;
    numbers: Uint8Array;
    addresses: readonly Uint8Array[];
    count: number;
    label: string;
  }>,
): Promise<Bytes> {
  const writer = new ByteWriter();
  writer.block(fields.name ?? utf8(said.name));
  writer.raw(fields.publicKey ?? keys.publicKey);
  writer.raw(fields.numbers ?? Uint8Array.of(1, 2));
  const addresses = fields.addresses ?? [];
  writer.byte(fields.count ?? addresses.length);
  for (const address of addresses) writer.block(address);
  const body = writer.finish();
  const label = utf8(fields.label ?? "barrel/1 peer record");
  return concat([body, await crypto.sign(concat([label, body]), keys)]);
}

describe("a peer record", () => {
  test("says what was signed, by the key in it", async () => {
    const { message, signature, ...record } = decodeRecord(good);
    assert.deepEqual(record, { ...said, publicKey: keys.publicKey });
    assert.equal(await crypto.verify(signature, message, keys.publicKey), true);
    assert.equal(await recordVerifier(crypto).verify(decodeRecord(good)), true);
  });

  // Nodes of different versions pass records on: a change is a change of the protocol.
  test("keeps its bytes", async () => {
    const fixed = { secretKey: new Uint8Array(32).fill(7) };
    const publicKey = await crypto.publicKeyOf(fixed.secretKey);
    const bytes = await signRecord(said, { ...fixed, publicKey }, crypto);
    assert.equal(
      encodeHex(crypto.sha256(bytes)),
      "b3511b548879f42b2f3003a8b33e5fe3ce46d6de00e5cf6535aca1bdb39c70dc",
    );
  });

  test("reads itself again at the limits of every field", async () => {
    const long = `${"n".repeat(64)}@${"h".repeat(180)}`;
    const extremes: Omit<PeerRecord, "publicKey">[] = [
      { ...said, epoch: 0, incarnation: 0, addresses: [] },
      { ...said, epoch: Number.MAX_SAFE_INTEGER, incarnation: Number.MAX_SAFE_INTEGER },
      { ...said, name: long, addresses: [`quic://${"a".repeat(248)}`] },
      { ...said, addresses: Array.from({ length: 8 }, (_, i) => `mem://${"a".repeat(180)}${i}`) },
    ];
    for (const record of extremes) {
      const { message: _message, signature: _signature, ...read } = decodeRecord(
        await signRecord(record, keys, crypto),
      );
      assert.deepEqual(read, { ...record, publicKey: keys.publicKey });
    }
  });

  test("is not signed when no peer would read it", async () => {
    const nobody: Partial<PeerRecord>[] = [
      { name: "no name" },
      { addresses: Array.from({ length: 9 }, () => "mem://a") },
      { addresses: ["not an address"] },
      { addresses: [`quic://${"a".repeat(249)}`] },
      // Each is allowed, all together are not.
      { addresses: Array.from({ length: 8 }, () => `quic://${"a".repeat(248)}`) },
    ];
    for (const fields of nobody) {
      await assert.rejects(signRecord({ ...said, ...fields }, keys, crypto), ProtocolError);
    }
  });

  test("with a changed bit is refused, or not signed by its key", async () => {
    for (let bit = 0; bit < good.length * 8; bit++) {
      const changed = good.slice();
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      let record;
      try {
        record = decodeRecord(changed);
      } catch (error) {
        assert.ok(error instanceof ProtocolError, `bit ${bit}`);
        continue;
      }
      const { signature, message, publicKey } = record;
      assert.equal(await crypto.verify(signature, message, publicKey), false, `bit ${bit}`);
    }
  });

  test("is refused when cut off or continued", () => {
    for (let length = 0; length < good.length; length++) {
      assert.throws(() => decodeRecord(good.slice(0, length)), ProtocolError);
    }
    assert.throws(() => decodeRecord(concat([good, Uint8Array.of(0)])), { reason: "bad_record" });
    assert.throws(() => decodeRecord(new Uint8Array(MAX_RECORD_BYTES + 1)), {
      reason: "bad_record",
    });
  });

  test("is refused for each field that is not allowed, however well signed", async () => {
    const addresses = (...texts: string[]) => ({ addresses: texts.map((text) => utf8(text)) });
    const cases: [what: string, fields: Parameters<typeof forge>[0], reason: string][] = [
      ["no name", { name: utf8("node1") }, "bad_record"],
      ["a path for a name", { name: utf8("../x@h") }, "bad_record"],
      ["a name of 256 bytes", { name: utf8(`a@${"h".repeat(254)}`) }, "too_long"],
      ["a name that is not UTF-8", { name: Uint8Array.of(0xff, 0x40, 0x61) }, "bad_record"],
      ["a key of low order", { publicKey: new Uint8Array(32) }, "bad_record"],
      ["a key of two spellings", { publicKey: new Uint8Array(32).fill(0xff) }, "bad_record"],
      ["a long form of a number", { numbers: Uint8Array.of(0x81, 0, 1) }, "bad_varint"],
      ["a number above 2^53", { numbers: new Uint8Array(9).fill(0xff) }, "bad_varint"],
      ["nine addresses", addresses(...Array.from({ length: 9 }, () => "mem://a")), "bad_record"],
      ["a count that is a lie", { count: 255 }, "bad_record"],
      ["an address without a scheme", addresses("127.0.0.1:1"), "bad_record"],
      ["an address with a line break", addresses("quic://a\nb"), "bad_record"],
      ["an address with an escape", addresses("quic://a\u001b[2Jb"), "bad_record"],
      ["an address beyond ASCII", addresses("quic://höst:1"), "bad_record"],
      ["an address of 256 bytes", addresses(`mem://${"a".repeat(250)}`), "too_long"],
    ];
    for (const [what, fields, reason] of cases) {
      const bytes = await forge(fields);
      assert.throws(() => decodeRecord(bytes), { name: "ProtocolError", reason }, what);
    }
    // What comes behind the fields is read as the addresses that were claimed.
    const claimed = await forge({ count: 8 });
    assert.throws(() => decodeRecord(claimed), ProtocolError);
    assert.equal(decodeRecord(await forge({})).name, said.name);
  });

  test("signed as something else does not pass for a record", async () => {
    const verifier = recordVerifier(crypto);
    assert.equal(await verifier.verify(decodeRecord(await forge({}))), true);
    for (const label of ["", "barrel/1 handshake", "barrel/1 replica head"]) {
      assert.equal(await verifier.verify(decodeRecord(await forge({ label }))), false, label);
    }
  });

  test("does not hold the frame that brought it", () => {
    const frame = concat([good, new Uint8Array(60_000)]);
    const { publicKey, signature, message } = decodeRecord(frame.subarray(0, good.length));
    for (const part of [publicKey, signature, message]) {
      assert.ok(part.buffer.byteLength < 1_000);
    }
  });

  test("is refused or read, and nothing else, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.nat(good.length), (bytes, at) => {
        for (const input of [bytes, concat([good.subarray(0, at), bytes])]) {
          try {
            const { message } = decodeRecord(new Uint8Array(input));
            assert.ok(equalBytes(message.subarray(-(input.length - 64)), input.subarray(0, -64)));
          } catch (error) {
            assert.ok(error instanceof ProtocolError);
          }
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("a verifier of records", () => {
  const counting = () => {
    let calls = 0;
    const verify = (...args: Parameters<typeof crypto.verify>) => {
      calls++;
      return crypto.verify(...args);
    };
    return { crypto: { ...crypto, verify }, calls: () => calls };
  };

  test("verifies each record once, also when it is asked twice at once", async () => {
    const { crypto: counted, calls } = counting();
    const verifier = recordVerifier(counted);
    const both = [verifier.verify(decodeRecord(good)), verifier.verify(decodeRecord(good))];
    assert.deepEqual(await Promise.all(both), [true, true]);
    assert.equal(await verifier.verify(decodeRecord(good)), true);
    assert.equal(calls(), 1);
  });

  test("keeps a bad record's verdict apart from the good one's", async () => {
    const { crypto: counted, calls } = counting();
    const verifier = recordVerifier(counted);
    const record = decodeRecord(good);
    const otherSignature = await crypto.sign(record.message, otherKeys);
    assert.equal(await verifier.verify({ ...record, signature: otherSignature }), false);
    assert.equal(await verifier.verify(record), true);
    assert.equal(await verifier.verify({ ...record, signature: otherSignature }), false);
    assert.equal(calls(), 2);
  });

  test("remembers no more than it may, and drops what was not asked for longest", async () => {
    const { crypto: counted, calls } = counting();
    const verifier = recordVerifier(counted, 2);
    const records = await Promise.all(
      [1, 2, 3].map(async (incarnation) =>
        decodeRecord(await signRecord({ ...said, incarnation }, keys, crypto))
      ),
    );
    const ask = async (index: number) => {
      const before = calls();
      assert.equal(await verifier.verify(records[index] as (typeof records)[number]), true);
      return calls() - before;
    };
    const asked = [];
    for (const index of [0, 1, 0, 2, 0, 1]) asked.push(await ask(index));
    assert.deepEqual(asked, [1, 1, 0, 1, 0, 1]);
  });
});
