import { concat, EMPTY } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { Ring } from "../base/ring.ts";

/**
 * Cuts a byte stream into frames, `varint length | type byte | body`, without copying the frames
 * that lie whole in one chunk. Call `push` with each chunk, then `next` until it says `false`.
 */
export class FrameReader {
  /** Type byte of the frame that `next` found. */
  type = 0;
  /** Body of the frame that `next` found; it belongs to the caller. */
  body: Bytes = EMPTY;
  /** Length of the largest frame accepted, type byte included. */
  maxFrameBytes: number;

  #chunk: Bytes = EMPTY;
  #offset = 0;
  readonly #more = new Ring<Bytes>();
  #unread = 0;
  // The frame being gathered from several chunks, and the length being gathered before it.
  #frame: Bytes | undefined;
  #filled = 0;
  #length = 0;
  #lengthBytes = 0;

  constructor(maxFrameBytes: number) {
    this.maxFrameBytes = maxFrameBytes;
  }

  /** Bytes that were pushed and not yet looked at. */
  get unread(): number {
    return this.#unread + this.#chunk.length - this.#offset;
  }

  /** Adds a chunk; it belongs to the reader from now on. */
  push(chunk: Bytes): void {
    if (this.#offset === this.#chunk.length) {
      this.#chunk = chunk;
      this.#offset = 0;
    } else {
      this.#more.push(chunk);
      this.#unread += chunk.length;
    }
  }

  /** Gives back what `next` has not looked at. Not in the middle of a frame. */
  takeUnread(): Bytes {
    const chunks = [this.#chunk.subarray(this.#offset)];
    for (let more = this.#more.shift(); more !== undefined; more = this.#more.shift()) {
      chunks.push(more);
    }
    this.#unread = 0;
    this.#chunk = EMPTY;
    this.#offset = 0;
    return concat(chunks);
  }

  /**
   * Finds the next whole frame and puts it into `type` and `body`; `false` when more bytes are
   * needed.
   *
   * @throws ProtocolError `frame_size`
   */
  next(): boolean {
    for (;;) {
      if (this.#offset === this.#chunk.length && !this.#advance()) return false;
      if (this.#frame !== undefined) {
        if (this.#gather(this.#frame)) return true;
        continue;
      }
      if (!this.#readLength()) continue;
      const length = this.#length;
      this.#length = 0;
      this.#lengthBytes = 0;
      const end = this.#offset + length;
      if (end <= this.#chunk.length) {
        this.type = this.#chunk[this.#offset] as number;
        this.body = this.#chunk.subarray(this.#offset + 1, end);
        this.#offset = end;
        return true;
      }
      this.#frame = new Uint8Array(length);
      this.#filled = 0;
    }
  }

  #advance(): boolean {
    const chunk = this.#more.shift();
    if (chunk === undefined) return false;
    this.#unread -= chunk.length;
    this.#chunk = chunk;
    this.#offset = 0;
    return chunk.length > 0 || this.#advance();
  }

  #gather(frame: Bytes): boolean {
    const end = Math.min(this.#chunk.length, this.#offset + frame.length - this.#filled);
    frame.set(this.#chunk.subarray(this.#offset, end), this.#filled);
    this.#filled += end - this.#offset;
    this.#offset = end;
    if (this.#filled < frame.length) return false;
    this.type = frame[0] as number;
    this.body = frame.subarray(1);
    this.#frame = undefined;
    return true;
  }

  #readLength(): boolean {
    while (this.#offset < this.#chunk.length) {
      const byte = this.#chunk[this.#offset++] as number;
      // Four bytes are 2^28 and more than any frame: what would overflow is refused before.
      if (this.#lengthBytes === 4) {
        throw new ProtocolError("frame_size", "a frame's length never ends");
      }
      this.#length |= (byte & 0x7f) << (7 * this.#lengthBytes++);
      if (byte >= 0x80) continue;
      if (this.#length === 0 || this.#length > this.maxFrameBytes) {
        throw new ProtocolError(
          "frame_size",
          `a frame of ${this.#length} bytes, where 1 to ${this.maxFrameBytes} are allowed`,
        );
      }
      return true;
    }
    return false;
  }
}
