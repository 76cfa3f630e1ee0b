import assert from "node:assert/strict";
import * as v from "valibot";
import {
  BarrelError,
  ConfigError,
  ConflictError,
  EncodeError,
  StorageError,
} from "../../src/base/errors.ts";
import type { MapEvent, SharedMap } from "../../src/map/map.ts";
import type { Node } from "../../src/node/node.ts";
import type { NodeOptions } from "../../src/node/options.ts";
import { memoryStore } from "../../src/storage/memory.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import type { Simulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";

async function simulated(
  nodes: number,
  body: (sim: Simulation, logs: string[]) => Promise<void>,
  options: Partial<NodeOptions> | ((index: number) => Partial<NodeOptions>) = {},
): Promise<void> {
  const logs: string[] = [];
  const logger = (node: string, level: string, message: string) => {
    if (level === "warn" || level === "error") logs.push(`${node} ${message}`);
  };
  const sim = await createSimulation({ seed: 11, nodes, options, logger });
  try {
    for (const node of sim.nodes.slice(1)) await sim.run(node.joined());
    await body(sim, logs);
  } finally {
    await sim.close();
  }
}

const open = (sim: Simulation, options?: Parameters<Node["maps"]["open"]>[1]) =>
  Promise.all(sim.nodes.map((node) => sim.run(node.maps.open("config", options))));
const code = (expected: string) => (error: unknown) =>
  error instanceof BarrelError && error.code === expected;

/** A disk, and a store on it that refuses to write while it is full. */
function fillable() {
  const disk = memoryStore();
  let isFull = false;
  const store = {
    ...disk,
    commit: (batch: Parameters<typeof disk.commit>[0]) =>
      isFull ? Promise.reject(new StorageError("full", "no room")) : disk.commit(batch),
  };
  return { store, setFull: (value: boolean) => void (isFull = value) };
}

describe("a map", () => {
  test("is written anywhere and read everywhere, and tells what changed", () =>
    simulated(5, async (sim) => {
      const maps = await open(sim);
      const [a, b] = maps as [typeof maps[0], typeof maps[0]];
      const told: string[] = [];
      b.on((event: MapEvent<unknown>) => {
        const value = event.type === "set" ? event.value : undefined;
        assert.deepEqual(b.get(event.key), value, "a listener reads what it is told");
        told.push(`${event.type} ${event.key} ${String(value)} ${event.isLocal}`);
      });
      await sim.run(a.set("color", "red"));
      assert.equal(a.get("color"), "red");
      await sim.until(() => maps.every((map) => map.get("color") === "red"));
      await sim.run(b.set("color", "blue"));
      await sim.until(() => maps.every((map) => map.get("color") === "blue"));
      assert.equal(await sim.run(a.delete("color")), true);
      await sim.until(() => maps.every((map) => map.size === 0 && !map.has("color")));
      assert.equal(await sim.run(a.delete("color")), false);
      assert.deepEqual(told, [
        "set color red false",
        "set color blue true",
        "deleted color undefined false",
      ]);
    }));

  test("takes the later of two values, and a value before a deletion that did not know it", () =>
    simulated(4, async (sim) => {
      const maps = await open(sim);
      const [a, , c] = maps as [typeof maps[0], typeof maps[0], typeof maps[0]];
      await sim.run(a.set("x", 0));
      await sim.run(a.set("y", 0));
      await sim.until(() => maps.every((map) => map.size === 2));
      sim.partition(sim.nodes.slice(0, 2), sim.nodes.slice(2));
      await sim.run(a.set("x", "early"));
      await sim.run({ forMs: 50 });
      await sim.run(c.set("x", "late"));
      await sim.run(a.set("y", "written"));
      await sim.run(c.delete("y"));
      sim.heal();
      await sim.until(() =>
        maps.every((map) => map.get("x") === "late" && map.get("y") === "written")
      );
    }));

  test("is learned whole by a node that opens it late, through nodes that never opened it", () =>
    simulated(6, async (sim) => {
      const first = await sim.run(sim.node(0).maps.open<number>("config"));
      for (let i = 0; i < 50; i++) await sim.run(first.set(`k${i}`, i));
      await sim.run({ forMs: 20_000 });
      const last = await sim.run(sim.node(5).maps.open<number>("config"));
      await sim.until(() => last.size === 50);
      assert.deepEqual(Object.fromEntries(last.entries()), Object.fromEntries(first.entries()));
    }));

  test("keeps what it was told when its nodes restart, all at once", () =>
    simulated(3, async (sim) => {
      const maps = await open(sim, { persist: true });
      await sim.run(maps[0]?.set("a", { n: 1 }) as Promise<void>);
      await sim.run(maps[1]?.set("b", 2n) as Promise<void>);
      await sim.run(maps[2]?.set("gone", 1) as Promise<void>);
      await sim.until(() => maps.every((map) => map.size === 3));
      await sim.run(maps[0]?.delete("gone") as Promise<boolean>);
      await sim.until(() => maps.every((map) => map.size === 2));
      for (const node of sim.nodes) sim.crash(node);
      for (const node of [...sim.nodes]) await sim.restart(node);
      const again = await open(sim, { persist: true });
      for (const map of again) assert.deepEqual(map.get("a"), { n: 1 });
      await sim.run(again[2]?.set("a", 3) as Promise<void>);
      await sim.until(() => again.every((map) => map.get("a") === 3 && map.get("b") === 2n));
      assert.ok(again.every((map) => map.size === 2));
    }));

  test("outlives the node that wrote it", () =>
    simulated(4, async (sim) => {
      const maps = await open(sim);
      await sim.run(maps[3]?.set("k", "v") as Promise<void>);
      await sim.until(() => maps.every((map) => map.get("k") === "v"));
      sim.crash(sim.node(3));
      await sim.until(() => sim.node(0).membership.members().length === 3);
      assert.equal(maps[0]?.get("k"), "v");
      await sim.run(maps[1]?.set("k", "w") as Promise<void>);
      await sim.until(() => maps.slice(0, 3).every((map) => map.get("k") === "w"));
    }));

  test("of presence loses the entries of a node that goes or is declared down", () =>
    simulated(5, async (sim) => {
      const maps = await open(sim, { ephemeral: true });
      for (const [i, map] of maps.entries()) await sim.run(map.set(`user:${i}`, "here"));
      await sim.until(() => maps.every((map) => map.size === 5));
      sim.crash(sim.node(4));
      await sim.until(() => maps.slice(0, 4).every((map) => !map.has("user:4")));
      await sim.run(sim.node(3).membership.leave());
      await sim.until(() => maps.slice(0, 3).every((map) => !map.has("user:3")));
      assert.deepEqual([...maps[0]?.keys() ?? []].sort(), ["user:0", "user:1", "user:2"]);
      const back = await sim.restart(sim.node(4));
      const map = await sim.run(back.maps.open("config", { ephemeral: true }));
      await sim.run(map.set("user:4", "again"));
      await sim.until(() => maps.slice(0, 3).every((one) => one.get("user:4") === "again"));
    }));

  test("hides what its validator refuses and says so once; other nodes see it", () => {
    const schema = v.pipe(v.number(), v.minValue(0));
    return simulated(3, async (sim, logs) => {
      const strict = await sim.run(sim.node(0).maps.open<number>("config", { schema }));
      const lax = await sim.run(sim.node(1).maps.open<number>("config"));
      await assert.rejects(sim.run(strict.set("k", -1)), code("invalid_value"));
      await sim.run(strict.set("k", 1));
      await sim.until(() => lax.get("k") === 1);
      await sim.run(lax.set("k", -1));
      await sim.run(lax.set("l", -2));
      await sim.run({ forMs: 5_000 });
      assert.equal(lax.get("k"), -1);
      assert.equal(strict.get("k"), 1, "what was valid stays as long as its writer finds it so");
      assert.equal(strict.has("l"), false);
      assert.equal(logs.filter((line) => /does not pass our validator/.test(line)).length, 1);
      const { counters = {} } = sim.node(0).metrics.snapshot() as { counters?: object };
      assert.match(
        JSON.stringify([counters, sim.node(0).metrics.snapshot()]),
        /barrel_map_hidden_total/,
      );
    });
  });

  test("stores and relays a write from the future, hides it until then, and says so once", async () => {
    const logs: string[] = [];
    // The clocks of the first and the last are ahead; the one between them is right.
    const sim = await createSimulation({
      seed: 11,
      nodes: 3,
      wallOffsetMs: (index) => index === 1 ? 0 : 60_000,
      logger: (node, level, message) => void logs.push(`${node} ${level} ${message}`),
    });
    try {
      for (const node of sim.nodes.slice(1)) await sim.run(node.joined());
      await sim.until(() => sim.node(2).membership.members().length === 3);
      sim.partition([sim.node(0)], [sim.node(2)]);
      const [ahead, right, relayed] = await open(sim) as [
        Awaited<ReturnType<typeof open>>[0],
        Awaited<ReturnType<typeof open>>[0],
        Awaited<ReturnType<typeof open>>[0],
      ];
      await sim.run(right.set("k", "now"));
      await sim.until(() => ahead.get("k") === "now" && relayed.get("k") === "now");
      await sim.run(ahead.set("k", "then"));
      await sim.run(ahead.set("l", "then"));
      await sim.until(() => relayed.get("k") === "then" && relayed.get("l") === "then");
      assert.deepEqual([right.get("k"), right.has("l")], ["now", false]);
      const hidden = () =>
        Object.entries(sim.node(1).metrics.snapshot())
          .filter(([name]) => /barrel_map_hidden_total.*future/.test(name));
      assert.equal(hidden().length, 1);
      assert.equal(logs.filter((line) => /clock far ahead of ours/.test(line)).length, 1);
      // It moved no clock.
      const { wallMs } = sim.node(1).hlc.now();
      assert.ok(wallMs < sim.node(0).hlc.now().wallMs - 50_000, String(wallMs));
      await sim.until(() => right.get("k") === "then" && right.get("l") === "then");
    } finally {
      await sim.close();
    }
  });

  test("leaves a hidden entry alone when it is deleted, unless the key is set before", async () => {
    const sim = await createSimulation({
      seed: 11,
      nodes: 2,
      wallOffsetMs: (index) => index === 1 ? 60_000 : 0,
    });
    try {
      await sim.run(sim.node(1).joined());
      const [right, ahead] = await open(sim) as [SharedMap<unknown>, SharedMap<unknown>];
      await sim.run(right.set("here", 1));
      await sim.until(() => ahead.has("here"));
      for (const key of ["left", "gone"]) await sim.run(ahead.set(key, "then"));
      await sim.run({ forMs: 1_000 });
      assert.deepEqual([...right.keys()], ["here"]);
      assert.equal(await sim.run(right.delete("left")), false);
      await sim.run(right.set("gone", "now"));
      assert.equal(await sim.run(right.delete("gone")), true);
      await sim.run(right.clear());
      await sim.run({ forMs: 70_000 });
      for (const map of [right, ahead]) assert.deepEqual([...map.entries()], [["left", "then"]]);
    } finally {
      await sim.close();
    }
  });

  test("opened as a presence map on some nodes only is two maps, and both sides say so once", () =>
    simulated(3, async (sim, logs) => {
      const kept = await sim.run(sim.node(0).maps.open("config"));
      const live = await sim.run(sim.node(1).maps.open("config", { ephemeral: true }));
      for (const value of [1, 2]) {
        await sim.run(kept.set("k", value));
        await sim.run(live.set("l", value));
      }
      await sim.run({ forMs: 5_000 });
      const late = await sim.run(sim.node(2).maps.open("config"));
      await sim.until(() => late.get("k") === 2);
      assert.deepEqual([kept.has("l"), live.has("k"), late.has("l")], [false, false, false]);
      const warned = logs.filter((line) => /neither sees what the other writes/.test(line));
      assert.equal(warned.length, 3, logs.join("\n"));
      assert.equal(new Set(warned.map((line) => line.split(" ")[0])).size, 3);
      for (const node of sim.nodes) {
        const snapshot = JSON.stringify(node.metrics.snapshot());
        assert.match(snapshot, /barrel_map_other_kind_total/);
      }
    }));

  test("a validator that throws refuses, and the node lives", () =>
    simulated(2, async (sim) => {
      const schema = (value: unknown) => {
        if (value === "bad") throw new Error("I cannot take this");
        return value !== "no";
      };
      const strict = await sim.run(sim.node(0).maps.open("config", { schema }));
      const lax = await sim.run(sim.node(1).maps.open("config"));
      await assert.rejects(sim.run(strict.set("k", "bad")), /I cannot take this/);
      await assert.rejects(sim.run(strict.set("k", "no")), code("invalid_value"));
      await sim.run(lax.set("k", "bad"));
      await sim.run(lax.set("l", "good"));
      await sim.until(() => strict.get("l") === "good");
      assert.equal(strict.has("k"), false);
    }));

  test("takes a schema that is a function itself as a schema, and no validator that is slow", () =>
    simulated(1, async (sim) => {
      const issues = [{ message: "never" }];
      const standard = { version: 1, vendor: "test", validate: () => ({ issues }) } as const;
      const callable = Object.assign(() => true, { "~standard": standard });
      const never = await sim.run(sim.node(0).maps.open("never", { schema: callable }));
      await assert.rejects(sim.run(never.set("k", 1)), /never takes no such value for "k": never/);
      const schema = (() => Promise.reject(new Error("late"))) as unknown as () => boolean;
      const slow = await sim.run(sim.node(0).maps.open("slow", { schema }));
      await assert.rejects(sim.run(slow.set("k", 1)), code("invalid_value"));
      const wrong = { schema: 5 as unknown as () => boolean };
      await assert.rejects(
        sim.run(sim.node(0).maps.open("wrong", wrong)),
        (error) => error instanceof ConfigError && error.path === "schema",
      );
    }));

  test("refuses keys, values and options that cannot be, by name", () =>
    simulated(1, async (sim) => {
      const node = sim.node(0);
      const map = await sim.run(node.maps.open("config"));
      for (const key of ["", "x".repeat(256), "\ud800", 7 as unknown as string]) {
        await assert.rejects(sim.run(map.set(key, 1)), code("bad_key"));
        await assert.rejects(sim.run(map.delete(key)), code("bad_key"));
      }
      await assert.rejects(sim.run(map.set("k", () => 1)), (error) => error instanceof EncodeError);
      await assert.rejects(
        sim.run(map.set("k", "x".repeat(4_200))),
        (error) => error instanceof EncodeError,
      );
      assert.equal(map.size, 0);
      await sim.run(map.set("é".repeat(127), new Uint8Array(4_000)));
      await assert.rejects(sim.run(node.maps.open("")), code("bad_name"));
      await assert.rejects(
        sim.run(node.maps.open("config", { persist: true })),
        (error) => error instanceof ConflictError,
      );
      await assert.rejects(
        sim.run(node.maps.open("other", null as unknown as object)),
        (error) => error instanceof ConfigError && error.path === "options",
      );
      await assert.rejects(
        sim.run(node.maps.open("other", { persist: true, ephemeral: true })),
        (error) => error instanceof ConfigError,
      );
      assert.equal(await sim.run(node.maps.open("config")), map);
      assert.deepEqual(node.maps.names(), ["config"]);
    }));

  test("is one of 32, replicas among them, and the next one is refused with the number", () =>
    simulated(1, async (sim) => {
      const node = sim.node(0);
      for (let i = 0; i < 31; i++) await sim.run(node.maps.open(`map ${i}`));
      const last = { name: "last", merge: () => 0 };
      await sim.run(node.replicas.create(last));
      for (let times = 0; times < 2; times++) {
        await assert.rejects(
          sim.run(node.maps.open("more")),
          (error) =>
            code("replica_limit")(error) &&
            (error as Error).message.startsWith("32 maps and replicas are open"),
        );
      }
      assert.equal(node.maps.names().length, 31);
    }));

  test("takes a write back that the disk refuses, and says so to who wrote it", () => {
    const { store, setFull } = fillable();
    return simulated(2, async (sim) => {
      const maps = await open(sim, { persist: true });
      const [a, b] = maps as [typeof maps[0], typeof maps[0]];
      await sim.run(a.set("k", "old"));
      await sim.until(() => b.get("k") === "old");
      setFull(true);
      const told: string[] = [];
      a.on((event: MapEvent<unknown>) =>
        told.push(event.type === "set" ? String(event.value) : "-")
      );
      await assert.rejects(
        sim.run(a.set("k", "new")),
        (error) => error instanceof StorageError && error.reason === "full",
      );
      await assert.rejects(sim.run(a.set("l", 1)), (error) => error instanceof StorageError);
      assert.deepEqual([...a.entries()], [["k", "old"]]);
      assert.deepEqual(told, ["new", "old", "1", "-"]);
      await sim.run({ forMs: 1_000 });
      assert.deepEqual([...b.entries()], [["k", "old"]]);
      setFull(false);
      await sim.run(a.set("k", "newer"));
      await sim.until(() => b.get("k") === "newer");
    }, (index) => index === 0 ? { store } : {});
  });

  test("has all of others' entries on its disk, after the disk was full for a while", () => {
    const { store, setFull } = fillable();
    return simulated(3, async (sim) => {
      const maps = await open(sim, { persist: true });
      const [a, b] = maps as [typeof maps[0], typeof maps[0]];
      await sim.run(b.set("one", 1));
      await sim.until(() => a.get("one") === 1);
      setFull(true);
      await sim.run(b.set("two", 2));
      await sim.run(b.delete("one"));
      await sim.until(() => a.get("two") === 2 && !a.has("one"));
      setFull(false);
      await sim.run(b.set("three", 3));
      await sim.until(() => a.get("three") === 3);
      await sim.run({ forMs: 10_000 });
      for (const node of sim.nodes) sim.crash(node);
      const again = await sim.restart(sim.node(0));
      const map = await sim.run(again.maps.open("config", { persist: true }));
      assert.deepEqual(new Map(map.entries()), new Map([["two", 2], ["three", 3]]));
    }, (index) => index === 0 ? { store } : {});
  });

  test("declared with the node's options is open from the start", () =>
    simulated(2, async (sim) => {
      const [a, b] = await open(sim, undefined) as Awaited<ReturnType<typeof open>>;
      await sim.run(a?.set("k", 1) as Promise<void>);
      await sim.until(() => b?.get("k") === 1);
      assert.deepEqual(sim.node(1).maps.names(), ["config"]);
    }, { maps: { config: { persist: true } } }));

  test("declared with the node's options has a validator of whichever type it likes", () => {
    // The type checker has its say here, too: none of these may ask for a cast.
    const options: Partial<NodeOptions> = {
      maps: {
        limits: { schema: v.number() },
        shares: { schema: (share: number) => share <= 1 },
        names: { schema: (name: string, key) => name.length > key.length },
        guests: { schema: (guest) => typeof guest === "string" && guest.length < 5 },
      },
    };
    return simulated(1, async (sim) => {
      const open = <V>(name: string) => sim.run(sim.node(0).maps.open<V>(name));
      const refused = code("invalid_value");
      const [limits, shares] = [await open<unknown>("limits"), await open<number>("shares")];
      const [names, guests] = [await open<string>("names"), await open<unknown>("guests")];
      await assert.rejects(sim.run(limits.set("k", "many")), refused);
      await assert.rejects(sim.run(shares.set("k", 2)), refused);
      await assert.rejects(sim.run(names.set("key", "abc")), refused);
      await assert.rejects(sim.run(guests.set("k", "adalbert")), refused);
      await sim.run(
        Promise.all([limits.set("k", 5), shares.set("k", 0.5), names.set("k", "ada")]),
      );
      await sim.run(guests.set("k", "ada"));
    }, options);
  });
});
