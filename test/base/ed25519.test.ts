import assert from "node:assert/strict";
import { Point } from "@noble/ed25519";
import { sha512 } from "@noble/hashes/sha2.js";
import { decodeHex, encodeHex } from "@std/encoding/hex";
import fc from "fast-check";
import { concat, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import type { Crypto } from "../../src/base/crypto.ts";
import { isAcceptableKey, isAcceptableSignature } from "../../src/base/ed25519_rules.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { knowsEd25519, pkcs8Of, webCrypto } from "../../src/base/web_crypto.ts";
import { describe, test } from "../harness.ts";

const noble = nobleCrypto(seededRandom(1));
const web = webCrypto(crypto.subtle);
const implementations: readonly (readonly [string, Crypto])[] = [
  ["in plain JavaScript", noble],
  ["by WebCrypto", web],
];

const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;
const PRIME = 2n ** 255n - 19n;
// A generator of the eight points of low order.
const TORSION = Point.fromHex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a");

// RFC 8032 §7.1: TEST 1, 2, 3 and SHA(abc).
const RFC_8032 = [
  {
    secretKey: "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    publicKey: "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    message: "",
    signature: "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155" +
      "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
  },
  {
    secretKey: "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
    publicKey: "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
    message: "72",
    signature: "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da" +
      "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
  },
  {
    secretKey: "c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
    publicKey: "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
    message: "af82",
    signature: "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac" +
      "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
  },
  {
    secretKey: "833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42",
    publicKey: "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
    message: "ddaf35a193617abacc417349ae20413112e6fa4e89a97ea20a9eeee64b55d39a" +
      "2192992a274fc1a836ba3c23a3feebbd454d4423643ce80e2a9ac94fa54ca49f",
    signature: "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589" +
      "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
  },
];

describe("Ed25519", () => {
  for (const [how, crypto] of implementations) {
    test(`${how} gives the keys and signatures of RFC 8032`, async () => {
      for (const vector of RFC_8032) {
        const publicKey = decodeHex(vector.publicKey) as Bytes;
        const secretKey = decodeHex(vector.secretKey) as Bytes;
        const message = decodeHex(vector.message);
        assert.equal(encodeHex(await crypto.publicKeyOf(secretKey)), vector.publicKey);
        const signature = await crypto.sign(message, { publicKey, secretKey });
        assert.equal(encodeHex(signature), vector.signature);
        assert.equal(await crypto.verify(signature, message, publicKey), true);
      }
    });

    test(`${how} makes pairs that belong together and differ`, async () => {
      const first = await crypto.generateKeyPair();
      const second = await crypto.generateKeyPair();
      assert.equal(first.secretKey.length, 32);
      assert.deepEqual(await crypto.publicKeyOf(first.secretKey), first.publicKey);
      assert.notDeepEqual(first.secretKey, second.secretKey);
      const message = utf8("to be signed");
      const signature = await crypto.sign(message, first);
      assert.equal(await crypto.verify(signature, message, first.publicKey), true);
      assert.equal(await crypto.verify(signature, message, second.publicKey), false);
    });

    test(`${how} refuses every changed bit of a signature`, async () => {
      const keys = await noble.generateKeyPair();
      const message = utf8("to be signed");
      const signature = await crypto.sign(message, keys);
      for (let bit = 0; bit < signature.length * 8; bit++) {
        const changed = signature.slice();
        changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
        assert.equal(await crypto.verify(changed, message, keys.publicKey), false, `bit ${bit}`);
      }
    });

    test(`${how} answers, and never rejects, whatever the bytes`, async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.uint8Array({ maxLength: 80 }),
          fc.uint8Array({ maxLength: 80 }),
          fc.oneof(
            fc.uint8Array({ maxLength: 40 }),
            fc.uint8Array({ minLength: 32, maxLength: 32 }),
          ),
          async (signature, message, key) => {
            assert.equal(await crypto.verify(signature, message, key), false);
          },
        ),
        { numRuns: 200 },
      );
    });
  }

  // Keys and nonces with a part of low order: libraries that multiply by the cofactor say yes
  // to all of these, the others to those whose parts cancel out.
  test(
    "both judge mixed-order keys by the equation without the cofactor",
    { timeoutMs: 60_000 },
    async () => {
      const seen = { valid: 0, invalid: 0 };
      for (let keyTorsion = 0; keyTorsion < 8; keyTorsion++) {
        for (let nonceTorsion = 0; nonceTorsion < 8; nonceTorsion++) {
          for (let round = 0; round < 4; round++) {
            const what = `key + ${keyTorsion}T, nonce + ${nonceTorsion}T, round ${round}`;
            const forged = forge({
              secret: 4711n,
              keyTorsion,
              nonce: 815n,
              nonceTorsion,
              message: what,
            });
            seen[forged.isValid ? "valid" : "invalid"]++;
            for (const [how, crypto] of implementations) {
              const { signature, message, key } = forged;
              assert.equal(
                await crypto.verify(signature, message, key),
                forged.isValid,
                `${how}: ${what}`,
              );
            }
          }
        }
      }
      assert.ok(seen.valid >= 16 && seen.invalid >= 64, JSON.stringify(seen));
    },
  );

  test("both refuse keys of low order, for which anybody can sign", async () => {
    for (let keyTorsion = 0; keyTorsion < 8; keyTorsion++) {
      for (let round = 0; round < 16; round++) {
        const message = `${keyTorsion} ${round}`;
        const forged = forge({ secret: 0n, keyTorsion, nonce: 815n, nonceTorsion: 0, message });
        for (const [how, crypto] of implementations) {
          const verdict = await crypto.verify(forged.signature, forged.message, forged.key);
          assert.equal(verdict, false, `${how}: ${message}`);
        }
      }
    }
  });

  test("both refuse an S that is not reduced", async () => {
    const { signature, message, key } = forge({
      secret: 4711n,
      keyTorsion: 0,
      nonce: 815n,
      nonceTorsion: 0,
      message: "m",
    });
    const s = fromLittleEndian(signature.subarray(32));
    for (let times = 0n; s + times * ORDER < 2n ** 256n; times++) {
      const changed = concat([signature.subarray(0, 32), toLittleEndian(s + times * ORDER)]);
      for (const [how, crypto] of implementations) {
        const verdict = await crypto.verify(changed, message, key);
        assert.equal(verdict, times === 0n, `${how}: S + ${times} L`);
      }
    }
  });

  test("both refuse a nonce's point of low order, where the equation holds", async () => {
    for (let nonceTorsion = 0; nonceTorsion < 8; nonceTorsion++) {
      let held = 0;
      for (let round = 0; round < 40; round++) {
        const message = `${nonceTorsion} ${round}`;
        const forged = forge({ secret: 77n, keyTorsion: 1, nonce: 0n, nonceTorsion, message });
        held += forged.isValid ? 1 : 0;
        for (const [how, crypto] of implementations) {
          const verdict = await crypto.verify(forged.signature, forged.message, forged.key);
          assert.equal(verdict, false, `${how}: ${message}`);
        }
      }
      assert.ok(held > 0, `no equation held for ${nonceTorsion}T`);
    }
  });

  test("both refuse every spelling of the neutral point as nonce", async () => {
    // y = 1, y = 1 + p, and each with the sign bit of x = 0.
    for (const spelling of [1n, 1n + PRIME, 1n + 2n ** 255n, 1n + PRIME + 2n ** 255n]) {
      const key = Point.BASE.multiply(4711n).toBytes();
      const message = utf8("m");
      const r = toLittleEndian(spelling);
      const s = (challenge(r, key, message) * 4711n) % ORDER;
      for (const [how, crypto] of implementations) {
        const verdict = await crypto.verify(concat([r, toLittleEndian(s)]), message, key);
        assert.equal(verdict, false, `${how}: y = ${spelling}`);
      }
    }
  });

  test("a key has one spelling and is not of low order", () => {
    assert.equal(isAcceptableKey(Point.BASE.toBytes()), true);
    assert.equal(isAcceptableKey(toLittleEndian(PRIME - 2n)), true);
    for (let point = TORSION, i = 1; i <= 8; i++, point = point.add(TORSION)) {
      assert.equal(isAcceptableKey(point.toBytes()), false, `${i}T`);
    }
    for (let y = PRIME; y < 2n ** 255n; y++) {
      assert.equal(isAcceptableKey(toLittleEndian(y)), false, `${y}`);
      assert.equal(isAcceptableKey(toLittleEndian(y + 2n ** 255n)), false, `${y} and sign`);
    }
    assert.equal(isAcceptableKey(toLittleEndian(1n + 2n ** 255n)), false);
    assert.equal(isAcceptableKey(toLittleEndian(PRIME - 1n + 2n ** 255n)), false);
    assert.equal(isAcceptableKey(new Uint8Array(31).fill(7)), false);
    assert.equal(isAcceptableKey(new Uint8Array(33).fill(7)), false);
  });

  test("a signature has 64 bytes, an acceptable point and a reduced S", () => {
    const r = Point.BASE.toBytes();
    assert.equal(isAcceptableSignature(concat([r, toLittleEndian(ORDER - 1n)])), true);
    assert.equal(isAcceptableSignature(concat([r, toLittleEndian(ORDER)])), false);
    assert.equal(isAcceptableSignature(concat([toLittleEndian(PRIME), toLittleEndian(1n)])), false);
    assert.equal(isAcceptableSignature(concat([TORSION.toBytes(), toLittleEndian(1n)])), false);
    assert.equal(isAcceptableSignature(concat([r, toLittleEndian(1n).subarray(0, 31)])), false);
    assert.equal(isAcceptableSignature(concat([r, toLittleEndian(1n), r])), false);
  });

  test("simulations stay in the turn: plain JavaScript settles its promises at once", async () => {
    const keys = await noble.generateKeyPair();
    let answer: boolean | undefined;
    const work = async () => {
      const signature = await noble.sign(utf8("m"), keys);
      answer = await noble.verify(signature, utf8("m"), await noble.publicKeyOf(keys.secretKey));
    };
    void work();
    for (let i = 0; i < 10; i++) await Promise.resolve();
    assert.equal(answer, true);
  });

  test("equal seeds make equal keys", async () => {
    const one = await nobleCrypto(seededRandom(5)).generateKeyPair();
    const two = await nobleCrypto(seededRandom(5)).generateKeyPair();
    assert.deepEqual(one, two);
  });

  test("more keys than are kept imported all verify", async () => {
    const message = utf8("m");
    const signed: { key: Bytes; signature: Bytes }[] = [];
    for (let i = 0; i < 1_100; i++) {
      const keys = await web.generateKeyPair();
      signed.push({ key: keys.publicKey, signature: await web.sign(message, keys) });
    }
    for (const { key, signature } of [...signed, ...signed.slice(0, 10)]) {
      assert.equal(await web.verify(signature, message, key), true);
    }
  });

  test("a host whose WebCrypto lacks Ed25519 is told apart", async () => {
    assert.equal(await knowsEd25519(crypto.subtle), true);
    const lacking = { generateKey: () => Promise.reject(new Error("NotSupportedError")) };
    assert.equal(await knowsEd25519(lacking as unknown as SubtleCrypto), false);
  });

  test("a secret key's PKCS#8 form is what the host imports", async () => {
    const keys = await noble.generateKeyPair();
    const pkcs8 = pkcs8Of(keys.secretKey);
    const key = await crypto.subtle.importKey("pkcs8", pkcs8, "Ed25519", true, ["sign"]);
    assert.deepEqual(new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)), pkcs8);
  });
});

describe("hashes", () => {
  test("SHA-256 and HMAC agree with the host's", async () => {
    const key = utf8("key of sixteen b");
    const hmacKey = await crypto.subtle.importKey(
      "raw",
      key,
      { name: "HMAC", hash: "SHA-256" },
      false,
      ["sign"],
    );
    for (const length of [0, 1, 63, 64, 65, 1000]) {
      const data = new Uint8Array(length).fill(length);
      const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", data));
      const mac = new Uint8Array(await crypto.subtle.sign("HMAC", hmacKey, data));
      for (const [how, implementation] of implementations) {
        assert.deepEqual(implementation.sha256(data), hash, how);
        assert.deepEqual(implementation.hmac(key, data), mac, how);
      }
    }
  });
});

interface Forgery {
  /** The key is secret·B + keyTorsion·T. */
  readonly secret: bigint;
  readonly keyTorsion: number;
  /** R is nonce·B + nonceTorsion·T. */
  readonly nonce: bigint;
  readonly nonceTorsion: number;
  readonly message: string;
}

// Signs as if both were in the group of prime order; the leftover of low order decides.
function forge({ secret, keyTorsion, nonce, nonceTorsion, message: text }: Forgery) {
  const message = utf8(text);
  const key = point(secret, keyTorsion).toBytes() as Bytes;
  const r = point(nonce, nonceTorsion).toBytes();
  const k = challenge(r, key, message);
  const signature = concat([r, toLittleEndian((nonce + k * secret) % ORDER)]);
  const isValid = (k * BigInt(keyTorsion) + BigInt(nonceTorsion)) % 8n === 0n;
  return { key, message, signature, isValid };
}

function point(scalar: bigint, torsion: number) {
  return Point.BASE.multiply(scalar, false).add(TORSION.multiply(BigInt(torsion), false));
}

function challenge(r: Uint8Array, key: Uint8Array, message: Uint8Array): bigint {
  return fromLittleEndian(sha512(concat([r, key, message]))) % ORDER;
}

function fromLittleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${encodeHex(bytes.toReversed())}`);
}

function toLittleEndian(value: bigint): Bytes {
  return decodeHex(value.toString(16).padStart(64, "0")).toReversed() as Bytes;
}
