/** Mistakes of ours inside a replica: half done events, after which it goes on with what it has. */
import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { randomFraction, seededRandom } from "../../src/base/random.ts";
import { describe, test } from "../harness.ts";
import { INTERVAL_MS, Mistake, sha256, World } from "./world.ts";

const SEEDS = 8;
const NETWORK = { loss: 0.1, duplication: 0.1, minDelayMs: 1, maxDelayMs: 50 };

/** Four nodes that write for 30 s while one call of the hash in `oneIn` throws, then settle. */
function run(seed: number, oneIn: number): { mistakes: number; world: World } {
  const faults = seededRandom(seed + 1_000);
  let isFaulty = false;
  const world: World = new World(seed, { ...NETWORK }, (data) => {
    if (isFaulty && world.isInside && randomFraction(faults) < 1 / oneIn) {
      throw new Mistake("in the middle of it");
    }
    return sha256(data);
  });
  for (let i = 0; i < 4; i++) world.addNode();
  for (const a of world.nodes) for (const b of world.nodes) world.link(a, b);
  isFaulty = true;
  for (let step = 0; step < 300; step++) {
    const node = world.nodes[world.random.uint32() % 4] as (typeof world.nodes)[number];
    const key = `k${world.random.uint32() % 8}`;
    if (world.random.uint32() % 4 === 0) world.remove(node, key);
    else world.put(node, key, utf8(`${step}`));
    world.run(100);
  }
  isFaulty = false;
  // Links that keep order and lose nothing, so that what is left to do is done.
  Object.assign(world.network, { loss: 0, duplication: 0, minDelayMs: 5, maxDelayMs: 5 });
  world.run(10 * INTERVAL_MS);
  const mistakes = world.nodes.reduce(
    (sum, { refusals }) => sum + (refusals.get("mistake") ?? 0),
    0,
  );
  return { mistakes, world };
}

describe("a replica in which something throws", () => {
  test("loses no write, signs no second history, and agrees with the others again", () => {
    let mistakes = 0;
    for (let seed = 0; seed < SEEDS; seed++) {
      const result = run(seed, 50);
      mistakes += result.mistakes;
      const { nodes } = result.world;
      for (const author of nodes) {
        const { refusals } = author;
        for (const reason of ["impostor", "bad_signature"]) {
          assert.equal(refusals.get(reason), undefined, `${reason} with seed ${seed}`);
        }
        for (const node of nodes) {
          const shown = [...result.world.state(node).rowsBy(author.publicKey)]
            .map(({ key, value }) => `${key}=${value}`);
          const truth = [...author.truth].map(([key, value]) => `${key}=${value}`);
          assert.deepEqual(shown.sort(), truth.sort(), `${author.name} at ${node.name}, ${seed}`);
        }
      }
    }
    assert.ok(mistakes > 20 * SEEDS, `only ${mistakes} mistakes were made`);
  });
});
