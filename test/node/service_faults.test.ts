import assert from "node:assert/strict";
import type { Node, Pid, RegistryEvent } from "../../mod.ts";
import { randomBelow, randomFraction, seededRandom } from "../../src/base/random.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import type { MemoryMeter } from "../../src/metrics/meter.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import { test } from "../harness.ts";

const NODES = 5;
/** What the services count while they work: the points at which they are made to throw. */
const HANDLES = new Set([
  "barrel_membership_sent_total",
  "barrel_broadcast_sent_total",
  "barrel_broadcast_delivered_total",
  "barrel_broadcast_events_total",
  "barrel_replica_applied_total",
  "barrel_accusations_total",
  "barrel_members_changed_total",
  "barrel_active_view",
  "barrel_passive_view",
]);
const SERVICES = ["membership", "broadcast", "replication", "roster", "registry"];

/** Nodes that talk while their services crash at random; what came of it. */
async function story(seed: number) {
  const random = seededRandom(seed + 77);
  const chance = (p: number) => randomFraction(random) < p;
  let areFaulty = false;
  const thrown = new Map<string, number>();
  const note = (what: string) => void thrown.set(what, (thrown.get(what) ?? 0) + 1);
  const faulty = (): MemoryMeter => {
    const meter = memoryMeter();
    const maybe = (name: string) => {
      if (!areFaulty || !HANDLES.has(name) || !chance(0.02)) return;
      note(name);
      throw new TypeError(`a mistake of ours at ${name}`);
    };
    return {
      snapshot: () => meter.snapshot(),
      count(name, labels, by) {
        maybe(name);
        meter.count(name, labels, by);
      },
      gauge(name, value, labels) {
        maybe(name);
        meter.gauge(name, value, labels);
      },
    };
  };
  const sim = await createSimulation({
    seed,
    nodes: NODES,
    latencyMs: [2, 20],
    options: () => ({ meter: faulty() }),
  });
  await sim.until(() => sim.nodes.every(({ membership }) => membership.members().length === NODES));
  const maps = await sim.run(Promise.all(sim.nodes.map((node) => node.maps.open<number>("facts"))));

  // Who hears what: numbers from each node, what the registry tells, broadcasts.
  const heard = sim.nodes.map(() => new Map<number, number[]>());
  const listeners = sim.nodes.map((node, i) =>
    node.spawn<[number, number]>(async (self) => {
      for await (const message of self.mailbox) {
        const [from, n] = message as [number, number];
        const list = heard[i]?.get(from) ?? [];
        heard[i]?.set(from, [...list, n]);
      }
    })
  );
  const told = sim.nodes.map((node) => watchRegistry(node));
  const published: string[] = [];
  const news = sim.nodes.map((node) => {
    const got: string[] = [];
    node.broadcast.subscribe("news", (bytes) => void got.push(new TextDecoder().decode(bytes)));
    return got;
  });

  const nothing = () => {};
  const alive = new Map<string, { readonly node: Node; readonly pid: Pid }>();
  areFaulty = true;
  for (let step = 0; step < 240; step++) {
    const i = randomBelow(random, NODES), j = randomBelow(random, NODES);
    const node = sim.node(i);
    // A mistake of ours within a call of the user's is an error of that call.
    const attempt = (call: () => unknown) => void Promise.resolve().then(call).catch(nothing);
    attempt(() => node.send(listeners[j] as Pid, [i, step]));
    if (chance(0.5)) attempt(() => maps[i]?.set(`key ${randomBelow(random, 8)}`, step));
    if (chance(0.3)) {
      published.push(String(step));
      attempt(() => node.broadcast.publish("news", new TextEncoder().encode(String(step))));
    }
    if (chance(0.3)) {
      const name = `service ${randomBelow(random, 6)}`;
      const pid = node.spawn(async (self) => void (await self.receive()));
      alive.set(`${name} ${pid}`, { node, pid });
      attempt(() =>
        node.registry.register(name, pid).catch(() => {
          alive.delete(`${name} ${pid}`);
          node.exit(pid, "kill");
        })
      );
    }
    if (chance(0.15)) {
      const [key, entry] = [...alive][randomBelow(random, Math.max(1, alive.size))] ?? [];
      if (key !== undefined && entry !== undefined) {
        alive.delete(key);
        entry.node.exit(entry.pid, "kill");
      }
    }
    if (chance(0.1)) {
      const name = SERVICES[randomBelow(random, SERVICES.length)] as string;
      const service = sim.node(j).processes.info(`barrel:${name}`);
      if (service !== undefined) {
        note(name);
        sim.node(j).exit(service.pid, "a mistake of ours");
      }
    }
    await sim.run({ forMs: 100 + randomBelow(random, 400) });
  }
  areFaulty = false;

  // Everybody agrees again: on who is there, on the names and on the map.
  const members = sim.nodes.map(({ name }) => name).sort();
  const expected = [...alive.keys()].map((key) => key.slice(0, key.lastIndexOf(" "))).sort();
  const instances = (node: Node) =>
    node.registry.names().flatMap((name) => node.registry.lookup(name).map(() => name)).sort();
  const entries = (i: number) =>
    JSON.stringify([...maps[i]?.entries() ?? []].sort(([a], [b]) => (a < b ? -1 : 1)));
  const isSame = (a: readonly string[], b: readonly string[]) => a.join() === b.join();
  await sim.until(() =>
    sim.nodes.every((node, i) => {
      const all = node.membership.members().filter(({ status }) => status === "alive");
      return isSame(all.map(({ name }) => name).sort(), members) &&
        isSame(instances(node), expected) && entries(i) === entries(0) &&
        SERVICES.every((name) => node.processes.info(`barrel:${name}`) !== undefined);
    }), { withinMs: 300_000 });
  // And what is said now is heard, by all the others and once.
  published.push("last");
  await sim.run(sim.node(1).broadcast.publish("news", new TextEncoder().encode("last")));
  // Who publishes does not hear it.
  const others = news.filter((_, i) => i !== 1);
  await sim.until(() => others.every((got) => got.includes("last")), { withinMs: 60_000 });
  await sim.run({ forMs: 60_000 });
  for (const [i, node] of sim.nodes.entries()) {
    told[i]?.check(node);
    for (const [from, list] of heard[i] ?? []) {
      const sorted = [...new Set(list)].sort((a, b) => a - b);
      assert.deepEqual(list, sorted, `n${i} hears n${from} in order, nothing twice`);
    }
    const got = news[i] as string[];
    assert.deepEqual(got.length, new Set(got).size, `n${i} hears news once: ${got.join(" ")}`);
    assert.ok(got.every((text) => published.includes(text)));
  }
  await sim.close();
  return { thrown, heard: heard.reduce((sum, map) => sum + map.size, 0) };
}

/** What the registry's events tell, held against what it shows. */
function watchRegistry(node: Node) {
  const shown = new Set<string>();
  const problems: string[] = [];
  const keyOf = ({ name, pid }: { readonly name: string; readonly pid: Pid }) =>
    `${name} ${pid} ${pid.epoch}`;
  node.registry.on((event: RegistryEvent) => {
    const key = keyOf(event);
    const isNew = event.type === "registered";
    if (isNew === shown.has(key)) problems.push(`${event.type} ${key} was told twice`);
    if (isNew) shown.add(key);
    else shown.delete(key);
  });
  return {
    check(now: Node) {
      assert.deepEqual(problems, [], node.name);
      const all = now.registry.names().flatMap((name) => now.registry.lookup(name).map(keyOf));
      assert.deepEqual([...shown].sort(), all.sort(), "the events tell of what is shown");
    },
  };
}

for (const seed of [1, 2]) {
  test(`services that crash at random leave the cluster as one, seed ${seed}`, {
    timeoutMs: 180_000,
  }, async () => {
    const { thrown, heard } = await story(seed);
    const total = [...thrown.values()].reduce((sum, count) => sum + count, 0);
    assert.ok(total > 30, JSON.stringify([...thrown]));
    assert.ok(heard > NODES, "they did talk");
  });
}
