/**
 * New keys on disk, so that a crash at any point leaves a state that starts: first a copy of the
 * old keys, then one file with all that is new, which is what decides, then the usual files, and
 * the deciding one goes. A start that finds it finishes what it says.
 */
import { concat } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto, KeyPair } from "../base/crypto.ts";
import { ConfigError, messageOf } from "../base/errors.ts";
import type { SecretFiles } from "../base/secret_files.ts";
import type { NodeName } from "../wire/node_name.ts";
import { extendChain, isChain, lastOfChain, predecessors } from "./succession.ts";

/** Where the keys lie. */
export const SECRET_FILE = "keys/node.key";
export const PUBLIC_FILE = "keys/node.pub";
const CHAIN_FILE = "keys/succession";
const PENDING_FILE = "keys/rotation";
const SECRET_BYTES = 32;

/** A rotation that is on disk. */
export interface Rotated {
  readonly keys: KeyPair;
  /** What the node shows of its rotations; see `succession.ts`. */
  readonly chain: Bytes;
  /** The folder with the old keys, relative to the files. */
  readonly backup: string;
  /** Why the usual files do not have the new keys yet; the next start finishes that. */
  readonly unfinished: string | undefined;
}

/**
 * Makes new keys that follow `old`. When it throws, the old ones hold.
 *
 * @throws ConfigError when the files cannot be written
 */
export async function rotateKeys(
  files: SecretFiles,
  crypto: Crypto,
  old: { readonly name: NodeName; readonly keys: KeyPair; readonly chain: Bytes },
  wallMs: number,
): Promise<Rotated> {
  await finishRotation(files, crypto);
  const keys = await crypto.generateKeyPair();
  const chain = await extendChain(old.chain, old.name, old.keys, keys, wallMs, crypto);
  const backup = await freeFolder(files, wallMs);
  await files.write(`${backup}/node.key`, old.keys.secretKey);
  await files.write(`${backup}/node.pub`, old.keys.publicKey);
  if (old.chain.length > 0) await files.write(`${backup}/succession`, old.chain);
  await files.write(PENDING_FILE, concat([keys.secretKey, chain]));
  let unfinished: string | undefined;
  try {
    await finishRotation(files, crypto);
  } catch (error) {
    // It is decided: the next start would have the new keys, and so do we.
    unfinished = messageOf(error);
  }
  return { keys, chain, backup, unfinished };
}

/** Finishes a rotation that a crash has cut off. @throws ConfigError when its file is damaged */
export async function finishRotation(files: SecretFiles, crypto: Crypto): Promise<void> {
  const pending = await files.read(PENDING_FILE);
  if (pending === undefined) return;
  const chain = pending.slice(SECRET_BYTES);
  if (chain.length === 0 || !isChain(chain)) {
    throw new ConfigError(
      "dataDir",
      `${PENDING_FILE} is damaged; remove it to start with the keys in ${SECRET_FILE}, or copy ` +
        "node.key and node.pub from the newest keys/backup folder over them and remove it",
    );
  }
  const secretKey = pending.slice(0, SECRET_BYTES);
  await files.write(CHAIN_FILE, chain);
  await files.write(SECRET_FILE, secretKey);
  await files.write(PUBLIC_FILE, await crypto.publicKeyOf(secretKey));
  await files.remove(PENDING_FILE);
}

/**
 * What the node shows of its rotations: as much of the file as leads to its key and name. After a
 * backup was restored, or under a new name, that is nothing.
 */
export async function loadChain(
  files: SecretFiles,
  crypto: Crypto,
  name: NodeName,
  publicKey: Bytes,
): Promise<Bytes> {
  const stored = await files.read(CHAIN_FILE) ?? new Uint8Array(0);
  const followed = await predecessors(stored, name, publicKey, crypto);
  return lastOfChain(stored, followed.length);
}

async function freeFolder(files: SecretFiles, wallMs: number): Promise<string> {
  // Colons are no part of a file name on Windows.
  const base = `keys/backup-${new Date(wallMs).toISOString().replaceAll(":", "-")}`;
  let folder = base;
  for (let i = 2; (await files.list(folder)).length > 0; i++) folder = `${base}-${i}`;
  return folder;
}
