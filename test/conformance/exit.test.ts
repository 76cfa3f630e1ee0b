import assert from "node:assert/strict";
import { runtime, test } from "../harness.ts";
import { startProgram } from "../processes.ts";
import { wordsOf } from "./world.ts";

test(`quic on ${runtime}: a process that has closed everything ends by itself`, async () => {
  const program = startProgram(runtime, "test/conformance/exit_program.ts");
  try {
    await program.line(/^all closed$/);
    const late = setTimeout(() => void program.kill("SIGKILL"), 5_000);
    const code = await program.exited;
    clearTimeout(late);
    assert.equal(code, 0, program.output.join("\n"));
    assert.deepEqual(wordsOf(program), ["answer hello", "answer hello", "all closed"]);
  } finally {
    await program.kill("SIGKILL");
  }
});
