import { x25519 } from "@noble/curves/ed25519.js";
import { getPublicKey, hashes, Point, sign } from "@noble/ed25519";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256, sha512 } from "@noble/hashes/sha2.js";
import { concat, equalBytes } from "./bytes.ts";
import type { Bytes } from "./bytes.ts";
import type { Crypto, KeyPair } from "./crypto.ts";
import { isAcceptableKey, isAcceptableSignature } from "./ed25519_rules.ts";
import type { Random } from "./random.ts";
import { sealing } from "./sealing.ts";
import { isAgreementKey } from "./x25519_rules.ts";

const ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

/**
 * Cryptography in plain JavaScript, for hosts whose WebCrypto lacks Ed25519 and for simulations:
 * every promise is settled when it is returned, so that virtual time stays in command.
 */
export function nobleCrypto(random: Random): Crypto {
  hashes.sha512 = sha512;
  const publicKeyOf = (secretKey: Uint8Array) => getPublicKey(secretKey) as Bytes;
  return {
    ...syncHashes,
    ...sealing,
    generateKeyPair() {
      const secretKey = random.bytes(32);
      const keys: KeyPair = { secretKey, publicKey: publicKeyOf(secretKey) };
      return Promise.resolve(keys);
    },
    publicKeyOf: (secretKey) => Promise.resolve(publicKeyOf(secretKey)),
    sign: (message, keys) => Promise.resolve(sign(message, keys.secretKey) as Bytes),
    verify: (signature, message, publicKey) =>
      Promise.resolve(verifyStrictly(signature, message, publicKey)),
    newAgreement() {
      const secret = random.bytes(32);
      return Promise.resolve({
        publicKey: x25519.getPublicKey(secret) as Bytes,
        agree: (publicKey: Uint8Array) => Promise.resolve(shared(secret, publicKey)),
      });
    },
  };
}

/** The hashes of {@link Crypto}, which are the same everywhere. */
export const syncHashes: Pick<Crypto, "sha256" | "hmac"> = {
  sha256: (data) => sha256(data) as Bytes,
  hmac: (key, data) => hmac(sha256, key, data) as Bytes,
};

function shared(secret: Uint8Array, publicKey: Uint8Array): Bytes | undefined {
  if (!isAgreementKey(publicKey)) return undefined;
  try {
    return x25519.getSharedSecret(secret, publicKey) as Bytes;
  } catch {
    // Zero: the key is of low order.
    return undefined;
  }
}

// The equation without the cofactor, as BoringSSL and ring compute it; noble's own `verify`
// multiplies by eight and so accepts signatures that those refuse.
function verifyStrictly(signature: Uint8Array, message: Uint8Array, key: Uint8Array): boolean {
  if (!isAcceptableKey(key) || !isAcceptableSignature(signature)) return false;
  try {
    const r = signature.subarray(0, 32);
    const challenge = fromLittleEndian(sha512(concat([r, key, message]))) % ORDER;
    const s = fromLittleEndian(signature.subarray(32));
    const point = Point.BASE.multiply(s, false)
      .subtract(Point.fromBytes(key, false).multiply(challenge, false));
    return equalBytes(point.toBytes(), r);
  } catch {
    // The key is not on the curve.
    return false;
  }
}

function fromLittleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i] as number);
  return value;
}
