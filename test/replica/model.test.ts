import assert from "node:assert/strict";
import process from "node:process";
import fc from "fast-check";
import { describe, test } from "../harness.ts";
import { play, stories } from "./story.ts";

// A longer search: BARREL_MODEL_RUNS=100000
const RUNS = Number(process.env["BARREL_MODEL_RUNS"] ?? 500);

describe("replica, against the model", () => {
  test(`${RUNS} random histories converge and never show what nobody signed`, {
    timeoutMs: 60_000 + RUNS * 100,
  }, () => {
    fc.assert(fc.property(stories, (story) => void play(story)), { numRuns: RUNS });
  });

  test("one seed gives one history", () => {
    for (const story of fc.sample(stories, { numRuns: 4, seed: 3 })) {
      const [a, b] = [play(story), play(story)];
      assert.equal(a.events, b.events);
      assert.deepEqual(a.sent, b.sent);
      assert.deepEqual(
        a.nodes.map((node) => [...node.told]),
        b.nodes.map((node) => [...node.told]),
      );
    }
  });
});
