import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { hostname, tmpdir } from "node:os";
import { join } from "node:path";
import { createNode } from "../../mod.ts";
import { ConfigError } from "../../src/base/errors.ts";
import { memory } from "../../src/transport/memory.ts";
import { lockFolder } from "../../src/storage/lock.ts";
import { runtime, test } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";

const inFolder = async (body: (folder: string) => Promise<void>) => {
  const folder = await mkdtemp(join(tmpdir(), "barrel lock "));
  try {
    await body(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
};

const isInUse = (error: unknown) =>
  error instanceof ConfigError && error.path === "dataDir" &&
  /in use by another node/.test(error.message);

test("a folder is taken once, and can be taken again when it was given back", () =>
  inFolder(async (folder) => {
    const data = join(folder, "data");
    const release = await lockFolder(data);
    assert.equal((await stat(join(data, "lock"))).mode & 0o777, 0o600);
    await assert.rejects(lockFolder(data), isInUse);
    await assert.rejects(lockFolder(data), /in this process; close that one, or give this one/);
    await release();
    await (await lockFolder(data))();
    assert.deepEqual(await readdir(data), []);
  }));

test("one of many that begin at once gets it, also over a stale lock", () =>
  inFolder(async (folder) => {
    for (const stale of [undefined, `${hostname()} 4194399 1@x 0\n`, ""]) {
      if (stale !== undefined) await writeFile(join(folder, "lock"), stale);
      const results = await Promise.allSettled(Array.from({ length: 8 }, () => lockFolder(folder)));
      const won = results.filter(({ status }) => status === "fulfilled");
      assert.equal(won.length, 1);
      for (const result of results) if (result.status === "fulfilled") await result.value();
    }
    assert.deepEqual(await readdir(folder), []);
  }));

test("a number that another process has by now does not hold it", () =>
  inFolder(async (folder) => {
    const release = await lockFolder(folder);
    const text = await readFile(join(folder, "lock"), "utf8");
    await release();
    if (!text.includes("@")) return; // the system does not tell when processes began
    await writeFile(join(folder, "lock"), text.replace(/\d+@/, "1@"));
    await (await lockFolder(folder))();
  }));

for (const other of RUNTIMES) {
  test(`a ${other} process holds its folder against ${runtime} while it lives, and not when it was killed`, () =>
    inFolder(async (folder) => {
      const holder = startProgram(other, "test/storage/lock_program.ts", [folder]);
      try {
        await holder.line(/^locked$/);
        await assert.rejects(
          lockFolder(folder),
          (error) => isInUse(error) && String(error).includes(`process ${holder.pid}`),
        );
        await holder.kill("SIGKILL");
        await (await lockFolder(folder))();
      } finally {
        await holder.kill("SIGKILL");
      }
    }));
}

test("a second node with the dataDir of a first one does not start, and harms nothing", () =>
  inFolder(async (folder) => {
    const start = () =>
      createNode({
        name: "node@mem",
        listen: ["mem://node:0"],
        transports: [memory()],
        dataDir: folder,
      });
    const first = await start();
    await assert.rejects(start(), isInUse);
    await first.close();
    const second = await start();
    assert.deepEqual(second.publicKey, first.publicKey);
    await second.close();
    // Neither does a start that fails keep it.
    await assert.rejects(
      createNode({
        name: "node@mem",
        listen: ["nowhere://x"],
        transports: [memory()],
        dataDir: folder,
      }),
      /no transport/,
    );
    await (await start()).close();
  }));
