/** Verified deltas that came before the ones they build on, bounded by count and bytes. */
import type { OriginId } from "./head.ts";
import { MAX_GAP_BYTES, MAX_GAPS_PER_ORIGIN } from "./limits.ts";
import { deltaBytes } from "./origin_rows.ts";
import type { Delta } from "./origin_rows.ts";

/** The waiting deltas of one store. */
export class Gaps {
  readonly #waiting = new Map<OriginId, Delta[]>();
  #bytes = 0;

  /** Keeps a delta; false when there is no room. */
  add(origin: OriginId, delta: Delta): boolean {
    const list = this.#waiting.get(origin) ?? [];
    const bytes = deltaBytes(delta);
    if (list.length >= MAX_GAPS_PER_ORIGIN || this.#bytes + bytes > MAX_GAP_BYTES) return false;
    list.push(delta);
    this.#waiting.set(origin, list);
    this.#bytes += bytes;
    return true;
  }

  /** Takes out all that waits for an origin, in order. */
  take(origin: OriginId): Delta[] {
    const list = this.#waiting.get(origin);
    if (list === undefined) return [];
    this.#waiting.delete(origin);
    for (const delta of list) this.#bytes -= deltaBytes(delta);
    return list.sort((a, b) => a.head.epoch - b.head.epoch || a.head.seq - b.head.seq);
  }
}
