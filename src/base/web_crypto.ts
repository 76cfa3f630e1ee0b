import { concat } from "./bytes.ts";
import type { Bytes } from "./bytes.ts";
import type { Crypto, KeyPair } from "./crypto.ts";
import { isAcceptableKey, isAcceptableSignature } from "./ed25519_rules.ts";
import { syncHashes } from "./noble_crypto.ts";
import { sealing } from "./sealing.ts";
import { isAgreementKey } from "./x25519_rules.ts";

/** Imported keys that are kept. */
const KEY_CACHE = 1024;

// PKCS#8 of an Ed25519 seed (RFC 8410 §7) is this and the 32 bytes.
const PKCS8_PREFIX = new Uint8Array([48, 46, 2, 1, 0, 48, 5, 6, 3, 43, 101, 112, 4, 34, 4, 32]);

/** The PKCS#8 form of a 32-byte Ed25519 seed (RFC 8410 §7). */
export function pkcs8Of(secretKey: Uint8Array): Bytes {
  return concat([PKCS8_PREFIX, secretKey]);
}

/** Whether this WebCrypto knows Ed25519. */
export async function knowsEd25519(subtle: SubtleCrypto): Promise<boolean> {
  try {
    await subtle.generateKey("Ed25519", false, ["sign", "verify"]);
    return true;
  } catch {
    return false;
  }
}

/** Cryptography by the host's WebCrypto: ten times faster than plain JavaScript. */
export function webCrypto(subtle: SubtleCrypto): Crypto {
  const imported = new Map<string, Promise<CryptoKey>>();
  const publicKey = (raw: Uint8Array) => {
    const id = String.fromCharCode(...raw);
    let key = imported.get(id);
    if (key === undefined) {
      key = subtle.importKey("raw", new Uint8Array(raw), "Ed25519", false, ["verify"]);
      if (imported.size >= KEY_CACHE) {
        const oldest = imported.keys().next().value;
        if (oldest !== undefined) imported.delete(oldest);
      }
      imported.set(id, key);
    }
    return key;
  };
  const signing = new WeakMap<KeyPair, Promise<CryptoKey>>();
  const signingKey = (keys: KeyPair) => {
    let key = signing.get(keys);
    if (key === undefined) {
      key = subtle.importKey("pkcs8", pkcs8Of(keys.secretKey), "Ed25519", false, ["sign"]);
      signing.set(keys, key);
    }
    return key;
  };
  return {
    ...syncHashes,
    ...sealing,
    async generateKeyPair() {
      const pair = await subtle.generateKey("Ed25519", true, ["sign", "verify"]) as CryptoKeyPair;
      const pkcs8 = new Uint8Array(await subtle.exportKey("pkcs8", pair.privateKey));
      return {
        secretKey: pkcs8.slice(-32),
        publicKey: new Uint8Array(await subtle.exportKey("raw", pair.publicKey)),
      };
    },
    async publicKeyOf(secretKey) {
      const key = await subtle.importKey("pkcs8", pkcs8Of(secretKey), "Ed25519", true, ["sign"]);
      const { x } = await subtle.exportKey("jwk", key);
      const text = atob((x as string).replace(/-/g, "+").replace(/_/g, "/"));
      return Uint8Array.from(text, (char) => char.charCodeAt(0));
    },
    async sign(message, keys) {
      const key = await signingKey(keys);
      return new Uint8Array(await subtle.sign("Ed25519", key, message as Bytes));
    },
    async verify(signature, message, key) {
      if (!isAcceptableKey(key) || !isAcceptableSignature(signature)) return false;
      try {
        const verifier = await publicKey(key);
        return await subtle.verify("Ed25519", verifier, signature as Bytes, message as Bytes);
      } catch {
        // The key is not on the curve.
        return false;
      }
    },
    async newAgreement() {
      const keys = await subtle.generateKey("X25519", false, ["deriveBits"]) as CryptoKeyPair;
      const agree = async (publicKey: Uint8Array) => {
        if (!isAgreementKey(publicKey)) return undefined;
        try {
          const key = await subtle.importKey("raw", publicKey as Bytes, "X25519", false, []);
          const algorithm = { name: "X25519", public: key };
          const secret = new Uint8Array(await subtle.deriveBits(algorithm, keys.privateKey, 256));
          return secret.some((byte) => byte !== 0) ? secret : undefined;
        } catch {
          // Hosts refuse a secret of zero themselves.
          return undefined;
        }
      };
      return {
        publicKey: new Uint8Array(await subtle.exportKey("raw", keys.publicKey)),
        agree,
      };
    },
  };
}
