import { compareBytes, concat, equalBytes, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto } from "../base/crypto.ts";
import { syncHashes } from "../base/noble_crypto.ts";
import { sealing } from "../base/sealing.ts";
import type { Random } from "../base/random.ts";

/**
 * A stand-in for signatures inside simulations: deterministic, settled at once and a hundred times
 * faster, and **without any security**: whoever knows a public key can sign for it.
 */
export function fastCrypto(random: Random): Crypto {
  const { sha256 } = syncHashes;
  const publicKeyOf = (secretKey: Uint8Array): Bytes => {
    const key = sha256(concat([utf8("public"), secretKey]));
    // A canonical encoding, as real keys have.
    key[31] = (key[31] as number) & 0x3f;
    return key;
  };
  const signature = (message: Uint8Array, publicKey: Uint8Array): Bytes => {
    const half = sha256(concat([publicKey, message]));
    return concat([half, half]);
  };
  return {
    ...syncHashes,
    ...sealing,
    generateKeyPair() {
      const secretKey = random.bytes(32);
      return Promise.resolve({ secretKey, publicKey: publicKeyOf(secretKey) });
    },
    publicKeyOf: (secretKey) => Promise.resolve(publicKeyOf(secretKey)),
    sign: (message, keys) => Promise.resolve(signature(message, keys.publicKey)),
    verify: (given, message, publicKey) =>
      Promise.resolve(equalBytes(given, signature(message, publicKey))),
    newAgreement() {
      const publicKey = publicKeyOf(random.bytes(32));
      const agree = (other: Uint8Array) =>
        Promise.resolve(
          sha256(
            concat(compareBytes(publicKey, other) < 0 ? [publicKey, other] : [other, publicKey]),
          ),
        );
      return Promise.resolve({ publicKey, agree });
    },
  };
}
