import assert from "node:assert/strict";
import { runtime, test } from "../harness.ts";
import { startProgram } from "../processes.ts";

test("a process ends by itself once its nodes are closed", { timeoutMs: 30_000 }, async () => {
  const program = startProgram(runtime, "test/node/exit_program.ts");
  try {
    await program.line(/^closed$/);
    assert.equal(await program.exited, 0);
  } finally {
    await program.kill("SIGKILL");
  }
});
