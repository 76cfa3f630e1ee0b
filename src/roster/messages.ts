/** What the roster writes into its store and sends to peers, packed by hand. */
import { EMPTY, fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { isChain, MAX_CHAIN_BYTES } from "../identity/succession.ts";
import { isAddress } from "../wire/address.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_NODE_NAME_BYTES } from "../wire/limits.ts";
import { nodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import { ByteReader } from "../wire/varint.ts";

/** Key of the row in which a node tells of itself. */
export const SELF_KEY = "self";
/** Key of an accusation: this and the name of the accused. */
export const ACCUSATION_PREFIX = "accuse:";

/** No node is accused that often; a liar says so, to have its accusation stand for ever. */
const MAX_INCARNATION = 2 ** 32;

/** What a node says of itself. */
export interface MemberRecord {
  readonly name: NodeName;
  /** Grows when the node refutes an accusation. */
  readonly incarnation: number;
  readonly addresses: readonly string[];
  /** It has no disk: its key ends with it. */
  readonly ephemeral: boolean;
  /** It is leaving the cluster. */
  readonly left: boolean;
  /** How it came to its key, when it has rotated it; see `identity/succession.ts`. */
  readonly successions: Bytes;
}

/**
 * On what an accusation rests: the host refused, or nothing came back for long; `forgotten`: an
 * operator said so; `suspected`: nothing has come for a while, which does not count towards a
 * verdict and only tells how many are silent.
 */
export type Evidence = "refused" | "silent" | "suspected" | "forgotten";

// Their places are their bytes on the wire.
const EVIDENCE: readonly Evidence[] = ["silent", "refused", "suspected", "forgotten"];

/** One life of a node that somebody believes to be over. */
export interface Accusation {
  readonly target: NodeName;
  readonly epoch: number;
  readonly incarnation: number;
  readonly evidence: Evidence;
}

/** What peers send each other: a request to look at a node. */
export interface ProbeRequest {
  readonly target: NodeName;
  readonly epoch: number;
}

/** The bytes of a record. */
export function encodeRecord(record: MemberRecord): Bytes {
  const writer = new ByteWriter(128);
  const hasRotated = record.successions.length > 0;
  writer.byte((record.ephemeral ? 1 : 0) | (record.left ? 2 : 0) | (hasRotated ? 4 : 0));
  writer.block(utf8(record.name));
  writer.varint(record.incarnation);
  writer.varint(record.addresses.length);
  for (const address of record.addresses) writer.block(utf8(address));
  if (hasRotated) writer.block(record.successions);
  return writer.finish();
}

/** Reads a record. @throws ProtocolError */
export function decodeRecord(bytes: Bytes): MemberRecord {
  const reader = new ByteReader(bytes);
  const flags = reader.byte();
  const name = nodeName(text(reader, MAX_NODE_NAME_BYTES));
  const incarnation = reader.varint();
  const count = reader.varint();
  if (flags > 7 || count > MAX_ADDRESSES || incarnation > MAX_INCARNATION) {
    throw malformed("a member record");
  }
  const addresses = Array.from({ length: count }, () => text(reader, MAX_ADDRESS_BYTES));
  const hasRotated = (flags & 4) !== 0;
  const successions = hasRotated ? reader.block(MAX_CHAIN_BYTES).slice() : EMPTY;
  end(reader);
  if (!isChain(successions) || hasRotated !== successions.length > 0) throw malformed("a chain");
  if (!addresses.every((address) => isAddress(address))) throw malformed("an address");
  return {
    name,
    incarnation,
    addresses,
    ephemeral: (flags & 1) !== 0,
    left: (flags & 2) !== 0,
    successions,
  };
}

/** The bytes of an accusation; the target stands in the row's key. */
export function encodeAccusation(accusation: Accusation): Bytes {
  const writer = new ByteWriter(24);
  writer.byte(EVIDENCE.indexOf(accusation.evidence));
  writer.varint(accusation.epoch);
  writer.varint(accusation.incarnation);
  return writer.finish();
}

/** Reads an accusation. @throws ProtocolError */
export function decodeAccusation(key: string, bytes: Bytes): Accusation {
  const reader = new ByteReader(bytes);
  const target = nodeName(key.slice(ACCUSATION_PREFIX.length));
  const evidence = EVIDENCE[reader.byte()];
  const epoch = reader.varint();
  const incarnation = reader.varint();
  end(reader);
  if (evidence === undefined || incarnation > MAX_INCARNATION) throw malformed("an accusation");
  return { target, epoch, incarnation, evidence };
}

/** The bytes of a request to probe. */
export function encodeProbeRequest(request: ProbeRequest): Bytes {
  const writer = new ByteWriter(64);
  writer.block(utf8(request.target));
  writer.varint(request.epoch);
  return writer.finish();
}

/** Reads a request to probe. @throws ProtocolError */
export function decodeProbeRequest(bytes: Bytes): ProbeRequest {
  const reader = new ByteReader(bytes);
  const target = nodeName(text(reader, MAX_NODE_NAME_BYTES));
  const epoch = reader.varint();
  end(reader);
  return { target, epoch };
}

/** What is wrong with a row of the roster's store, if anything. */
export function validateRow(key: string, value: Bytes): string | undefined {
  try {
    if (key === SELF_KEY) decodeRecord(value);
    else if (key.startsWith(ACCUSATION_PREFIX)) decodeAccusation(key, value);
    else return "unknown_key";
    return undefined;
  } catch {
    return "malformed";
  }
}

function text(reader: ByteReader, maxBytes: number): string {
  const bytes = reader.block(maxBytes);
  try {
    return fromUtf8(bytes);
  } catch {
    throw malformed("a text");
  }
}

function end(reader: ByteReader): void {
  if (reader.remaining > 0) throw malformed("bytes behind the end of a message");
}

function malformed(what: string): ProtocolError {
  return new ProtocolError("malformed", `${what} does not follow the protocol`);
}
