import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { runtime, test } from "../harness.ts";
import { startProgram } from "../processes.ts";

// A longer trial: BARREL_KILL_ROUNDS=200
const ROUNDS = Number(process.env["BARREL_KILL_ROUNDS"] ?? 3);

test(`what SQLite acknowledged survives SIGKILL, whole batches only, ${ROUNDS} times`, {
  timeoutMs: 30_000 + ROUNDS * 10_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "barrel-kill-"));
  let acknowledged = 0;
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const program = startProgram(runtime, "test/storage/kill_program.ts", [
        join(folder, "store.sqlite"),
      ]);
      const [, a, b] = await program.line(/^found (\d+) (\d+)$/);
      assert.equal(a, b, "half a batch was applied");
      assert.ok(Number(a) >= acknowledged, `${a} was found where ${acknowledged} was acknowledged`);
      await program.line(new RegExp(`^ack ${Number(a) + 1 + round % 7}$`));
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      await program.kill("SIGKILL");
      for (const line of program.output) {
        const ack = /^ack (\d+)$/.exec(line);
        if (ack !== null) acknowledged = Math.max(acknowledged, Number(ack[1]));
      }
    }
    assert.ok(acknowledged >= ROUNDS);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
