/**
 * The durable store on SQLite through `node:sqlite`, which Deno, Bun and Node have alike. WAL with
 * `synchronous = FULL`: a batch is on the disk when its promise resolves, whatever becomes of the
 * process or the machine. Batches of one turn share a transaction, and so one flush.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, readSync } from "node:fs";
import { dirname } from "node:path";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import { ConfigError, messageOf, StorageError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Meter } from "../metrics/meter.ts";
import { asideName, copyAside, removeAside, renameAside, SUFFIXES } from "./aside.ts";
import type { DurableStore, Entry, Write } from "./contract.ts";
import { apply, hasDamage, hasShape, mend, soundnessOf } from "./schema.ts";
import { sumOf, SUMS_SINCE, UPGRADES } from "./schema.ts";
import type { Upgrade } from "./schema.ts";

/** Says that a file is ours: "BP2P", at a fixed place of its header. */
const APPLICATION_ID = 0x42503250;
/** How long another process that is about to end may hold the file, milliseconds. */
const BUSY_MS = 2_000;

/** No release has a schema above this: such a number is damage. */
const MAX_VERSION = 1_000;

type Sqlite = new (path: string) => DatabaseSync;

/** What {@link sqliteStore} needs. */
export interface SqliteOptions {
  /** The file; made, with its folder, when missing (modes 0600 and 0700). */
  readonly path: string;
  readonly logger: Logger;
  readonly meter: Meter;
  /** The date for the name of a file that is set aside, milliseconds since 1970. */
  readonly now: number;
  /** The file grows to this many pages of 4 KiB. @default no bound but the disk's */
  readonly maxPages?: number;
  /** @default {@link UPGRADES} */
  readonly upgrades?: readonly Upgrade[];
}

/**
 * Opens a store. A file that SQLite cannot read, that does not have the tables of its version, or
 * that another program made, is renamed to `<name>.corrupt-<date>` or `<name>.foreign-<date>`, logged
 * as an error, and a new one begun. Of a file in which single entries are damaged a copy is kept under
 * such a name, and the others stay.
 *
 * @throws ConfigError `dataDir` when the file cannot be opened, is held by another process, or
 * was written by a later version of the library
 * @throws StorageError `unavailable` when the host has no `node:sqlite`
 */
export async function sqliteStore(options: SqliteOptions): Promise<DurableStore> {
  const { path } = options;
  let Sqlite: Sqlite;
  try {
    ({ DatabaseSync: Sqlite } = await import("node:sqlite"));
  } catch (error) {
    throw new StorageError(
      "unavailable",
      "this host has no node:sqlite; it needs Node 22.13, Deno 2.2 or Bun 1.4, or leave dataDir out",
      { cause: error },
    );
  }
  const file = new StoreFile(Sqlite, options);
  for (let attempt = 0;; attempt++) {
    try {
      file.open();
      let flaw = file.judge();
      // What is mended may be of an earlier version.
      if (flaw === "damaged") flaw = file.mend() ? file.judge() : "corrupt";
      if (flaw === "damaged") flaw = "corrupt";
      if (flaw === undefined) return new SqliteStore(file);
      if (attempt > 0) throw new Error(`a new file is ${flaw}, too`);
      file.setAside(flaw);
    } catch (error) {
      file.close();
      if (error instanceof ConfigError) throw error;
      throw cannotOpen(path, storageError(error).reason, error);
    }
  }
}

/** The file, while it is opened and when something is wrong with it. */
class StoreFile {
  readonly #Sqlite: Sqlite;
  readonly #options: SqliteOptions;
  #db: DatabaseSync | undefined;
  #keptAs: string | undefined;

  constructor(Sqlite: Sqlite, options: SqliteOptions) {
    this.#Sqlite = Sqlite;
    this.#options = options;
  }

  /** The open database. */
  get db(): DatabaseSync {
    if (this.#db === undefined) throw closed();
    return this.#db;
  }

  open(): void {
    const { path } = this.#options;
    // Private before the first byte; the journal takes the mode of its database.
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    closeSync(openSync(path, "a", 0o600));
    this.#db = new this.#Sqlite(path);
    this.#db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
    // One process a file: two that write the log of one replica would fork its history.
    this.#db.exec("PRAGMA locking_mode = EXCLUSIVE");
  }

  close(): void {
    const db = this.#db;
    this.#db = undefined;
    if (db?.isOpen === true) db.close();
  }

  /** What keeps the file from being used; undefined once it is ready. */
  judge(): "foreign" | "corrupt" | "damaged" | undefined {
    try {
      return this.#prepare();
    } catch (error) {
      if (error instanceof ConfigError) throw error;
      const { reason } = storageError(error);
      if (reason === "corrupt") return "corrupt";
      // To SQLite a file is read-only, too, whose header says that a later SQLite wrote it.
      if (reason === "read_only" && writeVersion(this.#options.path) > 2) return "corrupt";
      throw error;
    }
  }

  #prepare(): "foreign" | "corrupt" | "damaged" | undefined {
    const { path, upgrades = UPGRADES } = this.#options;
    const { db } = this;
    const id = pragma(db, "application_id");
    const version = pragma(db, "user_version");
    const tables = Number(
      Object.values(db.prepare("SELECT count(*) FROM sqlite_schema").get() ?? {})[0],
    );
    if (id !== APPLICATION_ID && (id !== 0 || version !== 0 || tables > 0)) return "foreign";
    if (version < 0 || version > MAX_VERSION) return "corrupt";
    if (version > upgrades.length) {
      throw new ConfigError(
        "dataDir",
        `${path} has schema ${version}, this version of the library knows ${upgrades.length}: ` +
          "use the later version, or another folder",
      );
    }
    // Ours, and so for us to change.
    for (const suffix of SUFFIXES) if (existsSync(path + suffix)) chmodSync(path + suffix, 0o600);
    this.#configure();
    if (!this.#hasShape(version)) return "corrupt";
    const isWhole = quickCheck(db) === "ok";
    if (version >= SUMS_SINCE) {
      if (!isWhole || hasDamage(db)) return "damaged";
    } else if (!isWhole) return "corrupt";
    transact(db, () => {
      for (const upgrade of upgrades.slice(version)) apply(db, upgrade);
      db.exec(
        `PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${upgrades.length}`,
      );
    });
    return undefined;
  }

  #configure(): void {
    const { maxPages } = this.#options;
    this.db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
    if (maxPages !== undefined) this.db.exec(`PRAGMA max_page_count = ${maxPages}`);
  }

  #hasShape(version: number): boolean {
    const scratch = new this.#Sqlite(":memory:");
    try {
      return hasShape(this.db, version, this.#options.upgrades ?? UPGRADES, scratch);
    } finally {
      scratch.close();
    }
  }

  /** Renames the file with what belongs to it, and closes it. */
  setAside(flaw: "foreign" | "corrupt"): void {
    const { path, logger, meter, now } = this.#options;
    const name = asideName(path, flaw, now);
    try {
      // Before it is closed, since SQLite then writes the log into the database and deletes it, but
      // leaves a file alone that was renamed.
      renameAside(path, name);
      this.close();
    } catch {
      // Windows renames no open file.
      this.close();
      renameAside(path, name);
    }
    meter.count("barrel_storage_damaged_total", { what: flaw });
    logger.log("error", `${path} is not a readable store of this library; it is kept as ${name}`, {
      path,
      keptAs: name,
      flaw,
    });
  }

  /** A copy of the file as it is, one each time it is opened; its name. */
  keep(): string {
    if (this.#keptAs !== undefined) return this.#keptAs;
    const { path, now } = this.#options;
    const name = asideName(path, "corrupt", now);
    // Closed, so that all is in the file, and since whoever closes it takes SQLite's lock away.
    this.close();
    try {
      copyAside(path, name);
    } finally {
      this.open();
      this.#configure();
    }
    return this.#keptAs = name;
  }

  /** Keeps a copy and takes out the entries that are damaged; false when more than those are. */
  mend(): boolean {
    const { path, logger, meter } = this.#options;
    const hadCopy = this.#keptAs !== undefined;
    const keptAs = this.keep();
    let lost: ReadonlyMap<string, number> = new Map();
    try {
      transact(this.db, () => {
        lost = mend(this.db);
        const check = quickCheck(this.db);
        if (check !== "ok") throw malformed(check);
      });
    } catch (error) {
      if (!hadCopy) {
        removeAside(keptAs);
        this.#keptAs = undefined;
      }
      if (storageError(error).reason !== "corrupt") throw error;
      return false;
    }
    let entries = 0;
    for (const count of lost.values()) entries += count;
    meter.count("barrel_storage_damaged_total", { what: "entry" }, entries);
    logger.log(
      "error",
      `${path} was damaged on the disk: ${entries} entries are lost, the others stay; ` +
        `the file as it was is kept as ${keptAs}`,
      { path, keptAs, lost: entries, tables: [...lost.keys()].join(", ") },
    );
    return true;
  }
}

function transact(db: DatabaseSync, body: () => void): void {
  db.exec("BEGIN EXCLUSIVE");
  try {
    body();
    db.exec("COMMIT");
  } catch (error) {
    try {
      db.exec("ROLLBACK");
    } catch {
      // SQLite rolled back by itself.
    }
    throw error;
  }
}

function writeVersion(path: string): number {
  const file = openSync(path, "r");
  try {
    const version = new Uint8Array(1);
    readSync(file, version, 0, 1, 18);
    return version[0] as number;
  } finally {
    closeSync(file);
  }
}

function quickCheck(db: DatabaseSync): unknown {
  return Object.values(db.prepare("PRAGMA quick_check(1)").get() ?? {})[0];
}

function malformed(why: unknown): Error {
  return new Error(`database disk image is malformed: ${why}`);
}

function pragma(db: DatabaseSync, name: string): number {
  return Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
}

interface Waiting {
  readonly batch: readonly Write[];
  resolve(): void;
  reject(error: Error): void;
}

class SqliteStore implements DurableStore {
  readonly isDurable = true;
  readonly #file: StoreFile;
  #put!: StatementSync;
  #remove!: StatementSync;
  #select!: StatementSync;
  #waiting: Waiting[] = [];
  #isClosed = false;

  constructor(file: StoreFile) {
    this.#file = file;
    this.#use(file.db);
  }

  #use(db: DatabaseSync): void {
    this.#put = db.prepare("INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?)");
    this.#remove = db.prepare("DELETE FROM entries WHERE tbl = ? AND key = ?");
    this.#select = db.prepare(
      "SELECT tbl, key, value, sum FROM entries WHERE tbl = ? ORDER BY key",
    );
  }

  entries(table: string): readonly Entry[] {
    if (this.#isClosed) throw closed();
    this.#flush();
    try {
      return this.#read(table) ?? this.#readMended(table);
    } catch (error) {
      throw error instanceof StorageError ? error : storageError(error);
    }
  }

  // Undefined where one of them is damaged.
  #read(table: string): Entry[] | undefined {
    const entries: Entry[] = [];
    for (const row of this.#select.all(table)) {
      const entry = row as unknown as { tbl: string; key: string; value: Uint8Array; sum: number };
      const soundness = soundnessOf(entry);
      if (soundness === "damaged") return undefined;
      const value = new Uint8Array(entry.value);
      entries.push(
        soundness === "unproven" ? [entry.key, value, { isUnproven: true }] : [entry.key, value],
      );
    }
    return entries;
  }

  // What was sound when the file was opened need not be any more.
  #readMended(table: string): Entry[] {
    let isMended: boolean;
    try {
      isMended = this.#file.mend();
    } finally {
      this.#use(this.#file.db);
    }
    const entries = isMended ? this.#read(table) : undefined;
    if (entries === undefined) throw storageError(malformed(`the table ${table}`));
    return entries;
  }

  setAside(): string {
    if (this.#isClosed) throw closed();
    this.#flush();
    try {
      return this.#file.keep();
    } catch (error) {
      throw storageError(error);
    } finally {
      this.#use(this.#file.db);
    }
  }

  commit(batch: readonly Write[]): Promise<void> {
    if (this.#isClosed) return Promise.reject(closed());
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    if (this.#waiting.push({ batch, resolve, reject }) === 1) {
      queueMicrotask(() => this.#flush());
    }
    return promise;
  }

  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#flush();
      this.#isClosed = true;
      this.#file.close();
    }
    return Promise.resolve();
  }

  #flush(): void {
    const waiting = this.#waiting;
    if (waiting.length === 0) return;
    this.#waiting = [];
    const error = this.#apply(waiting);
    if (error === undefined) {
      for (const { resolve } of waiting) resolve();
      return;
    }
    if (waiting.length === 1) return waiting[0]?.reject(error);
    // One that is too large must not take the others with it.
    for (const each of waiting) {
      const own = this.#apply([each]);
      if (own === undefined) each.resolve();
      else each.reject(own);
    }
  }

  #apply(waiting: readonly Waiting[]): StorageError | undefined {
    try {
      transact(this.#file.db, () => {
        for (const { batch } of waiting) {
          for (const { table, key, value } of batch) {
            if (value === undefined) this.#remove.run(table, key);
            else this.#put.run(table, key, value, sumOf(table, key, value));
          }
        }
      });
      return undefined;
    } catch (error) {
      return storageError(error);
    }
  }
}

function closed(): StorageError {
  return new StorageError("closed", "the store is closed");
}

// By SQLite's own words, which are the same everywhere; the codes are not (Deno lacks some).
function storageError(error: unknown): StorageError {
  const text = messageOf(error);
  const reason = /disk is full/.test(text)
    ? "full"
    : /readonly|read-only|EROFS|EACCES|Permission/i.test(text)
    ? "read_only"
    : /not a database|malformed|unsupported/.test(text)
    ? "corrupt"
    : /locked|busy/.test(text)
    ? "busy"
    : "io";
  return new StorageError(reason, `the store's file: ${text}`, { cause: error });
}

function cannotOpen(path: string, reason: string, cause: unknown): ConfigError {
  const why = reason === "busy"
    ? "another process uses it; give each node its own folder"
    : `${messageOf(cause)}; check that the folder is yours and the disk has room`;
  return new ConfigError("dataDir", `cannot open ${path}: ${why}`, { cause });
}
