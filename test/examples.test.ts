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

test("a node is called through a relay, which passes the packets on", {
  timeoutMs: 60_000,
}, async () => {
  const program = startProgram(runtime, "examples/relay/main.ts");
  try {
    await program.line(/^hello, through the relay$/);
    const [, packets] = await program.line(/^(\d+) packets went through the relay$/);
    assert.ok(Number(packets) > 50, `${packets} packets`);
    assert.equal(await program.exited, 0);
  } finally {
    await program.kill("SIGKILL");
  }
});
