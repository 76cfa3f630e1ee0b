import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { runtime, test } from "../harness.ts";
import { startProgram } from "../processes.ts";
import { LAST, mapAfter } from "./kill_story.ts";

// A longer trial: BARREL_KILL_ROUNDS=200
const ROUNDS = Number(process.env["BARREL_KILL_ROUNDS"] ?? 3);

test(`what a node's map acknowledged survives SIGKILL, whole batches only, ${ROUNDS} times`, {
  timeoutMs: 30_000 + ROUNDS * 10_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), "barrel-kill-"));
  let acknowledged = 0;
  try {
    for (let round = 0; round < ROUNDS; round++) {
      const program = startProgram(runtime, "test/storage/kill_program.ts", [folder]);
      const [, text = ""] = await program.line(/^found (.*)$/);
      const found = Object.fromEntries(JSON.parse(text) as [string, number][]);
      const last = found[LAST] ?? 0;
      assert.ok(last >= acknowledged, `${last} was found where ${acknowledged} was acknowledged`);
      assert.deepEqual(found, mapAfter(last), "half a batch was applied");
      await program.line(new RegExp(`^ack ${last + 1 + round % 13}$`));
      await new Promise((resolve) => setTimeout(resolve, Math.random() * 20));
      await program.kill("SIGKILL");
      for (const line of program.output) {
        const ack = /^ack (\d+)$/.exec(line);
        if (ack !== null) acknowledged = Math.max(acknowledged, Number(ack[1]));
        assert.ok(!line.startsWith("error "), line);
      }
    }
    assert.ok(acknowledged >= ROUNDS);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
