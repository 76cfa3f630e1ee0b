import { EMPTY } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { varintLength, writeVarint } from "../wire/varint.ts";

const SMALLEST = 512;
const LARGEST = 64 * 1024;
/** Frames from here on get a buffer of their own where that is asked for. */
const ALONE_BYTES = 16 * 1024;
/**
 * Room before what fills a buffer of its own. Copying to an address that lies up to 15 bytes behind that of the
 * source, modulo 4,096, takes Bun sixteen times as long, and whole buffers begin at a page.
 */
export const LEAD_BYTES = 64;
/** Small writes of all pipes are cut from buffers of this size: one of its own costs a microsecond. */
const SLAB_BYTES = 16 * 1024;

let slab: Bytes = new Uint8Array(0);
let slabUsed = 0;

/** The bytes that a frame with a body of `bodyBytes` takes on the pipe. */
export function frameBytes(bodyBytes: number): number {
  return varintLength(bodyBytes + 1) + 1 + bodyBytes;
}

/**
 * Packs frames into buffers that are handed to the pipe whole: each body is copied once, or twice
 * where little is written. The size of the next buffer follows what the last turns needed.
 */
export class FrameWriter {
  #full: Bytes[] = [];
  #buffer: Bytes | undefined;
  #used = 0;
  #guess = SMALLEST;
  #bytes = 0;
  // Of those, the ones that take no room in a buffer of ours.
  #appended = 0;

  /** Bytes written and not yet taken. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends one frame, whose body is `head` then `payload`; both are copied. */
  write(type: number, head: Uint8Array, payload: Uint8Array): void {
    const length = 1 + head.length + payload.length;
    const total = varintLength(length) + length;
    let buffer = this.#buffer;
    if (buffer === undefined || buffer.length - this.#used < total) {
      this.#retire();
      buffer = new Uint8Array(Math.max(total, this.#guess));
      this.#buffer = buffer;
    }
    let offset = writeVarint(buffer, this.#used, length);
    buffer[offset++] = type;
    buffer.set(head, offset);
    offset += head.length;
    buffer.set(payload, offset);
    this.#used = offset + payload.length;
    this.#bytes += total;
  }

  /** Appends one frame; a large one gets a buffer that it fills. Copies `payload`. */
  writeAlone(type: number, payload: Uint8Array): void {
    if (payload.length < ALONE_BYTES) return this.write(type, EMPTY, payload);
    const head = varintLength(1 + payload.length) + 1;
    const buffer = new Uint8Array(LEAD_BYTES + payload.length);
    const start = LEAD_BYTES - head;
    buffer[writeVarint(buffer, start, 1 + payload.length)] = type;
    buffer.set(payload, LEAD_BYTES);
    this.#retire();
    this.#full.push(buffer.subarray(start));
    this.#bytes += head + payload.length;
  }

  /** Appends whole frames without copying them: they belong to the writer from now on. */
  append(frames: Bytes): void {
    this.#retire();
    const last = this.#full.at(-1);
    const isNext = last !== undefined && last.buffer === frames.buffer &&
      last.byteOffset + last.length === frames.byteOffset;
    if (isNext) {
      const joined = new Uint8Array(frames.buffer, last.byteOffset, last.length + frames.length);
      this.#full[this.#full.length - 1] = joined;
    } else this.#full.push(frames);
    this.#bytes += frames.length;
    this.#appended += frames.length;
  }

  /** Takes the buffers out, in order. */
  take(): Bytes[] {
    if (this.#full.length === 0 && this.#used > 0 && this.#buffer?.length === SMALLEST) {
      const small = copyToSlab(this.#buffer.subarray(0, this.#used));
      this.#used = 0;
      this.#bytes = 0;
      return [small];
    }
    const copied = this.#bytes - this.#appended;
    this.#guess = Math.min(LARGEST, Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(copied + 1))));
    this.#appended = 0;
    this.#retire();
    const buffers = this.#full;
    this.#full = [];
    this.#bytes = 0;
    return buffers;
  }

  #retire(): void {
    if (this.#buffer !== undefined && this.#used > 0) {
      this.#full.push(this.#buffer.subarray(0, this.#used));
    }
    this.#buffer = undefined;
    this.#used = 0;
  }
}

function copyToSlab(bytes: Bytes): Bytes {
  if (slab.length - slabUsed < bytes.length) {
    slab = new Uint8Array(SLAB_BYTES);
    slabUsed = 0;
  }
  const copy = slab.subarray(slabUsed, slabUsed + bytes.length);
  slabUsed += bytes.length;
  copy.set(bytes);
  return copy;
}
