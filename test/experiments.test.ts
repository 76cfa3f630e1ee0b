import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { Collected, keeps, missed, runSeeds } from "../bench/experiments/experiment.ts";
import type {
  Experiment,
  Limit,
  Metric,
  Plot,
  Result,
  SeedError,
} from "../bench/experiments/experiment.ts";
import { experiments } from "../bench/experiments/list.ts";
import { churnOfNodes, churnOfReplicas } from "../bench/experiments/look_ups.ts";
import { overlayHeals } from "../bench/experiments/overlay_heals.ts";
import { closing, table } from "../bench/experiments/report.ts";
import { clocks } from "../bench/experiments/state_maps.ts";
import { lateJoiner, splitAndRestart } from "../bench/experiments/state_rows.ts";
import { svgOf } from "../bench/experiments/svg.ts";
import { wholeTraffic } from "../bench/experiments/whole_nodes.ts";
import { describe, runtime, test } from "./harness.ts";

const HEAVY = runtime === "node" ? false : "heavy: on Node only";

async function run(id: string, nodes: number, isPaper = false, seed = 1): Promise<Result> {
  const experiment = experiments.find((known) => known.id === id);
  assert.ok(experiment !== undefined);
  return await experiment.run({ nodes, seeds: [seed], isPaper, progress: () => {} });
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

function named(metrics: readonly Metric[]): string[] {
  return metrics.map(({ name, values }) => `${name}: ${values.join()}`);
}

/** The metrics that miss a limit of either column. */
function short(metrics: readonly Metric[]): string[] {
  return named(
    metrics.filter((metric) =>
      keeps(metric, metric.good) === false || keeps(metric, metric.goal) === false
    ),
  );
}

/**
 * Nodes of the small version of each experiment that takes a number of them, as few as show what it
 * is about. Limits that do not shrink with the nodes are easier to keep than at full size; those of
 * E1, E5 and E6 that do are scaled by the experiments themselves.
 */
const SMALL: ReadonlyMap<string, number> = new Map([
  ["E1", 200],
  // E2 to E4 look at the same worlds, which are built once.
  ["E2", 100],
  ["E3", 100],
  ["E4", 100],
  ["E5", 60],
  ["E6", 60],
  ["E7", 60],
  ["E8", 60],
  ["E9", 100],
  // One a second goes and one comes, whatever the number: twice the churn.
  ["E10", 50],
  ["E15", 60],
  ["E16", 60],
  ["E17", 60],
  // Messages, and as many lies.
  ["E18", 20_000],
  ["E19", 100],
]);

describe("the experiments", () => {
  for (const [id, nodes] of SMALL) {
    test(`${id} with ${nodes} is as good as the reference`, {
      timeoutMs: 180_000,
      skip: id === "E1" || id === "E9" ? false : HEAVY,
    }, async () => {
      const result = await run(id, nodes);
      assert.deepEqual(named(missed(result)), []);
      const judged = result.metrics.filter(({ good }) => good !== undefined);
      assert.ok(judged.length > 0, "nothing is judged");
      assertDrawn(result.plots);
    });
  }

  test("the paper's pseudo-code survives the failure of 60 %, too", {
    timeoutMs: 60_000,
  }, async () => {
    const result = await run("E3", 300, true);
    const second = result.metrics.find(({ name }) => name === "2nd message after 60 %");
    assert.ok((second?.values[0] ?? 0) > 98, `${second?.values[0]} % reached`);
  });

  test("E11: a join storm leaves no island, nobody short of two, and no one-sided edge", {
    timeoutMs: 60_000,
  }, async () => {
    const { metrics, plots } = await run("E11", 200);
    assert.deepEqual(short(metrics), []);
    assertDrawn(plots);
  });

  test("E12: what was split for ten minutes, or restarted as a whole, is one in two cycles", {
    timeoutMs: 60_000,
    skip: HEAVY,
  }, async () => {
    const { metrics, plots } = await run("E12", 30);
    assert.deepEqual(metrics[0]?.values, [2], "not split at all");
    assert.deepEqual(short(metrics), []);
    assertDrawn(plots);
  });

  test("E13: torn edges cost no look-up, of replicas and of whole nodes", {
    timeoutMs: 180_000,
    skip: HEAVY,
  }, async () => {
    const collected = new Collected();
    const traces = [
      churnOfReplicas(40, 20, 1, collected),
      await churnOfNodes(12, 10, 1, collected),
    ];
    assert.deepEqual(short(collected.metrics), []);
    const values = new Map(
      collected.metrics.map(({ name, values: [value = NaN] }) => [name, value]),
    );
    const share = values.get("40 replicas: % of the edges torn in a second") ?? 0;
    assert.ok(share > 6 && share < 12, `${share} % of the edges torn`);
    assert.equal(
      values.get("40 replicas: neighbours in the mean, after"),
      values.get("40 replicas: neighbours in the mean, before"),
    );
    assert.ok((values.get("12 whole nodes: edges torn") ?? 0) >= 20);
    assert.ok((values.get("12 whole nodes: neighbours found anew, by both ends") ?? 0) >= 20);
    assert.ok(traces.every((trace) => trace !== 0));
    assertDrawn(collected.plots);
  });

  test("E14: state is cheap at rest, and whole soon for a late joiner", {
    timeoutMs: 60_000,
    skip: HEAVY,
  }, async () => {
    const collected = new Collected();
    lateJoiner(20, 400, 1, collected);
    await wholeTraffic(8, 20, 1, collected);
    assert.deepEqual(short(collected.metrics), []);
    assertDrawn(collected.plots);
    // All that a node sends is more than what it sends of replicas, and no other order of magnitude.
    const idle = collected.metrics.filter(({ name }) => /B\/s$|idle/.test(name));
    const [ofReplicas = NaN, ofAll = NaN] = idle.map(({ values: [value] }) => value);
    assert.ok(ofAll > ofReplicas && ofAll < 500, `${ofReplicas} of replicas, ${ofAll} in all`);
  });

  test("E20: a clock an hour off costs no write of an honest node", {
    timeoutMs: 60_000,
    skip: HEAVY,
  }, async () => {
    assert.deepEqual(short((await run("E20", 7)).metrics), []);
  });

  test("E21: rows and maps do not diverge from their models", {
    timeoutMs: 60_000,
    skip: HEAVY,
  }, async () => {
    const result = await run("E21", 60);
    assert.deepEqual(short(result.metrics), []);
    const again = await run("E21", 10), other = await run("E21", 10, false, 2);
    assert.deepEqual(again.traces, (await run("E21", 10)).traces);
    assert.notDeepEqual(again.traces, other.traces);
  });

  test("each experiment has a small version", async () => {
    const source = await readFile(new URL(import.meta.url), "utf8");
    for (const { id } of experiments) {
      assert.ok(SMALL.has(id) || source.includes(`test("${id}: `), id);
    }
  });

  test("one seed gives one trace in each kind of world, and another seed another", {
    timeoutMs: 180_000,
    skip: HEAVY,
  }, async () => {
    const unseen = () => new Collected();
    const worlds: Record<string, (seed: number) => number | Promise<number>> = {
      "overlay, E1": async (seed) => (await run("E1", 40, false, seed)).traces[0] as number,
      "overlay, E12": (seed) => overlayHeals(20, seed, unseen(), () => {}),
      "state, E12": (seed) => splitAndRestart(6, seed, unseen()),
      "state, E13": (seed) => churnOfReplicas(12, 3, seed, unseen()),
      "whole nodes, E13": (seed) => churnOfNodes(5, 2, seed, unseen()),
      "state, E14": (seed) => lateJoiner(6, 30, seed, unseen()),
      "maps, E20": (seed) => clocks(seed, 3_600_000, unseen()),
      "liveness, E17": async (seed) => (await run("E17", 20, false, seed)).traces[0] as number,
    };
    for (const [world, traceOf] of Object.entries(worlds)) {
      const [first, again, other] = [await traceOf(1), await traceOf(1), await traceOf(2)];
      assert.ok(first > 0xffff, `${world}: ${first} is no hash`);
      assert.equal(first, again, world);
      assert.notEqual(first, other, world);
    }
  });

  test("the plots of the smallest worlds are whole, too", {
    timeoutMs: 60_000,
    skip: HEAVY,
  }, async () => {
    for (const id of ["E1", "E9", "E11", "E16", "E17", "E18", "E19"]) {
      assertDrawn((await run(id, 30)).plots);
    }
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
    assert.deepEqual(closing(new Map([["E1", ofAll]])), {
      line: "as good as the reference: E1",
      isGood: true,
    });
    assert.deepEqual(closing(new Map([["E1", ofAll], ["E2", ofEach]])), {
      line: "NOT as good as the reference: E2: wrong is 1 (≤ 0, each seed)",
      isGood: false,
    });
  });

  test("a run that throws names the one seed that was under way", async () => {
    const thrown = new Error("seven");
    const experiment: Pick<Experiment, "run"> = {
      run({ seeds }) {
        for (const seed of seeds) if (seed === 7) throw thrown;
        return { nodes: 1, metrics: [], plots: [], traces: [] };
      },
    };
    const settings = { nodes: undefined, isPaper: false, progress: () => {} };
    await runSeeds(experiment, [5, 6], settings);
    await assert.rejects(runSeeds(experiment, [5, 6, 7, 8], settings), (error: SeedError) => {
      assert.equal(error.seed, 7);
      assert.equal(error.cause, thrown);
      return true;
    });
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
      const { stdout } = await command("E1", "--nodes", "30", "--seed", "7", "--out", out);
      assert.match(stdout, /\nas good as the reference: E1\n$/);
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
