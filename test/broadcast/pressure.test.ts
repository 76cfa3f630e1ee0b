import assert from "node:assert/strict";
import { OverloadedError } from "../../mod.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import type { Simulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";

const MIB = new Uint8Array(1024 * 1024);

/** Two neighbours; the links hold a quarter of a MiB before they ask to wait. */
async function pair(seed: number): Promise<Simulation> {
  const sim = await createSimulation({
    seed,
    nodes: 2,
    options: { links: { highWaterMark: 256 * 1024 } },
  });
  await sim.until(() => sim.nodes.every(({ membership }) => membership.activeView().length === 1));
  return sim;
}

/** Publishes `count` MiB from the first node, each when the last one let it; counts them. */
function publishMany(sim: Simulation, count: number): { sent: number } {
  const progress = { sent: 0 };
  const publish = async () => {
    for (; progress.sent < count; progress.sent++) {
      await sim.node(0).broadcast.publish("bulk", MIB);
    }
  };
  // A node that closes meanwhile refuses the rest.
  publish().catch(() => {});
  return progress;
}

describe("a publisher", () => {
  test("waits for a neighbour that does not read, and goes on when it does", async () => {
    const sim = await pair(1);
    let heard = 0;
    sim.node(1).broadcast.subscribe("bulk", () => heard++);
    sim.stall(sim.node(1), 6_000);
    const progress = publishMany(sim, 40);
    await sim.run({ forMs: 5_000 });
    assert.ok(progress.sent < 4, `${progress.sent} published into a stalled link`);
    await sim.until(() => heard === 40);
    assert.equal(progress.sent, 40);
    await sim.close();
  });

  test("is held up by one silent neighbour once, and for ten seconds at most", async () => {
    const sim = await pair(2);
    let heard = 0;
    sim.node(1).broadcast.subscribe("bulk", () => heard++);
    sim.stall(sim.node(1), 11_500);
    const progress = publishMany(sim, 30);
    await sim.run({ forMs: 9_000 });
    assert.ok(progress.sent < 4);
    await sim.run({ forMs: 2_000 });
    assert.equal(progress.sent, 30);
    await sim.until(() => heard === 30);
    // It has caught up, so it counts again.
    sim.stall(sim.node(1), 5_000);
    const again = publishMany(sim, 30);
    await sim.run({ forMs: 4_000 });
    assert.ok(again.sent < 4, `${again.sent} published into a stalled link`);
    await sim.close();
  });

  test("that does not wait is refused before memory fills, and nobody loses the link", async () => {
    const sim = await pair(3);
    let heard = 0;
    sim.node(1).broadcast.subscribe("bulk", () => heard++);
    sim.stall(sim.node(1), 3_000);
    const results = await sim.run(Promise.allSettled(
      Array.from({ length: 40 }, () => sim.node(0).broadcast.publish("bulk", MIB)),
    ));
    const refused = results.filter(({ status }) => status === "rejected");
    assert.ok(refused.length >= 20, `${refused.length} of 40 refused`);
    for (const result of refused) {
      assert.ok(result.status === "rejected" && result.reason instanceof OverloadedError);
    }
    await sim.until(() => heard === 40 - refused.length);
    assert.equal(sim.node(0).membership.activeView().length, 1);
    await sim.close();
  });

  test("that waits is let go when the neighbour dies, or the node closes", async () => {
    for (const end of ["crash", "close"]) {
      const sim = await pair(4);
      sim.stall(sim.node(1), 60_000);
      const progress = publishMany(sim, 3);
      await sim.run({ forMs: 1_000 });
      const before = progress.sent;
      const last = sim.node(0).broadcast.publish("bulk", MIB);
      if (end === "crash") sim.crash(sim.node(1));
      else void sim.node(0).close();
      await sim.run(last);
      assert.ok(before < 3);
    }
  });

  test("is refused what is too large, or has too long a topic, by a typed error", async () => {
    const sim = await pair(5);
    const { broadcast } = sim.node(0);
    await assert.rejects(broadcast.publish("t", new Uint8Array(1024 * 1024 + 1)), {
      code: "broadcast",
    });
    await assert.rejects(broadcast.publish("t".repeat(251), new Uint8Array(1)), {
      code: "broadcast",
    });
    await sim.close();
  });
});
