/** The small version of `npm run fuzz`. */
import assert from "node:assert/strict";
import { runtime, test } from "./harness.ts";
import { RUNTIMES, startProgram } from "./processes.ts";

// It attacks the three runtimes itself: once is enough.
const skip = runtime !== "node" && "run on Node";

for (const victim of RUNTIMES) {
  test(`a node on ${victim} answers honest calls under packets and frames of every kind`, {
    skip,
    timeoutMs: 180_000,
  }, async () => {
    const args = [
      "--packets",
      "2000",
      "--connections",
      "40",
      "--frames",
      "2000",
      "--runtime",
      victim,
    ];
    const fuzz = startProgram("node", "test/fuzz/main.ts", args);
    try {
      assert.equal(await fuzz.exited, 0, fuzz.output.join("\n"));
      const line = fuzz.output.find((text) => text.endsWith(" refusals counted")) ?? "";
      const [, calls] = /(\d+) honest calls answered/.exec(line) ?? [];
      assert.ok(Number(calls) > 20, line);
    } finally {
      await fuzz.kill();
    }
  });
}

test("the fuzzer explains itself and refuses nonsense", { skip }, async () => {
  const help = startProgram("node", "test/fuzz/main.ts", ["--help"]);
  await help.line(/--packets N/);
  assert.equal(await help.exited, 0);
  for (const args of [["--packets", "many"], ["--nonsense"]]) {
    const wrong = startProgram("node", "test/fuzz/main.ts", args);
    assert.equal(await wrong.exited, 2);
    assert.ok(!wrong.output.some((line) => /^ +at /.test(line)), wrong.output.join("\n"));
  }
});
