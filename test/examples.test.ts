import assert from "node:assert/strict";
import { runtime, test } from "./harness.ts";
import { startProgram } from "./processes.ts";

test("the shared counter adds up what three nodes add at once", { timeoutMs: 60_000 }, async () => {
  const program = startProgram(runtime, "examples/shared_counter/main.ts");
  try {
    await program.line(/^home was visited 60 times$/);
    assert.equal(await program.exited, 0);
  } finally {
    await program.kill("SIGKILL");
  }
});
