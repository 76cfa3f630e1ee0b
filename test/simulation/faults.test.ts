import assert from "node:assert/strict";
import { describe, test } from "../harness.ts";
import { runFaults } from "./faults.ts";

/** Runs it; a failure says how to see it again. */
async function run(seed: number, nodes: number, rounds: number) {
  try {
    return await runFaults({ seed, nodes, rounds });
  } catch (error) {
    const options = `--nodes ${nodes} --rounds ${rounds} --seed ${seed}`;
    console.error(`repeat it with: npm run simulate -- ${options}`);
    throw error;
  }
}

describe("whole nodes under churn, stalls, cuts and wrong clocks", () => {
  const patient = { timeoutMs: 180_000 };

  test(
    "declare the dead down and nobody else, deliver at most once, and stay whole",
    patient,
    async () => {
      for (const seed of [1, 2]) await run(seed, 20, 10);
    },
  );

  test("one seed gives one history to the byte", patient, async () => {
    const [first, again] = [await run(3, 10, 6), await run(3, 10, 6)];
    assert.deepEqual(again, first);
    assert.notEqual((await run(4, 10, 6)).trace, first.trace);
  });
});
