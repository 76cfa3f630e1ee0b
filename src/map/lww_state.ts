/**
 * A last-write-wins map as a pure state over rows that each have one writer, its replica.
 *
 * A write says which rows of other replicas it replaces: those it knew under its key, and those
 * that they replaced. A row that is replaced is never shown again here, and its writer takes it
 * out of its own rows as soon as it learns of it. A deletion is a row that replaces and has no
 * value; it goes once everything that it replaces is gone, so that no row is left of an entry
 * whose writers are alive. Of the rows that nobody replaced the one with the greatest stamp is
 * shown, by its origin where stamps are equal: so a write beats a deletion that did not know it.
 *
 * A claim to replace what its origin is far from having written counts for nothing until the origin
 * comes near. Nor do the claims of two rows to replace each other: a write cannot know of one that
 * knew of it, so one of the two was made up. Their stamps decide, and so the victim of a lie about
 * its future wins with the first write that knew of the lie, and all who know the same agree.
 *
 * What our memory alone says to be replaced, without a row that does, we say ourselves after a
 * while (`testimony.ts`), so that all come to agree should those who knew it be dead. A row that is
 * written again for that keeps the dot it was born with, and that is what others replace.
 *
 * The causal bookkeeping is that of an observed-remove set (Bieniusa et al., "An Optimized
 * Conflict-free Replicated Set", 2012) with a register's order among what is left.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { BarrelError } from "../base/errors.ts";
import { compareStamps } from "../crdt/hlc.ts";
import type { Stamp } from "../crdt/hlc.ts";
import type { OriginId } from "../replica/head.ts";
import { decodeEntry, encodeEntry, MAX_OVER } from "./entry.ts";
import type { Entry } from "./entry.ts";
import { ReplacedDots } from "./replaced.ts";
import type { Replaced } from "./replaced.ts";
import { MAX_REMOVALS, patienceOf, testify } from "./testimony.ts";

/** A row as the store tells it. */
export interface StoredRow {
  readonly origin: OriginId;
  readonly seq: number;
  readonly key: string;
  readonly value: Bytes;
}

/** What the state wants done. */
export type LwwEffect =
  /** Our row of this key is of no use any more. */
  | { readonly type: "drop"; readonly key: string }
  /** What readers see under a key changed; without a value there is nothing now. */
  | {
    readonly type: "shown";
    readonly key: string;
    readonly value: Bytes | undefined;
    readonly isLocal: boolean;
  }
  /**
   * What another replica wrote under a key up to `seq` is replaced; 0 when that need not be kept.
   * `isNew` when nothing was kept of it before.
   */
  | ({ readonly type: "replaced"; readonly isNew: boolean } & Replaced)
  /** A stamp that our clock follows. */
  | { readonly type: "follow"; readonly stamp: Stamp }
  /** A row that is held and not shown. */
  | { readonly type: "hidden"; readonly key: string; readonly reason: string }
  /** A row to write under a key: it says what until now only our memory did. */
  | { readonly type: "testify"; readonly key: string; readonly value: Bytes }
  /** Not all of what only our memory says can be said: a row is full, or we removed too much. */
  | {
    readonly type: "unsaid";
    readonly key: string;
    readonly reason: "row_full" | "too_many_removals";
  }
  /** What a row says that it replaces is not taken over: it cannot be true, or is too much. */
  | {
    readonly type: "claimRefused";
    readonly key: string;
    readonly origin: OriginId;
    readonly reason: "never_written" | "too_many";
  };

/** What the state asks about its store and its user. */
export interface LwwPort {
  /** Our origin. */
  readonly origin: OriginId;
  /** The dot of our row under a key once it is signed. */
  dotOf(key: string): number | undefined;
  /** How far an origin is known; `Infinity` when its life is over for good. */
  knownUpTo(origin: OriginId): number;
  /** Whether an origin's life was declared over. */
  isAway(origin: OriginId): boolean;
  /** Says what is wrong with a value, in a few words. */
  judge(key: string, value: Bytes): string | undefined;
}

interface Held {
  readonly origin: OriginId;
  /** The dot it was born with; of our own rows `#bornOf` tells. */
  readonly seq: number;
  readonly entry: Entry;
  /** Of whom it replaced what we had not heard of: our next write tells that on in any case. */
  readonly ahead: ReadonlySet<OriginId>;
  /** Since when only our memory hides it, by our wall clock. */
  unsaidSince: number | undefined;
  /** Its node was declared down, which may be taken back. */
  isAway: boolean;
  /** It does not count for readers: from the future, or refused by our validator. */
  hidden: "future" | "invalid" | undefined;
}

/**
 * How far a claim may be ahead of what is known of its origin: news overtake each other, but hardly
 * by so many writes.
 */
const MAX_LEAD = 65_536;
const NONE: ReadonlySet<OriginId> = new Set();

/** The state of one map. */
export class LwwState {
  readonly #port: LwwPort;
  readonly #maxDriftMs: number;
  readonly #keys = new Map<string, Map<OriginId, Held>>();
  readonly #shown = new Map<string, Shown>();
  /** Rows from the future. */
  readonly #future = new Map<Held, string>();
  /** Rows whose nodes were declared down. */
  readonly #away = new Map<Held, string>();
  /** Our rows that only say that there is nothing. */
  readonly #removals = new Set<string>();
  readonly #replaced = new ReplacedDots();
  /** Keys with claims that do not count yet. */
  readonly #unbelieved = new Set<string>();
  /** Our clock, as we last heard. */
  #wallMs = 0;
  #isLoaded = false;

  /**
   * `maxDriftMs`: how far ahead of our clock a stamp may be and still be shown. `replaced` is what
   * an earlier run found replaced.
   */
  constructor(port: LwwPort, maxDriftMs: number, replaced: Iterable<Replaced> = []) {
    this.#port = port;
    this.#maxDriftMs = maxDriftMs;
    for (const one of replaced) this.#replaced.add(one);
  }

  // ---- reading

  /** The value that is shown under a key. */
  get(key: string): Bytes | undefined {
    return this.#shown.get(key)?.entry.value;
  }

  /** The keys that have a value. */
  keys(): IterableIterator<string> {
    return this.#shown.keys();
  }

  /** How many keys have a value. */
  get size(): number {
    return this.#shown.size;
  }

  /** How many keys have any row, also one that is not shown: for tests of what is left. */
  get heldKeys(): number {
    return this.#keys.size;
  }

  /** When `tick` has something to do, in wall-clock milliseconds. */
  wakeAt(): number {
    let at = Infinity;
    for (const { entry } of this.#future.keys()) {
      if (entry.type === "put") at = Math.min(at, entry.stamp.wallMs - this.#maxDriftMs);
    }
    return at;
  }

  /** Whether something waits for others to move. */
  get isWaiting(): boolean {
    return this.#removals.size > 0 || this.#replaced.size > 0 || this.#unbelieved.size > 0 ||
      this.#away.size > 0;
  }

  // ---- writing

  /** The row that sets a key. */
  set(key: string, value: Bytes, stamp: Stamp): Bytes {
    const over = this.#context(key);
    // More than fits: the oldest stay behind, and lose by their stamps as long as this row is there.
    this.#dropUnheard(over);
    for (const origin of over.keys()) {
      if (over.size <= MAX_OVER) break;
      over.delete(origin);
    }
    return encodeEntry({ type: "put", over, stamp, value });
  }

  /**
   * The row that deletes a key; `"none"` when dropping ours is enough; undefined when there is nothing
   * to delete.
   *
   * @throws BarrelError `map_limit` when more than 160 replicas wrote the key that are not there to
   * take their rows back
   */
  delete(key: string): Bytes | "none" | undefined {
    if (!this.#shown.has(key)) return undefined;
    const over = this.#context(key);
    this.#dropUnheard(over);
    if (over.size > MAX_OVER) {
      throw new BarrelError("map_limit", `${over.size} replicas wrote ${JSON.stringify(key)}`);
    }
    for (const [origin, seq] of over) {
      if (!this.#isSettled(key, origin, seq)) return encodeEntry({ type: "removed", over });
    }
    return "none";
  }

  // Every dot of others that a write to `key` knows of and that somebody may still hold.
  #context(key: string): Map<OriginId, number> {
    const context = new Map<OriginId, number>();
    const add = (origin: OriginId, seq: number) => {
      if (origin === this.#port.origin || !this.#isBelieved(origin, seq)) return;
      context.set(origin, Math.max(context.get(origin) ?? 0, seq));
    };
    for (const [origin, seq] of this.#replaced.of(key)) add(origin, seq);
    for (const held of this.#keys.get(key)?.values() ?? []) {
      for (const [origin, seq] of held.entry.over) {
        if (held.ahead.has(origin) || !this.#isSettled(key, origin, seq)) add(origin, seq);
      }
    }
    for (const held of this.#keys.get(key)?.values() ?? []) add(held.origin, held.seq);
    return context;
  }

  // Where more is claimed than fits, what is claimed of origins that nobody here has heard of goes first.
  #dropUnheard(over: Map<OriginId, number>): void {
    for (const origin of over.keys()) {
      if (over.size <= MAX_OVER) return;
      if (this.#port.knownUpTo(origin) === 0) over.delete(origin);
    }
  }

  // Nobody has replaced what its origin is far from having written.
  #isBelieved(origin: OriginId, seq: number): boolean {
    return seq - this.#port.knownUpTo(origin) <= MAX_LEAD;
  }

  // Whether an origin's rows under `key` up to `seq` are gone for good: its own signed word says so.
  #isSettled(key: string, origin: OriginId, seq: number): boolean {
    const held = this.#keys.get(key)?.get(origin);
    if (held !== undefined && held.seq <= seq) return false;
    return this.#port.knownUpTo(origin) >= seq;
  }

  // ---- what the store tells

  /**
   * All that the store held when it was opened has been told; nothing follows from any of it before,
   * since the store knows more than it has told until then.
   */
  loaded(): LwwEffect[] {
    this.#isLoaded = true;
    return [...this.#keys.keys()].flatMap((key) => this.#evaluate(key, false));
  }

  /** A row came or changed. `wallMs` is our clock. */
  put(row: StoredRow, wallMs: number): LwwEffect[] {
    const { origin, seq, key } = row;
    const effects: LwwEffect[] = [];
    this.#wallMs = wallMs;
    const isOwn = origin === this.#port.origin;
    const entry = decodeEntry(row.value);
    this.#take(key, origin);
    if (entry === undefined) {
      effects.push({ type: "hidden", key, reason: "unreadable" });
      return effects.concat(this.#evaluate(key, isOwn));
    }
    const held: Held = {
      origin,
      seq: bornAt(entry, seq),
      entry,
      ahead: this.#aheadIn(entry),
      unsaidSince: undefined,
      isAway: false,
      hidden: undefined,
    };
    const rows = this.#keys.get(key) ?? new Map<OriginId, Held>();
    this.#keys.set(key, rows);
    rows.set(origin, held);
    if (entry.type === "removed") {
      if (isOwn) this.#removals.add(key);
    } else this.#judge(held, entry, key, isOwn, wallMs, effects);
    if (this.#counts(key, held)) {
      // Settled or not: the next write tells it on to those who are behind.
      for (const [replaced, last] of entry.over) {
        if (this.#isBelieved(replaced, last)) this.#noteClaim(key, held, replaced, last, effects);
        else effects.push({ type: "claimRefused", key, origin, reason: "never_written" });
      }
    }
    return effects.concat(this.#evaluate(key, isOwn));
  }

  // What cannot be remembered yet; by the time that it could be, it may be settled here, and unknown
  // to others still.
  #aheadIn({ over }: Entry): ReadonlySet<OriginId> {
    let ahead: Set<OriginId> | undefined;
    for (const [origin, seq] of over) {
      if (this.#port.knownUpTo(origin) < seq) (ahead ??= new Set()).add(origin);
    }
    return ahead ?? NONE;
  }

  #judge(
    held: Held,
    { stamp, value }: Entry & { readonly type: "put" },
    key: string,
    isOwn: boolean,
    wallMs: number,
    effects: LwwEffect[],
  ): void {
    const reason = this.#port.judge(key, value);
    if (reason !== undefined) {
      held.hidden = "invalid";
      effects.push({ type: "hidden", key, reason });
    } else if (!isOwn && stamp.wallMs - wallMs > this.#maxDriftMs) {
      held.hidden = "future";
      this.#future.set(held, key);
      effects.push({ type: "hidden", key, reason: "future" });
    } else {
      effects.push({ type: "follow", stamp });
    }
  }

  /** A row is gone: its writer took it back. */
  remove({ origin, key }: Pick<StoredRow, "origin" | "key">): LwwEffect[] {
    const effects: LwwEffect[] = [];
    const held = this.#keys.get(key)?.get(origin);
    // Our next write tells those who do not know yet that it is gone.
    if (held !== undefined) this.#note({ key, origin, seq: held.seq }, origin, effects);
    this.#take(key, origin);
    return effects.concat(this.#evaluate(key, origin === this.#port.origin));
  }

  /**
   * A row's node was declared down. When that is taken back, `put` tells what the row is by then;
   * one that went meanwhile is not told.
   */
  setAway({ origin, key }: Pick<StoredRow, "origin" | "key">): LwwEffect[] {
    const held = this.#keys.get(key)?.get(origin);
    if (held === undefined) return [];
    held.isAway = true;
    this.#away.set(held, key);
    return this.#evaluate(key, false);
  }

  #take(key: string, origin: OriginId): void {
    if (origin === this.#port.origin) this.#removals.delete(key);
    const rows = this.#keys.get(key);
    const held = rows?.get(origin);
    if (rows === undefined || held === undefined) return;
    rows.delete(origin);
    this.#future.delete(held);
    this.#away.delete(held);
    if (rows.size === 0) this.#keys.delete(key);
  }

  /** Shows what was from the future, and looks again at what waits. */
  tick(wallMs: number): LwwEffect[] {
    this.#wallMs = wallMs;
    const effects: LwwEffect[] = [];
    for (const [held, key] of [...this.#future]) {
      const { entry } = held;
      if (entry.type !== "put" || entry.stamp.wallMs - wallMs > this.#maxDriftMs) continue;
      this.#future.delete(held);
      held.hidden = undefined;
      effects.push({ type: "follow", stamp: entry.stamp });
      effects.push(...this.#evaluate(key, false));
    }
    const waiting = new Set([...this.#removals, ...this.#replaced.keys(), ...this.#unbelieved]);
    this.#unbelieved.clear();
    for (const [{ origin }, key] of [...this.#away]) {
      // Nothing brings it back, and so nobody says that it is gone.
      if (this.#port.knownUpTo(origin) === Infinity) this.#take(key, origin);
      // Its node is back, and had taken it out meanwhile.
      else if (!this.#port.isAway(origin)) effects.push(...this.remove({ origin, key }));
    }
    let room = MAX_REMOVALS - this.#removals.size;
    for (const key of waiting) {
      effects.push(...this.#evaluate(key, false));
      if (this.#testify(key, room, effects)) room--;
    }
    return effects;
  }

  // Says what only our memory hides, when nobody else has for a while; whether that takes a row more,
  // of which there is room for `room`.
  #testify(key: string, room: number, effects: LwwEffect[]): boolean {
    const unsaid = this.#unsaid(key);
    const rows = this.#keys.get(key);
    if (rows === undefined || unsaid.length === 0) return false;
    const own = rows.get(this.#port.origin);
    if (own !== undefined) {
      if (this.#port.dotOf(key) === undefined || this.#isUseless(key, own, rows)) return false;
    }
    // Should it not get into our rows, the next time is as far off as the first.
    for (const held of unsaid) held.unsaidSince = undefined;
    if (own === undefined && room <= 0) {
      effects.push({ type: "unsaid", key, reason: "too_many_removals" });
      return false;
    }
    const over = new Map(unsaid.map(({ origin, seq }) => [origin, seq]));
    const born = own === undefined ? 0 : this.#bornOf(key, own) as number;
    const { entry, isFull } = testify(own?.entry, born, over);
    if (isFull) effects.push({ type: "unsaid", key, reason: "row_full" });
    if (entry !== undefined) effects.push({ type: "testify", key, value: encodeEntry(entry) });
    for (const held of unsaid) {
      // Said in vain: its author said beforehand that it knew our row, and all go by the stamps.
      if (own === undefined || !this.#replaces(key, own, held)) continue;
      if (this.#replaces(key, held, own)) this.#yield(key, held, effects);
    }
    return own === undefined;
  }

  #yield(key: string, { origin }: Held, effects: LwwEffect[]): void {
    this.#replaced.forget(key, origin);
    effects.push({ type: "replaced", key, origin, seq: 0, isNew: false });
    effects.push(...this.#evaluate(key, false));
  }

  // The rows under a key that only our memory has hidden for long enough.
  #unsaid(key: string): Held[] {
    const unsaid: Held[] = [];
    for (const held of this.#keys.get(key)?.values() ?? []) {
      if (!this.#isUnsaid(key, held)) held.unsaidSince = undefined;
      else {
        held.unsaidSince ??= this.#wallMs;
        const forMs = this.#wallMs - held.unsaidSince;
        if (forMs >= patienceOf(this.#port.origin)) unsaid.push(held);
      }
    }
    return unsaid;
  }

  // Whether no row that counts says what our memory does: that a value is replaced. Whether we
  // would show it does not matter, since others may.
  #isUnsaid(key: string, held: Held): boolean {
    if (held.origin === this.#port.origin || held.entry.type === "removed" || held.isAway) {
      return false;
    }
    if (this.#replaced.seqOf(key, held.origin) < held.seq) return false;
    for (const by of this.#keys.get(key)?.values() ?? []) {
      if (this.#counts(key, by) && this.#overrules(key, by, held)) return false;
    }
    return true;
  }

  // ---- what follows

  #evaluate(key: string, isLocal: boolean): LwwEffect[] {
    if (!this.#isLoaded) return [];
    const effects: LwwEffect[] = [];
    const rows = this.#keys.get(key) ?? new Map<OriginId, Held>();
    this.#settle(key, rows, effects);
    const own = rows.get(this.#port.origin);
    if (own !== undefined && this.#isUseless(key, own, rows)) effects.push({ type: "drop", key });
    const best = this.#winner(key, rows);
    const was = this.#shown.get(key);
    if (best === was) return effects;
    if (best === undefined) this.#shown.delete(key);
    else this.#shown.set(key, best);
    if (best !== undefined && was !== undefined && isSameWrite(best, was)) return effects;
    effects.push({ type: "shown", key, value: best?.entry.value, isLocal });
    return effects;
  }

  // Notes what the rows replace, and forgets what is gone.
  #settle(key: string, rows: ReadonlyMap<OriginId, Held>, effects: LwwEffect[]): void {
    for (const by of rows.values()) {
      if (!this.#counts(key, by)) continue;
      for (const [origin, seq] of by.entry.over) {
        if (this.#isSettled(key, origin, seq)) continue;
        if (this.#isBelieved(origin, seq)) this.#noteClaim(key, by, origin, seq, effects);
        else this.#unbelieved.add(key);
      }
    }
    const isSettled = (origin: OriginId, seq: number) => this.#isSettled(key, origin, seq);
    for (const origin of this.#replaced.settle(key, this.#wallMs, isSettled)) {
      effects.push({ type: "replaced", key, origin, seq: 0, isNew: false });
    }
  }

  // What a row says that it replaces is remembered as far as its origin is known: names and numbers
  // that somebody made up take no room. As long as the row is here it is asked again.
  #noteClaim(key: string, by: Held, origin: OriginId, last: number, effects: LwwEffect[]): void {
    const held = this.#keys.get(key)?.get(origin);
    let seq = Math.min(last, Math.max(this.#port.knownUpTo(origin), held?.seq ?? 0));
    if (held !== undefined && held.seq <= seq && this.#replaces(key, held, by)) seq = held.seq - 1;
    if (seq > 0) this.#note({ key, origin, seq }, by.origin, effects);
  }

  // Whether a row says that it replaces another. Of two that say so of each other one lies, and
  // nobody can tell which: neither counts, and their stamps decide.
  #replaces(key: string, by: Held, held: Held): boolean {
    const seq = this.#bornOf(key, held);
    return seq !== undefined && (by.entry.over.get(held.origin) ?? 0) >= seq;
  }

  // Whether a row replaces another, what both say considered.
  #overrules(key: string, by: Held, held: Held): boolean {
    if (!this.#replaces(key, by, held) || this.#replaces(key, held, by)) return false;
    return this.#isBelieved(held.origin, by.entry.over.get(held.origin) as number);
  }

  // The dot that a row was born with; undefined for one of ours that was never signed.
  #bornOf(key: string, { origin, entry, seq }: Held): number | undefined {
    if (origin !== this.#port.origin) return seq;
    const dot = this.#port.dotOf(key);
    return dot === undefined && entry.type === "put" ? entry.born : dot && bornAt(entry, dot);
  }

  #note(replaced: Replaced, author: OriginId, effects: LwwEffect[]): void {
    if (replaced.origin === this.#port.origin) return;
    let added = this.#replaced.add(replaced, author);
    const gone = added === "full" ? this.#replaced.makeRoom() : undefined;
    if (gone !== undefined) {
      effects.push({ type: "replaced", ...gone, seq: 0, isNew: false });
      added = this.#replaced.add(replaced, author);
    }
    if (added === "new" || added === "more") {
      effects.push({ type: "replaced", ...replaced, isNew: added === "new" });
    }
    if (added !== "full") return;
    effects.push({ type: "claimRefused", key: replaced.key, origin: author, reason: "too_many" });
  }

  // Whether a row replaces for good. Ours does once it is signed: before, it may still be lost.
  #counts(key: string, { origin, hidden, isAway }: Held): boolean {
    if (hidden !== undefined || isAway) return false;
    return origin !== this.#port.origin || this.#port.dotOf(key) !== undefined;
  }

  #isUseless(key: string, own: Held, rows: ReadonlyMap<OriginId, Held>): boolean {
    for (const by of rows.values()) {
      if (by.hidden === undefined && !by.isAway && this.#overrules(key, by, own)) return true;
    }
    if (own.entry.type === "put") return false;
    for (const [origin, seq] of own.entry.over) {
      if (!this.#isSettled(key, origin, seq)) return false;
    }
    return true;
  }

  #winner(key: string, rows: ReadonlyMap<OriginId, Held>): Shown | undefined {
    const own = rows.get(this.#port.origin);
    let best: Shown | undefined;
    for (const held of rows.values()) {
      if (held.entry.type !== "put" || held.hidden !== undefined || held.isAway) continue;
      if (held === own) {
        if (this.#isUseless(key, own, rows)) continue;
      } else {
        const { origin, seq } = held;
        if (this.#replaced.seqOf(key, origin) >= seq) continue;
        const isOver = own !== undefined && own.hidden === undefined &&
          this.#replaces(key, own, held) && !this.#replaces(key, held, own);
        if (isOver) continue;
      }
      const shown = held as Shown;
      const order = best === undefined ? 1 : compareStamps(shown.entry.stamp, best.entry.stamp);
      if (order > 0 || (order === 0 && held.origin > (best as Shown).origin)) best = shown;
    }
    return best;
  }
}

type Shown = Held & { readonly entry: { readonly type: "put" } };

// The dot of a write's first row. One that is later than the row itself was made up.
function bornAt(entry: Entry, seq: number): number {
  return entry.type === "put" ? Math.min(entry.born ?? seq, seq) : seq;
}

// Whether two rows are one write, that was written again or taken back to what it was.
function isSameWrite(a: Shown, b: Shown): boolean {
  return a.origin === b.origin && compareStamps(a.entry.stamp, b.entry.stamp) === 0 &&
    equalBytes(a.entry.value, b.entry.value);
}
