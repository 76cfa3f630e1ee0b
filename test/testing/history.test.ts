import assert from "node:assert/strict";
import { runtime, test } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";

// The engines must agree on the order in which promises tell, or on nothing that depends on it.
test("one seed gives one history on this runtime and the next one", {
  timeoutMs: 120_000,
}, async () => {
  const next = RUNTIMES[(RUNTIMES.indexOf(runtime) + 1) % RUNTIMES.length] as typeof runtime;
  const histories = await Promise.all([runtime, next].map(async (on) => {
    const program = startProgram(on, "test/testing/history_program.ts");
    try {
      return (await program.line(/^history .+ .*nodeDown/, 100_000))[0];
    } finally {
      await program.kill("SIGKILL");
    }
  }));
  assert.equal(histories[1], histories[0], `${runtime} and ${next}`);
});
