/**
 * One replicated store as a pure state: the rows of every author, our own included, whether
 * readers see them, and how far each author is known. A row has one writer, its author.
 */
import type { Bytes } from "../base/bytes.ts";
import { compareBytes, equalBytes } from "../base/bytes.ts";
import { BarrelError } from "../base/errors.ts";
import { compareVersions, NO_VERSION } from "../crdt/version_vector.ts";
import type { Version } from "../crdt/version_vector.ts";
import { Digests } from "./digests.ts";
import { Gaps } from "./gaps.ts";
import { originIn } from "./head.ts";
import type { Head, OriginId } from "./head.ts";
import { MAX_ORIGINS, MAX_STRANGERS } from "./limits.ts";
import { OriginRows } from "./origin_rows.ts";
import type { Delta, HeldRow, Plan, PlanRefusal, Put } from "./origin_rows.ts";
import { OwnRows } from "./own_rows.ts";
import type { Sha256 } from "./set_hash.ts";
import { kindOf } from "./store_kind.ts";
import type { StoreKind } from "./store_kind.ts";

/** A row as readers see it. */
export interface Row {
  /** The public key of the node that wrote it. */
  readonly author: Bytes;
  /** The life of that node in which it was written. */
  readonly epoch: number;
  /** Who wrote it, as the store counts writers. */
  readonly origin: OriginId;
  /** The dot it was written at, counted by its origin; 0 for a row of ours that is not signed yet. */
  readonly seq: number;
  readonly key: string;
  readonly value: Bytes;
}

/**
 * A transition of one visible row, told once. `put`: it is there with this value. `removed`: its
 * author took it away. `hidden`: its author's life was declared over. `restored`: that was
 * taken back.
 */
export interface Change {
  readonly type: "put" | "removed" | "hidden" | "restored";
  readonly row: Row;
}

/** Says what is wrong with a row that other nodes wrote, in a stable word; undefined when nothing is. */
export type Validate = (key: string, value: Bytes) => string | undefined;

/** Who may write to a store. */
export interface Admission {
  /** Whether an author is known by other means than its rows. */
  readonly isMember: (author: Bytes) => boolean;
  /** Places for all others. @default 8,192, half of all */
  readonly strangers?: number;
}

/** Why a verified delta was not applied. */
export type Refusal = PlanRefusal | "hash_mismatch" | "too_many_origins";

/** What became of a verified delta. */
export type Outcome =
  | { readonly type: "applied" }
  /** We know as much or more. */
  | { readonly type: "stale" }
  /** It builds on what we lack; `isKept` says whether it waits for that. */
  | { readonly type: "gap"; readonly isKept: boolean }
  | { readonly type: "refused"; readonly reason: Refusal };

/** What a store tells the machine around it. */
export interface StoreSink {
  changed(change: Change): void;
  /** A row of `reason` is held and relayed, but readers do not see it. */
  invalidRow(reason: string): void;
  /** The rows of another's origin moved to `head`: these are gone, then those came. */
  moved(origin: OriginId, head: Head, rows: Pick<Plan, "gone" | "added">): void;
}

/** A life of ours of whose rows some are lost, so that the others do not add up to its head. */
export interface LeftLife {
  readonly author: Bytes;
  readonly epoch: number;
  /** Its last operation, as far as the disk says. */
  readonly seq: number;
}

const STRANGERS_LOOKED_AT = 64;

/** One store. */
export class StoreState {
  readonly name: string;
  readonly kind: StoreKind;
  /** The writer of our own rows. */
  readonly own: OwnRows;
  readonly digests: Digests;
  #author: Bytes;
  #origin: OriginId;
  #epoch: number;
  #bytes = 0;
  readonly #validate: Validate;
  readonly #sha256: Sha256;
  readonly #sink: StoreSink;
  readonly #origins = new Map<OriginId, OriginRows>();
  readonly #gaps = new Gaps();
  /** The lives whose rows are shown here, and passed on only once a head is signed for them. */
  readonly #left = new Map<OriginId, LeftLife>();
  readonly #admission: Admission;
  /** Origins of nobody who was a member when we last looked. */
  readonly #strangers = new Set<OriginId>();
  // The last life of an origin that was declared over; and, of those, the last that is forgotten.
  readonly #retired = new Map<OriginId, number>();
  readonly #forgotten = new Map<OriginId, number>();

  constructor(
    name: string,
    author: { readonly publicKey: Bytes; readonly epoch: number },
    validate: Validate,
    sha256: Sha256,
    sink: StoreSink,
    admission: Admission,
  ) {
    this.name = name;
    this.kind = kindOf(name);
    this.#author = author.publicKey;
    this.#epoch = author.epoch;
    this.#origin = originIn(name, author.publicKey, author.epoch, sha256);
    this.#validate = validate;
    this.#sha256 = sha256;
    this.#sink = sink;
    this.#admission = admission;
    this.own = new OwnRows(author.publicKey, author.epoch, this.kind === "own");
    this.digests = new Digests(sha256);
  }

  /** The origin of a life in this store. */
  originOf(publicKey: Uint8Array, epoch: number): OriginId {
    return originIn(this.name, publicKey, epoch, this.#sha256);
  }

  /** The rows of others, in bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Takes up what an earlier run left on the disk; false when the rows do not add up to the head. */
  load(delta: Delta): boolean {
    const origin = this.originOf(delta.head.author, delta.head.epoch);
    // Whoever is on the disk had a place before.
    if (origin !== this.#origin) return this.#applyOne(origin, delta, true).type === "applied";
    const rows = new OriginRows(this.#sha256);
    const plan = rows.plan(delta, this.#sha256);
    if (typeof plan === "string" || !equalBytes(plan.sum.digest(), delta.head.hash)) return false;
    rows.commit(plan, delta.head, () => true);
    this.#origins.set(origin, rows);
    this.digests.set(origin, delta.head);
    this.own.load(rows);
    for (const { key, value } of rows.rows()) {
      this.#sink.changed({ type: "put", row: this.#ownRow(key, value) });
    }
    return true;
  }

  /**
   * Takes up what a damaged disk left of a life: it is shown, until a signed head of that life comes that
   * is no older than what is left. False when it breaks a limit.
   */
  loadLeft(life: LeftLife, puts: readonly Put[]): boolean {
    const origin = this.originOf(life.author, life.epoch);
    const rows = new OriginRows(this.#sha256);
    const plan = rows.plan({ from: 0, earlier: { type: "kept", runs: [] }, puts }, this.#sha256);
    if (typeof plan === "string" || origin === this.#origin || this.#origins.has(origin)) {
      return false;
    }
    const added = rows.commit(plan, undefined, (put) => this.#isValid(put));
    this.#bytes += rows.bytes;
    this.#origins.set(origin, rows);
    this.#left.set(origin, life);
    for (const row of added) {
      if (row.isShown) this.#sink.changed({ type: "put", row: shown(origin, life, row) });
    }
    return true;
  }

  // ---- our own rows

  /** Our origin and life in this store. */
  get self(): { readonly origin: OriginId; readonly epoch: number } {
    return { origin: this.#origin, epoch: this.#epoch };
  }

  /** The dot of our row under a key, once that very row is signed. */
  ownDot(key: string): number | undefined {
    const signed = this.signedRows.get(key);
    const value = this.own.values.get(key);
    return signed !== undefined && value !== undefined && equalBytes(signed.value, value)
      ? signed.seq
      : undefined;
  }

  /** The disk refused the batch under way: readers see what was before it. */
  revert(): void {
    for (const [key, was] of this.own.revert(this.signedRows)) {
      const value = this.own.values.get(key);
      if (value !== undefined) this.#sink.changed({ type: "put", row: this.#ownRow(key, value) });
      else if (was !== undefined) {
        this.#sink.changed({ type: "removed", row: this.#ownRow(key, was) });
      }
    }
  }

  /**
   * Goes on as a new life: others know more of this one than we do, so our disk is an old copy. What
   * we signed stays, as rows of a life that is over.
   */
  abandon(epoch: number): void {
    const rows = this.signedRows;
    const before = new Map([...this.own.values].map(([key, was]) => [key, this.#ownRow(key, was)]));
    const { origin } = this.self;
    this.own.moveTo(epoch);
    this.#epoch = epoch;
    this.#origin = this.originOf(this.#author, epoch);
    // Not told as gone: who reads would take them for replaced.
    for (const row of rows.head === undefined ? [] : rows.rows()) {
      before.delete(row.key);
      this.#sink.changed({ type: "put", row: shown(origin, rows.head as Head, row) });
    }
    // What is not signed yet is a row of the new life.
    for (const [key, value] of this.own.values) {
      this.#sink.changed({ type: "put", row: this.#ownRow(key, value) });
    }
    for (const row of before.values()) this.#sink.changed({ type: "removed", row });
    this.#bytes += rows.bytes;
  }

  /** Our rows as of our last signed head. */
  get signedRows(): OriginRows {
    return this.#origins.get(this.#origin) ?? new OriginRows(this.#sha256);
  }

  /** Writes a row of ours, visible here at once. @throws BarrelError `replica_limit`, `invalid_row` */
  put(key: string, value: Bytes): void {
    const reason = this.#validate(key, value);
    if (reason !== undefined) {
      throw new BarrelError("invalid_row", `${this.name} takes no such row: ${reason}`);
    }
    if (!this.own.put(key, value)) return;
    this.#sink.changed({ type: "put", row: this.#ownRow(key, this.own.values.get(key) as Bytes) });
  }

  /** Removes a row of ours; whether there was one. */
  remove(key: string): boolean {
    const value = this.own.remove(key);
    if (value === undefined) return false;
    this.#sink.changed({ type: "removed", row: this.#ownRow(key, value) });
    return true;
  }

  /**
   * Our key has changed: our rows come under the new one from now on, and what stands under the old
   * one is not ours any more. Not while a batch awaits its signature.
   */
  rekey(publicKey: Bytes): void {
    const before = [...this.own.values].map(([key, value]) => this.#ownRow(key, value));
    const old = this.#origin;
    this.#author = publicKey;
    this.#origin = this.originOf(publicKey, this.#epoch);
    this.#bytes += this.#origins.get(old)?.bytes ?? 0;
    this.own.rekey(publicKey);
    remember(this.#retired, old, this.#epoch);
    this.digests.set(old, undefined);
    // What others may have sent under the new key before is of no interest.
    this.#origins.delete(this.#origin);
    for (const { key, value } of before) {
      this.#sink.changed({ type: "put", row: this.#ownRow(key, value) });
    }
    for (const row of before) this.#sink.changed({ type: "hidden", row });
  }

  /** Makes the batch that was signed part of what others see; returns its delta. */
  signed(signature: Bytes): Delta | undefined {
    const batch = this.own.batch;
    if (batch === undefined) return undefined;
    const head: Head = { ...batch.body, signature };
    const rows = this.signedRows;
    rows.commit(batch.plan, head, () => true);
    this.#origins.set(this.#origin, rows);
    this.digests.set(this.#origin, head);
    this.own.settle(true);
    return { ...batch.delta, head };
  }

  // ---- what others wrote

  /** Whether a head would move us on; the rest needs no verification. */
  isNews(origin: OriginId, head: Head): boolean {
    if (origin === this.#origin) return false;
    if ((this.#forgotten.get(origin) ?? -1) >= head.epoch) return false;
    // An older copy would bring back what was deleted since.
    if (head.seq < (this.#left.get(origin)?.seq ?? 0)) return false;
    const held = this.#origins.get(origin)?.head;
    if (held === undefined) return true;
    // Two heads for one version: the author signed two histories; all take the greater.
    const order = compareVersions(head, held) || compareBytes(head.hash, held.hash);
    return order > 0;
  }

  /** Whether a head says of us what we never wrote: another process uses our key. */
  isImpostor(head: Head): boolean {
    if (this.kind !== "own" && head.epoch !== this.#epoch) return false;
    return equalBytes(head.author, this.#author) &&
      compareVersions(head, { epoch: this.#epoch, seq: this.signedRows.head?.seq ?? 0 }) > 0;
  }

  /** Applies a delta whose signature is good, and then those that waited for it. */
  apply(origin: OriginId, delta: Delta): Outcome[] {
    const outcomes = [this.#applyOne(origin, delta)];
    if (outcomes[0]?.type !== "applied") return outcomes;
    // One that still waits goes back where it came from.
    for (const waiting of this.#gaps.take(origin)) outcomes.push(this.#applyOne(origin, waiting));
    return outcomes;
  }

  #applyOne(origin: OriginId, delta: Delta, hadPlace: boolean = false): Outcome {
    const { head } = delta;
    if (!this.isNews(origin, head)) return { type: "stale" };
    const held = this.#origins.get(origin);
    const isMember = this.#admission.isMember(head.author);
    if (held === undefined && !this.#hasRoom(isMember || hadPlace)) {
      return { type: "refused", reason: "too_many_origins" };
    }
    const continues = held?.head?.epoch === head.epoch;
    if (delta.from > (continues ? held.head.seq : 0)) {
      return { type: "gap", isKept: this.#gaps.add(origin, delta) };
    }
    const rows = continues ? held : new OriginRows(this.#sha256);
    const plan = rows.plan(delta, this.#sha256);
    if (typeof plan === "string") return { type: "refused", reason: plan };
    if (!equalBytes(plan.sum.digest(), head.hash)) {
      return { type: "refused", reason: "hash_mismatch" };
    }
    const before = continues ? plan.gone : [...held?.rows() ?? []];
    const wasHidden = held?.head !== undefined && this.#isHidden(origin, held.head.epoch);
    const oldHead = held?.head ?? head;
    const bytesBefore = held?.bytes ?? 0;
    const added = rows.commit(plan, head, (put) => this.#isValid(put));
    this.#bytes += rows.bytes - bytesBefore;
    this.#origins.set(origin, rows);
    this.#left.delete(origin);
    if (!isMember) this.#strangers.add(origin);
    this.#sink.moved(origin, head, { gone: before, added });
    const isHidden = this.#isHidden(origin, head.epoch);
    this.digests.set(origin, isHidden ? undefined : head);
    this.#tell(origin, oldHead, wasHidden ? [] : before, head, isHidden ? [] : added);
    return { type: "applied" };
  }

  #hasRoom(isMember: boolean): boolean {
    if (this.#origins.size >= MAX_ORIGINS) return false;
    const { strangers = MAX_STRANGERS } = this.#admission;
    if (isMember || this.#strangers.size < strangers) return true;
    // Some have gone or become members since; looked at in turn, as refusals must stay cheap.
    let looks = STRANGERS_LOOKED_AT;
    for (const origin of this.#strangers) {
      if (looks-- === 0) break;
      this.#strangers.delete(origin);
      const head = this.#origins.get(origin)?.head;
      if (head !== undefined && !this.#admission.isMember(head.author)) this.#strangers.add(origin);
    }
    return this.#strangers.size < strangers;
  }

  #tell(
    origin: OriginId,
    oldHead: Head,
    before: readonly HeldRow[],
    head: Head,
    added: readonly HeldRow[],
  ): void {
    const isPut = new Set<string>();
    for (const row of added) if (row.isShown) isPut.add(row.key);
    for (const row of before) {
      if (!row.isShown || isPut.has(row.key)) continue;
      this.#sink.changed({ type: "removed", row: shown(origin, oldHead, row) });
    }
    for (const row of added) {
      if (row.isShown) this.#sink.changed({ type: "put", row: shown(origin, head, row) });
    }
  }

  #isValid(put: Put): boolean {
    let reason: string | undefined;
    try {
      reason = this.#validate(put.key, put.value);
    } catch {
      reason = "validator_threw";
    }
    if (reason !== undefined) this.#sink.invalidRow(reason);
    return reason === undefined;
  }

  // ---- the life of nodes

  /** Hides the rows of a life that was declared over. */
  retire(publicKey: Bytes, epoch: number): void {
    for (const origin of this.#livesUpTo(publicKey, epoch)) this.#retire(origin, epoch);
  }

  // Where each life is an origin, the earlier ones are over too.
  #livesUpTo(publicKey: Bytes, epoch: number): Iterable<OriginId> {
    const origins = new Set([this.originOf(publicKey, epoch)]);
    if (this.kind === "own") return origins;
    for (const [origin, { head }] of this.#origins) {
      if (head !== undefined && head.epoch < epoch && equalBytes(head.author, publicKey)) {
        origins.add(origin);
      }
    }
    return origins;
  }

  #retire(origin: OriginId, epoch: number): void {
    if (origin === this.#origin || (this.#retired.get(origin) ?? -1) >= epoch) return;
    const head = this.#origins.get(origin)?.head;
    const wasHidden = head === undefined || this.#isHidden(origin, head.epoch);
    remember(this.#retired, origin, epoch);
    if (wasHidden || !this.#isHidden(origin, head.epoch)) return;
    this.digests.set(origin, undefined);
    this.#tellAll("hidden", origin);
  }

  /** Takes {@link retire} back: the life goes on, and those before it are over. */
  restore(publicKey: Bytes, epoch: number): void {
    const origin = this.originOf(publicKey, epoch);
    // Where all lives are one origin, what was said of this one held for those before it, too.
    const earlier = this.kind === "own" ? epoch - 1 : -1;
    if (this.#forgotten.get(origin) === epoch) {
      this.#forgotten.delete(origin);
      if (earlier >= 0) remember(this.#forgotten, origin, earlier);
    }
    if (this.#retired.get(origin) !== epoch) {
      if (earlier >= 0) this.#retire(origin, earlier);
      return;
    }
    this.#retired.delete(origin);
    if (earlier >= 0) remember(this.#retired, origin, earlier);
    const head = this.#origins.get(origin)?.head;
    if (head === undefined || head.epoch !== epoch) return;
    this.digests.set(origin, head);
    this.#tellAll("restored", origin);
  }

  /** Drops the rows of a life for good; nothing brings them back but {@link restore}. */
  forget(publicKey: Bytes, epoch: number): void {
    for (const origin of this.#livesUpTo(publicKey, epoch)) this.#forget(origin, epoch);
  }

  #forget(origin: OriginId, epoch: number): void {
    if (origin === this.#origin) return;
    this.#retire(origin, epoch);
    if ((this.#forgotten.get(origin) ?? -1) < epoch) remember(this.#forgotten, origin, epoch);
    const rows = this.#origins.get(origin);
    if (rows?.head === undefined || rows.head.epoch > epoch) return;
    this.#bytes -= rows.bytes;
    this.#origins.delete(origin);
    this.#gaps.take(origin);
  }

  #isHidden(origin: OriginId, epoch: number): boolean {
    return (this.#retired.get(origin) ?? -1) >= epoch;
  }

  #tellAll(type: "hidden" | "restored", origin: OriginId): void {
    const rows = this.#origins.get(origin);
    if (rows?.head === undefined) return;
    for (const row of rows.rows()) {
      if (row.isShown) this.#sink.changed({ type, row: shown(origin, rows.head, row) });
    }
  }

  // ---- comparing and answering

  /** How far we know an origin; `NO_VERSION` when we do not. */
  version(origin: OriginId): Version {
    return this.#origins.get(origin)?.head ?? NO_VERSION;
  }

  /** The last operation of an origin that is known to have been; `Infinity` when it is forgotten. */
  knownUpTo(origin: OriginId): number {
    if (this.isForgotten(origin)) return Infinity;
    return Math.max(this.version(origin).seq, this.#left.get(origin)?.seq ?? 0);
  }

  /** The head we hold of an origin, unless it is hidden. */
  headOf(origin: OriginId): Head | undefined {
    const head = this.#origins.get(origin)?.head;
    return head === undefined || this.#isHidden(origin, head.epoch) ? undefined : head;
  }

  /**
   * Whether what a peer has of a life is of no interest: it is our own, was declared over, or is older
   * than what a damaged disk left of it. Of our own shared rows it is when others know more than our
   * disk does.
   */
  isClosed(origin: OriginId, { epoch, seq }: Version): boolean {
    if (origin !== this.#origin) {
      return this.#isHidden(origin, epoch) || seq < (this.#left.get(origin)?.seq ?? 0);
    }
    return this.kind === "own" || seq <= this.version(origin).seq;
  }

  /** The heads we hold, our own and hidden ones excepted. */
  *heads(): IterableIterator<{ readonly origin: OriginId; readonly head: Head }> {
    for (const [origin, { head }] of this.#origins) {
      if (head !== undefined && origin !== this.#origin && !this.#isHidden(origin, head.epoch)) {
        yield { origin, head };
      }
    }
  }

  /** Whether an origin, whose life was declared over, never comes back. */
  isForgotten(origin: OriginId): boolean {
    return this.#forgotten.has(origin) && !this.#origins.has(origin);
  }

  /** Whether the life of an origin that we know was declared over. */
  isAway(origin: OriginId): boolean {
    const head = this.#origins.get(origin)?.head;
    return head !== undefined && this.#isHidden(origin, head.epoch);
  }

  /** How many origins there are. */
  get originCount(): number {
    return this.#origins.size;
  }

  /** The way from `version` to what we hold of an origin; undefined when that is no news. */
  deltaFrom(origin: OriginId, version: Version): Delta | undefined {
    const head = this.headOf(origin);
    if (head === undefined || compareVersions(head, version) < 0) return undefined;
    if (compareVersions(head, version) === 0 && version.seq > 0) return undefined;
    return this.#origins.get(origin)?.deltaFrom(version);
  }

  /** Counts and digests anew what the rows are, whatever was left half done. */
  count(): void {
    this.#bytes = 0;
    for (const [origin, rows] of this.#origins) {
      if (origin === this.#origin) this.digests.set(origin, rows.head);
      else {
        this.#bytes += rows.bytes;
        this.digests.set(origin, this.headOf(origin));
      }
    }
  }

  // ---- reading

  /** The row that an author, or this life of it, wrote under a key. */
  get(publicKey: Uint8Array, key: string, epoch: number = 0): Row | undefined {
    const origin = this.originOf(publicKey, epoch);
    if (origin === this.#origin) {
      const value = this.own.values.get(key);
      return value === undefined ? undefined : this.#ownRow(key, value);
    }
    return this.#rowOf(origin, key);
  }

  /** The rows that all authors wrote under a key. */
  rowsOf(key: string): Row[] {
    const rows: Row[] = [];
    const own = this.own.values.get(key);
    if (own !== undefined) rows.push(this.#ownRow(key, own));
    for (const [origin, held] of this.#origins) {
      // Few of many authors write one key.
      if (held.get(key) === undefined || origin === this.#origin) continue;
      const row = this.#rowOf(origin, key);
      if (row !== undefined) rows.push(row);
    }
    return rows;
  }

  /** The rows of one author. */
  *rowsBy(publicKey: Uint8Array): IterableIterator<Row> {
    if (this.kind === "own") return yield* this.#rowsBy(this.originOf(publicKey, 0));
    for (const row of this.rows()) if (equalBytes(row.author, publicKey)) yield row;
  }

  /** Every visible row. */
  *rows(): IterableIterator<Row> {
    yield* this.#rowsBy(this.#origin);
    for (const origin of this.#origins.keys()) {
      if (origin !== this.#origin) yield* this.#rowsBy(origin);
    }
  }

  *#rowsBy(origin: OriginId): IterableIterator<Row> {
    if (origin === this.#origin) {
      for (const [key, value] of this.own.values) yield this.#ownRow(key, value);
      return;
    }
    const life = this.#lifeOf(origin);
    const rows = this.#origins.get(origin);
    if (life === undefined || rows === undefined) return;
    for (const row of rows.rows()) if (row.isShown) yield shown(origin, life, row);
  }

  #rowOf(origin: OriginId, key: string): Row | undefined {
    const life = this.#lifeOf(origin);
    const row = this.#origins.get(origin)?.get(key);
    return life !== undefined && row?.isShown ? shown(origin, life, row) : undefined;
  }

  #lifeOf(origin: OriginId): Life | undefined {
    return this.headOf(origin) ?? this.#left.get(origin);
  }

  #ownRow(key: string, value: Bytes): Row {
    const { epoch, origin } = this.self;
    return { author: this.#author, epoch, origin, seq: this.ownDot(key) ?? 0, key, value };
  }
}

type Life = Pick<Head, "author" | "epoch">;

function shown(origin: OriginId, { author, epoch }: Life, { seq, key, value }: HeldRow): Row {
  return { author, epoch, origin, seq, key, value };
}

// Bounded like the origins themselves; the oldest verdict goes first.
function remember(verdicts: Map<OriginId, number>, origin: OriginId, epoch: number): void {
  verdicts.delete(origin);
  if (verdicts.size >= MAX_ORIGINS) {
    const oldest = verdicts.keys().next().value;
    if (oldest !== undefined) verdicts.delete(oldest);
  }
  verdicts.set(origin, epoch);
}
