import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { Collected, keeps, missed } from "../bench/experiments/experiment.ts";
import type { Limit, Plot, Result } from "../bench/experiments/experiment.ts";
import { experiments } from "../bench/experiments/list.ts";
import { overlayHeals } from "../bench/experiments/overlay_heals.ts";
import { closing, table } from "../bench/experiments/report.ts";
import { lateJoiner, splitAndRestart } from "../bench/experiments/state_rows.ts";
import { svgOf } from "../bench/experiments/svg.ts";
import { describe, runtime, test } from "./harness.ts";

const SMALL: ReadonlyMap<string, number> = new Map([["E1", 200], ["E3", 200], ["E7", 60]]);

function run(id: string, nodes: number, isPaper: boolean, seed = 1): Result {
  const experiment = experiments.find((known) => known.id === id);
  assert.ok(experiment !== undefined);
  const result = experiment.run({ nodes, seeds: [seed], isPaper, progress: () => {} });
  assertDrawn(result.plots);
  return result;
}

/** Each plot has curves, of few enough points, and all of them are where they can be seen. */
function assertDrawn(plots: readonly Plot[]): void {
  assert.ok(plots.length > 0, "no plot");
  for (const plot of plots) {
    const svg = svgOf(plot);
    assert.doesNotMatch(svg, /NaN|Infinity|undefined/, plot.title);
    const curves = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points]) => points);
    assert.equal(curves.length, plot.series.length);
    for (const curve of curves) {
      const points = (curve as string).split(" ").map((point) => point.split(",").map(Number));
      assert.ok(points.length <= 401, `${plot.title}: ${points.length} points`);
      for (const [x = NaN, y = NaN] of points) {
        assert.ok(x >= 0 && x <= 640 && y >= 0 && y <= 400, `${plot.title}: ${x},${y}`);
      }
    }
  }
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
    assertDrawn(collected.plots);
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
    assertDrawn(collected.plots);
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

  test("the plots of the smallest worlds are whole, too", {
    timeoutMs: 60_000,
    skip: runtime === "node" ? false : "heavy: on Node only",
  }, () => {
    for (const id of ["E1", "E9", "E11", "E16", "E17", "E18", "E19"]) run(id, 30, false);
  });

  test("one bad seed misses a limit of each seed, and no other", () => {
    const values = [...Array.from({ length: 19 }, () => 0), 1];
    const result = (good: Limit): Result => {
      const collected = new Collected();
      for (const value of values) collected.add("wrong", value, { good });
      return { nodes: 1, metrics: collected.metrics, plots: [], traces: [] };
    };
    const ofAll = result(["<=", 0]), ofEach = result(["<=", 0, "each seed"]);
    const ofLeast = result([">=", 0.5, "each seed"]);
    assert.deepEqual([ofAll, ofEach, ofLeast].map((one) => missed(one).length), [0, 1, 1]);
    assert.match(table(ofEach), /wrong +0 +1 +≤ 0, each seed +FAIL/);
    assert.match(table(ofAll), /wrong +0 +1 +≤ 0 +pass/);
    assert.equal(closing(new Map([["E1", ofAll]])), "as good as the reference: E1");
    assert.equal(
      closing(new Map([["E1", ofAll], ["E2", ofEach]])),
      "NOT as good as the reference: E2: wrong is 1 (≤ 0, each seed)",
    );
  });

  test("a plot has the first seed's curve, of a bounded number of points that are numbers", () => {
    const collected = new Collected();
    const axes = { title: "t", x: "x", y: "y" };
    const points = Array.from({ length: 1_000 }, (_, i) => [i, i === 999 ? 7 : 1] as const);
    collected.draw(axes, "long", points);
    collected.draw(axes, "long", [[0, 5]]);
    collected.draw(axes, "never", [[0, Infinity], [1, NaN]]);
    const [plot] = collected.plots;
    assert.deepEqual(plot?.series.map(({ name }) => name), ["long", "never"]);
    const [long, never] = plot?.series.map(({ points }) => points) ?? [];
    assert.ok((long?.length ?? 0) > 100 && (long?.length ?? 0) <= 401);
    assert.deepEqual(long?.at(-1), [999, 7], "the end of the curve is missing");
    assert.deepEqual(never, []);
    assert.doesNotMatch(svgOf({ ...axes, series: [{ name: "never", points: [] }] }), /NaN|Inf/);
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
      assert.deepEqual(readdirSync(out).sort(), ["e1.md", "e1.svg"]);
      const page = readFileSync(join(out, "e1.md"), "utf8");
      assert.match(page, /!\[plot\]\(e1\.svg\)[^]*seeds 7[^]*commit [0-9a-f]{7}/);
      assert.match(readFileSync(join(out, "e1.svg"), "utf8"), /^<svg [^]*<polyline[^]*<\/svg>\n$/);
      await assert.rejects(command("E99"), /no experiment is called E99/);
    } finally {
      rmSync(out, { recursive: true, force: true });
    }
  });
});
