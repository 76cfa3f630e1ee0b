/** What the disk does to the bytes of a store's file, and what that may cost. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { closeSync, openSync, writeSync } from "node:fs";
import { DatabaseSync } from "node:sqlite";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { crc32 } from "node:zlib";
import { createNode } from "../../mod.ts";
import { utf8 } from "../../src/base/bytes.ts";
import { ConfigError } from "../../src/base/errors.ts";
import type { LogLevel } from "../../src/base/logger.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import type { DurableStore, Entry } from "../../src/storage/contract.ts";
import { sumOf, UPGRADES } from "../../src/storage/schema.ts";
import { sqliteStore } from "../../src/storage/sqlite.ts";
import { memory } from "../../src/transport/memory.ts";
import { afterEach, beforeEach, describe, test } from "../harness.ts";

// A longer trial: BARREL_FLIPS=2000
const RUNS = Number(process.env["BARREL_FLIPS"] ?? 40);
const NODE_RUNS = Math.ceil(RUNS / 4);
const NOW = Date.UTC(2026, 10, 28);
const APPLICATION_ID = 0x42503250;
let folder = "";
let path = "";
let log: { level: LogLevel; text: string; fields: Readonly<Record<string, unknown>> }[] = [];
let meter = memoryMeter();
let opened: DurableStore[] = [];

const logger = {
  log: (level: LogLevel, text: string, fields: Readonly<Record<string, unknown>> = {}) =>
    void log.push({ level, text, fields }),
};
async function sqlite(): Promise<DurableStore> {
  const store = await sqliteStore({ path, logger, meter, now: NOW });
  opened.push(store);
  return store;
}
async function close(): Promise<void> {
  for (const store of opened) await store.close();
  opened = [];
}
const textOf = (entries: readonly Entry[]) =>
  Object.fromEntries(entries.map(([key, value]) => [key, new TextDecoder().decode(value)]));
const numbered = (count: number) =>
  Object.fromEntries(
    Array.from({ length: count }, (_, i) => [`key ${String(i).padStart(3, "0")}`, `value ${i}`]),
  );
async function fill(entries: Record<string, string>): Promise<void> {
  const store = await sqlite();
  const writes = Object.entries(entries);
  await store.commit(writes.map(([key, value]) => ({ table: "a", key, value: utf8(value) })));
  await store.commit([{ table: "b", key: "other", value: utf8("table") }]);
  await close();
}
function sql(text: string): void {
  const db = new DatabaseSync(path);
  db.exec(text);
  db.close();
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "barrel-damage-"));
  path = join(folder, "store.sqlite");
  log = [];
  meter = memoryMeter();
});
afterEach(async () => {
  await close();
  await rm(folder, { recursive: true, force: true });
});

/** A node with its store in the folder. */
const start = () =>
  createNode({
    name: "a@test",
    listen: ["mem://damage:0"],
    transports: [memory()],
    dataDir: folder,
    logger,
  });

describe("a damaged entry", () => {
  const flips = {
    "key": "key = 'key 0x7'",
    "value": "value = CAST('value 8' AS BLOB)",
    "value, by a bit": "value = CAST('value 6' AS BLOB)",
    "value's type": "value = 'value 7'",
    "sum": "sum = sum + 1",
    "sum's sign": "sum = -sum",
    "table": "tbl = 'b'",
  };
  for (const [what, change] of Object.entries(flips)) {
    test(`is lost alone, told, and kept in a copy: its ${what}`, async () => {
      const entries = numbered(20);
      await fill(entries);
      sql(`UPDATE entries SET ${change} WHERE tbl = 'a' AND key = 'key 007'`);
      const store = await sqlite();
      delete entries["key 007"];
      assert.deepEqual(textOf(store.entries("a")), entries);
      assert.deepEqual(textOf(store.entries("b")), { other: "table" });
      const keptAs = `${path}.corrupt-2026-11-28T00-00-00-000Z`;
      assert.deepEqual(log.map(({ level, fields }) => [level, fields["keptAs"], fields["lost"]]), [
        ["error", keptAs, 1],
      ]);
      assert.ok(log[0]?.text.includes(keptAs), "the name is in the line itself");
      assert.deepEqual(meter.snapshot(), { 'barrel_storage_damaged_total{what="entry"}': 1 });
      const kept = new DatabaseSync(keptAs);
      assert.equal(kept.prepare("SELECT count(*) AS n FROM entries").get()?.["n"], 21);
      kept.close();
      await store.commit([{ table: "a", key: "key 007", value: utf8("again") }]);
      await close();
      assert.equal(textOf((await sqlite()).entries("a"))["key 007"], "again");
      assert.equal(log.length, 1, "it is told once");
    });
  }

  test("is found, too, where it was sound when the file was opened", async () => {
    const big = "x".repeat(8_000);
    const entries = Object.fromEntries(
      Object.entries(numbered(800)).map(([key, value]) => [key, `${value} ${big}`]),
    );
    await fill(entries);
    const store = await sqlite();
    // More than SQLite keeps in memory, so that it reads the first pages again.
    const at = (await readFile(path)).indexOf("value 3 x");
    assert.ok(at > 0);
    const file = openSync(path, "r+");
    writeSync(file, utf8("value 4"), 0, 7, at);
    closeSync(file);
    delete entries["key 003"];
    assert.deepEqual(Object.keys(textOf(store.entries("a"))), Object.keys(entries));
    assert.deepEqual(log.map(({ level, fields }) => [level, fields["lost"]]), [["error", 1]]);
    await store.commit([{ table: "a", key: "key 003", value: utf8("again") }]);
    assert.equal(textOf(store.entries("a"))["key 003"], "again");
  });
});

describe("a file of the version without sums", () => {
  const old = (insert: string) =>
    sql(`${UPGRADES[0] as string}; PRAGMA application_id = ${APPLICATION_ID};
      PRAGMA user_version = 1; ${insert}`);

  test("keeps all it has; sums tell what was written since from what may be damaged", async () => {
    old("INSERT INTO entries VALUES ('a', 'old', 'x'), ('a', 'older', CAST('y' AS BLOB))");
    sql("UPDATE entries SET value = CAST('z' AS BLOB) WHERE key = 'old'");
    const store = await sqlite();
    await store.commit([{ table: "a", key: "new", value: utf8("n") }]);
    assert.deepEqual(store.entries("a"), [
      ["new", utf8("n")],
      ["old", utf8("z"), { isUnproven: true }],
      ["older", utf8("y"), { isUnproven: true }],
    ]);
    await store.commit([{ table: "a", key: "older", value: utf8("y") }]);
    assert.deepEqual(store.entries("a").at(-1), ["older", utf8("y")]);
    await close();
    sql("UPDATE entries SET value = CAST('!' AS BLOB) WHERE key = 'old'");
    assert.deepEqual(textOf((await sqlite()).entries("a")), { new: "n", older: "y" });
    assert.equal(log.length, 1);
  });

  test("is taken up by a node with all its entries, which have sums from then on", async () => {
    const map = { persist: true };
    let node = await start();
    const first = await node.maps.open("m", map);
    for (const [key, value] of Object.entries(numbered(20))) await first.set(key, value);
    await node.close();
    sql(`ALTER TABLE entries RENAME TO summed; ${UPGRADES[0] as string};
      INSERT INTO entries SELECT tbl, key, value FROM summed; DROP TABLE summed;
      PRAGMA user_version = 1`);
    node = await start();
    assert.deepEqual(Object.fromEntries((await node.maps.open("m", map)).entries()), numbered(20));
    await node.close();
    const rows = (await sqlite()).entries("replica kept/map/m").filter(([key]) => /\/0/.test(key));
    assert.equal(rows.length, 20);
    assert.ok(rows.every(([, , says]) => says === undefined), "the head spoke for them");
    assert.deepEqual(log.filter(({ level }) => level === "error"), []);
  });
});

describe("a file whose tables are not those of its version", () => {
  const ours = `PRAGMA application_id = ${APPLICATION_ID};`;
  const shapes = {
    "a table is missing": `${ours} PRAGMA user_version = 2; CREATE TABLE other (a)`,
    "a table of the first version is missing": `${ours} PRAGMA user_version = 1`,
    "there are other columns": `${ours} PRAGMA user_version = 1; CREATE TABLE entries (a)`,
    "it is of the version before": `${ours} PRAGMA user_version = 2; ${UPGRADES[0] as string}`,
    "it has tables before the first version": `${ours} ${UPGRADES[0] as string}`,
  };
  for (const [what, damage] of Object.entries(shapes)) {
    test(`is set aside: ${what}`, async () => {
      sql(damage);
      const store = await sqlite();
      await store.commit([{ table: "a", key: "k", value: utf8("v") }]);
      assert.deepEqual(textOf(store.entries("a")), { k: "v" });
      assert.ok((await readdir(folder)).some((name) => name.startsWith("store.sqlite.corrupt-")));
      assert.deepEqual(log.map(({ level, fields }) => [level, fields["flaw"]]), [
        ["error", "corrupt"],
      ]);
      assert.deepEqual(meter.snapshot(), { 'barrel_storage_damaged_total{what="corrupt"}': 1 });
    });
  }
});

test("what is committed is flushed: WAL, and synchronous = FULL, also after a file was mended", async () => {
  const databases = new Set<DatabaseSync>();
  const { exec } = DatabaseSync.prototype;
  DatabaseSync.prototype.exec = function (text: string) {
    databases.add(this);
    return exec.call(this, text);
  };
  try {
    await fill(numbered(3));
    sql("UPDATE entries SET sum = 0 WHERE key = 'key 001'");
    for (const isDamaged of [true, false]) {
      const store = await sqlite();
      assert.equal(log.length, 1, String(isDamaged));
      const [db, ...more] = [...databases].filter((one) => one.isOpen);
      assert.deepEqual(more, []);
      const pragma = (name: string) => Object.values(db?.prepare(`PRAGMA ${name}`).get() ?? {})[0];
      assert.deepEqual(
        ["journal_mode", "synchronous", "locking_mode"].map(pragma),
        ["wal", 2, "exclusive"],
      );
      await store.close();
    }
  } finally {
    DatabaseSync.prototype.exec = exec;
  }
});

/** Opens what is left of a file and holds it against what was in it. */
async function judge(entries: Record<string, string>, what: string): Promise<void> {
  log = [];
  let store: DurableStore;
  try {
    store = await sqlite();
  } catch (error) {
    // One byte of the header says of which version the file is, and a later one is left alone.
    assert.ok(
      error instanceof ConfigError && /later version/.test(error.message),
      `${what} ${error}`,
    );
    return;
  }
  const found = textOf(store.entries("a"));
  for (const [key, value] of Object.entries(found)) assert.equal(value, entries[key], what);
  const isWhole = Object.keys(found).length === Object.keys(entries).length;
  assert.ok(isWhole || log.some(({ level }) => level === "error"), `${what}: lost and not told`);
  if (log.length > 0) {
    assert.ok((await readdir(folder)).some((name) => /(corrupt|foreign)-/.test(name)), what);
  }
  await store.commit([{ table: "a", key: "after", value: utf8("all") }]);
  assert.equal(textOf(store.entries("a"))["after"], "all", what);
  await close();
}

/** Puts the file back as it was, with nothing beside it. */
async function restore(original: Uint8Array): Promise<void> {
  await close();
  for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true });
  await writeFile(path, original);
}

describe("whatever byte is damaged, nothing wrong is shown, and what is lost is told", () => {
  test("in the header", async () => {
    const entries = numbered(30);
    await fill(entries);
    const original = await readFile(path);
    for (let at = 0; at < 100; at++) {
      await restore(original);
      const damaged = Uint8Array.from(original);
      damaged[at] = (damaged[at] as number) ^ (1 << at % 8);
      await writeFile(path, damaged);
      await judge(entries, `byte ${at}`);
    }
  });

  test("anywhere, some at once", async () => {
    const entries = numbered(60);
    await fill(entries);
    const original = await readFile(path);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.record({ at: fc.nat(original.length - 1), to: fc.nat(255) }), {
          minLength: 1,
          maxLength: 6,
        }),
        async (flips) => {
          await restore(original);
          const damaged = Uint8Array.from(original);
          for (const { at, to } of flips) damaged[at] = to;
          await writeFile(path, damaged);
          await judge(entries, JSON.stringify(flips));
        },
      ),
      { numRuns: RUNS },
    );
  });

  test("under the map of a node", async () => {
    const entries = numbered(40);
    const node = await start();
    const map = await node.maps.open<string>("m", { persist: true });
    await Promise.all(Object.entries(entries).map(([key, value]) => map.set(key, value)));
    await node.close();
    const original = await readFile(path);
    await fc.assert(
      fc.asyncProperty(
        fc.array(
          fc.record({ at: fc.integer({ min: 100, max: original.length - 1 }), bit: fc.nat(7) }),
          {
            minLength: 1,
            maxLength: 4,
          },
        ),
        async (flips) => {
          const damaged = Uint8Array.from(original);
          for (const { at, bit } of flips) damaged[at] = (damaged[at] as number) ^ (1 << bit);
          for (const suffix of ["-wal", "-shm"]) await rm(path + suffix, { force: true });
          await writeFile(path, damaged);
          log = [];
          const again = await start();
          try {
            const copy = await again.maps.open<string>("m", { persist: true });
            for (const [key, value] of copy.entries()) assert.equal(value, entries[key]);
            assert.ok(copy.size === 40 || log.some(({ level }) => level === "error"));
            await copy.set("after", "all");
          } finally {
            await again.close();
          }
        },
      ),
      { numRuns: NODE_RUNS },
    );
  });
});

test("what is lost is printed as an error where nobody gave a logger", async () => {
  const { error } = console;
  const printed: string[] = [];
  console.error = (...words: unknown[]) => void printed.push(words.join(" "));
  try {
    await writeFile(path, "no database ".repeat(100));
    await using node = await createNode({
      name: "a@test",
      listen: ["mem://damage:0"],
      transports: [memory()],
      dataDir: folder,
    });
    await node.maps.open("m", { persist: true });
  } finally {
    console.error = error;
  }
  const [line, ...more] = printed;
  assert.deepEqual(more, []);
  assert.match(String(line), /^barrel: .*it is kept as .*\.corrupt-.*"flaw":"corrupt"/);
});

test("sums are CRC-32, over table, key and value", () => {
  // The check value of the catalogue of CRCs is that of "123456789".
  assert.equal(sumOf("1", "3", utf8("5")), crc32(utf8(["1", "3", "5"].join("\0"))));
  assert.equal(crc32(utf8("123456789")), 0xcbf43926);
});
