import { chacha20poly1305 } from "@noble/ciphers/chacha.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { Bytes } from "./bytes.ts";
import type { Crypto } from "./crypto.ts";

/**
 * Keys from a shared secret, and what is sealed with them; the same everywhere. In plain JavaScript:
 * WebCrypto only promises, and a frame may not wait while it is written.
 */
export const sealing: Pick<Crypto, "hkdf" | "seal" | "open"> = {
  hkdf: (secret, salt, info) => hkdf(sha256, secret, salt, info, 32) as Bytes,
  seal: (key, nonce, plain) => chacha20poly1305(key, nonce).encrypt(plain) as Bytes,
  open(key, nonce, sealed) {
    try {
      return chacha20poly1305(key, nonce).decrypt(sealed) as Bytes;
    } catch {
      // Too short, or the tag does not fit.
      return undefined;
    }
  },
};
