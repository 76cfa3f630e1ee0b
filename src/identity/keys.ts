import { encodeHex } from "@std/encoding/hex";
import { equalBytes, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Crypto, KeyPair } from "../base/crypto.ts";
import { ConfigError } from "../base/errors.ts";
import type { SecretFiles } from "../base/secret_files.ts";
import { finishRotation, PUBLIC_FILE, SECRET_FILE } from "./rotation.ts";

const EPOCH_FILE = "keys/epoch";

/**
 * The node's keys: read from `keys/node.key` and `keys/node.pub` (32 raw bytes each), or made at
 * the first start.
 *
 * @throws ConfigError when the files are damaged or do not belong together
 */
export async function loadKeys(files: SecretFiles, crypto: Crypto): Promise<KeyPair> {
  await finishRotation(files, crypto);
  const secretKey = await files.read(SECRET_FILE);
  const stored = await files.read(PUBLIC_FILE);
  if (secretKey === undefined) {
    if (stored !== undefined) {
      throw damaged(`${PUBLIC_FILE} is there but ${SECRET_FILE} is missing`);
    }
    const keys = await crypto.generateKeyPair();
    await files.write(SECRET_FILE, keys.secretKey);
    await files.write(PUBLIC_FILE, keys.publicKey);
    return keys;
  }
  if (secretKey.length !== 32) {
    throw damaged(`${SECRET_FILE} has ${secretKey.length} bytes instead of 32`);
  }
  const publicKey = await crypto.publicKeyOf(secretKey);
  // A crash between the two writes of a first start leaves the secret alone.
  if (stored === undefined) await files.write(PUBLIC_FILE, publicKey);
  else if (!equalBytes(stored, publicKey)) {
    throw damaged(`${PUBLIC_FILE} is not the public key of ${SECRET_FILE}`);
  }
  return { secretKey, publicKey };
}

/**
 * A number that tells this life of the node from earlier ones: at least the wall clock's
 * milliseconds, always more than the stored one, and never 0.
 *
 * @throws ConfigError when the stored one is damaged
 */
export async function nextEpoch(files: SecretFiles, clock: Clock): Promise<number> {
  const stored = await files.read(EPOCH_FILE);
  const last = stored === undefined ? 0 : readEpoch(stored);
  const epoch = Math.max(last + 1, Math.floor(clock.wall()));
  await files.write(EPOCH_FILE, utf8(String(epoch)));
  return epoch;
}

function readEpoch(stored: Bytes): number {
  // One character a byte: damaged bytes need not be text.
  const text = String.fromCharCode(...stored.subarray(0, 17));
  // Less than the largest, so that there is a next one.
  if (!/^\d{1,16}$/.test(text) || Number(text) >= Number.MAX_SAFE_INTEGER) {
    throw damaged(`${EPOCH_FILE} does not hold a number`);
  }
  return Number(text);
}

/** SHA-256 of a public key in hexadecimal: what people compare. */
export function fingerprint(publicKey: Uint8Array, crypto: Crypto): string {
  return encodeHex(crypto.sha256(publicKey));
}

function damaged(what: string): ConfigError {
  return new ConfigError(
    "dataDir",
    `${what}; restore the keys folder from a backup, or remove it to start as a new node ` +
      "(its peers must then forget the old key)",
  );
}
