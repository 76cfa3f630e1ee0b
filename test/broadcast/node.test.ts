import assert from "node:assert/strict";
import type { Node } from "../../mod.ts";
import { utf8 } from "../../src/base/bytes.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";

describe("node.broadcast", () => {
  test("sends what the bytes were when they were given, also to who asks for them later", async () => {
    const sim = await createSimulation({ seed: 1, nodes: 2 });
    await sim.until(() => sim.nodes.every(({ membership }) => membership.members().length === 2));
    const [sender, late] = sim.nodes as [Node, Node];
    sim.crash(late);
    const bytes = Uint8Array.of(1, 2, 3);
    await sim.run(Promise.resolve(sender.broadcast.publish("t", bytes)));
    bytes.fill(9);
    // Nobody else has it: the sender brings it from what it keeps.
    const heard: string[] = [];
    const reborn = await sim.restart(late);
    reborn.broadcast.subscribe("t", (payload) => void heard.push(`${payload}`));
    await sim.until(() => heard.length > 0);
    assert.deepEqual(heard, ["1,2,3"]);
    await sim.close();
  });

  test("has no topic of the cluster's own: what users say of one is theirs alone", async () => {
    const sim = await createSimulation({ seed: 2, nodes: 2 });
    await sim.until(() => sim.nodes.every(({ membership }) => membership.members().length === 2));
    const [sender, receiver] = sim.nodes as [Node, Node];
    const refused = () => {
      const counts = Object.entries(receiver.metrics.snapshot());
      return counts.filter(([name]) => name.startsWith("barrel_replica_refused")).length;
    };
    const heard: number[] = [];
    receiver.broadcast.subscribe("barrel:replica", ({ length }) => void heard.push(length));
    // Of the cluster's own words on its topic, and of a user's.
    const pid = sender.spawn(async (self) => void await self.receive());
    await sim.run(sender.registry.register("told", pid));
    await sim.until(() => receiver.registry.lookup("told").length === 1);
    assert.deepEqual(heard, []);
    await sim.run(Promise.resolve(sender.broadcast.publish("barrel:replica", utf8("nonsense"))));
    await sim.until(() => heard.length === 1);
    assert.deepEqual([heard, refused()], [[8], 0]);
    await sim.close();
  });
});
