/** A short story with faults, told in one line: the hash of its packets and what a node was told. */
import { createSimulation } from "../../src/testing/simulation.ts";

const sim = await createSimulation({ seed: 42, nodes: 7, loss: 0.02, latencyMs: [5, 40] });
const told: string[] = [];
sim.node(0).membership.on(({ type }) => void told.push(`${type} ${sim.now()}`));
await sim.run({ forMs: 4_000 });
const [node] = sim.node(3).membership.activeView();
const peer = sim.nodes.find(({ name }) => name === node);
if (peer !== undefined) sim.halfOpen(sim.node(3), peer);
sim.cut(sim.node(5), sim.node(4));
await sim.restart(sim.node(2));
sim.stall(sim.node(6), 5_000);
await sim.run({ forMs: 20_000 });
sim.heal();
sim.crash(sim.node(1));
await sim.run({ forMs: 20_000 });
console.log(`history ${sim.trace()} ${told.join(", ")}`);
