/**
 * The heads of actors' frames, packed by hand: processes are small numbers relative to the two
 * nodes of the link. What follows the head is a CBOR message.
 */
import { fromUtf8, utf8, utf8Length } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { MAX_NAME_BYTES } from "../wire/limits.ts";
import { ByteReader, writeVarint } from "../wire/varint.ts";

/** How a call ended, in a REPLY. */
export const ReplyStatus = {
  /** The payload is the result. */
  OK: 0,
  /** The payload is what the server threw. */
  THREW: 1,
  /** The payload is the reason for which there is no process any more. */
  NO_PROCESS: 2,
} as const;

const scratch = new Uint8Array(512);
// Its beginnings, by their length: a view costs more than the numbers in it.
const heads: Uint8Array[] = [];
const head = (length: number): Uint8Array => heads[length] ??= scratch.subarray(0, length);

/** Packs numbers; valid until the next call. */
export function packNumbers(...numbers: readonly number[]): Uint8Array {
  let offset = 0;
  for (const number of numbers) offset = writeVarint(scratch, offset, number);
  return head(offset);
}

// The names of this program's own calls and casts: few, and sent over and over.
const encodedNames = new Map<string, Bytes>();

/** Packs numbers and the name of a call or cast; valid until the next call. */
export function packNamed(name: string, ...numbers: readonly number[]): Uint8Array {
  let bytes = encodedNames.get(name);
  if (bytes === undefined) encodedNames.set(name, bytes = utf8(name));
  let offset = 0;
  for (const number of numbers) offset = writeVarint(scratch, offset, number);
  offset = writeVarint(scratch, offset, bytes.length);
  scratch.set(bytes, offset);
  return head(offset + bytes.length);
}

/** Whether a name fits into a frame. */
export function isName(name: string): boolean {
  return name.length > 0 && name.isWellFormed() && utf8Length(name) <= MAX_NAME_BYTES;
}

// Names that came of late, by length and first byte: few are called over and over, and a string that
// is the same one each time is found faster among a server's functions than a new one.
const SLOTS = 64;
const recent: ({ readonly bytes: Bytes; readonly name: string } | undefined)[] = new Array(SLOTS);

/** Reads a name of at most {@link MAX_NAME_BYTES}. @throws ProtocolError `bad_signal` */
export function readName(reader: ByteReader): string {
  const { bytes, offset } = reader;
  const length = bytes[offset] ?? 0;
  const slot = (length * 31 + (bytes[offset + 1] ?? 0)) % SLOTS;
  const known = recent[slot];
  if (known !== undefined && isAt(bytes, offset, known.bytes)) {
    reader.offset += known.bytes.length;
    return known.name;
  }
  try {
    const name = fromUtf8(reader.block(MAX_NAME_BYTES));
    recent[slot] = { bytes: bytes.slice(offset, reader.offset), name };
    return name;
  } catch (error) {
    throw new ProtocolError("bad_signal", "a name that is too long or no text", { cause: error });
  }
}

function isAt(bytes: Uint8Array, offset: number, expected: Uint8Array): boolean {
  for (let i = 0; i < expected.length; i++) {
    if (bytes[offset + i] !== expected[i]) return false;
  }
  return true;
}

/** A cursor over a signal. */
export function readerOf(body: Bytes): ByteReader {
  return new ByteReader(body);
}
