import { concat } from "../../src/base/bytes.ts";

/** Bytes that a pipe queues before `write` says to wait. */
export const WRITE_LIMIT: number = 256 * 1024;
/** Waiting chunks are joined up to this size before they go to the stack. */
const JOINED_BYTES = 64 * 1024;

/** Chunks that wait for the stack, in order. */
export class Outgoing {
  #chunks: Uint8Array[] = [];
  #next = 0;
  /** Bytes that wait. */
  bytes = 0;

  /** Adds a chunk at the end. */
  push(chunk: Uint8Array): void {
    this.#chunks.push(chunk);
    this.bytes += chunk.length;
  }

  /** Takes the next bytes: one chunk, or several small ones joined; `undefined` when empty. */
  take(): Uint8Array | undefined {
    const first = this.#chunks[this.#next];
    if (first === undefined) return undefined;
    let end = this.#next + 1;
    let size = first.length;
    for (; end < this.#chunks.length; end++) {
      size += (this.#chunks[end] as Uint8Array).length;
      if (size > JOINED_BYTES) break;
    }
    const taken = end - this.#next === 1 ? first : concat(this.#chunks.slice(this.#next, end));
    this.#next = end;
    if (this.#next === this.#chunks.length) {
      this.#chunks = [];
      this.#next = 0;
    } else if (this.#next >= 1024) {
      this.#chunks = this.#chunks.slice(this.#next);
      this.#next = 0;
    }
    this.bytes -= taken.length;
    return taken;
  }

  /** Drops everything. */
  clear(): void {
    this.#chunks = [];
    this.#next = 0;
    this.bytes = 0;
  }
}
