/**
 * Peer records: a node's signed word about itself, passed on by others as it came. A record says
 * where a node claims to be reached and which of its lives it means; it never pins a key.
 *
 * ```
 * name block | public key (32) | epoch varint | incarnation varint | count | address blocks | signature (64)
 * ```
 *
 * There is one spelling of each record, and the signature covers a label and all bytes before it.
 */
import { concat, fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto, KeyPair } from "../base/crypto.ts";
import { isAcceptableKey, isAcceptableSignature } from "../base/ed25519_rules.ts";
import { ProtocolError } from "../base/errors.ts";
import { isAddress } from "../wire/address.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import {
  MAX_ADDRESS_BYTES,
  MAX_ADDRESSES,
  MAX_NODE_NAME_BYTES,
  MAX_RECORD_BYTES,
} from "../wire/limits.ts";
import { isNodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import { ByteReader } from "../wire/varint.ts";

/** What a node says of itself. */
export interface PeerRecord {
  readonly name: NodeName;
  readonly publicKey: Bytes;
  /** Which life of the node: strictly growing with each start. */
  readonly epoch: number;
  /** Grows within a life when the node refutes a suspicion or changes its addresses. */
  readonly incarnation: number;
  /** URLs, best first; none when it only dials. */
  readonly addresses: readonly string[];
}

/** A record as it travels. Nothing in it is true before its signature has been verified. */
export interface SignedRecord extends PeerRecord {
  /** What the signature covers. */
  readonly message: Bytes;
  readonly signature: Bytes;
}

/** Verifies records; one verdict a record, kept for when it comes by again. */
export interface RecordVerifier {
  /** Whether the node with the record's key signed it. Never rejects. */
  verify(record: SignedRecord): Promise<boolean>;
}

const LABEL = utf8("barrel/1 peer record");
const KEY_BYTES = 32;
const SIGNATURE_BYTES = 64;

/**
 * The record of this node, signed: the bytes that travel.
 *
 * @throws ProtocolError `bad_record` for what no peer would accept, such as nine addresses
 */
export async function signRecord(
  record: Omit<PeerRecord, "publicKey">,
  keys: KeyPair,
  crypto: Pick<Crypto, "sign">,
): Promise<Bytes> {
  const body = encodeBody({ ...record, publicKey: keys.publicKey });
  const bytes = concat([body, await crypto.sign(concat([LABEL, body]), keys)]);
  // What we say must be what others read.
  decodeRecord(bytes);
  return bytes;
}

/**
 * Reads a record; its signature is not looked at yet.
 *
 * @throws ProtocolError `bad_record`, `truncated`, `too_long`, `bad_varint`
 */
export function decodeRecord(bytes: Bytes): SignedRecord {
  if (bytes.length > MAX_RECORD_BYTES) throw bad(`${bytes.length} bytes`);
  const reader = new ByteReader(bytes);
  const name = text(reader.block(MAX_NODE_NAME_BYTES));
  if (!isNodeName(name)) throw bad("a name that is none");
  const publicKey = reader.take(KEY_BYTES).slice();
  if (!isAcceptableKey(publicKey)) throw bad("a key that is none");
  const epoch = reader.varint();
  const incarnation = reader.varint();
  const count = reader.byte();
  if (count > MAX_ADDRESSES) throw bad(`${count} addresses`);
  const addresses: string[] = [];
  for (let i = 0; i < count; i++) {
    const address = text(reader.block(MAX_ADDRESS_BYTES));
    if (!isAddress(address)) throw bad("an address that is none");
    addresses.push(address);
  }
  const message = concat([LABEL, bytes.subarray(0, reader.offset)]);
  const signature = reader.take(SIGNATURE_BYTES).slice();
  if (!isAcceptableSignature(signature)) throw bad("a signature that can be none");
  if (reader.remaining > 0) throw bad("bytes behind the end");
  return { name, publicKey, epoch, incarnation, addresses, message, signature };
}

/** A verifier that remembers the verdicts on the last `capacity` records. */
export function recordVerifier(
  crypto: Pick<Crypto, "sha256" | "verify">,
  capacity = 4096,
): RecordVerifier {
  const verdicts = new Map<string, Promise<boolean>>();
  return {
    verify({ message, signature, publicKey }) {
      const id = String.fromCharCode(...crypto.sha256(concat([message, signature])));
      let verdict = verdicts.get(id);
      if (verdict === undefined) {
        verdict = crypto.verify(signature, message, publicKey);
        const oldest = verdicts.keys().next().value;
        if (verdicts.size >= capacity && oldest !== undefined) verdicts.delete(oldest);
      } else verdicts.delete(id);
      // Last used, last dropped.
      verdicts.set(id, verdict);
      return verdict;
    },
  };
}

function encodeBody(record: PeerRecord): Bytes {
  const writer = new ByteWriter(256);
  writer.block(utf8(record.name));
  writer.raw(record.publicKey);
  writer.varint(record.epoch);
  writer.varint(record.incarnation);
  writer.byte(record.addresses.length);
  for (const address of record.addresses) writer.block(utf8(address));
  return writer.finish();
}

function text(bytes: Bytes): string {
  try {
    return fromUtf8(bytes);
  } catch {
    throw bad("text that is not UTF-8");
  }
}

function bad(what: string): ProtocolError {
  return new ProtocolError("bad_record", `a peer record with ${what}`);
}
