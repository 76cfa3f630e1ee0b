/** The small version of `npm run soak`; the large one runs by command. */
import assert from "node:assert/strict";
import { runtime, test } from "./harness.ts";
import { startProgram } from "./processes.ts";

// It runs the three runtimes itself: once is enough.
const skip = runtime !== "node" && "run on Node";

test("nine nodes stand a stall, three deaths at once and three restarts without a wrong verdict", {
  skip,
  timeoutMs: 300_000,
}, async () => {
  const args = ["--nodes", "9", "--settle", "1", "--rest", "1", "--json"];
  const soak = startProgram("node", "test/soak/cluster.ts", args);
  try {
    await soak.exited;
    const line = soak.output.find((text) => text.startsWith(`{"nodes"`));
    assert.ok(line !== undefined, soak.output.join("\n"));
    const { figures } = JSON.parse(line) as { figures: Record<string, number> };
    const wrong = Object.entries(figures).filter(([name]) => name.startsWith("wrong verdicts"));
    assert.equal(wrong.length, 3);
    assert.deepEqual(wrong.filter(([, count]) => count > 0), [], soak.output.join("\n"));
    assert.ok((figures["detection, median"] ?? 0) > 0);
  } finally {
    await soak.kill();
  }
});

test("the soak explains itself and refuses nonsense", { skip }, async () => {
  const help = startProgram("node", "test/soak/cluster.ts", ["--help"]);
  await help.line(/--nodes N/);
  assert.equal(await help.exited, 0);
  const wrong = startProgram("node", "test/soak/cluster.ts", ["--nodes", "two"]);
  assert.equal(await wrong.exited, 2);
});
