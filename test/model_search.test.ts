import assert from "node:assert/strict";
import fc from "fast-check";
import { describe, test } from "./harness.ts";
import { maps, play as playMaps } from "./map/story.ts";
import { scriptOf, search } from "./model_search.ts";
import type { Model } from "./model_search.ts";
import { play as playRows, rows } from "./replica/story.ts";

interface Story {
  readonly size: number;
  readonly steps: readonly {
    readonly what: "up" | "down";
    readonly by: number;
    readonly other: number;
    readonly waitMs: number;
  }[];
}

/** A lift that may not pass the third floor. */
const lift: Model<Story> = {
  module: "./lift/story.ts",
  stories: fc.record({
    size: fc.nat(9),
    steps: fc.array(fc.record({
      what: fc.constantFrom("up", "up", "down"),
      by: fc.nat(2),
      other: fc.nat(9),
      waitMs: fc.nat(100),
    })),
  }),
  play({ steps }) {
    let floor = 0;
    for (const { what, by } of steps) floor = Math.max(0, floor + (what === "up" ? by : -by));
    assert.ok(floor <= 3, `it is on floor ${floor}`);
    return { trace: floor };
  },
  uses: { up: ["by"], down: ["by"] },
};

/** The story in a script, as a program would read it. */
async function storyIn(script: string): Promise<unknown> {
  const story = script.slice(script.indexOf("play({") + "play(".length, -");".length);
  const url = `data:text/javascript,${encodeURIComponent(`export default ${story}`)}`;
  return (await import(url) as { default: unknown }).default;
}

describe("a search for a story that fails", () => {
  test("plays all stories, counts each that fails, and shrinks the first to a script", () => {
    const { failed, script } = search(lift, 100, 1);
    assert.ok(failed.length > 1 && failed.length < 100, `${failed.length} failed`);
    assert.equal(
      script,
      `// it is on floor 4
// Save as test/again.ts, then: npx node test/again.ts
import { play } from "./lift/story.ts";

play({
  size: 0,
  steps: [
    { what: "up", by: 1 },
    { what: "up", by: 1 },
    { what: "up", by: 2 },
  ],
});`,
    );
  });

  test("one seed gives one trace, of failures as well, and another seed another", () => {
    assert.deepEqual(search(lift, 50, 1), search(lift, 50, 1));
    assert.notEqual(search(lift, 50, 1).trace, search(lift, 50, 2).trace);
  });

  test("a script leaves nothing out that its story needs", async () => {
    for (const story of fc.sample(rows.stories, { numRuns: 6, seed: 5 })) {
      const told = await storyIn(scriptOf(rows, story, "nothing")) as typeof story;
      assert.notDeepEqual(told, story, "no field was left out");
      assert.equal(playRows(told).trace, playRows(story).trace);
    }
    for (const story of fc.sample(maps.stories, { numRuns: 6, seed: 5 })) {
      const told = await storyIn(scriptOf(maps, story, "nothing")) as typeof story;
      assert.notDeepEqual(told, story, "no field was left out");
      assert.equal(playMaps(told).trace, playMaps(story).trace);
    }
  });
});
