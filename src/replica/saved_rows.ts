/**
 * The rows of a store as entries of a table on disk: `<origin>/<seq>` holds a row, `<origin>/h` the
 * head that all of them are true to, `own` the life in which this node goes on writing.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Write } from "../storage/contract.ts";
import type { PatientWrite } from "../storage/patient_writer.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { ByteReader } from "../wire/varint.ts";
import { originBytes } from "./head.ts";
import type { Head, OriginId } from "./head.ts";
import { MAX_KEY_BYTES } from "./limits.ts";
import type { Delta, Put } from "./origin_rows.ts";

const OWN = "own";

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

/** What {@link readSaved} found. */
export interface Saved {
  /** The life in which this node goes on; undefined when it never wrote. */
  readonly epoch: number | undefined;
  /** Each origin, from nothing to its head. */
  readonly deltas: readonly Delta[];
  /** Whether there are entries that cannot be read, or belong to no head. */
  readonly isDamaged: boolean;
  /** The writes that take those away. */
  readonly strays: readonly Write[];
}

/** Reads the table of a store back. Whether rows add up to their head is for the store to check. */
export function readSaved(
  store: string,
  entries: readonly (readonly [string, Bytes])[],
): Saved {
  const table = tableOf(store);
  let epoch: number | undefined;
  const deltas: Delta[] = [];
  const strays: Write[] = [];
  let isDamaged = false;
  const heads = new Map<string, Head>();
  const rows = new Map<string, Put[]>();
  for (const [key, value] of entries) {
    const [origin = "", part = ""] = key.split("/");
    try {
      if (key === OWN) epoch = new ByteReader(value).varint();
      else if (part === "h") heads.set(origin, readHead(value));
      else {
        const puts = rows.get(origin) ?? [];
        rows.set(origin, puts);
        puts.push(readRow(Number.parseInt(part, 16), value));
      }
    } catch {
      isDamaged = true;
      // Our life is written anew by itself.
      if (key !== OWN) strays.push({ table, key, value: undefined });
    }
  }
  for (const [origin, head] of heads) deltas.push(wholeDelta(head, rows.get(origin) ?? []));
  for (const [origin, puts] of rows) {
    if (heads.has(origin)) continue;
    for (const { seq } of puts) strays.push({ table, key: rowKey(origin, seq), value: undefined });
  }
  return { epoch, deltas, isDamaged: isDamaged || strays.length > 0, strays };
}

/** The writes that take away all that the disk has of an origin, as it was read. */
export function erased(store: string, origin: OriginId, { puts }: Delta): Write[] {
  const table = tableOf(store);
  const prefix = hex(originBytes(origin));
  const keys = [`${prefix}/h`, ...puts.map(({ seq }) => rowKey(prefix, seq))];
  return keys.map((key) => ({ table, key, value: undefined }));
}

function wholeDelta(head: Head, puts: readonly Put[]): Delta {
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
