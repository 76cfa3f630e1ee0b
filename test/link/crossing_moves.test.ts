import assert from "node:assert/strict";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import { describe, test } from "../harness.ts";
import { conversation, KEYS } from "./conversation.ts";
import { linkWorld, pair } from "./world.ts";
import type { LinkNode } from "./world.ts";

/** Moves by both ends that cross, while both send; `stallMs` is how long a node stands still at most. */
async function crossing(seed: number, stallMs: number): Promise<void> {
  const world = linkWorld(seed, { latencyMs: [1, 20], loss: 0.02 });
  const random = seededRandom(seed);
  const { a, b } = await pair(world);
  const there = conversation(a, b), back = conversation(b, a);
  const moves: Promise<void>[] = [];
  const move = (from: LinkNode, to: LinkNode) => {
    const moving = from.links.migrate(to.self.name, 20_000);
    moving.catch(() => {});
    moves.push(moving);
    return moving;
  };
  let isOver = false;
  const moving = (async () => {
    for (let round = 0; round < 3; round++) {
      await move(a, b);
      void move(b, a);
    }
    await Promise.all(moves);
  })().finally(() => (isOver = true));
  moving.catch(() => {});
  let stallAt = 0;
  for (let turn = 0; !isOver; turn++) {
    there.send(turn % KEYS);
    back.send((turn * 3) % KEYS);
    if (stallMs > 0 && world.now() >= stallAt && randomBelow(random, 10) === 0) {
      const one = randomBelow(random, 2) === 0 ? a : b;
      const forMs = randomBelow(random, stallMs);
      one.host.stall(forMs);
      stallAt = world.now() + forMs + 100;
    }
    await world.run(1 + randomBelow(random, 20));
  }
  await world.until(moving);
  await world.holds(() => there.isComplete && back.isComplete);
  there.check();
  back.check();
  assert.deepEqual([a.told, b.told], [["up"], ["up"]], `seed ${seed}`);
  assert.equal(a.links.list().length, 1);
  assert.equal(b.links.list().length, 1);
  await world.until(Promise.all([a, b].map(({ links }) => links.close())));
}

describe("moves of a link by both ends that cross", () => {
  test("lose, double and reorder nothing, and nobody is told", async () => {
    for (let seed = 1; seed <= 20; seed++) await crossing(seed, 0);
  });

  test("nor do they when a node stands still for seconds under way", async () => {
    for (let seed = 1; seed <= 20; seed++) await crossing(seed, 2_500);
  });
});
