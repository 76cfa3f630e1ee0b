import assert from "node:assert/strict";
import { startProgram } from "./processes.ts";
import { runtime, test } from "./harness.ts";

// The demo runs the three runtimes itself: once is enough.
const skip = runtime !== "node" && "run on Node";
const demo = (...args: string[]) => startProgram("node", "examples/demo/main.ts", args);

test("the demo tells its story and ends well", { skip, timeoutMs: 90_000 }, async () => {
  const program = demo();
  await program.line(/seed runs on Deno at quic:\/\/127\.0\.0\.1:\d+, key [0-9a-f]{16}/);
  await program.line(/worker runs on Bun/);
  await program.line(/client runs on Node/);
  await program.line(/worker has registered <worker@127\.0\.0\.1\.\d+> as "worker_pool"/);
  await program.line(/client asked the registry and found <worker@/);
  await program.line(/"HELLO, WORKER \(from Bun\)"/);
  await program.line(/the sum is 5050; a call takes \d+ µs/);
  await program.line(/client was told after .* worker@127\.0\.0\.1 is down/, 60_000);
  await program.line(/Done\.$/);
  assert.equal(await program.exited, 0);
});

test(
  "a larger demo stays until Ctrl-C and then cleans up",
  { skip, timeoutMs: 90_000 },
  async () => {
    const program = demo("--nodes", "5", "--keep");
    await program.line(/node5 sees 5 members/, 60_000);
    await program.line(/Press Ctrl-C/);
    program.child.kill("SIGINT");
    assert.equal(await program.exited, 0);
  },
);

test("a demo that is interrupted while it starts ends without a failure", {
  skip,
  timeoutMs: 60_000,
}, async () => {
  const program = demo();
  await program.line(/seed runs on Deno/);
  program.child.kill("SIGINT");
  assert.equal(await program.exited, 130);
  assert.doesNotMatch(program.output.join("\n"), /the demo failed|client runs/);
});

test("the demo explains itself and refuses nonsense", { skip }, async () => {
  const help = demo("--help");
  await help.line(/--nodes N/);
  assert.equal(await help.exited, 0);
  for (const args of [["--nodes", "two"], ["--nodes", "2"], ["--node", "9"]]) {
    const program = demo(...args);
    await program.line(/--nodes must be|Unknown option/);
    assert.equal(await program.exited, 2);
  }
});
