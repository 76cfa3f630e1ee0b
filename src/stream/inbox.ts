import type { Bytes } from "../base/bytes.ts";
import { Ring } from "../base/ring.ts";
import { frameBytes } from "../link/frame_writer.ts";

/** Bodies below this are gathered: each by itself would cost more memory than its bytes. */
const SMALL_BYTES = 2 * 1024;
/** Small bodies are gathered in buffers of this size. */
const GATHERED_BYTES = 16 * 1024;

/** Bytes for a reader, and what they took on the pipe. */
export interface Chunk {
  readonly body: Bytes;
  /** What to grant the peer once the reader has them. */
  readonly credit: number;
}

/**
 * Bodies of DATA frames that wait for the reader, in order. What it holds is bounded by the credit of
 * the pipe: small bodies are gathered, and none keeps a much larger buffer alive.
 */
export class Inbox {
  readonly #chunks = new Ring<Chunk>();
  #gathering: Bytes | undefined;
  #gathered = 0;
  #credit = 0;

  /** Whether nothing waits. */
  get isEmpty(): boolean {
    return this.#chunks.length === 0 && this.#gathering === undefined;
  }

  /** Adds a body at the end; it belongs to the inbox from now on. */
  push(body: Bytes): void {
    if (body.length < SMALL_BYTES) return this.#gather(body);
    this.#seal();
    const isMostly = body.length * 2 >= body.buffer.byteLength;
    this.#chunks.push({ body: isMostly ? body : body.slice(), credit: frameBytes(body.length) });
  }

  /** Takes the first bytes, or `undefined` when nothing waits. */
  shift(): Chunk | undefined {
    if (this.#chunks.length === 0) this.#seal();
    return this.#chunks.shift();
  }

  /** Drops everything; returns the credit that it took. */
  clear(): number {
    let credit = 0;
    for (let chunk = this.shift(); chunk !== undefined; chunk = this.shift()) {
      credit += chunk.credit;
    }
    return credit;
  }

  #gather(body: Bytes): void {
    if (this.#gathering === undefined || this.#gathered + body.length > this.#gathering.length) {
      this.#seal();
      this.#gathering = new Uint8Array(GATHERED_BYTES);
    }
    this.#gathering.set(body, this.#gathered);
    this.#gathered += body.length;
    this.#credit += frameBytes(body.length);
  }

  #seal(): void {
    if (this.#gathering === undefined) return;
    const body = this.#gathering.subarray(0, this.#gathered);
    // A short one, handed on alone, is no reason to keep a long buffer.
    const isMostly = body.length * 2 >= GATHERED_BYTES;
    this.#chunks.push({ body: isMostly ? body : body.slice(), credit: this.#credit });
    this.#gathering = undefined;
    this.#gathered = 0;
    this.#credit = 0;
  }
}
