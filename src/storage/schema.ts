/**
 * The tables of the file: how each version of them becomes the next, whether what a file has is what
 * its version says, and the sum beside each entry, which tells one that the disk damaged.
 */
import type { DatabaseSync } from "node:sqlite";
import { utf8 } from "../base/bytes.ts";

/** One step from a version of the schema to the next. */
export type Upgrade = string | ((db: DatabaseSync) => void);

const PLAIN = `CREATE TABLE entries (
     tbl TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key)
   ) WITHOUT ROWID`;
const SUMMED = `CREATE TABLE entries (
     tbl TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, sum INTEGER NOT NULL,
     PRIMARY KEY (tbl, key)
   ) WITHOUT ROWID`;

/** From each version of the schema to the next; the last is the current one. Only ever appended to. */
export const UPGRADES: readonly Upgrade[] = [
  PLAIN,
  (db) => rewrite(db, "SELECT tbl, key, value FROM before", oldSumOf),
];

/** The version from which on entries have sums. */
export const SUMS_SINCE = 2;

interface StoredEntry {
  readonly tbl: unknown;
  readonly key: unknown;
  readonly value: unknown;
  readonly sum?: unknown;
}

/** What can be said of an entry as it was read. */
export type Soundness =
  /** It is as it was written. */
  | "sound"
  /** It is as it was when it got its sum, which was later than when it was written. */
  | "unproven"
  | "damaged";

/** Holds an entry against its sum. */
export function soundnessOf({ tbl, key, value, sum }: StoredEntry): Soundness {
  if (typeof tbl !== "string" || typeof key !== "string" || !(value instanceof Uint8Array)) {
    return "damaged";
  }
  const right = sumOf(tbl, key, value);
  if (sum === right) return "sound";
  return sum === late(right) ? "unproven" : "damaged";
}

/** The CRC-32 of an entry, table and key included, so that none passes for another. */
export function sumOf(table: string, key: string, value: Uint8Array): number {
  return ~crc(crc(~0, utf8(`${table}\0${key}\0`)), value) >>> 0;
}

function crc(start: number, bytes: Uint8Array): number {
  let state = start;
  // Counted, since files are read whole: an iterator takes several times as long.
  for (let i = 0; i < bytes.length; i++) {
    state = (CRC_TABLE[(state ^ (bytes[i] as number)) & 0xff] as number) ^ (state >>> 8);
  }
  return state;
}

// The reflected polynomial of IEEE 802.3.
const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  return crc;
});

// A sum that says so: what was damaged before has a right one, too.
function late(sum: number): number {
  return -1 - sum;
}

function oldSumOf({ tbl, key, value }: StoredEntry): number | undefined {
  if (typeof tbl !== "string" || typeof key !== "string") return undefined;
  return value instanceof Uint8Array ? late(sumOf(tbl, key, value)) : undefined;
}

/** Whether any entry does not have the right sum. Reads them all. @throws what SQLite throws */
export function hasDamage(db: DatabaseSync): boolean {
  for (const row of db.prepare("SELECT tbl, key, value, sum FROM entries").iterate()) {
    if (soundnessOf(row as unknown as StoredEntry) === "damaged") return true;
  }
  return false;
}

/**
 * Makes the table anew of the entries that are not damaged, in a transaction of the caller's: in a
 * damaged one the order may be wrong, and so what is looked up not be found. Returns how many are
 * gone, by what their tables read like.
 */
export function mend(db: DatabaseSync): Map<string, number> {
  const lost = new Map<string, number>();
  rewrite(db, "SELECT tbl, key, value, sum FROM before", (row) => {
    if (soundnessOf(row) !== "damaged") return row.sum as number;
    const table = String(row.tbl);
    lost.set(table, (lost.get(table) ?? 0) + 1);
    return undefined;
  });
  return lost;
}

function rewrite(
  db: DatabaseSync,
  select: string,
  sum: (row: StoredEntry) => number | undefined,
): void {
  db.exec(`ALTER TABLE entries RENAME TO before; ${SUMMED}`);
  const put = db.prepare("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)");
  for (const row of db.prepare(select).iterate()) {
    const entry = row as unknown as StoredEntry;
    const own = sum(entry);
    if (own === undefined) continue;
    put.run(entry.tbl as string, entry.key as string, entry.value as Uint8Array, own);
  }
  db.exec("DROP TABLE before");
}

/**
 * Whether a file has the tables that its version says. `scratch` is an empty database, on which the
 * upgrades are tried.
 */
export function hasShape(
  db: DatabaseSync,
  version: number,
  upgrades: readonly Upgrade[],
  scratch: DatabaseSync,
): boolean {
  for (const upgrade of upgrades.slice(0, version)) apply(scratch, upgrade);
  const found = new Set(shapeOf(db));
  if (version === 0) return found.size === 0;
  return shapeOf(scratch).every((one) => found.has(one));
}

/** Takes one step. */
export function apply(db: DatabaseSync, upgrade: Upgrade): void {
  if (typeof upgrade === "string") db.exec(upgrade);
  else upgrade(db);
}

function shapeOf(db: DatabaseSync): string[] {
  const rows = db.prepare("SELECT type, name, tbl_name, sql FROM sqlite_schema").all();
  return rows.map((row) => JSON.stringify(Object.values(row)));
}
