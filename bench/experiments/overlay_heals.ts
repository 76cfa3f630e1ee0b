/** E12, for the overlay: how soon it is one again after a split and after a restart of everybody. */
import { seededRandom } from "../../src/base/random.ts";
import type { SimNode } from "../../test/simulation/overlay_sim.ts";
import type { Collected, Limit, Settings } from "./experiment.ts";
import { shapeOf } from "./graph.ts";
import { CYCLE_MS, OurWorld } from "./worlds.ts";

const SPLIT_MS = 600_000;
/** Who starts again does so within so long, milliseconds. */
const RESTART_MS = 1_000;
const GOOD: Limit = ["<=", 5];
const GOAL: Limit = ["<=", 2];

/** Splits an overlay in two for ten minutes, heals it, and restarts everybody; gives the trace. */
export function overlayHeals(
  nodes: number,
  seed: number,
  collected: Collected,
  progress: Settings["progress"],
): number {
  const world = new OurWorld(nodes, { seed });
  world.join(nodes, 10, progress);
  const { sim } = world;
  sim.run(12 * CYCLE_MS);
  const components = () => shapeOf(world, 5, 1, seededRandom(seed)).components;
  // In cycles, tenths of them counted; 30 that it took too long.
  const cyclesToOne = () => {
    const since = sim.now;
    while (components() > 1 && sim.now - since < 30 * CYCLE_MS) sim.run(CYCLE_MS / 10);
    return (sim.now - since) / CYCLE_MS;
  };
  sim.partition(sim.nodes.filter((_, i) => i % 2 === 0));
  sim.run(SPLIT_MS);
  collected.add("overlay: components after 10 min of a 50/50 split", components());
  sim.heal();
  collected.add("overlay: cycles from the heal to one component", cyclesToOne(), {
    good: GOOD,
    goal: GOAL,
  });
  progress(`seed ${seed}: the overlay is one again`);
  sim.run(6 * CYCLE_MS);
  const contact = sim.nodes[0] as SimNode;
  for (const node of sim.nodes) sim.crash(node);
  for (const node of sim.nodes) {
    const start = () => {
      sim.restart(node);
      if (node !== contact) sim.join(node, contact);
    };
    sim.at(1_000 + (node === contact ? 0 : RESTART_MS * (node.index / nodes)), start);
  }
  sim.run(1_000 + RESTART_MS);
  collected.add("overlay: cycles from a full restart to one component", cyclesToOne(), {
    good: GOOD,
    goal: GOAL,
  });
  sim.run(CYCLE_MS);
  collected.add("overlay: components a cycle later", components(), { good: ["<=", 1] });
  return sim.trace;
}
