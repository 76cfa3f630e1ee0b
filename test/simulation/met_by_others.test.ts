/** Failures that other projects met, each kept out by a test that names it. */
import assert from "node:assert/strict";
import { EMPTY } from "../../src/base/bytes.ts";
import { seededRandom } from "../../src/base/random.ts";
import { MAX_CACHED } from "../../src/broadcast/message_cache.ts";
import { MAX_IDS } from "../../src/broadcast/messages.ts";
import { MAX_MISSING_BY_PEER } from "../../src/broadcast/missing.ts";
import { Plumtree } from "../../src/broadcast/plumtree.ts";
import type { Node } from "../../mod.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";
import { components, flaws } from "./graph.ts";
import { OverlaySim } from "../../src/testing/overlay_sim.ts";
import type { SimNode } from "../../src/testing/overlay_sim.ts";

function cluster(count: number, seed: number, gapMs = 20): OverlaySim {
  const sim = new OverlaySim({ seed });
  const contact = sim.add();
  while (sim.nodes.length < count) {
    sim.run(gapMs);
    sim.join(sim.add(), contact);
  }
  sim.run(30_000);
  return sim;
}

describe("failures that others met", () => {
  test("a join storm leaves no island (partisan 75)", () => {
    for (const seed of [21, 22]) {
      const sim = new OverlaySim({ seed });
      const contact = sim.add();
      for (let i = 1; i < 150; i++) sim.join(sim.add(), contact);
      sim.run(30_000);
      assert.deepEqual(components(sim), [150]);
    }
  });

  test("nothing fails to be sent as neighbours turn passive (partisan 255)", () => {
    const sim = cluster(40, 23);
    const before = sim.takeCount("undelivered.unknown");
    assert.equal(before, 0);
    const there = [...sim.live];
    const sent = [];
    for (let i = 0; i < 40; i++) {
      sim.join(sim.add(), sim.nodes[0] as SimNode);
      sent.push(sim.publish(sim.pick(there)));
      sim.run(50);
    }
    assert.ok(sim.takeCount("event.peerDown.evicted") > 0, "neighbours were dropped for others");
    sim.run(5_000);
    assert.equal(sim.takeCount("undelivered.unknown"), 0);
    for (const { delivered } of sent) assert.ok(there.every((node) => delivered.has(node)));
  });

  test("a peer of a new life and one that died are never kept side by side (partisan 48)", () => {
    const sim = cluster(20, 24);
    const node = sim.nodes[5] as SimNode;
    for (let i = 0; i < 3; i++) {
      sim.restart(node);
      sim.join(node, sim.nodes[0] as SimNode);
      sim.run(20_000);
    }
    sim.crash(node, false);
    sim.run(30_000);
    assert.ok(sim.live.every(({ hyparview }) => !hyparview.activeView.includes(node.name)));
  });

  test("a peer that cannot be reached leaves the active view (iroh-gossip 53, 56)", () => {
    const sim = cluster(30, 25);
    for (const node of sim.live.slice(1, 8)) sim.crash(node, false);
    sim.run(45_000);
    assert.deepEqual(flaws(sim), []);
    assert.deepEqual(components(sim), [23]);
  });

  test("a reconnect is not refused until a timeout (iroh-gossip 22, 43, 159)", () => {
    const sim = cluster(6, 26);
    const node = sim.nodes[3] as SimNode;
    for (let i = 0; i < 5; i++) {
      sim.restart(node);
      sim.join(node, sim.nodes[0] as SimNode);
      sim.runUntil(() => node.view.size > 0, 1_000, "a neighbour again");
    }
  });

  test("two nodes that dial each other at once keep one link, and nobody is told (iroh 2308)", async () => {
    for (const seed of [1, 2]) {
      const sim = await createSimulation({
        seed,
        nodes: 2,
        latencyMs: [20, 20],
        options: { contactNodes: [] },
      });
      const [a, b] = sim.nodes as [Node, Node];
      const told = [a, b].map((node) => {
        const events: string[] = [];
        node.membership.on(({ type }) => void events.push(type));
        return events;
      });
      const [toA, toB] = [a.addresses[0] as string, b.addresses[0] as string];
      await sim.run(Promise.all([a.membership.join(toB), b.membership.join(toA)]));
      await sim.run({ forMs: 60_000 });
      for (const [index, node] of [a, b].entries()) {
        // Both connections stood: each node was the client of one and the server of the other.
        const metrics = node.metrics.snapshot();
        for (const role of ["client", "server"]) {
          assert.equal(metrics[`barrel_handshake_accepted_total{role="${role}"}`], 1, role);
        }
        assert.equal(node.links.list().length, 1);
        assert.deepEqual(told[index]?.toSorted(), ["joined", "nodeUp", "peerUp"]);
      }
      await sim.close();
    }
  });

  test("a link that takes another's place leaves the edge alone (iroh 2308)", () => {
    const sim = cluster(6, 27);
    const node = sim.nodes[3] as SimNode;
    const peer = sim.node([...node.view][0] ?? "") as SimNode;
    const before = [node.events.length, peer.events.length];
    sim.membershipEvent(node, { type: "linkDown", peer: peer.entry, reason: "replaced" });
    sim.membershipEvent(peer, { type: "linkDown", peer: node.entry, reason: "replaced" });
    sim.run(30_000);
    assert.deepEqual([node.events.length, peer.events.length], before);
    assert.deepEqual(flaws(sim), []);
  });

  test("a peer that does not read wedges nobody (iroh-gossip 47)", () => {
    const sim = cluster(30, 28);
    const slow = sim.nodes[9] as SimNode;
    slow.lagMs = 60_000;
    const sent = Array.from({ length: 20 }, () => {
      const sender = sim.pick(sim.live.filter((node) => node !== slow));
      const broadcast = sim.publish(sender);
      sim.run(100);
      return broadcast;
    });
    for (const name of [...slow.view]) {
      sim.membershipEvent(sim.node(name) as SimNode, { type: "slowConsumer", peer: slow.name });
    }
    sim.run(15_000);
    const others = sim.live.filter((node) => node !== slow);
    for (const { delivered } of sent) assert.ok(others.every((node) => delivered.has(node)));
  });

  test("a late joiner sees messages (iroh-gossip 61, 86)", () => {
    const sim = cluster(20, 29);
    const old = sim.publish(sim.pick());
    sim.run(2_000);
    const late = sim.add();
    sim.join(late, sim.nodes[0] as SimNode);
    sim.runUntil(() => old.delivered.has(late), 10_000, "the message before it came");
    const next = sim.publish(sim.nodes[7] as SimNode);
    sim.runUntil(() => next.delivered.has(late), 5_000, "the message after");
  });

  test("false announcements cost bounded memory and no honest one (iroh-gossip PR 135)", () => {
    const plumtree = new Plumtree(1, seededRandom(30));
    plumtree.handle({ type: "neighbourUp", peer: "liar@x" }, 0);
    plumtree.handle({ type: "neighbourUp", peer: "honest@x" }, 0);
    for (let batch = 0; batch < 100; batch++) {
      const entries = Array.from(
        { length: MAX_IDS },
        (_, i) => ({ origin: 1_000_000 + batch * MAX_IDS + i, seq: 1, tree: 0 }),
      );
      plumtree.handle({ type: "control", from: "liar@x", message: { type: "ihave", entries } }, 1);
    }
    assert.equal(plumtree.sizes.missing, MAX_MISSING_BY_PEER);
    const message = { type: "ihave", entries: [{ origin: 8, seq: 1, tree: 0 }] } as const;
    plumtree.handle({ type: "control", from: "honest@x", message }, 2);
    const asked = plumtree.handle({ type: "tick" }, 10_000).some((effect) =>
      effect.type === "send" && effect.peer === "honest@x" && effect.message.type === "graft" &&
      effect.message.ids.some(({ origin }) => origin === 8)
    );
    assert.ok(asked, "the honest announcer is asked");
  });

  test("announcements that wait do not grow while the network is split (vernemq PR 535)", () => {
    const sim = cluster(8, 31);
    sim.partition(sim.nodes.slice(0, 4));
    const [near] = sim.nodes as [SimNode];
    let most = 0;
    for (let i = 0; i < 6_000; i++) {
      sim.publish(near, EMPTY);
      for (const { plumtree } of sim.nodes) most = Math.max(most, plumtree.sizes.waiting);
      sim.run(10);
      sim.broadcasts.clear();
    }
    // Those of 50 ms wait for company, and what a new neighbour is told of: 512 at most.
    assert.ok(most > 0 && most <= MAX_IDS, `${most} waited`);
    for (const { plumtree } of sim.nodes) {
      assert.ok(plumtree.sizes.cached <= MAX_CACHED);
      assert.ok(plumtree.sizes.missing <= MAX_MISSING_BY_PEER);
    }
    sim.heal();
    sim.run(180_000);
    assert.deepEqual(components(sim), [8]);
    const sent = sim.publish(near);
    sim.run(10_000);
    assert.equal(sent.delivered.size, 8);
    for (const { plumtree } of sim.nodes) {
      assert.equal(plumtree.sizes.missing, 0);
      assert.equal(plumtree.sizes.waiting, 0);
    }
  });
});
