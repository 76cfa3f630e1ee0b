import assert from "node:assert/strict";
import { afterEach, beforeEach, describe, runtime, test, waitFor } from "./harness.ts";

test("the runtime is the one whose test runner executes this file", () => {
  const versions = process.versions as Record<string, string | undefined>;
  assert.equal(versions["deno"] !== undefined, runtime === "deno");
  assert.equal(versions["bun"] !== undefined, runtime === "bun");
});

describe("hooks", () => {
  const calls: string[] = [];
  beforeEach(() => void calls.push("outer before"));
  afterEach(() => void calls.push("outer after"));

  describe("of an inner group", () => {
    beforeEach(() => void calls.push("inner before"));
    afterEach(() => void calls.push("inner after"));
    test("run from the outside in before a test", () => {
      assert.deepEqual(calls, ["outer before", "inner before"]);
    });
  });

  test("run from the inside out after a test, and not outside their group", () => {
    assert.deepEqual(calls.slice(2), ["inner after", "outer after", "outer before"]);
  });
});

test("a skipped test does not run", { skip: "to prove that it does not" }, () => {
  throw new Error("a skipped test ran");
});

test("waitFor names what it waited for in vain", async () => {
  let polls = 0;
  await waitFor(() => ++polls === 3, { what: "three polls" });
  assert.equal(polls, 3);
  await assert.rejects(
    waitFor(() => false, { what: "a pig to fly", deadlineMs: 1 }),
    /waited 1 ms in vain for: a pig to fly/,
  );
});
