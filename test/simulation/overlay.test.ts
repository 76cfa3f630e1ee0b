import assert from "node:assert/strict";
import { describe, test } from "../harness.ts";
import { checkInvariants, clustering, components, degrees, flaws, paths } from "./graph.ts";
import { OverlaySim } from "../../src/testing/overlay_sim.ts";
import type { OverlayOptions, SimNode } from "../../src/testing/overlay_sim.ts";

/** After this long a newcomer has moved its edges, and all is quiet. */
const EDGES_MOVED_MS = 130_000;

/** `count` nodes that join one contact, `gapMs` apart. */
function cluster(count: number, gapMs: number, options: OverlayOptions): OverlaySim {
  const sim = new OverlaySim(options);
  const contact = sim.add();
  for (let i = 1; i < count; i++) {
    sim.run(gapMs);
    sim.join(sim.add(), contact);
  }
  return sim;
}

const isWhole = (sim: OverlaySim) => components(sim).length === 1;
const isSound = (sim: OverlaySim) => isWhole(sim) && flaws(sim).length === 0;
const full = (sim: OverlaySim) => degrees(sim).get(sim.membership.activeSize) ?? 0;

describe("the overlay in the simulator", () => {
  test("two nodes find each other and stay together", () => {
    const sim = cluster(2, 10, { seed: 1 });
    sim.run(60_000);
    assert.deepEqual(sim.nodes.map((node) => node.hyparview.activeView), [["n1@sim"], ["n0@sim"]]);
    assert.deepEqual(sim.nodes[0]?.events, ["joined  ", "peerUp n1@sim "]);
    assert.deepEqual(sim.nodes[1]?.events, ["joined  ", "peerUp n0@sim "]);
  });

  test("up to six nodes all become neighbours", () => {
    for (const count of [3, 4, 6]) {
      const sim = cluster(count, 10, { seed: count });
      sim.runUntil(() => degrees(sim).get(count - 1) === count, 30_000, `${count} nodes complete`);
      sim.run(60_000);
      checkInvariants(sim);
      assert.deepEqual([...degrees(sim)], [[count - 1, count]]);
    }
  });

  test("views of 30 nodes are full, symmetric and quiet, under loss too", () => {
    for (const loss of [0, 0.1]) {
      const sim = cluster(30, 100, { seed: 3, loss });
      sim.runUntil(() => isSound(sim) && full(sim) >= 29, 60_000, "full views");
      sim.run(EDGES_MOVED_MS);
      const before = sim.nodes.map((node) => node.events.length);
      sim.run(120_000);
      checkInvariants(sim);
      assert.deepEqual(sim.nodes.map((node) => node.events.length), before);
      assert.deepEqual(flaws(sim), []);
    }
  });

  test("200 nodes that join one contact within a second become one component", () => {
    for (const seed of [1, 2, 3]) {
      const sim = cluster(200, 5, { seed });
      sim.runUntil(() => isSound(sim), 5_000, "one component");
      sim.runUntil(() => full(sim) >= 198, 20_000, "full views");
      checkInvariants(sim);
    }
  });

  test("1,000 nodes form a graph that is nearly random, and their idle chatter fades", () => {
    const sim = cluster(1000, 20, { seed: 1 });
    sim.run(EDGES_MOVED_MS);
    checkInvariants(sim);
    assert.ok(isSound(sim));
    assert.ok(full(sim) >= 995, `${full(sim)} full views`);
    const { average, longest } = paths(sim, 20);
    // A random 5-regular graph of this size: 0.0032 and 4.69.
    assert.ok(clustering(sim) < 0.008, `clustering ${clustering(sim)}`);
    assert.ok(average < 4.8, `average path ${average}`);
    assert.ok(longest <= 8, `longest path ${longest}`);
    sim.run(30_000);
    sim.takeCount("dials");
    sim.run(50_000);
    assert.ok(sim.takeCount("dials") / 1000 / 50 < 0.1, "dials per node and second");
  });

  test("a join storm leaves nobody short of two neighbours, and no slot empty for long", () => {
    for (const seed of [1, 2]) {
      const sim = cluster(300, 10_000 / 300, { seed });
      sim.run(5_000);
      const least = Math.min(...sim.nodes.map((node) => node.view.size));
      assert.ok(least >= 4, `${least} neighbours five seconds after the last has joined`);
      // The last two with a free slot are often each other's neighbours.
      sim.run(EDGES_MOVED_MS);
      sim.runUntil(() => full(sim) === 300 && isSound(sim), 600_000, "full views", 1_000);
    }
  });

  test("half of the nodes crash at once and the others heal", () => {
    for (const detected of [true, false]) {
      const sim = cluster(200, 10, { seed: 5 });
      sim.run(60_000);
      for (const node of sim.live.filter((_, i) => i % 2 === 0)) sim.crash(node, detected);
      sim.runUntil(() => isSound(sim), detected ? 3_000 : 25_000, "one component of the living");
      sim.runUntil(() => full(sim) >= 97, 10_000, "full views");
      checkInvariants(sim);
    }
  });

  test("who loses most neighbours at once says a word to each passive peer", () => {
    const sim = cluster(200, 20, { seed: 6 });
    sim.run(40_000);
    sim.takeCount("hyparview.probe");
    for (const node of sim.live.slice(30)) sim.crash(node);
    sim.run(15_000);
    const probes = sim.takeCount("hyparview.probe") / sim.live.length;
    assert.ok(probes > 5, `${probes} probes a survivor`);
    assert.deepEqual(components(sim), [30]);
    checkInvariants(sim);
  });

  test("islands merge after a partition, long or short, and grow together", () => {
    for (const lastsMs of [5_000, 60_000, 600_000]) {
      const sim = cluster(100, 10, { seed: 7 });
      sim.run(60_000);
      const side = sim.live.filter((_, i) => i % 2 === 0);
      sim.partition(side);
      sim.run(lastsMs);
      if (lastsMs > 20_000) assert.equal(components(sim).length, 2);
      sim.heal();
      sim.runUntil(() => isSound(sim), 90_000, `one component after ${lastsMs} ms`);
      sim.run(90_000);
      const bridges = side.reduce((sum, node) => sum + across(sim, node), 0);
      assert.ok(bridges >= 10, `${bridges} bridges after ${lastsMs} ms`);
      checkInvariants(sim);
    }
  });

  test("two small clusters that never met merge through one contact", () => {
    const sim = cluster(8, 20, { seed: 8 });
    const other = sim.add();
    for (let i = 0; i < 7; i++) sim.join(sim.add(), other);
    sim.run(60_000);
    assert.equal(components(sim).length, 2);
    sim.join(other, sim.nodes[0] as SimNode);
    sim.runUntil(() => isSound(sim), 30_000, "one component");
  });

  test("a node that leaves is gone from all views and not called back", () => {
    const sim = cluster(20, 50, { seed: 9 });
    sim.run(30_000);
    const leaver = sim.nodes[7] as SimNode;
    sim.leave(leaver);
    assert.deepEqual(leaver.hyparview.activeView, []);
    assert.equal(leaver.events.at(-1), "left  ");
    sim.run(1_000);
    const knows = (node: SimNode) =>
      node !== leaver && node.hyparview.passiveView.includes(leaver.name);
    assert.ok(sim.nodes.every((node) => !node.view.has(leaver.name)));
    sim.runUntil(() => !sim.nodes.some(knows), 3_600_000, "everybody forgets it", 10_000);
    assert.equal(leaver.events.at(-1), "left  ");
    sim.join(leaver, sim.nodes[0] as SimNode);
    sim.runUntil(() => leaver.view.size >= 4, 20_000, "the leaver is back");
  });

  test("a restarted node replaces its former life at once", () => {
    const sim = cluster(12, 50, { seed: 10 });
    sim.run(30_000);
    const node = sim.nodes[4] as SimNode;
    sim.crash(node, false);
    sim.run(1_000);
    sim.restart(node);
    sim.join(node, sim.nodes[0] as SimNode);
    sim.runUntil(() => node.view.size >= 4 && isSound(sim), 5_000, "the new life has neighbours");
  });

  test("a lost link between living neighbours leaves no one-sided edge", () => {
    const sim = cluster(40, 20, { seed: 11 });
    sim.run(40_000);
    for (let i = 0; i < 100; i++) {
      const node = sim.pick();
      const peer = sim.node([...node.view][0] ?? "");
      if (peer !== undefined) sim.cutLink(node, peer);
      sim.run(50);
    }
    sim.runUntil(() => isSound(sim) && full(sim) >= 38, 40_000, "sound views");
    checkInvariants(sim);
  });

  test("a seed whose contact is away keeps trying and joins when it comes", () => {
    const sim = new OverlaySim({ seed: 12 });
    const contact = sim.add();
    sim.crash(contact);
    const node = sim.add();
    sim.join(node, contact);
    sim.run(600_000);
    assert.equal(node.view.size, 0);
    sim.restart(contact);
    sim.runUntil(() => node.view.size === 1 && isSound(sim), 70_000, "joined at last");
  });

  // A peer that lies, or a link that is replaced, can bring what an honest link never does.
  test("frames that come twice or out of order break no rule, and views are sound after them", () => {
    for (const seed of [13, 14]) {
      const sim = cluster(40, 20, { seed, loss: 0.05, reorder: 0.2, duplicate: 0.2 });
      const sent = [];
      for (let i = 0; i < 60; i++) {
        sent.push(sim.publish(sim.pick()));
        const [victim] = [sim.pick()];
        if (i % 10 === 5 && victim !== sim.nodes[0]) {
          sim.crash(victim, i % 20 === 5);
          sim.run(500);
          sim.restart(victim);
          sim.join(victim, sim.nodes[0] as SimNode);
        }
        sim.run(1_000);
      }
      sim.runUntil(() => isSound(sim) && full(sim) >= 36, 120_000, "sound views");
      const late = sim.publish(sim.pick());
      sim.runUntil(() => late.delivered.size === 40, 30_000, "all have the last message");
    }
  });

  test("one seed, one history", () => {
    const history = (seed: number) => {
      const sim = cluster(60, 20, { seed, loss: 0.05 });
      sim.run(20_000);
      sim.partition(sim.live.slice(0, 20));
      for (let i = 0; i < 20; i++) {
        sim.publish(sim.pick());
        sim.run(1_000);
      }
      sim.crash(sim.pick(), false);
      sim.heal();
      sim.run(60_000);
      return { trace: sim.trace, steps: sim.steps };
    };
    assert.deepEqual(history(42), history(42));
    assert.notEqual(history(42).trace, history(43).trace);
  });
});

function across(sim: OverlaySim, node: SimNode): number {
  return [...node.view].filter((name) => (sim.node(name)?.index ?? 0) % 2 !== node.index % 2)
    .length;
}
