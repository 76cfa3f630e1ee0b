import assert from "node:assert/strict";
import { defineServer } from "../../mod.ts";
import type { Node, NodeEvent } from "../../mod.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import type { Simulation } from "../../src/testing/simulation.ts";
import { test } from "../harness.ts";

const Echo = defineServer({
  init: () => 0,
  calls: { echo: (_ctx, text: string) => text },
});

const everyoneSees = (nodes: readonly Node[], count: number) =>
  nodes.every((node) => node.membership.members().length === count);

async function converged(sim: Simulation, count: number): Promise<void> {
  await sim.until(() => everyoneSees(sim.nodes, count));
}

/** Ten nodes under loss, split for two minutes and healed; returns what happened. */
async function splitAndHeal(seed: number): Promise<string> {
  const sim = await createSimulation({ seed, nodes: 10, latencyMs: [5, 40], loss: 0.02 });
  await converged(sim, 10);
  const left = sim.nodes.slice(0, 5), right = sim.nodes.slice(5);
  const before = await sim.run(sim.node(0).start(Echo, [], { register: "before" }));
  await sim.until(() => sim.nodes.every((node) => node.registry.lookup("before").length === 1));

  sim.partition(left, right);
  await sim.run({ forMs: 120_000 });
  await sim.run(sim.node(0).start(Echo, [], { register: "left" }));
  await sim.run(sim.node(9).start(Echo, [], { register: "right" }));
  await sim.run({ forMs: 5_000 });
  assert.ok(left.every((node) => node.registry.lookup("left").length === 1));
  assert.ok(right.every((node) => node.registry.lookup("left").length === 0));

  sim.heal();
  const names = ["before", "left", "right"];
  await sim.until(() =>
    sim.nodes.every((node) =>
      node.membership.members().every(({ status }) => status === "alive") &&
      node.membership.members().length === 10 &&
      names.every((name) => node.registry.lookup(name).length === 1)
    )
  );
  const answer = await sim.run(sim.node(9).client(Echo, before).echo("across"));
  assert.equal(answer, "across");
  await sim.close();
  return sim.trace();
}

test("ten nodes under loss split, heal and agree; one seed gives one history", {
  timeoutMs: 120_000,
}, async () => {
  const first = await splitAndHeal(7);
  assert.equal(await splitAndHeal(7), first);
  assert.notEqual(await splitAndHeal(8), first);
});

test("a crashed node is declared down everywhere, once, and its services go with it", {
  timeoutMs: 120_000,
}, async () => {
  for (const size of [2, 3, 9, 30]) {
    const sim = await createSimulation({ seed: size, nodes: size });
    await converged(sim, size);
    const victim = sim.node(size - 1);
    await sim.run(victim.start(Echo, [], { register: "service" }));
    const survivors = sim.nodes.slice(0, -1);
    await sim.until(() => survivors.every((node) => node.registry.lookup("service").length === 1));
    const told = survivors.map((node) => {
      const events: NodeEvent[] = [];
      node.membership.on((event) => void events.push(event));
      return events;
    });
    sim.crash(victim);
    await sim.until(() => everyoneSees(survivors, size - 1), { withinMs: 60_000 });
    await sim.run({ forMs: 30_000 });
    for (const [index, node] of survivors.entries()) {
      assert.equal(node.registry.lookup("service").length, 0);
      const downs = told[index]?.filter(({ type }) => type === "nodeDown");
      assert.deepEqual(downs, [{ type: "nodeDown", node: victim.name, reason: "unreachable" }]);
    }
  }
});

test("a node that leaves and joins again in one life is a member again, with its services", {
  timeoutMs: 60_000,
}, async () => {
  const sim = await createSimulation({ seed: 3, nodes: 4 });
  await converged(sim, 4);
  const wanderer = sim.node(3);
  await sim.run(wanderer.start(Echo, [], { register: "service" }));
  const others = sim.nodes.slice(0, -1);
  await sim.until(() => others.every((node) => node.registry.lookup("service").length === 1));
  await sim.run(wanderer.membership.leave());
  assert.deepEqual(wanderer.membership.members().map(({ name }) => name), [wanderer.name]);
  await sim.until(() => everyoneSees(others, 3), { withinMs: 60_000 });
  await sim.until(() => others.every((node) => node.registry.lookup("service").length === 0));
  await sim.run(wanderer.membership.join(sim.node(0).addresses[0] as string));
  await sim.until(() => everyoneSees(sim.nodes, 4), { withinMs: 60_000 });
  await sim.until(() => others.every((node) => node.registry.lookup("service").length === 1));
  await sim.close();
});
test("only a node that is not alive can be forgotten", { timeoutMs: 60_000 }, async () => {
  const sim = await createSimulation({ seed: 4, nodes: 3 });
  await converged(sim, 3);
  const [a, , victim] = sim.nodes as [Node, Node, Node];
  assert.throws(() => a.membership.forget(victim.name), { code: "conflict" });
  assert.throws(() => a.membership.forget(a.name), { code: "conflict" });
  a.membership.forget("nobody@sim");
  await sim.run({ forMs: 1_000 });
  assert.ok(everyoneSees(sim.nodes, 3));
  await sim.close();
});
test("one operator's word on one node is enough where a cluster waits with its verdict", {
  timeoutMs: 60_000,
}, async () => {
  const sim = await createSimulation({ seed: 5, nodes: 9 });
  await converged(sim, 9);
  await sim.run({ forMs: 60_000 });
  const survivors = sim.nodes.slice(0, 4), dead = sim.nodes.slice(4);
  // A host that is gone refuses nothing.
  sim.partition(survivors, dead);
  const isUnreachable = (node: Node) =>
    node.membership.members().filter(({ status }) => status === "unreachable").length === 5;
  await sim.until(() => survivors.every(isUnreachable), { withinMs: 120_000 });
  await sim.run({ forMs: 120_000 });
  assert.ok(survivors.every(isUnreachable), "they wait");
  for (const { name } of dead) sim.node(0).membership.forget(name);
  await sim.until(() => everyoneSees(survivors, 4), { withinMs: 60_000 });
  sim.heal();
  await sim.until(() => everyoneSees(sim.nodes, 9), { withinMs: 300_000 });
  await sim.close();
});

test(
  "a node that stalls for eight seconds is not declared down",
  { timeoutMs: 60_000 },
  async () => {
    const sim = await createSimulation({ seed: 11, nodes: 6 });
    await converged(sim, 6);
    const downs: string[] = [];
    for (const node of sim.nodes) {
      node.membership.on((event) => event.type === "nodeDown" && downs.push(event.node));
    }
    sim.stall(sim.node(3), 8_000);
    await sim.run({ forMs: 60_000 });
    assert.deepEqual(downs, []);
    assert.ok(everyoneSees(sim.nodes, 6));
  },
);

test("a node that restarts under its name comes back as a new life", {
  timeoutMs: 60_000,
}, async () => {
  const sim = await createSimulation({ seed: 12, nodes: 4 });
  await converged(sim, 4);
  const old = sim.node(2);
  const pid = await sim.run(old.start(Echo, [], { register: "service" }));
  await sim.until(() => sim.node(1).registry.lookup("service").length === 1);
  const reborn = await sim.restart(old);
  assert.ok(reborn.epoch > old.epoch);
  await converged(sim, 4);
  await sim.until(() => sim.nodes.every((node) => node.registry.lookup("service").length === 0));
  // A pid of the earlier life names nobody.
  await assert.rejects(
    sim.run(sim.node(1).client(Echo, pid).echo("anybody?")),
    (error: { code?: string }) => ["no_process", "node_down"].includes(error.code ?? ""),
  );
  await sim.close();
});

test("a late joiner sees every service", { timeoutMs: 60_000 }, async () => {
  const sim = await createSimulation({
    seed: 13,
    nodes: 5,
    options: (index) => (index === 4 ? { contactNodes: [] } : {}),
  });
  await sim.until(() => everyoneSees(sim.nodes.slice(0, 4), 4));
  for (const [index, node] of sim.nodes.slice(0, 4).entries()) {
    for (let i = 0; i < 25; i++) {
      await sim.run(node.start(Echo, [], { register: `service ${index} ${i}` }));
    }
  }
  await sim.run({ forMs: 5_000 });
  const late = sim.node(4);
  await sim.run(late.membership.join(sim.node(1).addresses[0] as string));
  await sim.until(() => late.registry.names().length === 100, { withinMs: 10_000 });
});

test("at rest a node hardly ever has more than two connections beside those to its neighbours", {
  timeoutMs: 120_000,
}, async () => {
  const sim = await createSimulation({ seed: 5, nodes: 30, latencyMs: [5, 40], loss: 0.01 });
  await converged(sim, 30);
  // Newcomers move edges for two minutes, and shuffles slow down after that.
  await sim.run({ forMs: 240_000 });
  let looks = 0, many = 0, more = 0;
  for (let second = 0; second < 60; second++) {
    await sim.run({ forMs: 1_000 });
    for (const node of sim.nodes) {
      const extra = node.links.list().length - node.membership.activeView().length;
      looks++;
      more += extra;
      if (extra > 2) many++;
    }
  }
  // Probes and shuffles of several nodes may meet at one.
  assert.ok(many / looks < 0.01, `${many} of ${looks} looks`);
  assert.ok(more / looks < 0.5, `${more / looks} more on average`);
  await sim.close();
});

test("options that are unknown, ill-typed or impossible are told by their path", async () => {
  const wrong: [string, object][] = [
    ["seed", { nodes: 1 }],
    ["seed", { seed: "x", nodes: 1 }],
    ["nodes", { seed: 1, nodes: 0 }],
    ["loss", { seed: 1, nodes: 1, loss: 5 }],
    ["latencyMs", { seed: 1, nodes: 1, latencyMs: 5 }],
    ["latencyMs", { seed: 1, nodes: 1, latencyMs: [5, 1] }],
    ["foo", { seed: 1, nodes: 1, foo: 1 }],
  ];
  for (const [path, options] of wrong) {
    await assert.rejects(createSimulation(options as never), { name: "ConfigError", path });
  }
  const sim = await createSimulation({ seed: 1, nodes: 1 });
  assert.throws(() => sim.node(7), RangeError);
  await sim.close();
});

test("survivors that know nobody who lives find each other through the roster", {
  timeoutMs: 60_000,
}, async () => {
  const membership = { activeSize: 2, passiveSize: 1, shuffleActive: 1, shufflePassive: 1 };
  const sim = await createSimulation({ seed: 5, nodes: 20, options: { membership } });
  await converged(sim, 20);
  for (const node of sim.nodes.slice(0, 16)) sim.crash(node);
  const left = sim.nodes.slice(16);
  await sim.run((left[0] as Node).start(Echo, [], { register: "afterwards" }));
  await sim.until(() => left.every((node) => node.registry.lookup("afterwards").length === 1), {
    withinMs: 60_000,
  });
  await sim.close();
});

test("a cut into halves brings no verdict, also not on who was silent before it, and heals", {
  timeoutMs: 60_000,
}, async () => {
  const sim = await createSimulation({ seed: 8, nodes: 12 });
  await converged(sim, 12);
  await sim.run({ forMs: 20_000 });
  sim.stall(sim.node(10), 4_000);
  await sim.run({ forMs: 4_000 });
  const downs: string[] = [];
  for (const node of sim.nodes) {
    node.membership.on((event) => event.type === "nodeDown" && downs.push(event.node));
  }
  sim.partition(sim.nodes.slice(0, 6), sim.nodes.slice(6));
  await sim.run({ forMs: 60_000 });
  assert.deepEqual(downs, []);
  // The root of the overlay is not given up yet: both sides still bear one mark.
  sim.heal();
  const areAlive = (node: Node) =>
    node.membership.members().filter(({ status }) => status === "alive").length === 12;
  await sim.until(() => sim.nodes.every(areAlive), { withinMs: 10_000 });
  await sim.run({ forMs: 20_000 });
  assert.deepEqual(downs, [], "what the halves said of each other is answered first");
  await sim.close();
});
