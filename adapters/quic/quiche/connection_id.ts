import type { Bytes } from "../../../src/base/bytes.ts";
import type { Random } from "../../../src/base/random.ts";

/** Our connection ids, bytes. */
export const ID_BYTES = 8;
/** Where the id of the destination begins behind a short and a long header (RFC 9000 §17). */
export const SHORT_ID_AT = 1;
export const LONG_ID_AT = 6;
/** The longest id of anybody (RFC 9000 §17.2). */
const MAX_ID_BYTES = 20;

/** A fresh connection id of ours. */
export function newConnectionId(random: Random): Bytes {
  return random.bytes(ID_BYTES);
}

/**
 * The first 48 bits of the id at `offset`, a number: packets are many, and strings that are put
 * together to look a connection up show in a profile.
 */
export function keyAt(bytes: Uint8Array, offset: number): number {
  const high = ((bytes[offset] as number) << 24) | ((bytes[offset + 1] as number) << 16) |
    ((bytes[offset + 2] as number) << 8) | (bytes[offset + 3] as number);
  const low = ((bytes[offset + 4] as number) << 8) | (bytes[offset + 5] as number);
  return (high >>> 0) * 65_536 + low;
}

/** Whether a packet that is not empty has a long header. */
export function isLong(packet: Uint8Array): boolean {
  return ((packet[0] as number) & 0x80) !== 0;
}

/** How long the destination's id in a long header is; -1 when this cannot be a packet of QUIC. */
export function longIdBytes(packet: Uint8Array): number {
  const length = packet[LONG_ID_AT - 1] ?? MAX_ID_BYTES + 1;
  return length > MAX_ID_BYTES || packet.length < LONG_ID_AT + length ? -1 : length;
}
