/** Random stories of a map in an unruly world, and what must be true at their end. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { randomBelow, randomFraction } from "../../src/base/random.ts";
import { TESTIMONY_MS } from "../../src/map/testimony.ts";
import { MapWorld, STORE } from "./world.ts";
import type { Node } from "./world.ts";

/** One thing that happens; what the numbers mean is in `play`. */
export interface Step {
  readonly what: "set" | "delete" | "link" | "unlink" | "split" | "heal" | "crash" | "start";
  readonly node: number;
  readonly other: number;
  readonly key: number;
  readonly waitMs: number;
}

/** A world and what happens in it. */
export interface Story {
  readonly seed: number;
  readonly size: number;
  readonly disks: "all" | "none" | "some";
  readonly steps: readonly Step[];
}

const step: fc.Arbitrary<Step> = fc.record({
  what: fc.constantFrom(
    ...["set", "set", "set", "set", "delete", "delete", "delete", "link", "link", "link"] as const,
    ...["unlink", "split", "heal", "crash", "start", "start"] as const,
  ),
  node: fc.nat(6),
  other: fc.nat(127),
  key: fc.nat(3),
  waitMs: fc.oneof(fc.constant(0), fc.nat(300), fc.nat(15_000)),
});
/** All stories. */
export const stories: fc.Arbitrary<Story> = fc.record({
  seed: fc.nat(),
  size: fc.integer({ min: 3, max: 7 }),
  disks: fc.constantFrom("all", "all", "none", "some"),
  steps: fc.array(step, { minLength: 5, maxLength: 80 }),
});

/** Plays a story to its end. @throws AssertionError when something is shown that must not be */
export function play({ seed, size, disks, steps }: Story): void {
  const world = new MapWorld(seed, { loss: 0, duplication: 0, maxDelayMs: 0 });
  const { random, nodes, network } = world;
  network.loss = randomFraction(random) * 0.3;
  network.duplication = randomFraction(random) * 0.2;
  network.maxDelayMs = 10 ** (randomFraction(random) * 3.3);
  for (let i = 0; i < size; i++) {
    const isPersistent = disks === "all" || (disks === "some" && i % 2 === 0);
    world.addNode(isPersistent, randomBelow(random, 4_000) - 2_000);
  }
  let hasForgotten = false;
  for (const { what, node: at, other, key, waitMs } of steps) {
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
        if (!node.isUp) break;
        if (!node.isPersistent) hasForgotten = true;
        world.crash(node);
        break;
      case "start":
        if (!node.isUp) world.start(node);
        break;
    }
    world.run(waitMs);
  }
  // The world calms down.
  network.loss = network.duplication = 0;
  world.heal();
  for (const node of nodes) if (!node.isUp) world.start(node);
  for (const a of nodes) for (const b of nodes) world.link(a, b);
  for (const waitMs of [100_000, TESTIMONY_MS + 5_000, 40_000, 40_000, 40_000]) {
    world.run(waitMs);
    for (const node of nodes) world.sweep(node);
  }
  world.run(20_000);
  converged(world, hasForgotten);
}

// Honest peers never give each other cause for these, whatever the network does.
const LIES = /hash_mismatch|bad_|duplicate_key|too_many|not_what_was_asked|impostor|lost/;

function converged(world: MapWorld, hasForgotten: boolean): void {
  const sorted = (map: ReadonlyMap<string, number>) => [...map].sort(([a], [b]) => a < b ? -1 : 1);
  const truth = world.truth();
  // The fingerprints that anti-entropy goes by, audited: what they call equal is equal.
  const roots = world.nodes.map(({ replica }) => String(replica.store(STORE)?.digests.root()));
  assert.equal(new Set(roots).size, 1, "the fingerprints differ");
  for (const node of world.nodes) {
    for (const reason of node.refusals.keys()) assert.doesNotMatch(reason, LIES);
    assert.deepEqual(sorted(node.shown), sorted((world.nodes[0] as Node).shown), node.name);
    if (hasForgotten) {
      // Who knew of a deletion may be gone, and its effect be there.
      const alive = new Set(world.alive().map(({ id }) => id));
      for (const id of node.shown.values()) assert.ok(alive.has(id), `${id} was replaced`);
      continue;
    }
    assert.deepEqual(sorted(node.shown), sorted(truth), `${node.name} against the model`);
    assert.equal(node.map.heldKeys, truth.size, `${node.name} keeps something of what is deleted`);
  }
}
