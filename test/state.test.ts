/** The small version of `npm run state`; the large one, with a split network, runs by command. */
import assert from "node:assert/strict";
import { runtime, test } from "./harness.ts";
import { startProgram } from "./processes.ts";

// It runs the three runtimes itself: once is enough.
const skip = runtime !== "node" && "run on Node";

test("four nodes agree on names and entries, after killed writers and after the death of all", {
  skip,
  timeoutMs: 300_000,
}, async () => {
  const args = ["--nodes", "4", "--names", "82", "--split", "0", "--json"];
  const cluster = startProgram("node", "test/state/cluster.ts", args);
  try {
    const code = await cluster.exited;
    const line = cluster.output.find((text) => text.startsWith(`{"nodes"`));
    assert.ok(line !== undefined && code === 0, cluster.output.join("\n"));
    assert.equal((JSON.parse(line) as { entries: number }).entries, 97);
  } finally {
    await cluster.kill();
  }
});

test("the cluster of state explains itself and refuses nonsense", { skip }, async () => {
  const cluster = (...args: string[]) => startProgram("node", "test/state/cluster.ts", args);
  const help = cluster("--help");
  await help.line(/--names N/);
  assert.equal(await help.exited, 0);
  for (const args of [["--names", "many"], ["--nonsense"], ["more"]]) {
    const wrong = cluster(...args);
    assert.equal(await wrong.exited, 2);
    assert.ok(!wrong.output.some((line) => /^ +at /.test(line)), wrong.output.join("\n"));
  }
});
