import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { Collected, keeps } from "../bench/experiments/experiment.ts";
import type { Result } from "../bench/experiments/experiment.ts";
import { experiments } from "../bench/experiments/list.ts";
import { overlayHeals } from "../bench/experiments/overlay_heals.ts";
import { lateJoiner, splitAndRestart } from "../bench/experiments/state_rows.ts";
import { svgOf } from "../bench/experiments/svg.ts";
import { describe, runtime, test } from "./harness.ts";

const SMALL: ReadonlyMap<string, number> = new Map([["E1", 200], ["E3", 200], ["E7", 60]]);

function run(id: string, nodes: number, isPaper: boolean, seed = 1): Result {
  const experiment = experiments.find((known) => known.id === id);
  assert.ok(experiment !== undefined);
  return experiment.run({ nodes, seeds: [seed], isPaper, progress: () => {} });
}

/** Metrics that are not as good as the reference. */
function short(result: Result): string[] {
  return result.metrics.filter((metric) => keeps(metric, metric.good) === false)
    .map((metric) => `${metric.name}: ${metric.values.join(", ")}`);
}

describe("the experiments", () => {
  test("the overlay at rest is as good as the paper's", { timeoutMs: 60_000 }, () => {
    assert.deepEqual(short(run("E1", SMALL.get("E1") ?? 0, false)), []);
  });

  test("the paper's pseudo-code survives the failure of 60 %, too", { timeoutMs: 60_000 }, () => {
    const result = run("E3", 300, true);
    const second = result.metrics.find(({ name }) => name === "2nd message after 60 %");
    assert.ok((second?.values[0] ?? 0) > 98, `${second?.values[0]} % reached`);
  });

  test("a join storm leaves no island, nobody short of two, and no one-sided edge", {
    timeoutMs: 60_000,
  }, () => {
    const { metrics } = run("E11", 200, false);
    const missed = metrics.filter(({ values, good, goal }) =>
      [good, goal].some((limit) => keeps({ name: "", values }, limit) === false)
    );
    assert.deepEqual(missed.map(({ name, values }) => `${name}: ${values.join()}`), []);
  });

  test("an overlay split for ten minutes, or restarted as a whole, is one in two cycles", {
    timeoutMs: 60_000,
  }, () => {
    const collected = new Collected();
    overlayHeals(60, 1, collected, () => {});
    const { metrics } = collected;
    assert.deepEqual(metrics[0]?.values, [2], "not split at all");
    const missed = metrics.filter((metric) =>
      keeps(metric, metric.good) === false || keeps(metric, metric.goal) === false
    );
    assert.deepEqual(missed, []);
  });

  test("state is cheap at rest, whole soon for a late joiner, and one after splits and restarts", {
    timeoutMs: 60_000,
    skip: runtime === "node" ? false : "heavy: on Node only",
  }, () => {
    const collected = new Collected();
    lateJoiner(20, 400, 1, collected);
    splitAndRestart(20, 1, collected);
    const { metrics } = collected;
    const missed = metrics.filter((metric) => keeps(metric, metric.goal) === false);
    assert.deepEqual(missed, []);
    assert.ok(metrics.filter(({ goal }) => goal !== undefined).length >= 5);
    assert.deepEqual(short(run("E13", 30, false)), []);
  });

  test("one seed gives one trace", { timeoutMs: 60_000 }, () => {
    const traces = [1, 1, 2].map((seed) => run("E1", 40, false, seed).traces[0]);
    assert.equal(traces[0], traces[1]);
    assert.notEqual(traces[0], traces[2]);
  });

  test("broadcast reaches all while nodes fail and frames are lost", {
    timeoutMs: 60_000,
    skip: runtime === "node" ? false : "heavy: on Node only",
  }, () => {
    assert.deepEqual(short(run("E7", SMALL.get("E7") ?? 0, false)), []);
  });

  test("a plot escapes what it is given", () => {
    const series = [{ name: "a < b", points: [[1, 2], [2, 3]] as const }];
    assert.match(svgOf({ title: "t & u", x: "x", y: "y", series }), /a &lt; b/);
  });

  test("the command writes a page with its seed and commit, and refuses unknown names", {
    timeoutMs: 60_000,
    skip: runtime === "node" ? false : "the command runs on Node",
  }, async () => {
    const out = mkdtempSync(join(tmpdir(), "experiments-"));
    try {
      const command = (...args: string[]) =>
        promisify(execFile)(process.execPath, ["bench/experiments/main.ts", ...args]);
      await command("E1", "--nodes", "30", "--seed", "7", "--out", out);
      assert.deepEqual(readdirSync(out), ["e1.md"]);
      assert.match(readFileSync(join(out, "e1.md"), "utf8"), /seeds 7[^]*commit [0-9a-f]{7}/);
      await assert.rejects(command("E99"), /no experiment is called E99/);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  });
});
