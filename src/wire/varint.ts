/**
 * Unsigned LEB128 as used in frame headers and hand-packed messages: seven bits a byte, least
 * significant first, at most eight bytes (2^53 − 1), shortest form only.
 */
import { ProtocolError } from "../base/errors.ts";

/** The largest value that travels as a varint. */
const MAX_VARINT: number = Number.MAX_SAFE_INTEGER;

/** How many bytes `value` takes. */
export function varintLength(value: number): number {
  let length = 1;
  while (value >= 0x80) {
    value = Math.floor(value / 0x80);
    length++;
  }
  return length;
}

/** Writes `value` at `offset`; returns the offset behind it. The room must be there. */
export function writeVarint(into: Uint8Array, offset: number, value: number): number {
  while (value >= 0x80) {
    into[offset++] = (value % 0x80) | 0x80;
    value = Math.floor(value / 0x80);
  }
  into[offset++] = value;
  return offset;
}

/** A cursor over received bytes. Every read checks the bounds. */
export class ByteReader {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where the next read starts. */
  offset: number;

  constructor(bytes: Uint8Array<ArrayBuffer>, offset = 0) {
    this.bytes = bytes;
    this.offset = offset;
  }

  /** Bytes not read yet. */
  get remaining(): number {
    return this.bytes.length - this.offset;
  }

  /** @throws ProtocolError `truncated` */
  byte(): number {
    const value = this.bytes[this.offset];
    if (value === undefined) throw new ProtocolError("truncated", "the message ends early");
    this.offset++;
    return value;
  }

  /** @throws ProtocolError `truncated`, `bad_varint` */
  varint(): number {
    let value = 0;
    let scale = 1;
    for (let i = 0; i < 8; i++) {
      const byte = this.byte();
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) {
        if ((byte === 0 && i > 0) || value > MAX_VARINT) break;
        return value;
      }
      scale *= 0x80;
    }
    throw new ProtocolError("bad_varint", "a number is not in its shortest form");
  }

  /** A view of the next `length` bytes. @throws ProtocolError `truncated` */
  take(length: number): Uint8Array<ArrayBuffer> {
    if (length > this.remaining) throw new ProtocolError("truncated", "the message ends early");
    const view = this.bytes.subarray(this.offset, this.offset + length);
    this.offset += length;
    return view;
  }

  /** A varint length, capped, and that many bytes. @throws ProtocolError `truncated`, `too_long` */
  block(maxBytes: number): Uint8Array<ArrayBuffer> {
    const length = this.varint();
    if (length > maxBytes) throw new ProtocolError("too_long", `a field of ${length} bytes`);
    return this.take(length);
  }

  /** Everything that is left. */
  rest(): Uint8Array<ArrayBuffer> {
    return this.take(this.remaining);
  }
}
