import assert from "node:assert/strict";
import { BarrelError, ConfigError, ConflictError } from "../../src/base/errors.ts";
import type { Merged, MergedEvent } from "../../src/map/merged.ts";
import type { Node } from "../../src/node/node.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import type { Simulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";

type Counter = Merged<number, number>;

const openOn = (sim: Simulation, node: Node, persist = false): Promise<Counter> =>
  sim.run(node.replicas.create<number, number>({
    name: "visits",
    persist,
    schema: (value) => typeof value === "number",
    merge: (rows) => rows.reduce((sum, { value }) => sum + value, 0),
  }));

async function simulated(nodes: number, body: (sim: Simulation) => Promise<void>): Promise<void> {
  const sim = await createSimulation({ seed: 3, nodes });
  try {
    for (const node of sim.nodes.slice(1)) await sim.run(node.joined());
    await body(sim);
  } finally {
    await sim.close();
  }
}

describe("replicas with a merge of one's own", () => {
  test("a counter loses no addition, through a split and a restart of all", () =>
    simulated(4, async (sim) => {
      let counters: Counter[] = [];
      for (const node of sim.nodes) counters.push(await openOn(sim, node, true));
      const add = async (at: number) => {
        const counter = counters[at] as Counter;
        await sim.run(counter.put("n", (counter.own("n") ?? 0) + 1));
      };
      for (let i = 0; i < 8; i++) await add(i % 4);
      sim.partition(sim.nodes.slice(0, 2), sim.nodes.slice(2));
      for (let i = 0; i < 8; i++) await add(i % 4);
      sim.heal();
      await sim.until(() => counters.every((counter) => counter.get("n") === 16));
      for (const node of sim.nodes) sim.crash(node);
      for (const node of [...sim.nodes]) await sim.restart(node);
      counters = [];
      for (const node of sim.nodes) counters.push(await openOn(sim, node, true));
      await add(1);
      await sim.until(() => counters.every((counter) => counter.get("n") === 17));
      assert.deepEqual(counters[0]?.rows("n").map(({ value }) => value).sort(), [4, 4, 4, 5]);
      assert.deepEqual([...counters[2]?.entries() ?? []], [["n", 17]]);
    }));

  test("what a node wrote in memory stays when it comes back, and is not its own any more", () =>
    simulated(3, async (sim) => {
      const [a, b] = [await openOn(sim, sim.node(0)), await openOn(sim, sim.node(1))];
      await sim.run(b.put("n", 5));
      await sim.until(() => a.get("n") === 5);
      const again = await openOn(sim, await sim.restart(sim.node(1)));
      await sim.until(() => again.get("n") === 5);
      assert.equal(again.own("n"), undefined);
      await sim.run(again.put("n", 2));
      await sim.until(() => a.get("n") === 7);
    }));

  test("each change is told, and what its validator refuses is not counted", () =>
    simulated(2, async (sim) => {
      const a = await openOn(sim, sim.node(0));
      const b = await sim.run(
        sim.node(1).replicas.create<unknown, number>({
          name: "visits",
          merge: (rows) => rows.length,
        }),
      );
      const told: string[] = [];
      a.on(({ key, value, isLocal }: MergedEvent<number>) =>
        told.push(`${key} ${value} ${isLocal}`)
      );
      await sim.run(a.put("n", 1));
      await sim.run(b.put("n", 2));
      await sim.until(() => a.get("n") === 3);
      await sim.run(b.put("n", "two"));
      await sim.until(() => a.get("n") === 1);
      assert.equal(b.get("n"), 2);
      assert.equal(await sim.run(a.remove("n")), true);
      assert.equal(await sim.run(a.remove("n")), false);
      assert.equal(a.get("n"), undefined);
      assert.deepEqual(told, ["n 1 true", "n 3 false", "n 1 false", "n undefined true"]);
      assert.deepEqual([...a.keys()], []);
    }));

  test("a merge that throws is the reader's error; the node lives and tells the other keys", () =>
    simulated(2, async (sim) => {
      const merge = (_rows: unknown, key: string) => {
        if (key === "bad") throw new RangeError("cannot merge this");
        return 1;
      };
      const options = { name: "picky", merge };
      const [a, b] = [
        await sim.run(sim.node(0).replicas.create<number, number>(options)),
        await sim.run(sim.node(1).replicas.create<number, number>(options)),
      ];
      const told: string[] = [];
      a.on(({ key }) => told.push(key));
      await sim.run(Promise.all([b.put("bad", 1), b.put("good", 1)]));
      await sim.until(() => told.length > 0);
      assert.deepEqual(told, ["good"]);
      assert.throws(() => a.get("bad"), RangeError);
    }));

  test("refuses what cannot be, by name", () =>
    simulated(1, async (sim) => {
      const node = sim.node(0);
      const counter = await openOn(sim, node);
      await assert.rejects(
        openOn(sim, node),
        (error) =>
          error instanceof ConflictError && error.message === "the replica visits is open already",
      );
      await assert.rejects(
        sim.run(node.replicas.create({ name: "x" } as never)),
        (error) => error instanceof ConfigError && error.path === "merge",
      );
      await assert.rejects(
        sim.run(node.replicas.create({ name: "x", merge: () => 0, keep: true } as never)),
        (error) => error instanceof ConfigError && error.path === "keep",
      );
      await assert.rejects(
        sim.run(node.replicas.create({ name: "", merge: () => 0 })),
        (error) => error instanceof BarrelError && error.code === "bad_name",
      );
      await assert.rejects(
        sim.run(counter.put("", 1)),
        (error) => error instanceof BarrelError && error.code === "bad_key",
      );
      await assert.rejects(
        sim.run(counter.put("n", "1" as never)),
        (error) => error instanceof BarrelError && error.code === "invalid_value",
      );
    }));
});
