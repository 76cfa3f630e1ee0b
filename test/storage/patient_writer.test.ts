import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { StorageError } from "../../src/base/errors.ts";
import type { Write } from "../../src/storage/contract.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import { PatientWriter } from "../../src/storage/patient_writer.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { describe, test } from "../harness.ts";

const put = (key: string, value: string): Write => ({ table: "t", key, value: utf8(value) });
const gone = (key: string): Write => ({ table: "t", key, value: undefined });

function setUp() {
  const time = createVirtualClock();
  const memory = memoryStore();
  const told: string[] = [];
  const disk = {
    ...memory,
    isFull: false,
    commits: 0,
    commit(batch: readonly Write[]) {
      disk.commits++;
      return disk.isFull
        ? Promise.reject(new StorageError("full", "no room"))
        : memory.commit(batch);
    },
  };
  const { clock } = time.view();
  const refused = (error: Error, isLost: boolean) => void told.push(`${error.message} ${isLost}`);
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
    assert.deepEqual(told, ["no room false"]);
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

  test("gives up what would fill the memory, and says so", async () => {
    const { time, disk, writer, told, all } = setUp();
    disk.isFull = true;
    for (let i = 0; i < 70; i++) {
      writer.write(Array.from({ length: 1_000 }, (_, k) => put(`${i} ${k}`, "")));
      await time.run(0);
    }
    await time.run(10_000);
    assert.equal(told.filter((text) => text === "no room true").length, 1);
    disk.isFull = false;
    writer.write([put("last", "")]);
    await time.run(0);
    assert.ok(all().length < 65_536 && all().includes("last="));
  });
});
