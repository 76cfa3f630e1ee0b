/** X25519, HKDF and the cipher of sealed connections. */
import assert from "node:assert/strict";
import { decodeHex, encodeHex } from "@std/encoding/hex";
import { utf8 } from "../../src/base/bytes.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { webCrypto } from "../../src/base/web_crypto.ts";
import { isAgreementKey } from "../../src/base/x25519_rules.ts";
import { describe, test } from "../harness.ts";

const noble = nobleCrypto(seededRandom(1));
const web = webCrypto(crypto.subtle);

// The points whose order divides the cofactor: any secret times these is zero.
const LOW_ORDER = [
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0100000000000000000000000000000000000000000000000000000000000000",
  "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
  "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];
// p, p + 1, and the low-order points and the base point with the top bit set.
const NOT_CANONICAL = [
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "0000000000000000000000000000000000000000000000000000000000000080",
  "0900000000000000000000000000000000000000000000000000000000000080",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
];

describe("an agreement", () => {
  test("in plain JavaScript is that of RFC 7748 §6.1", async () => {
    const secret = decodeHex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
    const bob = await nobleCrypto({ bytes: () => new Uint8Array(secret), uint32: () => 0 })
      .newAgreement();
    assert.equal(
      encodeHex(bob.publicKey),
      "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    );
    const alice = decodeHex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
    assert.equal(
      encodeHex(await bob.agree(alice) as Uint8Array),
      "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
    );
  });

  test("is the same by WebCrypto and in plain JavaScript", async () => {
    for (let i = 0; i < 20; i++) {
      const [one, other] = [await web.newAgreement(), await noble.newAgreement()];
      const secret = await one.agree(other.publicKey);
      assert.equal(secret?.length, 32);
      assert.deepEqual(secret, await other.agree(one.publicKey));
    }
  });

  test("on zero, or with bytes that are no key, is none at all", async () => {
    for (const end of [await web.newAgreement(), await noble.newAgreement()]) {
      for (const hex of LOW_ORDER) {
        assert.equal(isAgreementKey(decodeHex(hex)), true);
        assert.equal(await end.agree(decodeHex(hex)), undefined, hex);
      }
      for (const hex of NOT_CANONICAL) {
        assert.equal(isAgreementKey(decodeHex(hex)), false);
        assert.equal(await end.agree(decodeHex(hex)), undefined, hex);
      }
      for (const length of [0, 31, 33]) {
        assert.equal(await end.agree(new Uint8Array(length).fill(9)), undefined);
      }
    }
  });
});

describe("sealing", () => {
  test("derives keys as RFC 5869 does (appendix A.1, the first 32 bytes)", () => {
    const key = noble.hkdf(
      new Uint8Array(22).fill(0x0b),
      new Uint8Array(decodeHex("000102030405060708090a0b0c")),
      new Uint8Array(decodeHex("f0f1f2f3f4f5f6f7f8f9")),
    );
    assert.equal(
      encodeHex(key),
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf",
    );
  });

  test("is ChaCha20-Poly1305 (RFC 8439 §2.8.2, but for its additional data)", () => {
    const key = Uint8Array.from({ length: 32 }, (_, i) => 0x80 + i);
    const nonce = decodeHex("070000004041424344454647");
    const plain = utf8(
      "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the " +
        "future, sunscreen would be it.",
    );
    const sealed = noble.seal(key, nonce, plain);
    assert.equal(sealed.length, plain.length + 16);
    assert.ok(encodeHex(sealed).startsWith("d31a8d34648e60db7b86afbc53ef7ec2"));
    assert.deepEqual(noble.open(key, nonce, sealed), plain);
    for (let bit = 0; bit < sealed.length * 8; bit += 13) {
      const changed = sealed.slice();
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
      assert.equal(noble.open(key, nonce, changed), undefined);
    }
    for (const length of [0, 1, 15, 16, sealed.length - 1]) {
      assert.equal(noble.open(key, nonce, sealed.slice(0, length)), undefined);
    }
  });
});
