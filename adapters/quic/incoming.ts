import type { Bytes } from "../../src/base/bytes.ts";
import { SPENT } from "../../src/transport/contract.ts";

/**
 * The receiving half of a pipe: holds chunks back until `onData` is set, which the contract lets
 * happen a moment after the pipe is handed over.
 */
export class Incoming {
  /** See `Pipe.onEnd`. */
  onEnd: ((clean: boolean) => void) | undefined;
  #onData: ((chunk: Bytes) => unknown) | undefined;
  #early: Bytes[] = [];
  #end: boolean | undefined;
  #live = false;

  /** See `Pipe.onData`. */
  get onData(): ((chunk: Bytes) => unknown) | undefined {
    return this.#onData;
  }
  set onData(handler: ((chunk: Bytes) => unknown) | undefined) {
    this.#onData = handler;
    // The other handlers are set in the same turn: what waits comes behind it.
    if (handler !== undefined && !this.#live) queueMicrotask(() => this.#start());
  }

  /** Whether chunks are held back. */
  protected get isHolding(): boolean {
    return this.#early.length > 0;
  }

  /** Called when what was held back has been handed over. */
  protected caughtUp(): void {}

  /** Hands one chunk over, or keeps it until somebody listens; whether its memory is free again. */
  protected deliver(chunk: Bytes): boolean {
    if (this.#live) return this.#onData?.(chunk) === SPENT;
    this.#early.push(chunk);
    return false;
  }

  /** Tells that the peer's direction is over; `clean` is the stack's opinion. */
  protected deliverEnd(clean: boolean): void {
    if (this.#end !== undefined) return;
    this.#end = clean;
    if (this.#live) this.onEnd?.(clean);
  }

  #start(): void {
    if (this.#live) return;
    this.#live = true;
    const early = this.#early;
    this.#early = [];
    for (const chunk of early) this.#onData?.(chunk);
    this.caughtUp();
    if (this.#end !== undefined) this.onEnd?.(this.#end);
  }
}
