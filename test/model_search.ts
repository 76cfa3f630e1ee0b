/** Random stories played against a model, and the shortest one that fails as a script. */
import fc from "fast-check";
import { messageOf } from "../src/base/errors.ts";
import { mixed } from "./trace.ts";

/** One thing that happens in a story; a field that is not there counts as 0. */
export interface StoryStep {
  readonly what: string;
}

/** What is to be searched. */
export interface Model<S extends { readonly steps: readonly StoryStep[] }> {
  /** The module that exports `play`, seen from `test/`. */
  readonly module: string;
  readonly stories: fc.Arbitrary<S>;
  /** Plays a story to its end. @throws AssertionError when something is shown that must not be */
  readonly play: (story: S) => { readonly trace: number };
  /** The fields that a kind of step uses, beside the time that it waits; all where none are named. */
  readonly uses: Readonly<Record<string, readonly string[]>>;
}

/** What a search found. */
export interface Found {
  /** Which stories failed, from 0. */
  readonly failed: readonly number[];
  /** A program that plays the shortest form of the first of them; `undefined` when none failed. */
  readonly script: string | undefined;
  /** A hash of the traces of all stories. */
  readonly trace: number;
}

/** Plays `runs` stories, all of them; without a seed, those of the whole test run's. */
export function search<S extends { readonly steps: readonly StoryStep[] }>(
  model: Model<S>,
  runs: number,
  seed?: number,
): Found {
  const chance = seed === undefined ? {} : { seed };
  const failed: number[] = [];
  let count = 0, trace = 0;
  const all = fc.property(model.stories, (story) => {
    try {
      trace = mixed(trace, model.play(story).trace);
    } catch {
      failed.push(count);
      trace = mixed(trace, ~count);
    }
    count++;
  });
  // What the model throws is counted; anything else is a mistake of the generator.
  const { errorInstance } = fc.check(all, { numRuns: runs, ...chance });
  if (errorInstance !== null && errorInstance !== undefined) throw errorInstance;
  const [first] = failed;
  if (first === undefined) return { failed, script: undefined, trace };
  const one = fc.property(model.stories, (story) => void model.play(story));
  const shrunk = fc.check(one, { numRuns: 1, path: String(first), ...chance });
  const [story] = shrunk.counterexample ?? [];
  // It failed a moment ago: a story that does not fail again has something that no seed decides.
  if (story === undefined) throw new Error(`story ${first} fails only sometimes`);
  return { failed, script: scriptOf(model, story, messageOf(shrunk.errorInstance)), trace };
}

/** A program that plays a story, below what was asserted in vain. */
export function scriptOf<S extends { readonly steps: readonly StoryStep[] }>(
  { module, uses }: Pick<Model<S>, "module" | "uses">,
  story: S,
  failure: string,
): string {
  const { steps, ...rest } = story;
  const lines = [
    ...failure.split("\n").map((line) => `// ${line}`.trimEnd()),
    "// Save as test/again.ts, then: npx node test/again.ts",
    `import { play } from "${module}";`,
    "",
    "play({",
    ...Object.entries(rest).map(([name, value]) => `  ${name}: ${JSON.stringify(value)},`),
    "  steps: [",
    ...steps.map((step) => `    ${stepOf(step, uses[step.what])},`),
    "  ],",
    "});",
  ];
  return lines.join("\n");
}

function stepOf(step: StoryStep, used: readonly string[] | undefined): string {
  const fields = Object.entries(step).filter(([name, value]) => {
    if (name === "waitMs") return value !== 0;
    return name === "what" || used === undefined || used.includes(name);
  });
  return `{ ${fields.map(([name, value]) => `${name}: ${JSON.stringify(value)}`).join(", ")} }`;
}
