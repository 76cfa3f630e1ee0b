import { concat, EMPTY } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { Ring } from "../base/ring.ts";

/** Frames of the copied type up to this size are gathered in buffers that all pipes share, bytes. */
const SPARE_BYTES = 17 * 1024;
const MAX_SPARES = 32;
const spares: Bytes[] = [];

/**
 * Cuts a byte stream into frames, `varint length | type byte | body`, without copying the frames
 * that lie whole in one chunk. Call `push` with each chunk, then `next` until it says `false`.
 */
export class FrameReader {
  /** Type byte of the frame that `next` found. */
  type = 0;
  /** Body of the frame that `next` found; it belongs to the caller, but for those of `copiedType`. */
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

  // The buffer of the last body, if all pipes share it.
  #spare: Bytes | undefined;
  readonly #copiedType: number;
  #isKept = false;

  /** `copiedType`: bodies of frames of this type are copied at once, and valid until the next `next`. */
  constructor(maxFrameBytes: number, copiedType = -1) {
    this.maxFrameBytes = maxFrameBytes;
    this.#copiedType = copiedType;
  }

  /** Bytes that were pushed and not yet looked at. */
  get unread(): number {
    return this.#unread + this.#chunk.length - this.#offset;
  }

  /**
   * Whether nothing is read any more of the chunks pushed since the last call, neither here nor by who
   * got a body: their memory may be used again.
   */
  release(): boolean {
    const isKept = this.#isKept || this.unread > 0;
    this.#isKept = false;
    return !isKept;
  }

  /** Adds a chunk; it belongs to the reader from now on, until `release` says that it is free. */
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
    if (this.#spare !== undefined && this.#frame === undefined) this.#giveBack(this.#spare);
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
        if (this.type !== this.#copiedType) this.#isKept = true;
        this.#offset = end;
        return true;
      }
      this.#frame = this.#chunk[this.#offset] === this.#copiedType && length <= SPARE_BYTES
        ? this.#borrow().subarray(0, length)
        : new Uint8Array(length);
      this.#filled = 0;
    }
  }

  #borrow(): Bytes {
    return this.#spare = spares.pop() ?? new Uint8Array(SPARE_BYTES);
  }

  #giveBack(spare: Bytes): void {
    this.#spare = undefined;
    this.body = EMPTY;
    if (spares.length < MAX_SPARES) spares.push(spare);
  }

  #advance(): boolean {
    const chunk = this.#more.shift();
    if (chunk === undefined) {
      // A pipe at rest holds none, and who takes its memory back may detach it.
      this.#chunk = EMPTY;
      this.#offset = 0;
      return false;
    }
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
