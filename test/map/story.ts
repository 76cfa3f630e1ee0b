/** Random stories of a map in an unruly world, and what must be true at their end. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { randomBelow, randomFraction } from "../../src/base/random.ts";
import { TESTIMONY_MS } from "../../src/map/testimony.ts";
import type { Model } from "../model_search.ts";
import { MapWorld } from "./world.ts";
import type { Node, Verdict } from "./world.ts";

/** One thing that happens; what the numbers mean is in `play`, and what is left out is 0. */
export interface Step {
  readonly what:
    | "set"
    | "delete"
    | "link"
    | "gather"
    | "unlink"
    | "split"
    | "heal"
    | "crash"
    | "spare"
    | "start"
    | "rest"
    | Verdict;
  readonly node?: number;
  readonly other?: number;
  readonly key?: number;
  readonly waitMs?: number;
}

/** A world and what happens in it. */
export interface Story {
  readonly seed: number;
  readonly size: number;
  /** Who keeps the map on a disk; "live": nobody, and entries go with their node. */
  readonly disks: "all" | "none" | "some" | "live";
  readonly steps: readonly Step[];
}

const node = fc.nat(6);
const key = fc.nat(3);
const waitMs = fc.oneof(fc.constant(0), fc.nat(300), fc.nat(15_000));
const step: fc.Arbitrary<readonly Step[]> = fc.record({
  what: fc.constantFrom(
    ...["set", "set", "set", "set", "delete", "delete", "delete", "link", "link", "link"] as const,
    ...["unlink", "split", "heal", "crash", "start", "start"] as const,
  ),
  node,
  other: fc.nat(127),
  key,
  waitMs,
}).map((one) => [one]);

// After a deletion one is left, or who deleted is gone, and others have heard what they happen to.
const lostDeletion: fc.Arbitrary<readonly Step[]> = fc.record({
  writer: node,
  // Other writes would replace it.
  key: fc.integer({ min: 4, max: 5 }),
  spreadMs: fc.nat(15_000),
  // How long it takes is as wide a range as the delays of the network.
  endMs: fc.integer({ min: 3, max: 13 }).map((e) => 2 ** e),
  isOneLeft: fc.boolean(),
}).map(({ writer, key, spreadMs, endMs, isOneLeft }) => [
  { what: "gather", node: 0, other: 0, key, waitMs: spreadMs },
  { what: "set", node: writer, other: 0, key, waitMs: spreadMs },
  { what: "delete", node: writer + 1, other: 0, key, waitMs: endMs },
  isOneLeft
    ? { what: "spare", node: writer + 2, other: 0, key, waitMs: 0 }
    : { what: "crash", node: writer + 1, other: 0, key, waitMs: 0 },
]);

const verdict: fc.Arbitrary<readonly Step[]> = fc.record({
  what: fc.constantFrom("retire" as const, "restore" as const, "forget" as const),
  node,
  other: fc.nat(127),
  key: fc.constant(0),
  waitMs,
}).map((one) => [one]);

const rest = fc.constant<readonly Step[]>([
  { what: "rest", node: 0, other: 0, key: 0, waitMs: 0 },
]);

function storiesOf(disks: fc.Arbitrary<Story["disks"]>, verdicts: number): fc.Arbitrary<Story> {
  const groups = fc.oneof(
    { arbitrary: step, weight: 60 },
    { arbitrary: lostDeletion, weight: 3 },
    { arbitrary: rest, weight: 1 },
    { arbitrary: verdict, weight: verdicts },
  );
  return fc.record({
    seed: fc.nat(),
    size: fc.integer({ min: 3, max: 7 }),
    disks,
    steps: fc.array(groups, { minLength: 5, maxLength: 80 }).map((all) => all.flat()),
  });
}

const stories: fc.Arbitrary<Story> = fc.oneof(
  storiesOf(fc.constantFrom("all", "none", "some"), 0),
  storiesOf(fc.constant("live"), 10),
);

/** Plays a story to its end. @throws AssertionError when something is shown that must not be */
export function play({ seed, size, disks, steps }: Story): MapWorld {
  const isLive = disks === "live";
  const store = isLive ? "live/map/test" : "kept/map/test";
  const world = new MapWorld(seed, { loss: 0, duplication: 0, maxDelayMs: 0 }, store);
  const { random, nodes, network } = world;
  network.loss = randomFraction(random) * 0.3;
  network.duplication = randomFraction(random) * 0.2;
  network.maxDelayMs = 10 ** (randomFraction(random) * 3.3);
  for (let i = 0; i < size; i++) {
    const isPersistent = disks === "all" || (disks === "some" && i % 2 === 0);
    world.addNode(isPersistent, randomBelow(random, 4_000) - 2_000);
  }
  let hasForgotten = isLive;
  const crash = (node: Node) => {
    if (!node.isUp) return;
    if (!node.isPersistent) hasForgotten = true;
    world.crash(node);
    for (const peer of nodes) world.judge(peer, "retire", node, node.epoch, 10_000);
  };
  for (const { what, node: at = 0, other = 0, key = 0, waitMs = 0 } of steps) {
    const node = nodes[at % size] as Node;
    switch (what) {
      case "set":
        if (node.isUp) world.set(node, `k${key}`);
        break;
      case "delete":
        if (node.isUp) world.delete(node, `k${key}`);
        break;
      case "link":
        world.link(node, nodes[other % size] as Node);
        break;
      case "gather":
        world.heal();
        for (const one of nodes) if (!one.isUp) world.start(one);
        for (const a of nodes) for (const b of nodes) world.link(a, b);
        break;
      case "unlink":
        world.unlink(node, nodes[other % size] as Node);
        break;
      case "split":
        world.split(new Set(nodes.filter((_, i) => (other >> i & 1) === 1)));
        break;
      case "heal":
        world.heal();
        break;
      case "crash":
        crash(node);
        break;
      case "spare":
        for (const one of nodes) if (one !== node) crash(one);
        break;
      case "start":
        if (!node.isUp) world.start(node);
        break;
      case "rest":
        sweepAll(world);
        world.run(TESTIMONY_MS + 5_000);
        sweepAll(world);
        break;
      case "retire":
      case "restore":
      case "forget":
        // Nobody is forgotten who lives.
        if (what === "forget" && node.isUp) break;
        nodes.forEach((peer, i) => {
          if ((other >> i & 1) === 1) world.judge(peer, what, node, node.epoch, 0);
        });
        break;
    }
    world.run(waitMs);
  }
  // The world calms down.
  network.loss = network.duplication = 0;
  world.heal();
  for (const node of nodes) if (!node.isUp) world.start(node);
  for (const a of nodes) for (const b of nodes) world.link(a, b);
  // All come to agree who lives, and what is over is forgotten at last.
  judgeAll(world, "retire");
  for (const waitMs of [100_000, TESTIMONY_MS + 5_000, 40_000, 40_000, 40_000]) {
    world.run(waitMs);
    sweepAll(world);
    judgeAll(world, "forget");
  }
  world.run(20_000);
  converged(world, hasForgotten);
  return world;
}

/** Maps, to be searched for a story that fails. */
export const maps: Model<Story> = {
  module: "./map/story.ts",
  stories,
  play,
  uses: {
    set: ["node", "key"],
    delete: ["node", "key"],
    link: ["node", "other"],
    gather: [],
    unlink: ["node", "other"],
    split: ["other"],
    heal: [],
    crash: ["node"],
    spare: ["node"],
    start: ["node"],
    rest: [],
    retire: ["node", "other"],
    restore: ["node", "other"],
    forget: ["node", "other"],
  },
};

function sweepAll(world: MapWorld): void {
  for (const node of world.nodes) world.sweep(node);
}

function judgeAll(world: MapWorld, past: Verdict): void {
  for (const at of world.nodes) {
    for (const of of world.nodes) {
      for (let epoch = 1; epoch < of.epoch; epoch++) world.judge(at, past, of, epoch, 0);
      world.judge(at, "restore", of, of.epoch, 0);
    }
  }
}

// Honest peers never give each other cause for these, whatever the network does.
const LIES = /hash_mismatch|bad_|duplicate_key|too_many|not_what_was_asked|impostor|lost/;

function converged(world: MapWorld, hasForgotten: boolean): void {
  const sorted = (map: ReadonlyMap<string, number>) => [...map].sort(([a], [b]) => a < b ? -1 : 1);
  const truth = world.truth();
  // The fingerprints that anti-entropy goes by, audited: what they call equal is equal.
  const roots = world.nodes.map(({ replica }) =>
    String(replica.store(world.store)?.digests.root())
  );
  assert.equal(new Set(roots).size, 1, "the fingerprints differ");
  for (const node of world.nodes) {
    for (const reason of node.refusals.keys()) assert.doesNotMatch(reason, LIES);
    assert.deepEqual(sorted(node.shown), sorted((world.nodes[0] as Node).shown), node.name);
    if (hasForgotten) {
      // Who knew of a deletion may be gone, and its effect be there; or who is left heard of it
      // first and of what it deleted after its end.
      for (const id of node.shown.values()) {
        assert.ok(world.nodes.every(({ gone }) => !gone.has(id)), `${id} was replaced`);
      }
      if (world.store.startsWith("live/")) {
        assert.equal(node.map.heldKeys, node.shown.size, `${node.name} keeps what is gone`);
      }
      continue;
    }
    assert.deepEqual(sorted(node.shown), sorted(truth), `${node.name} against the model`);
    assert.equal(node.map.heldKeys, truth.size, `${node.name} keeps something of what is deleted`);
  }
}
