import type { Bytes } from "../base/bytes.ts";
import { varintLength, writeVarint } from "./varint.ts";

/** Packs a message by hand into a growing buffer: the other side of `ByteReader`. */
export class ByteWriter {
  #buffer: Bytes;
  #length = 0;

  /** `sizeHint`: bytes to start with; a good guess saves the growing. */
  constructor(sizeHint = 64) {
    this.#buffer = new Uint8Array(sizeHint);
  }

  /** Bytes written so far. */
  get length(): number {
    return this.#length;
  }

  /** One byte. */
  byte(value: number): void {
    this.#room(1);
    this.#buffer[this.#length++] = value;
  }

  /** An integer from 0 to 2^53 − 1. */
  varint(value: number): void {
    this.#room(varintLength(value));
    this.#length = writeVarint(this.#buffer, this.#length, value);
  }

  /** Bytes as they are. */
  raw(bytes: Uint8Array): void {
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** A varint length and that many bytes: what `ByteReader.block` reads. */
  block(bytes: Uint8Array): void {
    this.varint(bytes.length);
    this.raw(bytes);
  }

  /** What was written. The writer must not be used afterwards. */
  finish(): Bytes {
    return this.#buffer.subarray(0, this.#length);
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) return;
    const bigger = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    bigger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = bigger;
  }
}
