import assert from "node:assert/strict";
import { silentLogger } from "../../src/base/logger.ts";
import { HybridLogicalClock } from "../../src/crdt/hlc.ts";
import { openMap } from "../../src/map/map.ts";
import type { SharedMap } from "../../src/map/map.ts";
import type { MapOptions } from "../../src/map/options.ts";
import type { NodeOptions } from "../../src/node/options.ts";
import type { Store } from "../../src/replica/driver.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";
import { Cluster } from "../registry/cluster.ts";
import type { TestNode } from "../registry/cluster.ts";

type Two = [TestNode, TestNode];

/** Replication drivers, linked with each other, on virtual time. */
async function clusterOf(...names: string[]): Promise<Cluster> {
  const cluster = new Cluster();
  for (const name of names) await cluster.add(`${name}@test`);
  const { nodes } = cluster;
  for (const [i, a] of nodes.entries()) for (const b of nodes.slice(i + 1)) cluster.link(a, b);
  await cluster.run(100);
  return cluster;
}

/** A map as the node opens it, and the store below it. */
function open(
  cluster: Cluster,
  { replication, system, meter }: TestNode,
  options: MapOptions<unknown>,
): { map: SharedMap<unknown>; store: Store } {
  let store: Store | undefined;
  const { map } = openMap("m", options, undefined, {
    replication: {
      createStore: (storeOptions) => store = replication.createStore(storeOptions),
      watch: (name, listener) => replication.watch(name, listener),
    },
    hlc: new HybridLogicalClock(cluster.clock, 5_000),
    maxDriftMs: 5_000,
    decode: { own: system.life, peer: system.life },
    clock: cluster.clock,
    logger: silentLogger,
    meter,
  });
  return { map, store: store as Store };
}

describe("a map on a node", () => {
  test("of presence shows the entries of a node again that was declared down wrongly", async () => {
    const cluster = await clusterOf("a", "b");
    const [a, b] = cluster.nodes as Two;
    const [onA, onB] = [a, b].map((node) => open(cluster, node, { ephemeral: true }).map) as [
      SharedMap<unknown>,
      SharedMap<unknown>,
    ];
    await cluster.run(1_000, onA.set("ada", 1));
    await cluster.run(50);
    const told: string[] = [];
    onB.on(({ type, key }) => told.push(`${type} ${key}`));
    b.replication.onLife("retire", a.identity.publicKey, 1);
    assert.equal(onB.has("ada"), false);
    await cluster.run(50);
    b.replication.onLife("restore", a.identity.publicKey, 1);
    assert.equal(onB.get("ada"), 1);
    await cluster.run(50);
    assert.deepEqual(told, ["deleted ada", "set ada"]);
    cluster.close();
  });

  test("takes a deletion back once the node that it waits for is forgotten, though nobody says so", async () => {
    const cluster = await clusterOf("a", "b");
    const [a, b] = cluster.nodes as Two;
    const onA = open(cluster, a, { ephemeral: true });
    const onB = open(cluster, b, { ephemeral: true });
    await cluster.run(1_000, onA.map.set("ada", 1));
    await cluster.run(50);
    cluster.kill(a);
    assert.equal(await cluster.run(1_000, onB.map.delete("ada")), true);
    await cluster.run(60_000);
    assert.equal([...onB.store.entries()].length, 2, "the entry, and the deletion that hides it");
    b.replication.onLife("retire", a.identity.publicKey, 1);
    b.replication.onLife("forget", a.identity.publicKey, 1);
    await cluster.run(20_000);
    assert.equal([...onB.store.entries()].length, 0);
    cluster.close();
  });

  test("stamps what it writes later than what it has read", async () => {
    // Two seconds are within what clocks may differ by.
    const sim = await createSimulation({
      seed: 5,
      nodes: 2,
      wallOffsetMs: (index) => index === 0 ? 2_000 : 0,
    });
    try {
      await sim.run(sim.node(1).joined());
      const [ahead, behind] = [sim.node(0), sim.node(1)];
      const written = await sim.run(ahead.maps.open<number>("m"));
      const read = await sim.run(behind.maps.open<number>("m"));
      await sim.run(written.set("k", 1));
      const { wallMs } = ahead.hlc.now();
      assert.ok(behind.hlc.now().wallMs < wallMs - 1_000);
      await sim.until(() => read.get("k") === 1);
      assert.ok(behind.hlc.now().wallMs > wallMs - 100);
    } finally {
      await sim.close();
    }
  });

  test("remembers over a restart what was replaced, though what replaced it is refused now", async () => {
    const disk = memoryStore();
    const persist = true;
    const options = (index: number): Partial<NodeOptions> => index === 1 ? { store: disk } : {};
    const sim = await createSimulation({ seed: 5, nodes: 3, options });
    try {
      for (const node of sim.nodes.slice(1)) await sim.run(node.joined());
      const open = (index: number, more: MapOptions<unknown>) =>
        sim.run(sim.node(index).maps.open<unknown>("m", more));
      const [first, second, third] = [
        await open(0, {}),
        await open(1, { persist }),
        await open(2, {}),
      ];
      await sim.run(first.set("k", 1));
      await sim.until(() => second.get("k") === 1 && third.get("k") === 1);
      // Who wrote it will never take it out of its rows.
      sim.crash(sim.node(0));
      await sim.run(third.set("k", "two"));
      await sim.until(() => second.get("k") === "two");
      await sim.run({ forMs: 1_000 });
      const table = disk.entries("replaced kept/map/m");
      assert.deepEqual(table.map(([key]) => key.slice(-2)), ["/k"]);
      await sim.restart(sim.node(1));
      const again = await open(1, { persist, schema: (value) => typeof value === "number" });
      assert.equal(again.has("k"), false);
    } finally {
      await sim.close();
    }
  });
});
