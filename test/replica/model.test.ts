import assert from "node:assert/strict";
import process from "node:process";
import fc from "fast-check";
import { describe, test } from "../harness.ts";
import { search } from "../model_search.ts";
import { play, rows, stories } from "./story.ts";

// A longer search: BARREL_MODEL_RUNS=100000
const RUNS = Number(process.env["BARREL_MODEL_RUNS"] ?? 500);

describe("replica, against the model", () => {
  test(`${RUNS} random histories converge and never show what nobody signed`, {
    timeoutMs: 60_000 + RUNS * 100,
  }, () => {
    const { failed, script } = search(rows, RUNS);
    assert.equal(failed.length, 0, script);
  });

  test("one seed gives one history", () => {
    for (const story of fc.sample(stories, { numRuns: 4, seed: 3 })) {
      const [a, b] = [play(story), play(story)];
      assert.equal(a.events, b.events);
      assert.ok(a.trace !== 0 && a.trace === b.trace, `traces ${a.trace} and ${b.trace}`);
      assert.deepEqual(a.sent, b.sent);
      assert.deepEqual(
        a.nodes.map((node) => [...node.told]),
        b.nodes.map((node) => [...node.told]),
      );
    }
  });
});
