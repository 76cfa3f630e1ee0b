import assert from "node:assert/strict";
import { describe, test } from "../harness.ts";
import { components, flaws } from "./graph.ts";
import { OverlaySim } from "../../src/testing/overlay_sim.ts";
import type { Broadcast, OverlayOptions, SimNode } from "../../src/testing/overlay_sim.ts";

/** `count` nodes in a settled overlay. */
function settled(count: number, options: OverlayOptions): OverlaySim {
  const sim = new OverlaySim(options);
  const contact = sim.add();
  for (let i = 1; i < count; i++) {
    sim.run(10);
    sim.join(sim.add(), contact);
  }
  // Newcomers move edges for two minutes.
  sim.run(130_000);
  return sim;
}

/** Publishes `count` messages, `gapMs` apart, each from `sender()`. */
function publish(sim: OverlaySim, count: number, gapMs: number, sender: () => SimNode) {
  const broadcasts: Broadcast[] = [];
  for (let i = 0; i < count; i++) {
    broadcasts.push(sim.publish(sender()));
    sim.run(gapMs);
  }
  return broadcasts;
}

/** Messages that each of the live nodes lacks. */
function lacking(sim: OverlaySim, broadcasts: readonly Broadcast[]): number {
  let count = 0;
  for (const { delivered } of broadcasts) {
    for (const node of sim.live) if (!delivered.has(node)) count++;
  }
  return count;
}

function lastHops(broadcasts: readonly Broadcast[]): number {
  const last = broadcasts.map(({ delivered }) =>
    Math.max(...[...delivered.values()].map(({ hops }) => hops))
  );
  return last.reduce((sum, hops) => sum + hops, 0) / last.length;
}

/** Payloads sent beyond the one that each node needs, per node (paper: RMR). */
function redundancy(sim: OverlaySim, messages: number): number {
  return sim.takeCount("payload") / messages / (sim.live.length - 1) - 1;
}

describe("broadcast in the simulator", () => {
  test("two nodes hear each other", () => {
    const sim = settled(2, { seed: 1 });
    const sent = publish(sim, 10, 100, () => sim.pick());
    sim.run(1_000);
    assert.equal(lacking(sim, sent), 0);
  });

  // Hundreds of nodes: on a busy machine that takes a while.
  const patient = { timeoutMs: 120_000 };
  test("the first message builds a tree, and later ones take the shortest ways", patient, () => {
    const sim = settled(600, { seed: 1 });
    const sender = sim.nodes[0] as SimNode;
    const first = publish(sim, 12, 2_000, () => sender);
    assert.equal(lacking(sim, first), 0);
    sim.takeCount("payload");
    sim.takeCount("announcements");
    const later = publish(sim, 10, 2_000, () => sender);
    assert.equal(lacking(sim, later), 0);
    assert.ok(redundancy(sim, 10) < 0.005, "each node gets it once");
    assert.ok(lastHops(later) <= 8, `last delivery after ${lastHops(later)} hops`);
    assert.ok(sim.takeCount("announcements") / 10 < 1_800, "announcements a message");
  });

  test("many senders share the trees", () => {
    const sim = settled(300, { seed: 2 });
    assert.equal(lacking(sim, publish(sim, 30, 2_000, () => sim.pick())), 0);
    sim.takeCount("payload");
    const later = publish(sim, 20, 2_000, () => sim.pick());
    assert.equal(lacking(sim, later), 0);
    const redundant = redundancy(sim, 20);
    assert.ok(redundant < 0.1, `${redundant} duplicates a node`);
    assert.ok(lastHops(later) < 16, `last delivery after ${lastHops(later)} hops`);
  });

  test("a burst of many senders at once reaches all, on slow and lossy links", () => {
    const sim = settled(100, { seed: 3, loss: 0.02, latencyMs: [10, 100] });
    const burst = publish(sim, 100, 5, () => sim.pick());
    sim.runUntil(() => lacking(sim, burst) === 0, 15_000, "all have all");
    sim.takeCount("payload");
    const later = publish(sim, 100, 50, () => sim.pick());
    sim.runUntil(() => lacking(sim, later) === 0, 10_000, "all have all again");
    assert.ok(redundancy(sim, 100) < 1, "few duplicates");
  });

  test("a message sent while half of the nodes lie dead, unnoticed, reaches all living", () => {
    const sim = settled(100, { seed: 4 });
    publish(sim, 10, 1_000, () => sim.pick());
    for (const node of sim.live.filter((_, i) => i % 2 === 0)) sim.crash(node, false);
    const sent = publish(sim, 10, 500, () => sim.pick());
    sim.runUntil(() => lacking(sim, sent) === 0, 45_000, "all living have all");
    sim.takeCount("payload");
    const later = publish(sim, 20, 2_000, () => sim.pick());
    sim.runUntil(() => lacking(sim, later) === 0, 5_000, "business as usual");
    assert.ok(redundancy(sim, 20) < 0.3);
  });

  test("nothing is lost while nodes come and go", () => {
    const sim = settled(100, { seed: 5 });
    const contact = sim.nodes[0] as SimNode;
    const sent: Broadcast[] = [];
    for (let i = 0; i < 60; i++) {
      sent.push(sim.publish(sim.pick()));
      const goer = sim.pick();
      if (goer !== contact && goer.view.size > 0 && i % 3 === 0) sim.crash(goer);
      if (i % 3 === 1) sim.join(sim.add(), contact);
      sim.run(500);
    }
    // A sender that dies at once may take along what nobody else has yet.
    const spread = sent.filter(({ delivered }) => delivered.size > 10);
    assert.ok(spread.length >= 55, `${spread.length} of 60 got away`);
    const missed = () =>
      spread.some(({ delivered }) =>
        sim.live.some((node) => node.index < 100 && !delivered.has(node))
      );
    sim.runUntil(() => !missed(), 20_000, "those who were there have all");
    const isWhole = () => components(sim).length === 1 && flaws(sim).length === 0;
    sim.runUntil(isWhole, 60_000, "the overlay is whole and symmetric");
  });

  test("a newcomer hears of what was said just before it came", () => {
    const sim = settled(20, { seed: 6 });
    const [sent] = publish(sim, 1, 2_000, () => sim.pick());
    const node = sim.add();
    sim.join(node, sim.nodes[0] as SimNode);
    sim.runUntil(() => sent?.delivered.has(node) === true, 5_000, "the newcomer has it");
  });
});
