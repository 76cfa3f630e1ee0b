/**
 * The live rows of one author's life in one store, as its last head describes them.
 *
 * There is no log of operations and nothing to trim: a delta is derived from the live rows alone.
 * It lists the rows written after `from`, and says of the earlier ones either which are gone (what
 * the author broadcasts) or which are still there (what a peer answers from any version). A row
 * that is covered and not listed was removed: no tombstones.
 */
import { equalBytes, utf8Length } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Version } from "../crdt/version_vector.ts";
import type { Head } from "./head.ts";
import { MAX_OPS, MAX_ORIGIN_BYTES, MAX_ROWS_PER_ORIGIN, ROW_OVERHEAD_BYTES } from "./limits.ts";
import { SetHash } from "./set_hash.ts";
import type { Sha256 } from "./set_hash.ts";

/** A row and the dot it was written at. */
export interface Put {
  readonly seq: number;
  readonly key: string;
  readonly value: Bytes;
}

/** A row we hold. */
export interface HeldRow extends Put {
  /** Whether readers see it: the store's validator had nothing against it. */
  readonly isShown: boolean;
}

/** An inclusive range of sequence numbers. */
export interface Run {
  readonly first: number;
  readonly last: number;
}

/** What became of the rows up to `from`: these are gone, or only these are left. */
export type Earlier =
  | { readonly type: "removed"; readonly dots: readonly number[] }
  | { readonly type: "kept"; readonly runs: readonly Run[] };

/** The way from any version in `[from, head.seq)` to `head`. */
export interface Delta {
  readonly head: Head;
  readonly from: number;
  readonly earlier: Earlier;
  /** Exactly the rows that are alive at `head` and were written after `from`, in order. */
  readonly puts: readonly Put[];
}

/** A checked transition, not yet made. */
export interface Plan {
  readonly gone: readonly HeldRow[];
  readonly added: readonly Put[];
  readonly sum: SetHash;
  readonly bytes: number;
}

/** Why a delta cannot be applied whatever its signature. */
export type PlanRefusal = "duplicate_key" | "too_many_rows" | "too_many_bytes";

/** One life of one author in one store. */
export class OriginRows {
  #sum: SetHash;
  #bytes = 0;
  // In order of `seq`, always.
  #rows = new Map<number, HeldRow>();
  readonly #byKey = new Map<string, HeldRow>();
  #head: Head | undefined;

  constructor(sha256: Sha256) {
    this.#sum = new SetHash(sha256);
  }

  /** The head that these rows are true to; undefined before the first. */
  get head(): Head | undefined {
    return this.#head;
  }

  /** How many rows live. */
  get size(): number {
    return this.#rows.size;
  }

  /** What the rows count for `MAX_ORIGIN_BYTES`. */
  get bytes(): number {
    return this.#bytes;
  }

  /** The live rows in the order they were written. */
  rows(): IterableIterator<HeldRow> {
    return this.#rows.values();
  }

  /** The live row of a key. */
  get(key: string): HeldRow | undefined {
    return this.#byKey.get(key);
  }

  /** What applying `delta` would do. Its `from` must not lie beyond our head. */
  plan(delta: Omit<Delta, "head">, sha256: Sha256): Plan | PlanRefusal {
    const gone = this.#goneEarlier(delta);
    let added = delta.puts;
    if (delta.from < (this.#head?.seq ?? 0)) {
      const news = new Map(added.map((put) => [put.seq, put]));
      for (const row of this.#rows.values()) {
        if (row.seq <= delta.from) continue;
        const put = news.get(row.seq);
        if (put?.key === row.key && equalBytes(put.value, row.value)) news.delete(row.seq);
        else gone.push(row);
      }
      added = [...news.values()];
    }
    const leaving = new Set(gone);
    const keys = new Set<string>();
    let bytes = this.#bytes;
    for (const row of gone) bytes -= rowBytes(row.key, row.value);
    for (const put of added) {
      const held = this.#byKey.get(put.key);
      if (keys.has(put.key) || (held !== undefined && !leaving.has(held))) return "duplicate_key";
      keys.add(put.key);
      bytes += rowBytes(put.key, put.value);
    }
    if (this.#rows.size - gone.length + added.length > MAX_ROWS_PER_ORIGIN) return "too_many_rows";
    if (bytes > MAX_ORIGIN_BYTES) return "too_many_bytes";
    const sum = new SetHash(sha256, this.#sum);
    for (const row of gone) sum.remove(row.seq, row.key, row.value);
    for (const put of added) sum.add(put.seq, put.key, put.value);
    return { gone, added, sum, bytes };
  }

  /**
   * Makes the transition, or throws and makes nothing of it; `isShown` says of each new row whether
   * readers see it. Without a head the rows are nobody's signed word.
   */
  commit(plan: Plan, head: Head | undefined, isShown: (put: Put) => boolean): HeldRow[] {
    // Copied: the values that arrived are views of a frame, which they would keep alive.
    const added = plan.added.map((put) => (
      { ...put, value: put.value.slice(), isShown: isShown(put) }
    ));
    for (const row of plan.gone) {
      this.#rows.delete(row.seq);
      this.#byKey.delete(row.key);
    }
    const first = plan.added[0]?.seq ?? Infinity;
    const isLater = this.#head === undefined ? this.#rows.size === 0 : first > this.#head.seq;
    for (const row of added) {
      this.#rows.set(row.seq, row);
      this.#byKey.set(row.key, row);
    }
    // An author that signed two histories, or a disk that lost rows, makes some appear among those we hold.
    if (!isLater) {
      this.#rows = new Map([...this.#rows].sort(([a], [b]) => a - b));
    }
    this.#sum = plan.sum;
    this.#bytes = plan.bytes;
    this.#head = head;
    return added;
  }

  /** The shortest way from `version` to our head; undefined when there is no head yet. */
  deltaFrom(version: Version): Delta | undefined {
    const head = this.#head;
    if (head === undefined) return undefined;
    const isKnown = version.epoch === head.epoch && version.seq < head.seq;
    let from = isKnown ? version.seq : 0;
    let runs = this.#runsUpTo(from);
    if (runs.length > MAX_OPS) {
      from = 0;
      runs = [];
    }
    const puts: Put[] = [];
    for (const row of this.#rows.values()) if (row.seq > from) puts.push(row);
    return { head, from, earlier: { type: "kept", runs }, puts };
  }

  #goneEarlier(delta: Omit<Delta, "head">): HeldRow[] {
    const gone: HeldRow[] = [];
    if (delta.earlier.type === "removed") {
      for (const dot of delta.earlier.dots) {
        const row = this.#rows.get(dot);
        if (row !== undefined) gone.push(row);
      }
      return gone;
    }
    const { runs } = delta.earlier;
    let at = 0;
    for (const row of this.#rows.values()) {
      if (row.seq > delta.from) break;
      while (at < runs.length && (runs[at] as Run).last < row.seq) at++;
      const run = runs[at];
      if (run === undefined || row.seq < run.first) gone.push(row);
    }
    return gone;
  }

  #runsUpTo(seq: number): Run[] {
    const runs: { first: number; last: number }[] = [];
    let run: { first: number; last: number } | undefined;
    for (const row of this.#rows.values()) {
      if (row.seq > seq) break;
      if (run !== undefined && row.seq === run.last + 1) run.last = row.seq;
      else runs.push(run = { first: row.seq, last: row.seq });
    }
    return runs;
  }
}

/** What a row counts for the limits; nothing when there is no value. */
export function rowBytes(key: string, value: Uint8Array | undefined): number {
  return value === undefined ? 0 : utf8Length(key) + value.length + ROW_OVERHEAD_BYTES;
}

/** What a delta holds in memory, about. */
export function deltaBytes({ puts, earlier }: Delta): number {
  const dots = earlier.type === "removed" ? earlier.dots.length : earlier.runs.length;
  return puts.reduce((sum, put) => sum + rowBytes(put.key, put.value), 512 + 16 * dots);
}
