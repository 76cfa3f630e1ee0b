/** E12, for the overlay: how soon it is one again after a split and after a restart of everybody. */
import type { SimNode } from "../../src/testing/overlay_sim.ts";
import type { Collected, Limit, Point, Settings } from "./experiment.ts";
import { components, living } from "./graph.ts";
import { CYCLE_MS, OurWorld } from "./worlds.ts";

const SPLIT_MS = 600_000;
/** Who starts again does so within so long, milliseconds. */
const RESTART_MS = 1_000;
const GOOD: Limit = ["<=", 5];
const GOAL: Limit = ["<=", 2];
const COMPONENTS = {
  title: "The overlay becomes one again",
  x: "seconds since the heal, or since the first started again",
  y: "components; who is down is one",
};

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
  // Nodes that are down are components of their own.
  const count = () => components(world, living(world));
  const watchFromNow = () => {
    const since = sim.now;
    const points: Point[] = [[0, count()]];
    return { points, look: () => void points.push([(sim.now - since) / 1000, count()]) };
  };
  // In cycles, tenths of them counted; 30 that it took too long.
  const cyclesToOne = (look: () => void) => {
    const since = sim.now;
    while (count() > 1 && sim.now - since < 30 * CYCLE_MS) world.watch(CYCLE_MS / 10, 50, look);
    return (sim.now - since) / CYCLE_MS;
  };
  sim.partition(sim.nodes.filter((_, i) => i % 2 === 0));
  sim.run(SPLIT_MS);
  collected.add("overlay: components after 10 min of a 50/50 split", count());
  sim.heal();
  const heal = watchFromNow();
  collected.add("overlay: cycles from the heal to one component", cyclesToOne(heal.look), {
    good: GOOD,
    goal: GOAL,
  });
  collected.draw(COMPONENTS, "after the heal", heal.points);
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
  sim.run(1_000);
  const restart = watchFromNow();
  world.watch(RESTART_MS, 50, restart.look);
  collected.add("overlay: cycles from a full restart to one component", cyclesToOne(restart.look), {
    good: GOOD,
    goal: GOAL,
  });
  collected.draw(COMPONENTS, "after the full restart", restart.points);
  sim.run(CYCLE_MS);
  collected.add("overlay: components a cycle later", count(), { good: ["<=", 1, "each seed"] });
  return sim.trace;
}
