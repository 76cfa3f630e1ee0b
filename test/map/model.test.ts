import assert from "node:assert/strict";
import process from "node:process";
import { pick } from "../../src/base/random.ts";
import { describe, test } from "../harness.ts";
import { search } from "../model_search.ts";
import { maps, play } from "./story.ts";
import type { Step } from "./story.ts";
import { MapWorld } from "./world.ts";
import type { Node } from "./world.ts";

// A longer search: BARREL_MODEL_RUNS=100000
const RUNS = Number(process.env["BARREL_MODEL_RUNS"] ?? 500);

const step = (what: Step["what"], node: number, more: Partial<Step> = {}): Step => (
  { what, node, other: 0, key: 0, waitMs: 0, ...more }
);

describe("a map, against the model", () => {
  test(`${RUNS} random histories converge on the last writes, and nothing comes back`, {
    timeoutMs: 60_000 + RUNS * 200,
  }, () => {
    const { failed, script } = search(maps, RUNS);
    assert.equal(failed.length, 0, script);
  });

  test("who restarts agrees with a survivor that remembers a deletion whose row is gone", () => {
    const { testimonies } = play({
      seed: 100037950,
      size: 4,
      disks: "none",
      steps: [
        step("link", 2, { waitMs: 14_243 }),
        step("link", 5, { waitMs: 196 }),
        step("set", 0, { key: 1, waitMs: 11_442 }),
        step("delete", 1, { key: 1 }),
        step("set", 0),
        step("unlink", 0, { waitMs: 6 }),
        step("crash", 1),
        step("crash", 3),
        step("set", 0),
        step("set", 0),
        step("crash", 0),
        step("set", 0),
        step("set", 0),
      ],
    });
    assert.equal(testimonies, 1);
  });

  test("who was declared down wrongly is there with all that it wrote meanwhile", () => {
    const world = play({
      seed: 0,
      size: 3,
      disks: "live",
      steps: [
        step("gather", 0, { waitMs: 1_000 }),
        step("set", 0, { waitMs: 1_000 }),
        step("retire", 0, { other: 0b110 }),
        step("set", 0, { key: 1, waitMs: 1_000 }),
      ],
    });
    for (const node of world.nodes) assert.equal(node.shown.size, 2, node.name);
  });

  test("one seed gives one history", () => {
    const shown = () => {
      const world = new MapWorld(7, { loss: 0.2, duplication: 0.1, maxDelayMs: 50 });
      for (let i = 0; i < 4; i++) world.addNode(true);
      for (const a of world.nodes) for (const b of world.nodes) world.link(a, b);
      for (let i = 0; i < 50; i++) {
        world.set(pick(world.random, world.nodes) as Node, `k${i % 5}`);
        world.run(20);
      }
      return { trace: world.trace, shown: world.nodes.map((node) => [...node.shown]) };
    };
    const first = shown();
    assert.deepEqual(first, shown());
    assert.notEqual(first.trace, 0);
  });
});
