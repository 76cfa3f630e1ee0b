/**
 * Verifies each head once: deltas with the same head wait for the same verdict, and a verdict is
 * kept for those that come later.
 */
import type { Bytes } from "../base/bytes.ts";
import { equalBytes } from "../base/bytes.ts";
import { headMessage } from "./head.ts";
import type { Head } from "./head.ts";
import { MAX_VERIFYING, MAX_VERIFYING_BYTES } from "./limits.ts";

/** Verdicts kept. */
const CACHE = 1024;
/** Deltas that may wait for one verdict. */
const MAX_WAITING = 64;

/** What to verify. */
export interface VerifyJob {
  readonly id: number;
  readonly message: Bytes;
  readonly signature: Bytes;
  readonly publicKey: Bytes;
}

interface Pending<T> {
  readonly key: string;
  readonly message: Bytes;
  readonly waiting: T[];
  bytes: number;
}

/** Heads whose verdict is awaited or known; `T` is what waits for one. */
export class Verifier<T> {
  readonly #verdicts = new Map<string, { readonly message: Bytes; readonly isGood: boolean }>();
  readonly #pending = new Map<number, Pending<T>>();
  readonly #pendingByKey = new Map<string, number>();
  #bytes = 0;
  #lastId = 0;

  /**
   * The verdict, or the job that leads to it, or `"waiting"` for one under way, or `"full"`. `bytes`
   * is what `item` holds while it waits.
   */
  judge(
    store: string,
    head: Head,
    item: T,
    bytes: number,
  ): boolean | VerifyJob | "waiting" | "full" {
    const message = headMessage(store, head);
    const key = String.fromCharCode(...head.signature);
    const known = this.#verdicts.get(key);
    if (known !== undefined && equalBytes(known.message, message)) return known.isGood;
    const under = this.#pending.get(this.#pendingByKey.get(key) ?? -1);
    if (under !== undefined && equalBytes(under.message, message)) {
      // What waits is bounded by what can be verified, whoever sends it.
      if (under.waiting.length >= MAX_WAITING || this.#isFull(bytes)) return "full";
      under.waiting.push(item);
      under.bytes += bytes;
      this.#bytes += bytes;
      return "waiting";
    }
    if (this.#pending.size >= MAX_VERIFYING || this.#isFull(bytes)) return "full";
    const id = ++this.#lastId;
    this.#pending.set(id, { key, message, waiting: [item], bytes });
    this.#bytes += bytes;
    this.#pendingByKey.set(key, id);
    return { id, message, signature: head.signature, publicKey: head.author };
  }

  /** Takes a verdict; returns what waited for it. */
  verdict(id: number, isGood: boolean): T[] {
    const pending = this.#pending.get(id);
    if (pending === undefined) return [];
    this.#pending.delete(id);
    this.#bytes -= pending.bytes;
    if (this.#pendingByKey.get(pending.key) === id) this.#pendingByKey.delete(pending.key);
    this.#verdicts.delete(pending.key);
    const oldest = this.#verdicts.keys().next().value;
    if (this.#verdicts.size >= CACHE && oldest !== undefined) this.#verdicts.delete(oldest);
    this.#verdicts.set(pending.key, { message: pending.message, isGood });
    return pending.waiting;
  }

  #isFull(bytes: number): boolean {
    return this.#bytes > 0 && this.#bytes + bytes > MAX_VERIFYING_BYTES;
  }
}
