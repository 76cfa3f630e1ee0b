import assert from "node:assert/strict";
import fc from "fast-check";
import { utf8 } from "../../src/base/bytes.ts";
import { StorageError } from "../../src/base/errors.ts";
import { toOrigin } from "../../src/replica/head.ts";
import type { Put } from "../../src/replica/origin_rows.ts";
import { readSaved, savedMove, tableOf } from "../../src/replica/saved_rows.ts";
import type { Write } from "../../src/storage/contract.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import { PatientWriter } from "../../src/storage/patient_writer.ts";
import type { PatientWrite } from "../../src/storage/patient_writer.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { describe, test } from "../harness.ts";

const put = (key: string, value: string): Write => ({ table: "t", key, value: utf8(value) });
const fresh = (key: string, value: string): PatientWrite => ({ ...put(key, value), isNew: true });
const gone = (key: string): Write => ({ table: "t", key, value: undefined });

function setUp() {
  const time = createVirtualClock();
  const { clock } = time.view();
  const memory = memoryStore();
  const told: string[] = [];
  let held: Promise<boolean> | undefined;
  let last = Promise.resolve();
  const disk = {
    ...memory,
    isFull: false,
    fits: (_batch: readonly Write[]) => true,
    /** How long it takes for a batch; whether it is refused is found out at the end. */
    delayMs: 0,
    commits: 0,
    largest: 0,
    onCommit: (_batch: readonly Write[]) => {},
    afterCommit: () => {},
    /** The next batch waits to be told whether it is refused. */
    hold(): (isRefused: boolean) => void {
      const { promise, resolve } = Promise.withResolvers<boolean>();
      held = promise;
      return resolve;
    },
    commit(batch: readonly Write[]): Promise<void> {
      disk.commits++;
      disk.onCommit(batch);
      const waits = held;
      held = undefined;
      const before = last;
      const done = (async () => {
        // In the order of the calls.
        await before.catch(() => {});
        if (disk.delayMs > 0) {
          await new Promise<void>((resolve) => clock.after(disk.delayMs, resolve));
        }
        if (await waits === true || disk.isFull || !disk.fits(batch)) {
          throw new StorageError("full", "no room");
        }
        disk.largest = Math.max(disk.largest, batch.length);
        await memory.commit(batch);
        disk.afterCommit();
      })();
      last = done;
      return done;
    },
  };
  const refused = (error: Error) => void told.push(error.message);
  const writer = new PatientWriter({ disk, clock, refused });
  const all = () =>
    memory.entries("t").map(([key, value]) => `${key}=${new TextDecoder().decode(value)}`);
  return { time, disk, writer, told, all };
}

describe("a patient writer", () => {
  test("writes what the disk refused, with what came meanwhile, the latest of each", async () => {
    const { time, disk, writer, told, all } = setUp();
    writer.write([put("a", "1"), put("b", "1")]);
    await time.run(0);
    assert.deepEqual(all(), ["a=1", "b=1"]);
    disk.isFull = true;
    writer.write([put("a", "2"), gone("b")]);
    writer.write([put("a", "3"), put("c", "3")]);
    await time.run(0);
    assert.deepEqual(all(), ["a=1", "b=1"], "not half of it");
    assert.deepEqual(told, ["no room"]);
    const { commits } = disk;
    writer.write([put("d", "4")]);
    await time.run(0);
    assert.equal(disk.commits, commits, "a disk that has just refused is left alone");
    disk.isFull = false;
    await time.run(10_000);
    assert.deepEqual(all(), ["a=3", "c=3", "d=4"]);
  });

  test("tries again by itself, and stops when it has written or is closed", async () => {
    const { time, disk, writer, all } = setUp();
    disk.isFull = true;
    writer.write([put("a", "1")]);
    await time.run(60_000);
    assert.ok(disk.commits > 2, `${disk.commits} attempts`);
    disk.isFull = false;
    await time.run(20_000);
    assert.deepEqual(all(), ["a=1"]);
    const { commits } = disk;
    await time.run(60_000);
    assert.equal(disk.commits, commits, "nothing waits");
    disk.isFull = true;
    writer.write([put("a", "2")]);
    await time.run(0);
    writer.close();
    const last = disk.commits;
    await time.run(60_000);
    assert.equal(disk.commits, last);
  });

  test("keeps one place for a row, however often it is written and taken away", async () => {
    const { time, disk, writer, told } = setUp();
    disk.isFull = true;
    for (let seq = 1; seq <= 70_000; seq++) {
      writer.write([gone(`o/${seq - 1}`), fresh(`o/${seq}`, ""), put("o/h", `${seq}`)]);
      if (seq % 1_000 === 0) await time.run(1_000);
    }
    assert.ok(told.length > 2, `${told.length} refusals`);
    disk.isFull = false;
    await time.run(10_000);
    assert.deepEqual(disk.entries("t").map(([key]) => key), ["o/70000", "o/h"]);
    assert.equal(disk.largest, 3, "the first row may have been on the disk before");
  });

  test("takes away what the file had, also when that was written anew meanwhile", async () => {
    const { time, disk, writer, all } = setUp();
    writer.write([fresh("o/1", "old"), put("p/1", "old")]);
    await time.run(0);
    disk.isFull = true;
    writer.write([gone("o/1"), fresh("o/1", "new")]);
    writer.write([put("p/1", "new"), fresh("p/2", "")]);
    await time.run(0);
    writer.write([gone("o/1"), gone("p/1"), gone("p/2")]);
    await time.run(0);
    disk.isFull = false;
    await time.run(10_000);
    assert.deepEqual(all(), []);
    assert.equal(disk.largest, 2, "what the file never had is not taken away");
  });

  test("writes much in parts, none of which splits what belongs together", async () => {
    const { time, disk, writer, all } = setUp();
    disk.isFull = true;
    for (let origin = 0; origin < 100; origin++) {
      writer.write(Array.from({ length: 1_000 }, (_, i) => fresh(`${origin}/${i}`, "")));
    }
    await time.run(0);
    disk.isFull = false;
    const { commits } = disk;
    const sizes = new Set<number>();
    disk.onCommit = (batch) => void sizes.add(batch.length);
    await time.run(10_000);
    assert.equal(all().length, 100_000);
    assert.equal(disk.commits - commits, 25);
    assert.deepEqual(sizes, new Set([4_000]));
  });

  test("makes room for what fits where something else does not", async () => {
    const { time, disk, writer, all } = setUp();
    disk.fits = (batch) => batch.length < 5_000;
    writer.write(Array.from({ length: 6_000 }, (_, i) => fresh(`large/${i}`, "")));
    await time.run(0);
    writer.write([fresh("small/1", "1")]);
    await time.run(20_000);
    assert.deepEqual(all(), ["small/1=1"]);
  });

  for (const isRefused of [false, true]) {
    test(`closed during a batch that is ${isRefused ? "refused" : "taken"}, leaves no half of it`, async () => {
      const { time, disk, writer, told, all } = setUp();
      writer.write([fresh("o/1", "1"), put("o/h", "1")]);
      await time.run(0);
      const first = disk.hold();
      writer.write([gone("o/1"), fresh("o/2", "2"), fresh("o/3", "3"), put("o/h", "3")]);
      writer.write([gone("o/3"), fresh("o/4", "4"), put("o/h", "4")]);
      writer.close();
      writer.close();
      first(isRefused);
      await time.run(60_000);
      assert.deepEqual(all(), ["o/2=2", "o/4=4", "o/h=4"]);
      assert.deepEqual(told, isRefused ? ["no room"] : []);
      const { commits } = disk;
      writer.write([put("late", "")]);
      await time.run(60_000);
      assert.equal(disk.commits, commits);
    });
  }

  test("says that the disk refused the last attempt, too", async () => {
    const { time, disk, writer, told } = setUp();
    disk.isFull = true;
    writer.write([put("a", "1")]);
    await time.run(0);
    writer.close();
    await time.run(0);
    assert.deepEqual(told, ["no room", "no room"]);
  });

  test("leaves a file that adds up after every batch, whatever is refused", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(stepOf, { minLength: 20, maxLength: 120 }), fc.boolean(), play),
      { numRuns: 150 },
    );
  });
});

/** What happens to the rows of some origins, and to their disk. */
type Step =
  | { readonly type: "move"; readonly origin: number; readonly ops: readonly Op[] }
  | { readonly type: "full"; readonly isFull: boolean }
  | { readonly type: "slow"; readonly isSlow: boolean }
  | { readonly type: "run"; readonly ms: number };

interface Op {
  readonly key: string;
  /** `again`: under a number that a row had before, as of an author that signed two histories. */
  readonly what: "put" | "remove" | "again";
}

const opOf: fc.Arbitrary<Op> = fc.record({
  key: fc.constantFrom("a", "b", "c"),
  what: fc.constantFrom("put", "put", "put", "remove", "remove", "again"),
});
const stepOf: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      type: fc.constant("move"),
      origin: fc.nat(2),
      ops: fc.array(opOf, { minLength: 1, maxLength: 4 }),
    }),
  },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("full"), isFull: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ type: fc.constant("slow"), isSlow: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ type: fc.constant("run"), ms: fc.constantFrom(0, 6_000) }) },
);

/** The rows that the memory has of one origin. */
interface Author {
  readonly id: string;
  seq: number;
  readonly rows: Map<string, Put>;
  /** What each head stood for, by its hash. */
  readonly history: Map<number, string>;
}

const text = (rows: Iterable<Put>) =>
  [...rows].map(({ seq, key, value }) => `${seq} ${key} ${value[0]}`).sort().join();

async function play(steps: readonly Step[], isClosed: boolean): Promise<void> {
  const { time, disk, writer } = setUp();
  let moves = 0;
  const authors: Author[] = [1, 2, 3].map((i) => (
    { id: String.fromCharCode(i).repeat(16), seq: 0, rows: new Map(), history: new Map() }
  ));
  const read = () => readSaved("s", disk.entries(tableOf("s")));
  const flaws: string[] = [];
  // Not thrown: to the writer that would be a refusal.
  disk.afterCommit = () => {
    const { origins, strays } = read();
    if (strays.length > 0) flaws.push("damaged");
    for (const { head, puts } of origins) {
      if (head === undefined) {
        flaws.push("rows without a head");
        continue;
      }
      const { history } = authors[head.author[0] as number] as Author;
      if (text(puts) !== history.get(head.epoch)) flaws.push(`${head.epoch}: ${text(puts)}`);
    }
  };
  const move = (index: number, ops: readonly Op[]) => {
    const author = authors[index] as Author;
    const before = new Set(author.rows.values());
    const gone = new Set<Put>();
    for (const { key, what } of ops) {
      const held = author.rows.get(key);
      if (held !== undefined && before.has(held)) gone.add(held);
      author.rows.delete(key);
      if (what === "remove") continue;
      const isFree = (seq: number) => [...author.rows.values()].every((row) => row.seq !== seq);
      const seq = what === "again" && held !== undefined && isFree(held.seq)
        ? held.seq
        : ++author.seq;
      author.rows.set(key, { seq, key, value: Uint8Array.of(++moves % 256) });
    }
    const added = [...author.rows.values()].filter((row) => !before.has(row));
    author.history.set(++moves, text(author.rows.values()));
    const head = {
      author: new Uint8Array(32).fill(index),
      // Which of the memory's states it stands for: no two heads are alike.
      epoch: moves,
      seq: author.seq,
      hash: new Uint8Array(32),
      signature: new Uint8Array(64),
    };
    writer.write(savedMove("s", toOrigin(utf8(author.id)), head, { gone: [...gone], added }));
  };
  for (const step of steps) {
    if (step.type === "move") move(step.origin, step.ops);
    else if (step.type === "run") await time.run(step.ms);
    else if (step.type === "full") disk.isFull = step.isFull;
    else disk.delayMs = step.isSlow ? 3 : 0;
  }
  disk.isFull = false;
  if (isClosed) {
    const answer = disk.hold();
    move(0, [{ key: "a", what: "put" }]);
    move(0, [{ key: "b", what: "put" }, { key: "a", what: "remove" }]);
    writer.close();
    answer(true);
  }
  await time.run(30_000);
  assert.deepEqual(flaws, []);
  for (const [index, { rows, history }] of authors.entries()) {
    const saved = read().origins.find(({ head }) => head?.author[0] === index);
    if (history.size === 0) assert.equal(saved, undefined);
    else if (!isClosed) assert.equal(text(saved?.puts ?? []), text(rows.values()));
  }
}
