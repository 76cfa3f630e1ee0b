/**
 * Succession: the word of a key, and of the one that follows it, that a node has changed its key.
 * Signed by both: by the old key, because who has pinned it believes nobody else, and by the new
 * one, so that nobody can name a key as his successor that is not his.
 *
 * A node shows the chain of its last rotations, so that peers which were away for several of them
 * follow too. The chain travels without the keys in between: each record's new key is the old one
 * of the next, and the last one's is the node's.
 */
import { concat, equalBytes, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto, KeyPair } from "../base/crypto.ts";
import { isAcceptableKey } from "../base/ed25519_rules.ts";
import type { NodeName } from "../wire/node_name.ts";

/** Rotations that a node shows; who has pinned an older key has to pin anew. */
export const MAX_SUCCESSIONS = 8;
const KEY_BYTES = 32;
const TIME_BYTES = 8;
const SIGNATURE_BYTES = 64;
const RECORD_BYTES = KEY_BYTES + TIME_BYTES + 2 * SIGNATURE_BYTES;
/** The longest chain, bytes. */
export const MAX_CHAIN_BYTES: number = MAX_SUCCESSIONS * RECORD_BYTES;

const LABEL = utf8("barrel/1 succession");

interface Succession {
  readonly oldKey: Bytes;
  readonly newKey: Bytes;
  /** When, by the node's wall clock; decides nothing. */
  readonly time: Bytes;
  readonly byOld: Bytes;
  readonly byNew: Bytes;
}

/** Whether the bytes can be a chain; says nothing of its signatures. */
export function isChain(chain: Uint8Array): boolean {
  if (chain.length > MAX_CHAIN_BYTES || chain.length % RECORD_BYTES !== 0) return false;
  for (let at = 0; at < chain.length; at += RECORD_BYTES) {
    if (!isAcceptableKey(chain.subarray(at, at + KEY_BYTES))) return false;
  }
  return true;
}

/** Signs that `next` follows `old` as the key of `name`, and adds that to what `old` has shown. */
export async function extendChain(
  chain: Uint8Array,
  name: NodeName,
  old: KeyPair,
  next: KeyPair,
  wallMs: number,
  crypto: Crypto,
): Promise<Bytes> {
  const time = new Uint8Array(TIME_BYTES);
  new DataView(time.buffer).setBigUint64(0, BigInt(Math.floor(wallMs)));
  const message = signedMessage(name, old.publicKey, next.publicKey, time);
  const record = [
    old.publicKey,
    time,
    await crypto.sign(message, old),
    await crypto.sign(message, next),
  ];
  const kept = chain.length < MAX_CHAIN_BYTES ? chain : chain.subarray(RECORD_BYTES);
  return concat([kept, ...record]);
}

/**
 * The keys that `publicKey` has followed by the word of each, newest first: as far back as the
 * signatures are good.
 */
export async function predecessors(
  chain: Bytes,
  name: NodeName,
  publicKey: Bytes,
  crypto: Pick<Crypto, "verify">,
): Promise<Bytes[]> {
  const keys: Bytes[] = [];
  for (const { oldKey, newKey, time, byOld, byNew } of records(chain, publicKey)) {
    if (equalBytes(oldKey, publicKey) || keys.some((key) => equalBytes(key, oldKey))) break;
    const message = signedMessage(name, oldKey, newKey, time);
    if (!await crypto.verify(byOld, message, oldKey)) break;
    if (!await crypto.verify(byNew, message, newKey)) break;
    keys.push(oldKey);
  }
  return keys;
}

/** The end of a chain with this many records. */
export function lastOfChain(chain: Bytes, count: number): Bytes {
  return chain.slice(chain.length - count * RECORD_BYTES);
}

// Newest first.
function* records(chain: Bytes, publicKey: Bytes): Generator<Succession> {
  if (!isChain(chain)) return;
  let newKey = publicKey;
  for (let end = chain.length; end > 0; end -= RECORD_BYTES) {
    const record = chain.slice(end - RECORD_BYTES, end);
    const oldKey = record.slice(0, KEY_BYTES);
    const signatures = record.subarray(KEY_BYTES + TIME_BYTES);
    yield {
      oldKey,
      newKey,
      time: record.slice(KEY_BYTES, KEY_BYTES + TIME_BYTES),
      byOld: signatures.slice(0, SIGNATURE_BYTES),
      byNew: signatures.slice(SIGNATURE_BYTES),
    };
    newKey = oldKey;
  }
}

function signedMessage(name: NodeName, oldKey: Bytes, newKey: Bytes, time: Bytes): Bytes {
  const text = utf8(name);
  return concat([LABEL, Uint8Array.of(text.length), text, oldKey, newKey, time]);
}
