import assert from "node:assert/strict";
import {
  chmod,
  copyFile,
  mkdir,
  mkdtemp,
  open,
  readdir,
  readFile,
  rm,
  stat,
  writeFile,
} from "node:fs/promises";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { utf8 } from "../../src/base/bytes.ts";
import { ConfigError, StorageError } from "../../src/base/errors.ts";
import type { DurableStore, Write } from "../../src/storage/contract.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { UPGRADES } from "../../src/storage/schema.ts";
import { sqliteStore } from "../../src/storage/sqlite.ts";
import { afterEach, beforeEach, describe, test } from "../harness.ts";

const NOW = Date.UTC(2026, 10, 23);
let folder = "";
let path = "";
let log: string[] = [];
let opened: DurableStore[] = [];
let meter = memoryMeter();

const logger = { log: (level: string, text: string) => void log.push(`${level} ${text}`) };
async function sqlite(maxPages?: number): Promise<DurableStore> {
  const limit = maxPages === undefined ? {} : { maxPages };
  const store = await sqliteStore({ path, logger, meter, now: NOW, ...limit });
  opened.push(store);
  return store;
}
const put = (table: string, key: string, value: string): Write => {
  return { table, key, value: utf8(value) };
};
const all = (store: DurableStore, table: string) =>
  store.entries(table).map(([key, value]) => `${key}=${new TextDecoder().decode(value)}`);
const is = (reason: string) => (error: unknown) =>
  error instanceof StorageError && error.reason === reason;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "barrel store, with spaces "));
  path = join(folder, "data", "store.sqlite");
  log = [];
  meter = memoryMeter();
});
afterEach(async () => {
  for (const store of opened) await store.close();
  opened = [];
  await rm(folder, { recursive: true, force: true });
});

for (const kind of ["sqlite", "memory"] as const) {
  const make = () => kind === "sqlite" ? sqlite() : Promise.resolve(memoryStore());

  describe(`a ${kind} store`, () => {
    test("keeps the entries of each table apart and in order", async () => {
      const store = await make();
      await store.commit([put("a", "2", "two"), put("a", "1", "one"), put("b", "1", "other")]);
      assert.deepEqual(all(store, "a"), ["1=one", "2=two"]);
      assert.deepEqual(all(store, "b"), ["1=other"]);
      assert.deepEqual(all(store, "c"), []);
    });

    test("applies batches in the order of the calls, the later changes of one batch last", async () => {
      const store = await make();
      const first = store.commit([put("a", "k", "1"), put("a", "k", "2"), put("a", "gone", "x")]);
      const second = store.commit([put("a", "k", "3"), {
        table: "a",
        key: "gone",
        value: undefined,
      }]);
      await Promise.all([first, second]);
      assert.deepEqual(all(store, "a"), ["k=3"]);
    });

    test("refuses writes once it is closed", async () => {
      const store = await make();
      await store.close();
      await store.close();
      await assert.rejects(store.commit([put("a", "k", "v")]), is("closed"));
    });
  });
}

describe("a sqlite store", () => {
  test("comes back with what was committed, and with what was handed in before close", async () => {
    const store = await sqlite();
    await store.commit([put("a", "k", "v")]);
    const last = store.commit([put("a", "l", "w")]);
    await store.close();
    await last;
    assert.deepEqual(all(await sqlite(), "a"), ["k=v", "l=w"]);
  });

  test("is private", { skip: process.platform === "win32" && "Windows has no modes" }, async () => {
    const store = await sqlite();
    await store.commit([put("a", "k", "v")]);
    for (const name of await readdir(join(folder, "data"))) {
      assert.equal((await stat(join(folder, "data", name))).mode & 0o777, 0o600, name);
    }
    assert.equal((await stat(join(folder, "data"))).mode & 0o777, 0o700);
  });

  test("sets a file aside that is no database, unchanged, and says where", async () => {
    await sqlite().then((store) => store.close());
    const text = "this is not a database, whatever its name says; ".repeat(50);
    await writeFile(path, text);
    const store = await sqlite();
    await store.commit([put("a", "k", "v")]);
    const kept = `${path}.corrupt-2026-11-23T00-00-00-000Z`;
    assert.equal(await readFile(kept, "utf8"), text);
    assert.ok(log.some((line) => line.startsWith("error") && line.includes(kept)), log.join("\n"));
    await store.close();
    await writeFile(path, text);
    await sqlite();
    assert.equal(await readFile(`${kept}-1`, "utf8"), text, "nor is the first one overwritten");
  });

  test("sets aside a store whose pages are damaged", async () => {
    const store = await sqlite();
    for (let i = 0; i < 100; i++) await store.commit([put("a", `k${i}`, "v".repeat(500))]);
    await store.close();
    const file = await open(path, "r+");
    await file.write(new Uint8Array(8192).fill(0x5a), 0, 8192, 4096);
    await file.close();
    assert.deepEqual(all(await sqlite(), "a"), []);
    assert.equal(log.length, 1);
  });

  test("sets aside the database of another program, and leaves its tables be", async () => {
    await sqlite().then((store) => store.close());
    await rm(path);
    const other = new DatabaseSync(path);
    other.exec("CREATE TABLE entries (theirs)");
    other.close();
    assert.deepEqual(all(await sqlite(), "a"), []);
    const kept = new DatabaseSync(`${path}.foreign-2026-11-23T00-00-00-000Z`);
    assert.deepEqual(kept.prepare("SELECT * FROM entries").all(), []);
    kept.close();
  });

  test("keeps the log and the mode of another program's database as they were", async () => {
    await mkdir(join(folder, "data"));
    const other = new DatabaseSync(join(folder, "other"));
    other.exec("PRAGMA journal_mode = WAL; CREATE TABLE theirs (x); INSERT INTO theirs VALUES (7)");
    await copyFile(join(folder, "other"), path);
    await copyFile(join(folder, "other-wal"), `${path}-wal`);
    other.close();
    await chmod(path, 0o640);
    const [database, wal] = [await readFile(path), await readFile(`${path}-wal`)];
    await sqlite();
    const kept = `${path}.foreign-2026-11-23T00-00-00-000Z`;
    if (process.platform !== "win32") {
      assert.deepEqual(await readFile(kept), database);
      assert.deepEqual(await readFile(`${kept}-wal`), wal);
      assert.equal((await stat(kept)).mode & 0o777, 0o640);
    }
    const theirs = new DatabaseSync(kept);
    assert.equal(theirs.prepare("SELECT x FROM theirs").get()?.["x"], 7);
    theirs.close();
  });

  test("takes what belongs to a file along, over nothing that was kept before", async () => {
    await sqlite().then((store) => store.close());
    const kept = `${path}.corrupt-2026-11-23T00-00-00-000Z`;
    await writeFile(`${kept}-wal`, "of an earlier one");
    await writeFile(path, "no database ".repeat(100));
    await writeFile(`${path}-journal`, "its journal");
    const store = await sqlite();
    assert.equal(await readFile(`${kept}-wal`, "utf8"), "of an earlier one");
    assert.equal(await readFile(`${kept}-1-journal`, "utf8"), "its journal");
    await store.commit([put("a", "k", "v")]);
    assert.deepEqual(all(store, "a"), ["k=v"]);
  });

  test("refuses by name, and leaves alone, what it can neither read nor rename", async () => {
    // The file's name fits, and what it would be kept as does not.
    path = join(folder, "data", "s".repeat(240));
    await mkdir(join(folder, "data"));
    const text = "no database ".repeat(100);
    await writeFile(path, text);
    await assert.rejects(
      sqlite(),
      (error) => error instanceof ConfigError && error.path === "dataDir",
    );
    assert.equal(await readFile(path, "utf8"), text);
    assert.deepEqual(log, []);
  });

  test("takes a file of an earlier version up whole or not at all, with what is in it", async () => {
    const first = await sqlite();
    await first.commit([put("a", "k", "v")]);
    await first.close();
    const later = (sql: string) =>
      sqliteStore({ path, logger, meter, now: NOW, upgrades: [...UPGRADES, sql] });
    const half = "CREATE TABLE half (x); INSERT INTO missing VALUES (1)";
    await assert.rejects(later(half), (error) => error instanceof ConfigError);
    const before = await sqlite();
    assert.deepEqual(all(before, "a"), ["k=v"]);
    await before.close();
    const upgraded = await later("CREATE TABLE more (x); INSERT INTO more VALUES (7)");
    assert.deepEqual(all(upgraded, "a"), ["k=v"]);
    await upgraded.close();
    await assert.rejects(sqlite(), /later version/);
    const database = new DatabaseSync(path);
    assert.equal(database.prepare("SELECT x FROM more").get()?.["x"], 7);
    assert.equal(
      database.prepare("SELECT * FROM sqlite_schema WHERE name = 'half'").get(),
      undefined,
    );
    database.close();
    assert.deepEqual(log, []);
  });

  test("does not touch a file of a later version", async () => {
    await sqlite().then((store) => store.close());
    const later = new DatabaseSync(path);
    later.exec("PRAGMA user_version = 99");
    later.close();
    await assert.rejects(
      sqlite(),
      (error) =>
        error instanceof ConfigError && error.path === "dataDir" &&
        /later version/.test(error.message),
    );
    assert.deepEqual(log, []);
  });

  test("refuses a file that another node holds", async () => {
    await sqlite();
    await assert.rejects(
      sqlite(),
      (error) => error instanceof ConfigError && /another process/.test(error.message),
    );
    assert.deepEqual(log, []);
  });

  test("refuses what a full disk cannot take, whole, and goes on with what fits", async () => {
    const store = await sqlite(12);
    await store.commit([put("a", "k", "old")]);
    const big = store.commit([put("a", "k", "new"), put("a", "big", "x".repeat(1 << 20))]);
    const small = store.commit([put("a", "small", "fits")]);
    await assert.rejects(big, is("full"));
    await small;
    assert.deepEqual(all(store, "a"), ["k=old", "small=fits"]);
  });

  test("refuses a folder that it cannot write, by name", async () => {
    await writeFile(join(folder, "data"), "a file where the folder should be");
    await assert.rejects(
      sqlite(),
      (error) => error instanceof ConfigError && error.path === "dataDir",
    );
  });
});
