import assert from "node:assert/strict";
import { pick, randomBelow, randomFraction } from "../../src/base/random.ts";
import { describe, test } from "../harness.ts";
import { snapshotOf, STORE, World } from "./world.ts";
import type { Node } from "./world.ts";

// A longer search: BARREL_MODEL_RUNS=100000 BARREL_MODEL_SEED=1
const env = (globalThis as { process?: { env: Record<string, string | undefined> } }).process?.env;
const RUNS = Number(env?.BARREL_MODEL_RUNS ?? 500);
const SEED = Number(env?.BARREL_MODEL_SEED ?? 1);

/** Histories that have found something, each once. */
const FOUND = [
  // A life was declared over and restored, and the one before it came back with it.
  28_816,
];

interface Verdict {
  readonly of: Node;
  readonly epoch: number;
}

function step(world: World, verdicts: Verdict[], isDeadly: boolean): void {
  const { random, nodes } = world;
  const node = pick(random, nodes) as Node;
  const other = pick(random, nodes) as Node;
  const dice = randomBelow(random, isDeadly ? 100 : 70);
  if (dice < 40) {
    if (!node.isUp) return;
    const isBig = randomBelow(random, 12) === 0;
    const value = random.bytes(isBig ? 4096 + randomBelow(random, 4097) : randomBelow(random, 4));
    world.put(node, `k${randomBelow(random, 8)}`, value);
  } else if (dice < 55) {
    if (node.isUp) world.remove(node, `k${randomBelow(random, 8)}`);
  } else if (dice < 60) world.link(node, other);
  else if (dice < 64) world.unlink(node, other);
  else if (dice < 66) world.split(new Set(nodes.filter(() => randomBelow(random, 2) === 0)));
  else if (dice < 70) world.heal();
  else if (dice < 77) {
    if (!node.isUp) world.start(node);
    else if (dice < 74) world.crash(node);
  } else if (dice < 82) {
    // A verdict on one life, right or wrong, which each node learns of in its own time.
    const isKnown = verdicts.some(({ of, epoch }) => of === node && epoch === node.epoch);
    if (!isKnown) verdicts.push({ of: node, epoch: node.epoch });
  } else {
    const verdict = pick(random, verdicts);
    const type = pick(random, ["retire", "retire", "retire", "restore", "restore", "forget"]);
    if (verdict !== undefined) judge(world, node, verdict, type as "retire");
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

function runOnce(seed: number): World {
  const world = new World(seed, { loss: 0, duplication: 0, minDelayMs: 0, maxDelayMs: 0 });
  const { random } = world;
  world.network.loss = randomFraction(random) * 0.3;
  world.network.duplication = randomFraction(random) * 0.2;
  world.network.maxDelayMs = 10 ** (randomFraction(random) * 3.3);
  const size = 3 + randomBelow(random, 5);
  for (let i = 0; i < size; i++) world.addNode();
  const verdicts: Verdict[] = [];
  const steps = 20 + randomBelow(random, 100);
  const isDeadly = randomBelow(random, 2) === 0;
  for (let i = 0; i < steps; i++) {
    step(world, verdicts, isDeadly);
    // Several steps may share a turn; some are far apart.
    const dice = randomBelow(random, 10);
    world.run(dice < 3 ? 0 : dice < 9 ? randomBelow(random, 300) : randomBelow(random, 20_000));
  }
  // The world calms down: everybody up is linked, and agrees who is dead.
  world.network.loss = 0;
  world.network.duplication = 0;
  world.heal();
  const dead = verdicts.filter(({ of, epoch }) =>
    (!of.isUp || epoch < of.epoch) && randomBelow(random, 2) === 0
  );
  for (const verdict of verdicts) {
    const type = dead.includes(verdict) ? "retire" : "restore";
    for (const node of world.nodes) judge(world, node, verdict, type);
  }
  for (const a of world.nodes) for (const b of world.nodes) world.link(a, b);
  world.run(200_000);
  converged(world, dead);
  return world;
}

// Honest peers never give each other cause for these, whatever the network does.
const LIES = /hash_mismatch|bad_signature|duplicate_key|too_many|not_what_was_asked|impostor|bad_/;

function converged(world: World, dead: readonly Verdict[]): void {
  for (const { refusals } of world.nodes) {
    for (const reason of refusals.keys()) assert.doesNotMatch(reason, LIES);
  }
  const up = world.nodes.filter((node) => node.isUp);
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

describe("replica, against the model", () => {
  test(`${RUNS} random histories converge and never show what nobody signed`, {
    timeoutMs: 60_000 + RUNS * 100,
  }, () => {
    const seeds = Array.from({ length: RUNS }, (_, i) => SEED + i);
    for (const seed of [...FOUND, ...seeds]) {
      try {
        runOnce(seed);
      } catch (error) {
        throw new Error(`seed ${seed}: ${(error as Error).message}`, { cause: error });
      }
    }
  });

  test("one seed gives one history", () => {
    for (const seed of [3, 77]) {
      const [a, b] = [runOnce(seed), runOnce(seed)];
      assert.equal(a.events, b.events);
      assert.deepEqual(a.sent, b.sent);
      assert.deepEqual(
        a.nodes.map((node) => [...node.told]),
        b.nodes.map((node) => [...node.told]),
      );
    }
  });
});
