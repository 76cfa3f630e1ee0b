/** Random stories of replicas in an unruly world, and what must be true at their end. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { randomFraction } from "../../src/base/random.ts";
import type { Model } from "../model_search.ts";
import { snapshotOf, STORE, World } from "./world.ts";
import type { Node } from "./world.ts";

/** One thing that happens; what the numbers mean is in `play`, and what is left out is 0. */
interface Step {
  readonly what:
    | "put"
    | "remove"
    | "link"
    | "unlink"
    | "split"
    | "heal"
    | "crash"
    | "start"
    | "verdict"
    | "retire"
    | "restore"
    | "forget";
  readonly node?: number;
  readonly other?: number;
  readonly key?: number;
  readonly bytes?: number;
  readonly waitMs?: number;
}

/** A world and what happens in it. */
export interface Story {
  readonly seed: number;
  readonly size: number;
  readonly steps: readonly Step[];
}

interface Verdict {
  readonly of: Node;
  readonly epoch: number;
}

const calm = [
  ["put", 40],
  ["remove", 15],
  ["link", 5],
  ["unlink", 4],
  ["split", 2],
  ["heal", 4],
] as const;
const deadly = [
  ...calm,
  ["crash", 4],
  ["start", 4],
  // On one life, right or wrong; each node learns of it in its own time.
  ["verdict", 5],
  ["retire", 9],
  ["restore", 6],
  ["forget", 3],
] as const;

function storiesOf(whats: readonly (readonly [Step["what"], number])[]): fc.Arbitrary<Story> {
  const step: fc.Arbitrary<Step> = fc.record({
    what: fc.oneof(
      ...whats.map(([what, weight]) => ({ arbitrary: fc.constant(what), weight })),
    ),
    node: fc.nat(6),
    other: fc.nat(127),
    key: fc.nat(7),
    bytes: fc.oneof(
      { arbitrary: fc.nat(3), weight: 11 },
      { arbitrary: fc.integer({ min: 4096, max: 8192 }), weight: 1 },
    ),
    // Several steps may share a turn; some are far apart.
    waitMs: fc.oneof(
      { arbitrary: fc.constant(0), weight: 3 },
      { arbitrary: fc.nat(300), weight: 6 },
      { arbitrary: fc.nat(20_000), weight: 1 },
    ),
  });
  return fc.record({
    seed: fc.nat(),
    size: fc.integer({ min: 3, max: 7 }),
    steps: fc.array(step, { minLength: 20, maxLength: 120 }),
  });
}

/** All stories: in half of them nobody dies. */
export const stories: fc.Arbitrary<Story> = fc.oneof(storiesOf(calm), storiesOf(deadly));

/** Plays a story to its end. @throws AssertionError when something is shown that must not be */
export function play({ seed, size, steps }: Story): World {
  const world = new World(seed, { loss: 0, duplication: 0, minDelayMs: 0, maxDelayMs: 0 });
  const { random, nodes, network } = world;
  network.loss = randomFraction(random) * 0.3;
  network.duplication = randomFraction(random) * 0.2;
  network.maxDelayMs = 10 ** (randomFraction(random) * 3.3);
  for (let i = 0; i < size; i++) world.addNode();
  const verdicts: Verdict[] = [];
  for (const step of steps) {
    take(world, step, verdicts);
    world.run(step.waitMs ?? 0);
  }
  // The world calms down: everybody up is linked, and agrees who is dead.
  network.loss = network.duplication = 0;
  world.heal();
  const dead = verdicts.filter(({ of, epoch }, i) =>
    (!of.isUp || epoch < of.epoch) && (seed >> i % 31 & 1) === 0
  );
  for (const verdict of verdicts) {
    const type = dead.includes(verdict) ? "retire" : "restore";
    for (const node of nodes) judge(world, node, verdict, type);
  }
  for (const a of nodes) for (const b of nodes) world.link(a, b);
  world.run(200_000);
  converged(world, dead);
  return world;
}

/** Rows, to be searched for a story that fails. */
export const rows: Model<Story> = {
  module: "./replica/story.ts",
  stories,
  play,
  uses: {
    put: ["node", "key", "bytes"],
    remove: ["node", "key"],
    link: ["node", "other"],
    unlink: ["node", "other"],
    split: ["other"],
    heal: [],
    crash: ["node"],
    start: ["node"],
    verdict: ["node"],
    retire: ["node", "other"],
    restore: ["node", "other"],
    forget: ["node", "other"],
  },
};

function take(world: World, step: Step, verdicts: Verdict[]): void {
  const { what, node: at = 0, key = 0, other = 0, bytes = 0 } = step;
  const { nodes } = world;
  const node = nodes[at % nodes.length] as Node;
  switch (what) {
    case "put":
      if (node.isUp) world.put(node, `k${key}`, world.random.bytes(bytes));
      return;
    case "remove":
      if (node.isUp) world.remove(node, `k${key}`);
      return;
    case "link":
      return world.link(node, nodes[other % nodes.length] as Node);
    case "unlink":
      return world.unlink(node, nodes[other % nodes.length] as Node);
    case "split":
      return world.split(new Set(nodes.filter((_, i) => (other >> i & 1) === 1)));
    case "heal":
      return world.heal();
    case "crash":
      if (node.isUp) world.crash(node);
      return;
    case "start":
      if (!node.isUp) world.start(node);
      return;
    case "verdict":
      if (verdicts.some(({ of, epoch }) => of === node && epoch === node.epoch)) return;
      return void verdicts.push({ of: node, epoch: node.epoch });
    default: {
      const verdict = verdicts[other % Math.max(1, verdicts.length)];
      if (verdict !== undefined) judge(world, node, verdict, what);
    }
  }
}

function judge(
  world: World,
  at: Node,
  { of, epoch }: Verdict,
  type: "retire" | "restore" | "forget",
): void {
  world.feed(at, { type, store: STORE, publicKey: of.publicKey, epoch });
}

// Honest peers never give each other cause for these, whatever the network does.
const LIES = /hash_mismatch|bad_signature|duplicate_key|too_many|not_what_was_asked|impostor|bad_/;

function converged(world: World, dead: readonly Verdict[]): void {
  for (const { refusals } of world.nodes) {
    for (const reason of refusals.keys()) assert.doesNotMatch(reason, LIES);
  }
  const up = world.nodes.filter((node) => node.isUp);
  // The fingerprints that anti-entropy goes by, audited: what they call equal is equal.
  const roots = new Set(up.map((node) => String(world.state(node).digests.root())));
  assert.ok(roots.size <= 1, "the fingerprints differ");
  for (const author of world.nodes) {
    const isDead = dead.some(({ of, epoch }) => of === author && epoch === author.epoch);
    const seen = up.map((node) => {
      const rows = [...world.state(node).rowsBy(author.publicKey)];
      const epochs = new Set(rows.map((row) => row.epoch));
      assert.ok(epochs.size <= 1);
      return snapshotOf(rows.map((row) => [row.key, row.value]));
    });
    for (const [i, shown] of seen.entries()) {
      const where = `${up[i]?.name} of ${author.name}`;
      if (author.isUp) assert.equal(shown, snapshotOf(author.truth), where);
      else if (isDead) assert.equal(shown, "", where);
      else assert.equal(shown, seen[0], where);
    }
  }
}
