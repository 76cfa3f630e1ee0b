/** Maps whose disk lost rows: what is left, what comes back, and what does not. */
import assert from "node:assert/strict";
import type { SharedMap } from "../../src/map/map.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import type { DurableStore, Entry } from "../../src/storage/contract.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import type { Simulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";

const TABLE = "replica kept/map/config";

/** The disk of the first node, which loses what it is told to. */
function disk() {
  const store = memoryStore();
  const copies: string[] = [];
  const kept: DurableStore = {
    ...store,
    setAside() {
      copies.push("copy");
      return "copy";
    },
  };
  const lose = (which: (entry: Entry) => boolean, table = TABLE) => {
    const lost = store.entries(table).filter(which);
    assert.ok(lost.length > 0, "there is such an entry");
    return store.commit(lost.map(([key]) => ({ table, key, value: undefined })));
  };
  return { store: kept, lose, copies };
}

/** Rows that hold a text. */
const holds = (text: string) => ([key, value]: Entry) =>
  !key.endsWith("/h") && new TextDecoder().decode(value).includes(text);

type Told = { level: string; message: string }[];

async function simulated(
  nodes: number,
  body: (
    sim: Simulation,
    file: ReturnType<typeof disk>,
    errors: (level?: string) => string[],
  ) => Promise<void>,
): Promise<void> {
  const file = disk();
  const logs: Told = [];
  const sim = await createSimulation({
    seed: 5,
    nodes,
    options: (index) => index === 0 ? { store: file.store } : {},
    logger: (_node, level, message) => logs.push({ level, message }),
  });
  const errors = (wanted = "error") =>
    logs.splice(0).flatMap(({ level, message }) => level === wanted ? [message] : []);
  try {
    for (const node of sim.nodes.slice(1)) await sim.run(node.joined());
    await body(sim, file, errors);
  } finally {
    await sim.close();
  }
}

const open = (sim: Simulation, index: number): Promise<SharedMap<string>> =>
  sim.run(sim.node(index).maps.open<string>("config", { persist: true }));
const all = (map: SharedMap<string>) => Object.fromEntries(map.entries());
const set = async (sim: Simulation, map: SharedMap<string>, entries: Record<string, string>) => {
  for (const [key, value] of Object.entries(entries)) await sim.run(map.set(key, value));
};
const ENTRIES = { a: "alpha", b: "beta", c: "gamma" };
const isDamage = (errors: readonly string[]) =>
  assert.deepEqual(errors.map((text) => /on this node's disk do not add up/.test(text)), [true]);

/** Both nodes are down; the first loses something, and starts alone. */
async function startAlone(
  sim: Simulation,
  { lose }: ReturnType<typeof disk>,
  which: (entry: Entry) => boolean,
): Promise<SharedMap<string>> {
  for (const [index] of sim.nodes.entries()) {
    try {
      sim.crash(sim.node(index));
    } catch {
      // It is down already.
    }
  }
  await lose(which);
  await sim.restart(sim.node(0));
  return open(sim, 0);
}

describe("a map on a disk that lost a row of its own node", () => {
  test("has the others, says so once, and tells them to others as it writes them again", () =>
    simulated(2, async (sim, file, errors) => {
      await set(sim, await open(sim, 0), ENTRIES);
      let map = await startAlone(sim, file, holds("beta"));
      assert.deepEqual(all(map), { a: "alpha", c: "gamma" });
      isDamage(errors());
      assert.deepEqual(file.copies, ["copy"]);
      await sim.run(map.set("d", "delta"));
      sim.crash(sim.node(0));
      await sim.restart(sim.node(0));
      map = await open(sim, 0);
      assert.deepEqual(all(map), { a: "alpha", c: "gamma", d: "delta" });
      assert.deepEqual([errors(), file.copies.length], [[], 1], "it is known");
      // Its disk has never had anything.
      await sim.restart(sim.node(1));
      const other = await open(sim, 1);
      await sim.until(() => other.size === 1, { withinMs: 120_000 });
      await set(sim, map, { a: "alpha", c: "new" });
      const truth = { a: "alpha", c: "new", d: "delta" };
      await sim.until(() => other.size === 3 && other.get("c") === "new");
      for (const one of [map, other]) assert.deepEqual(all(one), truth);
      for (const node of sim.nodes) sim.crash(node);
      await sim.restart(sim.node(0));
      assert.deepEqual(all(await open(sim, 0)), truth);
      assert.deepEqual([errors(), file.copies.length], [[], 1]);
    }));

  test("gets it back from a node that has it", () =>
    simulated(2, async (sim, file) => {
      const [first, second] = [await open(sim, 0), await open(sim, 1)];
      await set(sim, first, ENTRIES);
      await sim.until(() => second.size === 3);
      const map = await startAlone(sim, file, holds("beta"));
      await sim.run(map.set("a", "newer"));
      await sim.restart(sim.node(1));
      const other = await open(sim, 1);
      await sim.until(() => map.size === 3 && other.get("a") === "newer");
      await sim.run({ forMs: 60_000 });
      for (const one of [map, other]) assert.deepEqual(all(one), { ...ENTRIES, a: "newer" });
    }));

  test("keeps what it wrote last, and deleted, where the copy of the other node is behind", () =>
    simulated(2, async (sim, file) => {
      const [first, second] = [await open(sim, 0), await open(sim, 1)];
      await set(sim, first, ENTRIES);
      await sim.until(() => second.size === 3);
      sim.crash(sim.node(1));
      await set(sim, first, { a: "newer", d: "delta" });
      await sim.run(first.delete("c"));
      const map = await startAlone(sim, file, holds("beta"));
      const left = { a: "newer", d: "delta" };
      assert.deepEqual(all(map), left);
      await sim.restart(sim.node(1));
      const other = await open(sim, 1);
      await sim.run({ forMs: 900_000 });
      assert.deepEqual(all(map), left, "nothing came back");
      assert.deepEqual(all(other), ENTRIES, "nothing was taken from it");
      await set(sim, map, { a: "newest", b: "anew", d: "delta" });
      const agreed = { a: "newest", b: "anew", d: "delta" };
      await sim.until(() => other.get("a") === "newest" && other.get("d") === "delta");
      assert.deepEqual(all(map), agreed);
      assert.deepEqual(all(other), { ...agreed, c: "gamma" });
    }));

  test("does not bring back what another node deleted meanwhile", () =>
    simulated(2, async (sim, file) => {
      const [first, second] = [await open(sim, 0), await open(sim, 1)];
      await set(sim, first, ENTRIES);
      await sim.until(() => second.size === 3);
      sim.crash(sim.node(0));
      await sim.run(second.delete("a"));
      await sim.run(second.set("c", "newer"));
      const map = await startAlone(sim, file, holds("beta"));
      assert.deepEqual(all(map), { a: "alpha", c: "gamma" }, "it cannot know");
      await sim.restart(sim.node(1));
      const other = await open(sim, 1);
      const told: string[] = [];
      other.on(({ type, key }) => told.push(`${type} ${key}`));
      const truth = { b: "beta", c: "newer" };
      assert.deepEqual(all(other), truth);
      await sim.until(() => !map.has("a") && map.has("b"));
      await sim.run({ forMs: 120_000 });
      for (const one of [map, other]) assert.deepEqual(all(one), truth);
      assert.deepEqual(told, [], "not even for a moment");
    }));

  test("does not bring back what its own user deletes or replaces before others are there", () =>
    simulated(2, async (sim, file) => {
      const [first, second] = [await open(sim, 0), await open(sim, 1)];
      await set(sim, first, ENTRIES);
      await sim.until(() => second.size === 3);
      let map = await startAlone(sim, file, holds("beta"));
      assert.equal(await sim.run(map.delete("a")), true);
      await sim.run(map.set("c", "newer"));
      assert.deepEqual(all(map), { c: "newer" });
      await sim.restart(sim.node(0));
      map = await open(sim, 0);
      assert.deepEqual(all(map), { c: "newer" }, "nor does a restart");
      await sim.restart(sim.node(1));
      const other = await open(sim, 1);
      await sim.until(() => all(map)["b"] === "beta" && !other.has("a"));
      await sim.run({ forMs: 120_000 });
      for (const one of [map, other]) assert.deepEqual(all(one), { b: "beta", c: "newer" });
    }));

  test("has its rows also where it lost their head", () =>
    simulated(2, async (sim, file, errors) => {
      await set(sim, await open(sim, 0), ENTRIES);
      let map = await startAlone(sim, file, ([key]) => key.endsWith("/h"));
      assert.deepEqual(all(map), ENTRIES);
      isDamage(errors());
      await sim.restart(sim.node(0));
      map = await open(sim, 0);
      assert.deepEqual(all(map), ENTRIES);
    }));

  test("takes from nobody what it lost whole", () =>
    simulated(2, async (sim, file, errors) => {
      const [first, second] = [await open(sim, 0), await open(sim, 1)];
      await set(sim, first, ENTRIES);
      await sim.until(() => second.size === 3);
      const map = await startAlone(sim, file, ([key]) => /\/0/.test(key));
      assert.deepEqual(all(map), {});
      isDamage(errors());
      await sim.run(map.set("d", "delta"));
      await sim.restart(sim.node(1));
      const other = await open(sim, 1);
      await sim.run({ forMs: 120_000 });
      for (const one of [map, other]) assert.deepEqual(all(one), { ...ENTRIES, d: "delta" });
    }));
});

test("a map whose disk lost another node's row fetches it again, and says whose fault it is", () =>
  simulated(2, async (sim, file, errors) => {
    const [first, second] = [await open(sim, 0), await open(sim, 1)];
    await set(sim, second, ENTRIES);
    await sim.until(() => first.size === 3);
    const map = await startAlone(sim, file, holds("beta"));
    assert.deepEqual(all(map), { a: "alpha", c: "gamma" });
    isDamage(errors());
    await sim.restart(sim.node(1));
    await open(sim, 1);
    await sim.until(() => map.size === 3);
    assert.deepEqual(
      [...Object.keys(sim.node(0).metrics.snapshot())].filter((name) =>
        /replica_damaged/.test(name)
      ),
      ['barrel_replica_damaged_total{store="kept/map/config",what="others"}'],
    );
  }));

test("a sum over rows of a disk that lost one counts nothing twice", () =>
  simulated(2, async (sim, file) => {
    const merge = (rows: readonly { value: number }[]) =>
      rows.reduce((sum, row) => sum + row.value, 0);
    const create = (index: number) =>
      sim.run(
        sim.node(index).replicas.create<number, number>({ name: "sums", persist: true, merge }),
      );
    const [first, second] = [await create(0), await create(1)];
    await sim.run(first.put("x", 5));
    await sim.run(first.put("lost", 7));
    await sim.run(second.put("x", 1));
    await sim.until(() => first.get("x") === 6 && second.get("x") === 6);
    for (const node of sim.nodes) sim.crash(node);
    await file.lose(holds("lost"), "replica kept/merged/sums");
    await sim.restart(sim.node(0));
    const sums = await create(0);
    assert.deepEqual([sums.get("x"), sums.get("lost")], [6, undefined]);
    await sim.run(sums.put("x", (sums.own("x") ?? 0) + 10));
    assert.equal(sums.get("x"), 16);
    await sim.restart(sim.node(1));
    const others = await create(1);
    await sim.until(() => others.get("x") === 16 && sums.get("lost") === 7);
    await sim.run({ forMs: 120_000 });
    assert.deepEqual([others.get("x"), sums.get("x"), others.get("lost")], [16, 16, 7]);
  }));

test("a map on a disk that is an old copy goes on under a new life, and blames no peer", () =>
  simulated(2, async (sim, file, errors) => {
    const [first, second] = [await open(sim, 0), await open(sim, 1)];
    await set(sim, first, ENTRIES);
    const copy = file.store.entries(TABLE);
    await set(sim, first, { a: "newer", e: "epsilon" });
    await sim.until(() => second.size === 4);
    for (const node of sim.nodes) sim.crash(node);
    const now = file.store.entries(TABLE).map(([key]) => ({ table: TABLE, key, value: undefined }));
    await file.store.commit(now);
    await file.store.commit(copy.map(([key, value]) => ({ table: TABLE, key, value })));
    await sim.restart(sim.node(0));
    const map = await open(sim, 0);
    assert.deepEqual(all(map), ENTRIES);
    await sim.restart(sim.node(1));
    const other = await open(sim, 1);
    errors();
    await sim.until(() => map.size === 4 && map.get("a") === "newer");
    await sim.run(map.set("a", "newest"));
    await sim.until(() => other.get("a") === "newest");
    const told = errors("warn");
    assert.equal(told.filter((text) => /as after a restored backup/.test(text)).length, 1);
    assert.deepEqual(told.filter((text) => /what a peer sent/.test(text)), []);
  }));
