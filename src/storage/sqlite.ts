/**
 * The durable store on SQLite through `node:sqlite`, which Deno, Bun and Node have alike. WAL with
 * `synchronous = FULL`: a batch is on the disk when its promise resolves, whatever becomes of the
 * process or the machine. Batches of one turn share a transaction, and so one flush.
 */
import { chmodSync, closeSync, existsSync, mkdirSync, openSync, renameSync } from "node:fs";
import { dirname } from "node:path";
import type { DatabaseSync, StatementSync } from "node:sqlite";
import type { Bytes } from "../base/bytes.ts";
import { ConfigError, messageOf, StorageError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { DurableStore, Write } from "./contract.ts";

/** Says that a file is ours: "BP2P", at a fixed place of its header. */
const APPLICATION_ID = 0x42503250;
/** How long another process that is about to end may hold the file, milliseconds. */
const BUSY_MS = 2_000;

/** What SQLite calls a database and what belongs to it, the database last. */
const SUFFIXES = ["-wal", "-journal", "-shm", ""];

/** From each version of the schema to the next; the last is the current one. Only ever appended to. */
export const UPGRADES: readonly string[] = [
  `CREATE TABLE entries (
     tbl TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (tbl, key)
   ) WITHOUT ROWID`,
];

/** What {@link sqliteStore} needs. */
export interface SqliteOptions {
  /** The file; made, with its folder, when missing (modes 0600 and 0700). */
  readonly path: string;
  readonly logger: Logger;
  /** The date for the name of a file that is set aside, milliseconds since 1970. */
  readonly now: number;
  /** The file grows to this many pages of 4 KiB. @default no bound but the disk's */
  readonly maxPages?: number;
  /** @default {@link UPGRADES} */
  readonly upgrades?: readonly string[];
}

/**
 * Opens a store. A file that SQLite cannot read, or that another program made, is renamed to
 * `<name>.corrupt-<date>` or `<name>.foreign-<date>`, logged as an error, and a new one begun.
 *
 * @throws ConfigError `dataDir` when the file cannot be opened, is held by another process, or
 * was written by a later version of the library
 * @throws StorageError `unavailable` when the host has no `node:sqlite`
 */
export async function sqliteStore(options: SqliteOptions): Promise<DurableStore> {
  const { path } = options;
  let sqlite: { readonly DatabaseSync: typeof DatabaseSync };
  try {
    sqlite = await import("node:sqlite");
  } catch (error) {
    throw new StorageError(
      "unavailable",
      "this host has no node:sqlite; it needs Node 22.13, Deno 2.2 or Bun 1.4, or leave dataDir out",
      { cause: error },
    );
  }
  const open = () => {
    // Private before the first byte; the journal takes the mode of its database.
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    closeSync(openSync(path, "a", 0o600));
    return new sqlite.DatabaseSync(path);
  };
  for (let attempt = 0;; attempt++) {
    let db: DatabaseSync | undefined;
    try {
      db = open();
      const flaw = judge(db, options);
      if (flaw === undefined) return new SqliteStore(db);
      if (attempt > 0) throw new Error(`a new file is ${flaw}, too`);
      setAside(options, flaw, db);
    } catch (error) {
      if (db?.isOpen === true) db.close();
      if (error instanceof ConfigError) throw error;
      throw cannotOpen(path, storageError(error).reason, error);
    }
  }
}

// What keeps the file from being used; undefined once it is ready.
function judge(db: DatabaseSync, options: SqliteOptions): "foreign" | "corrupt" | undefined {
  try {
    return prepare(db, options);
  } catch (error) {
    if (error instanceof ConfigError || storageError(error).reason !== "corrupt") throw error;
    return "corrupt";
  }
}

// Says why the file is not for us to write to.
function prepare(
  db: DatabaseSync,
  { path, maxPages, upgrades = UPGRADES }: SqliteOptions,
): "foreign" | undefined {
  db.exec(`PRAGMA busy_timeout = ${BUSY_MS}`);
  // One process a file: two that write the log of one replica would fork its history.
  db.exec("PRAGMA locking_mode = EXCLUSIVE");
  const id = pragma(db, "application_id");
  const version = pragma(db, "user_version");
  const tables = Number(
    Object.values(db.prepare("SELECT count(*) FROM sqlite_schema").get() ?? {})[0],
  );
  if (id !== APPLICATION_ID && (id !== 0 || version !== 0 || tables > 0)) return "foreign";
  if (version > upgrades.length) {
    throw new ConfigError(
      "dataDir",
      `${path} has schema ${version}, this version of the library knows ${upgrades.length}: ` +
        "use the later version, or another folder",
    );
  }
  // Ours, and so for us to change.
  for (const suffix of SUFFIXES) if (existsSync(path + suffix)) chmodSync(path + suffix, 0o600);
  db.exec("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
  if (maxPages !== undefined) db.exec(`PRAGMA max_page_count = ${maxPages}`);
  const check = Object.values(db.prepare("PRAGMA quick_check(1)").get() ?? {})[0];
  if (check !== "ok") throw new Error(`database disk image is malformed: ${check}`);
  db.exec("BEGIN EXCLUSIVE");
  try {
    for (const upgrade of upgrades.slice(version)) db.exec(upgrade);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}; PRAGMA user_version = ${upgrades.length}`);
    db.exec("COMMIT");
  } catch (error) {
    db.exec("ROLLBACK");
    throw error;
  }
  return undefined;
}

function pragma(db: DatabaseSync, name: string): number {
  return Number(Object.values(db.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
}

// Renames a file and what belongs to it, and closes it.
function setAside(
  { path, logger, now }: SqliteOptions,
  flaw: "foreign" | "corrupt",
  db: DatabaseSync,
): void {
  const date = new Date(now).toISOString().replace(/[:.]/g, "-");
  let name = `${path}.${flaw}-${date}`;
  const isTaken = () => SUFFIXES.some((suffix) => existsSync(name + suffix));
  for (let i = 1; isTaken(); i++) name = `${path}.${flaw}-${date}-${i}`;
  const renameAll = () => {
    // The database last: SQLite deletes a log that it finds beside a new database.
    for (const suffix of SUFFIXES) {
      if (existsSync(path + suffix)) renameSync(path + suffix, name + suffix);
    }
  };
  try {
    // Before it is closed, since SQLite then writes the log into the database and deletes it, but
    // leaves a file alone that was renamed.
    renameAll();
    db.close();
  } catch {
    // Windows renames no open file.
    if (db.isOpen) db.close();
    renameAll();
  }
  logger.log("error", `${path} is not a readable store of this library; it is kept as ${name}`, {
    path,
    keptAs: name,
    flaw,
  });
}

interface Waiting {
  readonly batch: readonly Write[];
  resolve(): void;
  reject(error: Error): void;
}

class SqliteStore implements DurableStore {
  readonly isDurable = true;
  readonly #db: DatabaseSync;
  readonly #put: StatementSync;
  readonly #remove: StatementSync;
  readonly #select: StatementSync;
  #waiting: Waiting[] = [];
  #isClosed = false;

  constructor(db: DatabaseSync) {
    this.#db = db;
    this.#put = db.prepare("INSERT OR REPLACE INTO entries VALUES (?, ?, ?)");
    this.#remove = db.prepare("DELETE FROM entries WHERE tbl = ? AND key = ?");
    this.#select = db.prepare("SELECT key, value FROM entries WHERE tbl = ? ORDER BY key");
  }

  entries(table: string): (readonly [string, Bytes])[] {
    if (this.#isClosed) throw closed();
    this.#flush();
    try {
      return this.#select.all(table).map((row) => {
        const { key, value } = row as { key: string; value: Uint8Array };
        return [key, new Uint8Array(value)];
      });
    } catch (error) {
      throw storageError(error);
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
      this.#db.close();
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
      this.#db.exec("BEGIN IMMEDIATE");
      for (const { batch } of waiting) {
        for (const { table, key, value } of batch) {
          if (value === undefined) this.#remove.run(table, key);
          else this.#put.run(table, key, value);
        }
      }
      this.#db.exec("COMMIT");
      return undefined;
    } catch (error) {
      try {
        this.#db.exec("ROLLBACK");
      } catch {
        // SQLite rolled back by itself.
      }
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
    : /not a database|malformed/.test(text)
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
