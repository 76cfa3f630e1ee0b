import assert from "node:assert/strict";
import fc from "fast-check";
import { pick, randomBelow, seededRandom } from "../../src/base/random.ts";
import { MAX_HOPS, MAX_NUMBER } from "../../src/broadcast/messages.ts";
import type { Shape } from "../../src/broadcast/messages.ts";
import { SpanningTree } from "../../src/broadcast/spanning_tree.ts";
import { describe, test } from "../harness.ts";
import { Net } from "./tree_net.ts";

/** One machine, and what it said. */
class Bench {
  now = 0;
  readonly said: string[] = [];
  readonly counts: string[] = [];
  readonly tree = new SpanningTree(0, 50, seededRandom(1), {
    shape: (peer, { term, root, wave, hops }) =>
      this.said.push(`${peer} is told ${term}.${root}.${wave} at ${hops}`),
    graft: (peer) => this.said.push(`graft ${peer}`),
    prune: (peer) => this.said.push(`prune ${peer}`),
    reshape: (peer) => this.said.push(`ask ${peer}`),
  }, (what) => this.counts.push(what));

  constructor(...neighbours: string[]) {
    for (const peer of neighbours) this.tree.neighbourUp(peer);
  }

  /** A neighbour's word about root 4, unless it is of another. */
  shape(peer: string, hops: number, more: Partial<Shape> = {}): string[] {
    this.tree.shaped(peer, { tree: 0, term: 1, root: 4, wave: 1, hops, ...more }, this.now);
    return this.take();
  }

  take(): string[] {
    return this.said.splice(0);
  }

  pass(ms: number): string[] {
    const end = this.now + ms;
    while (this.tree.wakeAt <= end) {
      this.now = Math.max(this.now, this.tree.wakeAt);
      this.tree.tick(this.now);
    }
    this.now = end;
    return this.take();
  }
}

describe("a spanning tree", () => {
  test("the neighbour nearest to the root becomes the parent, and others hear how far we are", () => {
    const bench = new Bench("a", "b", "c");
    bench.shape("a", 3);
    bench.shape("b", 1);
    assert.deepEqual(bench.pass(100), ["a is told 1.4.1 at 2", "c is told 1.4.1 at 2"]);
    assert.deepEqual(bench.pass(1_000), ["graft b"]);
    assert.ok(bench.tree.isFirm("b") && !bench.tree.isFirm("a"));
    assert.equal(bench.tree.hops, 2);
  });

  test("who has said nothing is flooded, and nobody chooses the tree before it has settled", () => {
    const bench = new Bench("a", "b", "c", "d");
    assert.ok(["a", "b", "c", "d"].every((peer) => bench.tree.isEager(peer)));
    assert.ok(!bench.tree.isEager("stranger"));
    bench.shape("a", 0);
    bench.shape("b", 0);
    bench.tree.grafted("c");
    bench.pass(500);
    assert.ok(!bench.tree.isUsable(bench.now));
    bench.pass(1_500);
    assert.ok(bench.tree.isUsable(bench.now));
    assert.deepEqual(["a", "b", "c", "d"].filter((peer) => bench.tree.isEager(peer)), [
      "a",
      "c",
      "d",
    ]);
  });

  test("a later wave moves no parent that is as near as others", () => {
    const bench = new Bench("a", "b");
    bench.shape("a", 2);
    bench.pass(2_000);
    bench.shape("b", 2, { wave: 2 });
    bench.shape("a", 2, { wave: 2 });
    bench.pass(2_000);
    assert.ok(bench.tree.isFirm("a"));
    bench.shape("b", 1, { wave: 3 });
    bench.shape("a", 2, { wave: 3 });
    assert.deepEqual(bench.pass(2_000).filter((said) => !said.includes("told")), [
      "prune a",
      "graft b",
    ]);
  });

  test("of two roots the one with the higher term counts, then the one with the lower number", () => {
    const bench = new Bench("a", "b");
    bench.shape("a", 2, { root: 9 });
    bench.pass(2_000);
    bench.shape("b", 5, { root: 10 });
    assert.ok(bench.tree.isFirm("a"));
    bench.shape("b", 5, { root: 8 });
    bench.pass(2_000);
    assert.ok(bench.tree.isFirm("b"));
    assert.deepEqual(bench.shape("a", 0, { root: 9 }), ["a is told 1.8.1 at 6"]);
    bench.shape("a", 7, { root: 10, term: 2 });
    bench.pass(2_000);
    assert.ok(bench.tree.isFirm("a") && bench.tree.hops === 8);
  });

  test("a lost parent is followed at once by a neighbour that is nearer to the root than we", () => {
    const bench = new Bench("a", "b", "c", "d");
    bench.shape("a", 3);
    bench.shape("b", 4);
    bench.shape("c", 5);
    bench.shape("d", 3);
    bench.pass(2_000);
    assert.ok(bench.tree.isFirm("a"));
    bench.tree.neighbourDown("a", bench.now);
    assert.deepEqual(bench.take(), ["graft d"]);
    // Those who are no nearer than we may be below us: no cycle may close.
    bench.tree.neighbourDown("d", bench.now);
    assert.deepEqual(bench.take(), ["ask b", "ask c"]);
    assert.equal(bench.tree.hops, Infinity);
    assert.deepEqual(bench.pass(0), [
      `b is told 1.4.1 at ${MAX_HOPS}`,
      `c is told 1.4.1 at ${MAX_HOPS}`,
    ]);
    bench.shape("c", 5, { wave: 2 });
    bench.pass(1_000);
    assert.ok(bench.tree.isFirm("c") && bench.tree.hops === 6);
  });

  test("an orphan takes a new neighbour that is near enough, and asks every other one", () => {
    const bench = new Bench("a", "b");
    bench.shape("a", 3);
    bench.pass(2_000);
    bench.tree.neighbourDown("a", bench.now);
    bench.take();
    bench.tree.neighbourUp("c");
    assert.deepEqual(bench.take(), [`c is told 1.4.1 at ${MAX_HOPS}`, "ask c"]);
    assert.deepEqual(bench.shape("c", 4), []);
    assert.deepEqual(bench.shape("c", 3), ["graft c"]);
    assert.equal(bench.tree.hops, 4);
  });

  test("an orphan that nobody answers becomes the root, with a higher term", () => {
    const bench = new Bench("a", "b");
    bench.shape("a", 0, { term: 3 });
    bench.pass(2_000);
    bench.tree.neighbourDown("a", bench.now);
    const said = bench.pass(10_000);
    assert.ok(said.filter((words) => words === "ask b").length >= 2, "it asks again");
    assert.ok(said.includes("b is told 4.50.1 at 0"));
    assert.ok(bench.tree.isRoot && bench.tree.hops === 0);
    assert.equal(bench.tree.wakeAt, Infinity, "and rests");
  });

  test("a node without neighbours forgets the tree, and does not come back as its root", () => {
    const bench = new Bench("a");
    bench.shape("a", 0, { term: 3 });
    bench.pass(2_000);
    bench.tree.neighbourDown("a", bench.now);
    bench.take();
    assert.deepEqual(bench.pass(60_000), []);
    assert.ok(!bench.tree.isKnown && !bench.tree.isUsable(bench.now));
    bench.tree.neighbourUp("b");
    bench.shape("b", 7, { term: 3 });
    bench.pass(2_000);
    assert.ok(bench.tree.isFirm("b") && bench.tree.hops === 8);
  });

  test("a root starts a wave when it is asked, not too often, and now and then while it is used", () => {
    const bench = new Bench("a", "b");
    bench.tree.claim(bench.now);
    assert.deepEqual(bench.take(), ["a is told 1.50.1 at 0", "b is told 1.50.1 at 0"]);
    bench.pass(60_000);
    for (let i = 0; i < 100; i++) {
      bench.tree.asked("a", bench.now);
      bench.pass(100);
    }
    bench.pass(600_000);
    const waves = () => bench.counts.filter((what) => what === "wave").length;
    const asked: number = waves();
    assert.ok(asked >= 5 && asked <= 8, `${asked} waves because of 10 s`);
    bench.pass(600_000);
    assert.ok(waves() === asked, "none without being asked");
    bench.tree.used(bench.now);
    bench.pass(600_000);
    assert.equal(waves(), asked + 1);
  });

  test("a wish goes up to the parent, once in a while, and not back", () => {
    const bench = new Bench("a", "b", "c");
    bench.shape("a", 3);
    bench.pass(2_000);
    bench.tree.asked("b", bench.now);
    bench.tree.asked("c", bench.now);
    assert.deepEqual(bench.take(), ["ask a"]);
    bench.pass(2_000);
    bench.tree.asked("stranger", bench.now);
    assert.deepEqual(bench.take(), []);
  });

  test("a parent that lost its way asks its children, and they ask all others, once in a while", () => {
    const orphan = new Bench("a", "b", "c");
    orphan.shape("a", 3);
    orphan.pass(2_000);
    orphan.tree.grafted("b");
    orphan.tree.neighbourDown("a", orphan.now);
    assert.deepEqual(orphan.take(), ["ask c"]);
    const again = orphan.pass(3_000);
    assert.ok(again.includes("ask b") && again.includes("ask c"), "whoever answers");
    const alone = new Bench("a", "b");
    alone.shape("a", 3);
    alone.pass(2_000);
    alone.tree.grafted("b");
    alone.tree.neighbourDown("a", alone.now);
    assert.deepEqual(alone.take(), ["ask b"], "nobody else is there");

    const child = new Bench("a", "b", "c");
    child.shape("a", 3);
    child.pass(2_000);
    child.tree.asked("b", child.now);
    child.take();
    child.tree.asked("a", child.now);
    child.tree.asked("a", child.now);
    assert.deepEqual(child.take(), ["ask b", "ask c"]);
  });

  test("a parent that others outrun again and again is left", () => {
    const bench = new Bench("slow", "quick", "far");
    bench.shape("slow", 1);
    bench.shape("quick", 1);
    bench.shape("far", 2);
    bench.pass(2_000);
    bench.take();
    bench.tree.brought("quick", true, bench.now);
    bench.tree.brought("quick", false, bench.now);
    bench.tree.brought("slow", false, bench.now);
    bench.tree.brought("quick", true, bench.now);
    bench.tree.brought("quick", false, bench.now);
    assert.deepEqual(bench.take(), []);
    bench.tree.brought("quick", false, bench.now);
    assert.deepEqual(bench.take(), ["prune slow", "graft quick"]);
    // Who is no nearer than we may be below us: the root is asked.
    for (let i = 0; i < 3; i++) bench.tree.brought("far", true, bench.now);
    assert.deepEqual(bench.take(), ["graft quick", "ask far"]);
  });

  test("a borrowed edge is given up once all have had the time to settle in a wave", () => {
    const bench = new Bench("a", "b");
    bench.shape("a", 1);
    bench.shape("b", 1);
    bench.pass(2_000);
    bench.tree.brought("b", true, bench.now);
    bench.shape("a", 1, { wave: 2 });
    assert.ok(!bench.pass(400).includes("prune b"));
    assert.ok(bench.pass(500).includes("prune b"));
  });

  test("who pushes what we did not ask for is told so with the next wave, also before the tree serves", () => {
    const bench = new Bench("a", "b");
    bench.shape("a", 1);
    bench.shape("b", 1);
    bench.tree.brought("b", false, bench.now);
    assert.ok(bench.pass(2_000).includes("prune b"));
    bench.tree.brought("b", false, bench.now);
    bench.shape("a", 1, { wave: 2 });
    assert.ok(bench.pass(2_000).includes("prune b"));
    bench.shape("a", 1, { wave: 3 });
    assert.ok(!bench.pass(2_000).includes("prune b"));
  });

  test("a borrowed edge outlives for a while what the tree brings sooner, but not another one", () => {
    const bench = new Bench("a", "b", "c");
    for (const peer of ["a", "b", "c"]) bench.shape(peer, 1);
    bench.pass(2_000);
    bench.tree.brought("b", true, bench.now);
    bench.take();
    assert.ok(bench.tree.doubled("b", "a", bench.now) && bench.take().length === 0);
    bench.tree.brought("c", true, bench.now);
    assert.ok(bench.tree.doubled("c", "b", bench.now));
    assert.deepEqual(bench.take(), ["prune c"]);
    bench.pass(3_000);
    assert.ok(bench.tree.doubled("b", "a", bench.now));
    assert.deepEqual(bench.take(), ["prune b"]);
    assert.ok(!bench.tree.doubled("a", "b", bench.now), "the parent");
  });

  test("the late word of a neighbour makes it no parent, but serves when the parent goes", () => {
    const bench = new Bench("a", "slow");
    bench.shape("a", 4);
    bench.pass(3_000);
    assert.deepEqual(bench.shape("slow", 1), []);
    bench.pass(3_000);
    assert.ok(bench.tree.isFirm("a"));
    bench.tree.neighbourDown("a", bench.now);
    assert.deepEqual(bench.take(), ["graft slow"]);
    assert.equal(bench.tree.hops, 2);
  });

  test("a parent that prunes its child is asked again: their words have crossed", () => {
    const bench = new Bench("a");
    bench.shape("a", 1);
    bench.pass(2_000);
    bench.take();
    bench.tree.pruned("a");
    assert.deepEqual(bench.take(), ["graft a"]);
    assert.ok(bench.tree.isFirm("a"));
  });

  test("nobody takes a root's waves out of its hands", () => {
    const bench = new Bench("a", "b");
    bench.tree.claim(bench.now);
    bench.take();
    bench.pass(10_000);
    bench.shape("a", 3, { root: 50, wave: 1_000 });
    assert.deepEqual(bench.pass(0), ["a is told 1.50.1001 at 0", "b is told 1.50.1001 at 0"]);
    // The last number there is: the next wave is the first one again, and newer to everybody.
    bench.shape("a", 3, { root: 50, wave: MAX_NUMBER, term: 1_000_000_000 });
    assert.deepEqual(bench.pass(1_900), [], "not at once");
    assert.deepEqual(bench.pass(200), [
      "a is told 1000000000.50.0 at 0",
      "b is told 1000000000.50.0 at 0",
    ]);
    assert.ok(bench.tree.isRoot);
    const other = new Bench("a", "b");
    other.shape("a", 3, { wave: MAX_NUMBER });
    other.pass(2_000);
    other.shape("b", 1, { wave: 0 });
    other.pass(2_000);
    assert.ok(other.tree.isFirm("b"));
  });

  test("invented waves of a root make it say a wave in two seconds, however many there are", () => {
    const bench = new Bench("liar", "b");
    bench.tree.claim(bench.now);
    bench.take();
    let told = 0;
    for (let i = 1; i <= 10_000; i++) {
      told += bench.shape("liar", 3, { root: 50, term: 1 + i, wave: MAX_NUMBER }).length;
      told += bench.pass(1).length;
    }
    assert.ok(told <= 14, `${told} frames in 10 s`);
  });

  test("no term is the last: a liar's tree ends when it goes", () => {
    const random = seededRandom(7);
    const net = new Net(20, 2, random);
    net.nodes[3]?.tree.claim(0);
    net.run(10_000);
    const [liar, ...peers] = net.nodes;
    assert.ok(liar !== undefined && peers.length > 0);
    const lie = { tree: 0, term: 2 ** 31, root: 0, wave: MAX_NUMBER, hops: 0 };
    for (const peer of liar.peers) peer.tree.shaped(liar.name, lie, net.now);
    net.run(5_000);
    assert.ok(net.nodes.filter(({ tree }) => tree.isRoot).length === 0, "all follow it");
    net.remove(liar);
    net.run(60_000);
    net.check("after the liar has gone");
  });

  test("a flood of invented waves is refused after a few", () => {
    const bench = new Bench("liar", "b");
    let told = 0;
    for (let wave = 1; wave <= 10_000; wave++) {
      bench.shape("liar", 1, { wave });
      told += bench.pass(1).length;
    }
    assert.ok(told < 100, `${told} frames because of 10,000 lies in 10 s`);
    assert.ok(bench.counts.filter((what) => what === "shape_refused").length > 9_000);
  });

  test("who loses its edge to a root that lives finds another way, and does not take its place", () => {
    const story = fc.record({ seed: fc.nat(), nodes: fc.integer({ min: 4, max: 60 }) });
    fc.assert(
      fc.property(story, ({ seed, nodes }) => {
        const random = seededRandom(seed);
        const net = new Net(nodes, 2, random);
        const root = pick(random, net.nodes);
        root?.tree.claim(0);
        net.run(10_000);
        net.cutSomeEdge(root);
        net.run(30_000);
        net.check(`at the end, seed ${seed}`);
        assert.ok(root?.tree.isRoot, `seed ${seed}: the root is another one`);
      }),
      { numRuns: 200 },
    );
  });

  test("in any network, through losses of edges and nodes, one tree of the fewest hops comes out", () => {
    const story = fc.record({ seed: fc.nat(), nodes: fc.integer({ min: 2, max: 40 }) });
    fc.assert(
      fc.property(story, ({ seed, nodes }) => {
        const random = seededRandom(seed);
        const net = new Net(nodes, 2, random);
        for (let i = randomBelow(random, 3); i >= 0; i--) pick(random, net.nodes)?.tree.claim(0);
        net.run(10_000);
        net.check(`after the first wave, seed ${seed}`);
        for (let round = 0; round < 6; round++) {
          if (round % 3 === 2 && net.nodes.length > 2) net.remove(pick(random, net.nodes));
          else net.cutSomeEdge();
          net.run(randomBelow(random, 4_000));
          net.checkNoCycle();
          net.join();
        }
        // As a sender does: where all were alone for a while, nobody knows of a tree.
        pick(random, net.nodes)?.tree.claim(net.now);
        net.run(60_000);
        net.check(`at the end, seed ${seed}`);
      }),
      { numRuns: 60 },
    );
  });
});
