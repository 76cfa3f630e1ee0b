import assert from "node:assert/strict";
import { OverlaySim } from "../../src/testing/overlay_sim.ts";
import type { OverlayOptions, SimNode } from "../../src/testing/overlay_sim.ts";
import { describe, test } from "../harness.ts";
import { components, flaws } from "./graph.ts";

function cluster(options: OverlayOptions): OverlaySim {
  const sim = new OverlaySim(options);
  const contact = sim.add();
  while (sim.nodes.length < 30) {
    sim.run(20);
    sim.join(sim.add(), contact);
  }
  sim.run(60_000);
  return sim;
}

/** A node and one of its neighbours. */
function edge(sim: OverlaySim): [SimNode, SimNode] {
  const node = sim.nodes[7] as SimNode;
  return [node, sim.node([...node.view][0] ?? "") as SimNode];
}

const isSound = (sim: OverlaySim) => components(sim).length === 1 && flaws(sim).length === 0;

describe("faults in the simulator of the machines", () => {
  test("a half-open link carries one way, is lost by silence, and another takes its place", () => {
    const sim = cluster({ seed: 1 });
    const [node, peer] = edge(sim);
    sim.halfOpen(node, peer);
    sim.publish(node);
    sim.run(5_000);
    assert.ok(sim.takeCount("lost.halfOpen") > 0, "what was sent is gone");
    assert.ok(peer.view.has(node.name), "and nobody was told yet");
    const before = sim.takeCount("event.peerDown.lost");
    sim.run(15_000);
    assert.ok(sim.takeCount("event.peerDown.lost") >= 2, `${before} before`);
    sim.runUntil(() => isSound(sim), 60_000, "sound views");
  });

  test("a one-way cut holds frames back until it is healed, or costs the link when it lasts", () => {
    for (const lastsMs of [3_000, 30_000]) {
      const sim = cluster({ seed: 2 });
      const [node, peer] = edge(sim);
      const before = [node, peer].map(({ events }) => events.length);
      sim.cut(node, peer);
      const sent = [sim.publish(node), sim.publish(peer)];
      sim.run(lastsMs);
      const changed = [node, peer].some(({ events }, i) => events.length > (before[i] as number));
      if (lastsMs === 30_000) {
        assert.ok(changed, "silence ends the link");
        assert.ok(!node.view.has(peer.name), "no new one comes up while one way is cut");
      }
      sim.heal();
      sim.runUntil(() => isSound(sim), 60_000, "sound views");
      for (const { delivered } of sent) assert.equal(delivered.size, 30);
    }
  });

  test("a node that stands still does nothing meanwhile, and all of it afterwards", () => {
    const sim = cluster({ seed: 3 });
    const [node] = edge(sim);
    sim.stall(node, 8_000);
    assert.throws(() => sim.publish(node), /stands still/);
    const sent = sim.publish(sim.nodes[0] as SimNode);
    const before = node.events.length;
    sim.run(7_900);
    assert.deepEqual([sent.delivered.has(node), node.events.length], [false, before]);
    sim.run(1_000);
    assert.ok(sent.delivered.has(node), "what came meanwhile is read");
    // A stall that outlasts the silence costs its links, which it makes again.
    sim.stall(node, 40_000);
    sim.run(30_000);
    assert.ok(sim.live.every(({ view }) => !view.has(node.name)), "given up by its neighbours");
    sim.runUntil(() => node.view.size > 0 && isSound(sim), 90_000, "back");
  });

  test("clocks half an hour apart change nothing that machines say", () => {
    const story = (options: OverlayOptions) => {
      const sim = cluster(options);
      for (let i = 0; i < 5; i++) sim.publish(sim.pick());
      sim.run(60_000);
      return sim.nodes.map(({ events }) => events);
    };
    // 2^20 ms are 17 minutes.
    const offset = (index: number) => (index % 3) * 2 ** 20;
    const [same, off] = [story({ seed: 4 }), story({ seed: 4, clockOffsetMs: offset })];
    assert.deepEqual(off, same);
    const sim = new OverlaySim({ seed: 4, clockOffsetMs: offset });
    sim.add();
    const late = sim.add();
    assert.ok(late.hyparview.wakeAt >= 2 ** 20, "its machine lives at its own time");
  });

  test("the hash of a history takes in every byte of a frame", () => {
    const story = (payload: number[], topic = 1) => {
      const sim = cluster({ seed: 5 });
      sim.publish(sim.nodes[topic] as SimNode, Uint8Array.from(payload));
      sim.run(5_000);
      return sim.trace;
    };
    const one = story([1, 2, 3]);
    assert.equal(story([1, 2, 3]), one);
    for (const other of [[1, 2, 4], [1, 2, 3, 0], [1, 2], [0, 2, 3]]) {
      assert.notEqual(story(other), one, `${other}`);
    }
  });

  test("an edge that only one end has, in quiet, is an error that names the seed", () => {
    const sim = cluster({ seed: 6 });
    const [node, peer] = edge(sim);
    // A machine that hears nothing of its peer any more, nor of the end of their link.
    const handle = peer.hyparview.handle.bind(peer.hyparview);
    peer.hyparview.handle = (event, now) => {
      const isAboutPeer = event.type === "linkDown" || event.type === "message";
      return isAboutPeer ? [] : handle(event, now);
    };
    sim.membershipEvent(node, { type: "linkDown", peer: peer.entry, reason: "lost" });
    assert.throws(() => sim.run(180_000), (error: Error) => {
      assert.match(error.message, /^seed 6, at [\d.]+ ms: n\d+@sim -> n\d+@sim is one-sided/);
      return true;
    });
  });

  test("caches beyond their caps are an error that names the seed", () => {
    const sim = cluster({ seed: 7 });
    const [node] = edge(sim);
    const sizes = { ...node.plumtree.sizes, waiting: 5 * 1024 + 1 };
    Object.defineProperty(node.plumtree, "sizes", { value: sizes });
    assert.throws(
      () => sim.publish(sim.nodes[0] as SimNode) && sim.run(5_000),
      /^Error: seed 7, .*5121 announcements/,
    );
  });
});
