/** Whole nodes on virtual time for experiments on state: the registry as users have it. */
import type { Pid } from "../../src/wire/pid.ts";
import type { Node } from "../../src/node/node.ts";
import { createSimulation } from "../../src/testing/mod.ts";
import type { Simulation, SimulationOptions } from "../../src/testing/mod.ts";
import type { Collected } from "./experiment.ts";

/** Names that each node registers. */
export const NAMES_EACH = 3;
const META = "m".repeat(22);
/** Between two updates, and two looks at what was sent, ms. */
const STEP_MS = 500;
const UPDATES = 40;
/** Nodes know each other within this, or something is wrong; ms. */
const SETTLE_MS = 120_000;

/** A cluster whose members know each other and all names. */
export interface Cluster {
  readonly sim: Simulation;
  readonly nodes: readonly Node[];
  /** By the number of the node: the process that has its names. */
  readonly pids: readonly Pid[];
}

/** A name of a node, by its number. */
export function nameOf(node: number, which: number): string {
  return `service_${node}_${which}`;
}

/** Starts whole nodes, and registers their names. */
export async function wholeCluster(options: SimulationOptions): Promise<Cluster> {
  const sim = await createSimulation(options);
  const { nodes } = sim;
  await sim.until(() => nodes.every((node) => node.membership.members().length === nodes.length), {
    withinMs: SETTLE_MS,
  });
  const pids = nodes.map((node) =>
    node.spawn(async (self) => {
      for (;;) await self.receive();
    })
  );
  const names = nodes.flatMap((node, i) =>
    Array.from(
      { length: NAMES_EACH },
      (_, k) => node.registry.register(nameOf(i, k), pids[i] as Pid, META),
    )
  );
  await sim.run(Promise.all(names));
  const all = nodes.length * NAMES_EACH;
  await sim.until(() => nodes.every((node) => node.registry.names().length === all), {
    withinMs: SETTLE_MS,
  });
  return { sim, nodes, pids };
}

/** The trace of a simulation as a number. */
export function traceOf(sim: Simulation): number {
  return Number.parseInt(sim.trace().slice(0, 8), 16);
}

/** Bytes on all links, looked at often enough that a link which ends takes next to none with it. */
function meterOf(nodes: readonly Node[]): { readonly bytes: number; read(): void } {
  const last = new Map<string, number>();
  let bytes = 0;
  return {
    get bytes() {
      return bytes;
    },
    read() {
      for (const node of nodes) {
        for (const { node: peer } of node.links.list()) {
          const link = `${node.name} ${peer}`;
          const sent = node.links.stats(peer)?.bytesSent ?? 0;
          const before = last.get(link) ?? 0;
          // Less than before: it is another link.
          bytes += sent < before ? sent : sent - before;
          last.set(link, sent);
        }
      }
    },
  };
}

/** E14, of whole nodes: all that they send at rest, and for an update; returns the trace. */
export async function wholeTraffic(
  count: number,
  seconds: number,
  seed: number,
  figures: Collected,
): Promise<number> {
  const { sim, nodes, pids } = await wholeCluster({ seed, nodes: count, latencyMs: [10, 10] });
  // What newcomers cause goes on for four minutes.
  await sim.run({ forMs: 300_000 });
  const meter = meterOf(nodes);
  const steps = async (count: number, act: (step: number) => void) => {
    meter.read();
    const before = meter.bytes;
    for (let step = 0; step < count; step++) {
      act(step);
      await sim.run({ forMs: STEP_MS });
      meter.read();
    }
    return (meter.bytes - before) / nodes.length;
  };
  const idle = await steps(seconds * 1000 / STEP_MS, () => {}) / seconds;
  // Each from another node and half a second apart: the more at once, the less what is idle matters.
  const written: Promise<void>[] = [];
  const sent = await steps(UPDATES, (i) => {
    const at = i % count;
    const { registry } = nodes[at] as Node;
    const meta = META.slice(2) + String(10 + i);
    written.push(registry.register(nameOf(at, 0), pids[at] as Pid, meta));
  });
  await sim.run(Promise.all(written));
  const of = `${count} whole nodes, ${count * NAMES_EACH} names:`;
  figures.add(`${of} all that a node sends at rest, B/s`, idle);
  figures.add(`${of} for one update, B a node`, sent / UPDATES - idle * STEP_MS / 1000);
  const trace = traceOf(sim);
  await sim.close();
  return trace;
}
