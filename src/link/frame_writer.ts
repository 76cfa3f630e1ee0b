import type { Bytes } from "../base/bytes.ts";
import { varintLength, writeVarint } from "../wire/varint.ts";

const SMALLEST = 512;
const LARGEST = 64 * 1024;

/** The bytes that a frame with a body of `bodyBytes` takes on the pipe. */
export function frameBytes(bodyBytes: number): number {
  return varintLength(bodyBytes + 1) + 1 + bodyBytes;
}

/**
 * Packs frames into buffers that are handed to the pipe whole: each body is copied once. The
 * size of the next buffer follows what the last turns needed.
 */
export class FrameWriter {
  #full: Bytes[] = [];
  #buffer: Bytes | undefined;
  #used = 0;
  #guess = SMALLEST;
  #bytes = 0;

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

  /** Takes the buffers out, in order. */
  take(): Bytes[] {
    this.#guess = Math.min(LARGEST, Math.max(SMALLEST, 2 ** Math.ceil(Math.log2(this.#bytes + 1))));
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
