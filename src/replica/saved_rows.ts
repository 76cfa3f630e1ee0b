/**
 * The rows of a store as entries of a table on disk: `<origin>/<seq>` holds a row, `<origin>/h` the
 * head that all of them are true to, `own` the life in which this node goes on writing.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Entry, Write } from "../storage/contract.ts";
import type { PatientWrite } from "../storage/patient_writer.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { ByteReader } from "../wire/varint.ts";
import { ORIGIN_BYTES, originBytes, toOrigin } from "./head.ts";
import type { Head, OriginId } from "./head.ts";
import { MAX_KEY_BYTES } from "./limits.ts";
import type { Delta, Put } from "./origin_rows.ts";

const OWN = "own";
const HEX = /^[0-9a-f]{32}$/;

/** The name of a store's table. */
export function tableOf(store: string): string {
  return `replica ${store}`;
}

/** Rows that are gone, and then rows that came. */
export interface Moved {
  readonly gone: readonly Pick<Put, "seq">[];
  readonly added: readonly Put[];
}

/**
 * The writes that take an origin to `head`. A row is made into bytes as its write is read: those that
 * wait for the disk are not held twice.
 */
export function savedMove(
  store: string,
  origin: OriginId,
  head: Head,
  { gone, added }: Moved,
): PatientWrite[] {
  const table = tableOf(store);
  const prefix = hex(originBytes(origin));
  const writes: PatientWrite[] = gone.map(({ seq }) => (
    { table, key: rowKey(prefix, seq), value: undefined }
  ));
  for (const put of added) {
    writes.push({
      table,
      key: rowKey(prefix, put.seq),
      get value() {
        return rowBytes(put);
      },
      // Where a row takes the number of another, that one is among those that are gone.
      isNew: true,
    });
  }
  const writer = new ByteWriter(192);
  writer.raw(head.author);
  writer.varint(head.epoch);
  writer.varint(head.seq);
  writer.raw(head.hash);
  writer.raw(head.signature);
  writes.push({ table, key: `${prefix}/h`, value: writer.finish() });
  return writes;
}

/** The write that keeps the life in which this node writes. */
export function savedLife(store: string, epoch: number): Write {
  const writer = new ByteWriter();
  writer.varint(epoch);
  return { table: tableOf(store), key: OWN, value: writer.finish() };
}

/** What the disk has of an origin. */
export interface SavedOrigin {
  /** The origin, as the disk calls it. */
  readonly origin: OriginId;
  /** Undefined when there is none that can be read. */
  readonly head: Head | undefined;
  /** The rows, in order. */
  readonly puts: readonly Put[];
  /** Those that nothing speaks for unless they add up to the head. */
  readonly unproven: ReadonlySet<Put>;
}

/** What {@link readSaved} found. */
export interface Saved {
  /** The life in which this node goes on; undefined when it never wrote. */
  readonly epoch: number | undefined;
  readonly origins: readonly SavedOrigin[];
  /** The writes that take away what cannot be read. */
  readonly strays: readonly Write[];
}

/** Reads the table of a store back. Whether rows add up to their head is for the store to check. */
export function readSaved(store: string, entries: readonly Entry[]): Saved {
  const table = tableOf(store);
  let epoch: number | undefined;
  const strays: Write[] = [];
  const origins = new Map<string, SavedOrigin & { puts: Put[]; unproven: Set<Put> }>();
  const at = (prefix: string) => {
    const known = origins.get(prefix);
    if (known !== undefined) return known;
    const made = {
      origin: originOfHex(prefix),
      head: undefined,
      puts: [],
      unproven: new Set<Put>(),
    };
    origins.set(prefix, made);
    return made;
  };
  for (const [key, value, says] of entries) {
    const [prefix = "", part = ""] = key.split("/");
    try {
      if (key === OWN) epoch = new ByteReader(value).varint();
      else if (part === "h") origins.set(prefix, { ...at(prefix), head: readHead(value) });
      else {
        const put = readRow(Number.parseInt(part, 16), value);
        const { puts, unproven } = at(prefix);
        puts.push(put);
        if (says?.isUnproven === true) unproven.add(put);
      }
    } catch {
      // Our life is written anew by itself.
      if (key !== OWN) strays.push({ table, key, value: undefined });
    }
  }
  return { epoch, origins: [...origins.values()], strays };
}

/** The writes that take rows of an origin away. */
export function erasedRows(store: string, origin: OriginId, puts: Iterable<Put>): Write[] {
  const prefix = hex(originBytes(origin));
  return Array.from(puts, ({ seq }) => (
    { table: tableOf(store), key: rowKey(prefix, seq), value: undefined }
  ));
}

/** The writes that take away all that the disk has of an origin. */
export function erased(store: string, { origin, puts }: SavedOrigin): Write[] {
  const key = `${hex(originBytes(origin))}/h`;
  return [{ table: tableOf(store), key, value: undefined }, ...erasedRows(store, origin, puts)];
}

/** The writes that keep rows which the disk has already once more. */
export function savedAgain(store: string, origin: OriginId, puts: Iterable<Put>): Write[] {
  const prefix = hex(originBytes(origin));
  return Array.from(puts, (put) => (
    { table: tableOf(store), key: rowKey(prefix, put.seq), value: rowBytes(put) }
  ));
}

/** The way from nothing to a head. */
export function wholeDelta(head: Head, puts: readonly Put[]): Delta {
  return { head, from: 0, earlier: { type: "kept", runs: [] }, puts };
}

function rowBytes({ key, value }: Put): Bytes {
  const writer = new ByteWriter(value.length + 32);
  writer.block(utf8(key));
  writer.raw(value);
  return writer.finish();
}

function readHead(value: Bytes): Head {
  const reader = new ByteReader(value);
  return {
    author: reader.take(32),
    epoch: reader.varint(),
    seq: reader.varint(),
    hash: reader.take(32),
    signature: reader.take(64),
  };
}

function readRow(seq: number, value: Bytes): Put {
  if (!Number.isSafeInteger(seq)) throw new RangeError("a row without a number");
  const reader = new ByteReader(value);
  const key = fromUtf8(reader.block(MAX_KEY_BYTES));
  return { seq, key, value: reader.rest() };
}

function rowKey(prefix: string, seq: number): string {
  return `${prefix}/${seq.toString(16).padStart(14, "0")}`;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

function originOfHex(prefix: string): OriginId {
  if (!HEX.test(prefix)) throw new RangeError("no origin");
  const bytes = new Uint8Array(ORIGIN_BYTES);
  for (let i = 0; i < ORIGIN_BYTES; i++) {
    bytes[i] = Number.parseInt(prefix.slice(2 * i, 2 * i + 2), 16);
  }
  return toOrigin(bytes);
}
