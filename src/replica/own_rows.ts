/**
 * Our own rows in one store: what we wrote, and the batches that turn it into signed heads. One
 * signature is asked for at a time; what is written meanwhile waits for the next batch. Others
 * see the rows of the last signed head, we see the last write.
 */
import { EMPTY, equalBytes, utf8Length } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { BarrelError } from "../base/errors.ts";
import type { HeadBody } from "./head.ts";
import {
  MAX_BATCH_BYTES,
  MAX_KEY_BYTES,
  MAX_OPS,
  MAX_ORIGIN_BYTES,
  MAX_ROW_BYTES,
  MAX_ROWS_PER_ORIGIN,
  MAX_VALUE_BYTES,
} from "./limits.ts";
import { rowBytes } from "./origin_rows.ts";
import type { Delta, OriginRows, Plan, Put } from "./origin_rows.ts";
import type { Sha256 } from "./set_hash.ts";

/** A batch that waits for its signature. */
export interface Batch {
  readonly body: HeadBody;
  readonly delta: Omit<Delta, "head">;
  readonly plan: Plan;
  /** The last write that this batch and those before it cover. */
  readonly covers: number;
  /** The keys it took, with their writes. */
  readonly taken: ReadonlyMap<string, number>;
}

/** The writer of one store. */
export class OwnRows {
  #author: Bytes;
  readonly #signsEmpty: boolean;
  #epoch: number;
  readonly #values = new Map<string, Bytes>();
  #bytes = 0;
  /** Keys that may differ from the signed rows and the number of their last write, in that order. */
  #dirty = new Map<string, number>();
  #writes = 0;
  #signedWrites = 0;
  #batch: Batch | undefined;

  /** `signsEmpty`: whether there is a head before there is a row. */
  constructor(author: Bytes, epoch: number, signsEmpty: boolean) {
    this.#author = author;
    this.#epoch = epoch;
    this.#signsEmpty = signsEmpty;
  }

  /** Takes up the rows that an earlier run of this life signed. */
  load(rows: OriginRows): void {
    for (const { key, value } of rows.rows()) this.#values.set(key, value);
    this.#bytes = rows.bytes;
  }

  /** What we wrote last, by key. */
  get values(): ReadonlyMap<string, Bytes> {
    return this.#values;
  }

  /** The batch whose signature is awaited. */
  get batch(): Batch | undefined {
    return this.#batch;
  }

  /** The number of the last write. */
  get writes(): number {
    return this.#writes;
  }

  /** The last write that is signed, with all before it. */
  get signedWrites(): number {
    return this.#signedWrites;
  }

  /**
   * Writes a row; returns whether that changed anything.
   *
   * @throws BarrelError `replica_limit` when the row or all rows together are too large.
   */
  put(key: string, value: Uint8Array): boolean {
    const held = this.#values.get(key);
    if (held !== undefined && equalBytes(held, value)) return false;
    checkKey(key);
    if (value.length > MAX_VALUE_BYTES) {
      throw limit(`a value of ${value.length} bytes; the most is ${MAX_VALUE_BYTES}`);
    }
    const bytes = this.#bytes + rowBytes(key, value) - rowBytes(key, held);
    if (held === undefined && this.#values.size >= MAX_ROWS_PER_ORIGIN) {
      throw limit(`this node has ${MAX_ROWS_PER_ORIGIN} rows here already`);
    }
    if (bytes > MAX_ORIGIN_BYTES) throw limit(`this node's rows would take ${bytes} bytes`);
    this.#bytes = bytes;
    this.#values.set(key, new Uint8Array(value));
    this.#touch(key);
    return true;
  }

  /** Removes a row; returns its value if there was one. */
  remove(key: string): Bytes | undefined {
    const held = this.#values.get(key);
    if (held === undefined) return undefined;
    this.#bytes -= rowBytes(key, held);
    this.#values.delete(key);
    this.#touch(key);
    return held;
  }

  /**
   * The author has a new key: everything is to be signed anew, what nobody has seen yet first. Not
   * while a batch awaits its signature.
   */
  rekey(author: Bytes): void {
    this.#author = author;
    for (const key of this.#values.keys()) if (!this.#dirty.has(key)) this.#touch(key);
  }

  /** Cuts the next batch from what differs from the signed `rows`, if anything does. */
  cut(rows: OriginRows, sha256: Sha256): Batch | undefined {
    if (this.#batch !== undefined) return undefined;
    const from = rows.head?.seq ?? 0;
    let seq = from;
    let bytes = 0;
    const dots: number[] = [];
    const puts: Put[] = [];
    const taken = new Map<string, number>();
    for (const key of this.#inSafeOrder(rows)) {
      if (bytes > MAX_BATCH_BYTES - MAX_ROW_BYTES || seq - from === MAX_OPS) break;
      taken.set(key, this.#dirty.get(key) as number);
      const signed = rows.get(key);
      const value = this.#values.get(key);
      if (signed !== undefined && value !== undefined && equalBytes(signed.value, value)) continue;
      if (signed === undefined && value === undefined) continue;
      seq++;
      if (signed !== undefined) dots.push(signed.seq);
      if (value !== undefined) puts.push({ seq, key, value });
      bytes += rowBytes(key, value ?? EMPTY);
    }
    let covers = this.#writes;
    for (const [key, write] of this.#dirty) {
      if (!taken.has(key)) covers = Math.min(covers, write - 1);
    }
    if (seq === from && (rows.head !== undefined || !this.#signsEmpty)) {
      this.#clean(taken);
      this.#signedWrites = covers;
      return undefined;
    }
    dots.sort((a, b) => a - b);
    const delta: Batch["delta"] = { from, earlier: { type: "removed", dots }, puts };
    const plan = rows.plan(delta, sha256);
    if (typeof plan === "string") throw new Error(`our own batch breaks a limit: ${plan}`);
    const body = { author: this.#author, epoch: this.#epoch, seq, hash: plan.sum.digest() };
    // What throws before this leaves the writes to the next batch.
    this.#clean(taken);
    return this.#batch = { body, delta, plan, covers, taken };
  }

  #clean(taken: ReadonlyMap<string, number>): void {
    for (const key of taken.keys()) this.#dirty.delete(key);
  }

  /** The batch is signed and applied, or could not be signed and goes back. */
  settle(isSigned: boolean): void {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch === undefined) return;
    if (isSigned) this.#signedWrites = batch.covers;
    else this.#dirty = new Map([...batch.taken, ...this.#dirty]);
  }

  /**
   * Takes the batch under way back, since the disk refused it: what was not written again is as the
   * signed `rows` have it. Returns the keys and what they held.
   */
  revert(rows: OriginRows): [key: string, was: Bytes | undefined][] {
    const batch = this.#batch;
    this.#batch = undefined;
    if (batch === undefined) return [];
    this.#signedWrites = batch.covers;
    const reverted: [string, Bytes | undefined][] = [];
    for (const key of batch.taken.keys()) {
      if (this.#dirty.has(key)) continue;
      reverted.push([key, this.#values.get(key)]);
      this.#set(key, rows.get(key)?.value);
    }
    return reverted;
  }

  /** Goes on as another life that has nothing but what is not signed yet. */
  moveTo(epoch: number): void {
    this.settle(false);
    this.#epoch = epoch;
    for (const key of [...this.#values.keys()]) {
      if (!this.#dirty.has(key)) this.#set(key, undefined);
    }
  }

  #set(key: string, value: Bytes | undefined): void {
    this.#bytes += rowBytes(key, value) - rowBytes(key, this.#values.get(key));
    if (value === undefined) this.#values.delete(key);
    else this.#values.set(key, value);
  }

  #touch(key: string): void {
    this.#dirty.delete(key);
    this.#dirty.set(key, ++this.#writes);
  }

  // In the order written, unless batches that end within the limits might pass them on the way:
  // then what shrinks goes first.
  #inSafeOrder(rows: OriginRows): Iterable<string> {
    const isRoomy = rows.bytes + this.#bytes <= MAX_ORIGIN_BYTES &&
      rows.size + this.#values.size <= MAX_ROWS_PER_ORIGIN;
    if (isRoomy) return this.#dirty.keys();
    const growth = (key: string) =>
      rowBytes(key, this.#values.get(key)) - rowBytes(key, rows.get(key)?.value);
    return [...this.#dirty.keys()].map((key) => [key, growth(key)] as const)
      .sort(([, a], [, b]) => a - b).map(([key]) => key);
  }
}

function checkKey(key: string): void {
  if (!key.isWellFormed()) throw limit("the key is not well-formed Unicode");
  const bytes = utf8Length(key);
  if (bytes > MAX_KEY_BYTES) throw limit(`a key of ${bytes} bytes; the most is ${MAX_KEY_BYTES}`);
}

function limit(what: string): BarrelError {
  return new BarrelError("replica_limit", what);
}
