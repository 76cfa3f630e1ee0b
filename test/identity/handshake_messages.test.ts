import assert from "node:assert/strict";
import { encode } from "cborg";
import fc from "fast-check";
import { concat, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import {
  decodeHello,
  decodeProof,
  decodeReady,
  encodeHello,
  encodeProof,
  PROTOCOL_VERSION,
} from "../../src/identity/handshake_messages.ts";
import type { Hello } from "../../src/identity/handshake_messages.ts";
import { MAX_HANDSHAKE_BYTES } from "../../src/wire/limits.ts";
import { describe, test } from "../harness.ts";
import { keysOf } from "./conversation.ts";

const hello: Hello = {
  version: PROTOCOL_VERSION,
  mode: "direct",
  cluster: "test",
  name: "node1@127.0.0.1",
  epoch: 1_763_900_000_000,
  publicKey: keysOf.client.publicKey,
  nonce: new Uint8Array(32).fill(9),
  ephemeral: true,
  addresses: ["quic://127.0.0.1:9100"],
  replaces: new Uint8Array(32).fill(7),
  features: { maxMessageBytes: 16_777_216, maxDriftMs: 5_000 },
  successions: new Uint8Array(0),
  agreementKey: new Uint8Array(0),
};

/** The fields of HELLO as they travel, to be put together wrongly. */
const fields: readonly unknown[] = [
  hello.version,
  hello.mode,
  hello.cluster,
  hello.name,
  hello.epoch,
  hello.publicKey,
  hello.nonce,
  hello.ephemeral,
  hello.addresses,
  hello.replaces,
  [["maxDriftMs", 5_000], ["maxMessageBytes", 16_777_216]],
  hello.successions,
  hello.agreementKey,
];
const NAMES = Object.keys(hello);
const withField = (name: string, value: unknown) =>
  encode(fields.map((field, index) => NAMES[index] === name ? value : field)) as Bytes;

describe("HELLO", () => {
  test("says all of itself, as a positional array", () => {
    assert.deepEqual(decodeHello(encodeHello(hello)), hello);
    assert.deepEqual(encodeHello(hello), encode(fields));
  });

  test("has the same bytes whatever the order of the settings", () => {
    const features = { maxDriftMs: 5_000, maxMessageBytes: 16_777_216 };
    assert.deepEqual(encodeHello({ ...hello, features }), encodeHello(hello));
  });

  test("fits with every field at its limit", () => {
    const largest: Hello = {
      ...hello,
      cluster: "ü".repeat(64),
      name: `${"n".repeat(64)}@${"h".repeat(189)}`,
      epoch: Number.MAX_SAFE_INTEGER,
      addresses: Array.from({ length: 8 }, () => `quic://${"a".repeat(248)}`),
      features: Object.fromEntries(
        Array.from({ length: 16 }, (_, i) => [`${"f".repeat(60)}${i}`, Number.MAX_SAFE_INTEGER]),
      ),
      successions: concat(
        Array.from({ length: 8 }, () => concat([keysOf.client.publicKey, new Uint8Array(136)])),
      ),
    };
    assert.deepEqual(decodeHello(encodeHello(largest)), largest);
  });

  test("of another version is named so, whatever follows the version", () => {
    for (const version of [0, 2, 255, -1]) {
      for (
        const body of [withField("version", version), encode([version]), encode([version, {}])]
      ) {
        assert.throws(() => decodeHello(body as Bytes), {
          reason: "version_mismatch",
          message: `the peer speaks version ${version}, this node version 1`,
        });
      }
    }
  });

  test("is malformed for each field that is not allowed", () => {
    const nine = Array.from({ length: 9 }, () => "mem://a");
    const seventeen = Array.from({ length: 17 }, (_, i) => [`f${i}`, 1]);
    const cases: [name: string, value: unknown][] = [
      ["version", "1"],
      ["version", 1.5],
      ["version", null],
      ["mode", "tunnel"],
      ["mode", 0],
      ["cluster", ""],
      ["cluster", "c".repeat(65)],
      ["cluster", 7],
      ["name", "node1"],
      ["name", "../../x@h"],
      ["name", `a@${"h".repeat(254)}`],
      ["name", "a@h\n"],
      ["epoch", -1],
      ["epoch", 1.5],
      ["epoch", Number.NaN],
      ["epoch", Number.POSITIVE_INFINITY],
      ["epoch", 2n ** 60n],
      ["epoch", "1"],
      ["publicKey", new Uint8Array(31)],
      ["publicKey", new Uint8Array(33)],
      ["publicKey", new Uint8Array(32)],
      ["publicKey", new Uint8Array(32).fill(0xff)],
      ["publicKey", "k".repeat(32)],
      ["nonce", new Uint8Array(0)],
      ["nonce", new Uint8Array(33)],
      ["nonce", Array.from({ length: 32 }, () => 1)],
      ["ephemeral", 1],
      ["ephemeral", null],
      ["addresses", "quic://127.0.0.1:1"],
      ["addresses", nine],
      ["addresses", [1]],
      ["addresses", ["127.0.0.1:1"]],
      ["addresses", ["quic://a b"]],
      ["addresses", ["quic://a\u001b[31m"]],
      ["addresses", ["quic://ä:1"]],
      ["addresses", [`mem://${"a".repeat(250)}`]],
      ["features", seventeen],
      ["successions", null],
      ["successions", new Uint8Array(167)],
      ["successions", new Uint8Array(168)],
      [
        "successions",
        concat(Array.from({ length: 9 * 168 / 32 + 1 }, () => keysOf.client.publicKey)),
      ],
      ["agreementKey", null],
      ["agreementKey", new Uint8Array(31).fill(9)],
      // Where TLS ends at the peer there is nothing to agree on, and elsewhere there must be.
      ["agreementKey", new Uint8Array(32).fill(9)],
      ["mode", "edge"],
      ["features", { maxDriftMs: 5_000 }],
      ["features", [["f"]]],
      ["features", [["f", 1, 2]]],
      ["features", [["f", -1]]],
      ["features", [["f", "1"]]],
      ["features", [[1, 1]]],
      ["features", [["f".repeat(65), 1]]],
    ];
    for (const [name, value] of cases) {
      assert.throws(
        () => decodeHello(withField(name, value)),
        { name: "ProtocolError", reason: "malformed" },
        `${name}: ${String(value)}`,
      );
    }
  });

  test("through a proxy carries an agreement key in its one spelling", () => {
    const edge: Hello = { ...hello, mode: "edge", agreementKey: new Uint8Array(32).fill(9) };
    assert.deepEqual(decodeHello(encodeHello(edge)), edge);
    const prime = Uint8Array.from({ length: 32 }, (_, i) => i === 0 ? 0xed : i < 31 ? 0xff : 0x7f);
    const topBit = new Uint8Array(32).fill(9);
    topBit[31] = 0x89;
    for (const agreementKey of [prime, topBit, new Uint8Array(32).fill(0xff)]) {
      assert.throws(() => decodeHello(encodeHello({ ...edge, agreementKey })), {
        reason: "malformed",
      });
    }
  });

  test("is malformed with a field too few or too many, or none", () => {
    for (let count = 1; count < fields.length; count++) {
      assert.throws(() => decodeHello(encode(fields.slice(0, count)) as Bytes), {
        reason: "malformed",
      });
    }
    for (const value of [[...fields, 0], [], {}, null, 1, "HELLO", new Uint8Array(32)]) {
      assert.throws(() => decodeHello(encode(value) as Bytes), { reason: "malformed" });
    }
  });

  test("is malformed when cut off, continued or too long", () => {
    const body = encodeHello(hello);
    for (let length = 0; length < body.length; length++) {
      assert.throws(() => decodeHello(body.slice(0, length)), { reason: "malformed" });
    }
    assert.throws(() => decodeHello(concat([body, Uint8Array.of(0)])), { reason: "malformed" });
    // Every field is allowed, all together are not.
    const features = Object.fromEntries(
      Array.from({ length: 16 }, (_, i) => [`${"\u20ac".repeat(62)}${i}`, i]),
    );
    const addresses = Array.from({ length: 8 }, () => `quic://${"a".repeat(248)}`);
    const record = concat([keysOf.client.publicKey, new Uint8Array(136)]);
    const successions = concat(Array.from({ length: 8 }, () => record));
    const long = encodeHello({ ...hello, features, addresses, successions });
    assert.ok(long.length > MAX_HANDSHAKE_BYTES);
    assert.throws(() => decodeHello(long), { reason: "malformed", message: "HELLO is too long" });
  });

  test("has one spelling of each number and text", () => {
    const body = encodeHello(hello);
    // The version in two bytes, the array's length in two bytes.
    const spellings = [
      concat([body.subarray(0, 1), Uint8Array.of(0x18, 1), body.subarray(2)]),
      concat([Uint8Array.of(0x98, 10), body.subarray(1)]),
      concat([Uint8Array.of(0x9f), body.subarray(1), Uint8Array.of(0xff)]),
    ];
    for (const spelling of spellings) {
      assert.throws(() => decodeHello(spelling), { reason: "malformed" });
    }
  });

  test("costs nothing for what it merely claims", () => {
    const claims = [
      // An array, bytes, a text and a map of 2^32 - 1, and of 2^53 - 1.
      ...[0x9a, 0x5a, 0x7a, 0xba].map((head) => Uint8Array.of(head, 0xff, 0xff, 0xff, 0xff)),
      ...[0x9b, 0x5b, 0x7b, 0xbb].map((head) =>
        Uint8Array.of(head, 0, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff)
      ),
      // Arrays, maps and tags in each other as deep as the message allows.
      new Uint8Array(MAX_HANDSHAKE_BYTES).fill(0x81),
      new Uint8Array(MAX_HANDSHAKE_BYTES).fill(0xa1),
      new Uint8Array(MAX_HANDSHAKE_BYTES).fill(0xc1),
      // Lengths that are said later.
      new Uint8Array(MAX_HANDSHAKE_BYTES).fill(0x9f),
      new Uint8Array(MAX_HANDSHAKE_BYTES).fill(0x5f),
    ];
    for (const claim of claims) {
      assert.throws(
        () => decodeHello(claim),
        { reason: "malformed" },
        String(claim.subarray(0, 9)),
      );
      const inside = concat([Uint8Array.of(0x8a, 1), claim.subarray(0, MAX_HANDSHAKE_BYTES - 2)]);
      assert.throws(() => decodeHello(inside), { reason: "malformed" });
    }
  });

  test("gives settings no power over objects", () => {
    const body = withField("features", [["__proto__", 7], ["constructor", 8], ["toString", 9]]);
    const { features } = decodeHello(body);
    assert.equal(Object.getPrototypeOf(features), Object.prototype);
    assert.deepEqual(Object.keys(features), ["__proto__", "constructor", "toString"]);
    assert.equal(({} as Record<string, unknown>)["7"], undefined);
  });

  test("does not hold the frame that brought it", () => {
    const body = encodeHello(hello);
    const frame = concat([body, new Uint8Array(60_000)]);
    const { publicKey, nonce } = decodeHello(frame.subarray(0, body.length));
    assert.equal(publicKey.buffer.byteLength, 32);
    assert.equal(nonce.buffer.byteLength, 32);
  });

  test("is read or refused, and nothing else, whatever the bytes", () => {
    const body = encodeHello(hello);
    const onlyProtocolErrors = (bytes: Uint8Array) => {
      try {
        decodeHello(bytes);
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
      }
    };
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.nat(body.length - 1),
        fc.integer({ min: 1, max: 255 }),
        (bytes, at, mask) => {
          onlyProtocolErrors(bytes);
          const changed = body.slice();
          changed[at] = (changed[at] as number) ^ mask;
          onlyProtocolErrors(changed);
          onlyProtocolErrors(concat([body.subarray(0, at), bytes, body.subarray(at)]));
        },
      ),
      { numRuns: 3_000 },
    );
  });
});

describe("PROOF and READY", () => {
  test("have their lengths and no others", () => {
    const signature = new Uint8Array(64).fill(1);
    const mac = new Uint8Array(32).fill(2);
    assert.deepEqual(decodeProof(encodeProof(signature, mac)), { signature, mac });
    const plain = decodeProof(encodeProof(signature, utf8("")));
    assert.deepEqual([plain.signature.length, plain.mac.length], [64, 0]);
    for (const length of [0, 1, 63, 65, 95, 97, 4_096]) {
      assert.throws(() => decodeProof(new Uint8Array(length)), { reason: "malformed" });
    }
    assert.deepEqual(decodeReady(mac), mac);
    assert.equal(decodeReady(new Uint8Array(0)).length, 0);
    for (const length of [1, 31, 33, 64]) {
      assert.throws(() => decodeReady(new Uint8Array(length)), { reason: "malformed" });
    }
  });
});
