import { EMPTY, fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import type { ByteWriter } from "../wire/byte_writer.ts";
import { MAX_ADDRESS_BYTES, MAX_ADDRESSES, MAX_NODE_NAME_BYTES } from "../wire/limits.ts";
import { nodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { ByteReader } from "../wire/varint.ts";

/** A signed peer record inside an entry, in bytes. */
export const MAX_RECORD_BYTES: number = 2048;

/** A node that a link has authenticated: one life of it. A `PeerIdentity` is one. */
export interface Peer {
  readonly name: NodeName;
  readonly epoch: number;
  /** URLs, best first. */
  readonly addresses: readonly string[];
}

/** What nodes tell each other about third ones: hearsay until a link has proved it. */
export interface PeerEntry extends Peer {
  /** The peer's signed record, opaque here and passed on as it came; empty when there is none. */
  readonly record: Bytes;
}

/** An entry for `peer` with `record`, if there is one. */
export function entryOf(peer: Peer, record: Bytes = EMPTY): PeerEntry {
  return { name: peer.name, epoch: peer.epoch, addresses: peer.addresses, record };
}

/** Appends an entry. */
export function writeEntry(into: ByteWriter, entry: PeerEntry): void {
  into.block(utf8(entry.name));
  into.varint(entry.epoch);
  into.byte(entry.addresses.length);
  for (const address of entry.addresses) into.block(utf8(address));
  into.block(entry.record);
}

const URL_START = /^[a-z][a-z0-9+.-]*:\/\/[^\s]+$/;

/**
 * Reads what {@link writeEntry} wrote.
 *
 * @throws ProtocolError `truncated`, `too_long`, `bad_node_name`, `bad_text`, `bad_address`
 */
export function readEntry(from: ByteReader): PeerEntry {
  const name = nodeName(text(from.block(MAX_NODE_NAME_BYTES)));
  const epoch = from.varint();
  const count = from.byte();
  if (count > MAX_ADDRESSES) throw new ProtocolError("too_long", `an entry of ${count} addresses`);
  const addresses: string[] = [];
  for (let i = 0; i < count; i++) {
    const address = text(from.block(MAX_ADDRESS_BYTES));
    if (!URL_START.test(address)) throw new ProtocolError("bad_address", "an address is no URL");
    addresses.push(address);
  }
  return { name, epoch, addresses, record: readRecord(from) };
}

/** Reads a record: a block of its own, so that it does not keep the whole frame alive. */
export function readRecord(from: ByteReader): Bytes {
  const record = from.block(MAX_RECORD_BYTES);
  return record.length === 0 ? EMPTY : record.slice();
}

function text(bytes: Bytes): string {
  try {
    return fromUtf8(bytes);
  } catch {
    throw new ProtocolError("bad_text", "a text is not valid UTF-8");
  }
}
