/** E15 to E17: when a node is told to be down, and that only the dead are. */
import { sample, seededRandom } from "../../src/base/random.ts";
import { quantile } from "../quantile.ts";
import type { RosterChange } from "../../src/roster/roster.ts";
import { Collected } from "./experiment.ts";
import type { Experiment, Plot, Point, Settings } from "./experiment.ts";
import { LivenessSim } from "./liveness_sim.ts";

/** Deaths that are measured, one after the other. */
const VICTIMS = 8;
/** Above this size only so many nodes have a machine. */
const OBSERVERS = 1_000;
const LARGE_OBSERVERS = 150;

const observersOf = (nodes: number) => (nodes <= OBSERVERS ? nodes : LARGE_OBSERVERS);

/** Seconds from `since` until each of the living was last told this of a node. */
function secondsUntil(
  sim: LivenessSim,
  since: number,
  type: RosterChange["type"],
  victim: number,
): number[] {
  const name = sim.nodes[victim]?.name;
  const heard = sim.told.filter(({ at, change }) =>
    at >= since && change.type === type && change.node === name
  );
  const at = new Map(heard.map((told) => [told.observer, (told.at - since) / 1000]));
  return sim.observers.filter(({ index, isAlive }) => isAlive && index !== victim)
    .map(({ index }) => at.get(index) ?? Infinity);
}

/** Seconds from the death of each victim to `nodeDown` at each observer. */
function detection(
  { seed, nodes, hostRefuses }: { seed: number; nodes: number; hostRefuses: boolean },
  progress: Settings["progress"],
): { seconds: number[]; wrong: number; trace: number } {
  const sim = new LivenessSim({ seed, nodes, observers: observersOf(nodes) });
  const victims = sample(seededRandom(seed), sim.nodes, VICTIMS).map(({ index }) => index);
  sim.start(victims);
  const seconds: number[] = [];
  let wrong = 0;
  for (const victim of victims) {
    const since = sim.now;
    sim.told.length = 0;
    sim.crash(victim, hostRefuses);
    sim.run(40_000);
    const name = sim.nodes[victim]?.name;
    const downs = sim.told.filter(({ change }) => change.type === "nodeDown");
    wrong += downs.filter(({ change }) => change.node !== name).length;
    seconds.push(...secondsUntil(sim, since, "nodeDown", victim));
    progress(`seed ${seed}: ${name} ${hostRefuses ? "killed" : "gone with its host"}`);
  }
  return { seconds, wrong, trace: sim.trace };
}

function distribution(title: string, samples: ReadonlyMap<string, readonly number[]>): Plot {
  return {
    title,
    x: "seconds since the death",
    y: "% of the observers that know",
    series: [...samples].map(([name, seconds]) => ({
      name,
      points: Array.from({ length: 33 }, (_, i): [number, number] => {
        const x = i / 2;
        return [x, (100 * seconds.filter((one) => one <= x).length) / seconds.length];
      }),
    })),
  };
}

/** E15. */
export const crashDetection: Experiment = {
  id: "E15",
  title: "How soon a crash is known everywhere",
  about:
    `${VICTIMS} nodes die one after the other, 40 s apart; of three nodes two can ask a host ` +
    "whether a port is bound (Node and Bun can, Deno cannot). Latency 10 to 50 ms a hop. Above " +
    `${OBSERVERS} nodes ${LARGE_OBSERVERS} of them have a roster of all members, the victims' ` +
    "neighbours among them; the others answer pings and probes and pass rows on. Rows travel over a " +
    "random regular overlay that stands still, hop by hop; replication itself is not simulated here.",
  limits: "A host that is gone cannot refuse: its silence has to last 12 s (silenceMs), and in " +
    "clusters of eight and more the verdict waits 2 s for those who fall silent together.",
  run(settings) {
    const sizes = settings.nodes === undefined ? [1_000, 10_000] : [settings.nodes];
    const collected = new Collected();
    const traces: number[] = [];
    const all = new Map<string, number[]>();
    for (const nodes of sizes) {
      for (const seed of settings.seeds) {
        for (const hostRefuses of [true, false]) {
          const how = hostRefuses ? "the host refuses" : "the host is gone";
          const what = sizes.length > 1 ? `${nodes} nodes, ${how}` : how;
          const found = detection({ seed, nodes, hostRefuses }, settings.progress);
          collected.add(`seconds, median, ${what}`, quantile(found.seconds, 0.5));
          collected.add(`seconds, 99 of 100 everywhere, ${what}`, quantile(found.seconds, 0.99), {
            good: ["<=", 15],
            ...(hostRefuses ? { goal: ["<=", 6] } : {}),
          });
          collected.add(`wrong verdicts, ${what}`, found.wrong, { good: ["<=", 0, "each seed"] });
          all.set(what, [...all.get(what) ?? [], ...found.seconds]);
          traces.push(found.trace);
        }
      }
    }
    const plots = [distribution("Detection of a crash", all)];
    return { nodes: sizes.at(-1) as number, metrics: collected.metrics, plots, traces };
  },
};

const SUSPICION = {
  title: "Suspicion and verdict",
  x: "second",
  y: "members, mean of the observers",
};

// Runs second by second, and notes the probes and the verdicts.
function watchSuspicion(sim: LivenessSim) {
  const since = sim.now, observers = sim.observers.length;
  const held = new Set<string>();
  const probed: Point[] = [], unreachable: Point[] = [];
  let seen = 0;
  const run = (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      const { probes } = sim;
      sim.run(1_000);
      for (const { observer, change } of sim.told.slice(seen)) {
        const pair = `${observer} ${change.node}`;
        if (change.type === "nodeUnreachable") held.add(pair);
        else held.delete(pair);
      }
      seen = sim.told.length;
      const second = (sim.now - since) / 1000;
      probed.push([second, (sim.probes - probes) / observers]);
      unreachable.push([second, held.size / observers]);
    }
  };
  return { run, probed, unreachable };
}

/** E16. */
export const stallsAndLoss: Experiment = {
  id: "E16",
  title: "Stalls, loss and one-way links",
  about:
    "Every half minute, ten times, another tenth of the nodes stalls for 5 to 10 s. A frame is " +
    "lost with a chance of 5 % and sent again; between 1 % of the neighbours nothing passes in one " +
    "direction. Nobody dies.",
  run(settings) {
    const nodes = settings.nodes ?? 1_000;
    const collected = new Collected();
    const traces: number[] = [];
    for (const seed of settings.seeds) {
      const sim = new LivenessSim({ seed, nodes, loss: 0.05, observers: observersOf(nodes) });
      const random = seededRandom(seed);
      sim.start();
      const watch = watchSuspicion(sim);
      for (const node of sample(random, sim.nodes, Math.ceil((nodes * 5) / 200))) {
        sim.cut(node.index, node.neighbours[0] as number);
      }
      const stalled = new Set<string>();
      for (let round = 0; round < 10; round++) {
        for (const { index, name } of sample(random, sim.nodes, Math.floor(nodes / 10))) {
          stalled.add(name);
          sim.stall(index, 5_000 + 5_000 * (random.uint32() / 2 ** 32));
        }
        watch.run(30);
        settings.progress(`seed ${seed}: round ${round + 1} of 10`);
      }
      watch.run(30);
      const downs = sim.told.filter(({ change }) => change.type === "nodeDown");
      const healthy = downs.filter(({ change }) => !stalled.has(change.node));
      collected.add("healthy nodes declared down", new Set(healthy.map(nameOf)).size, {
        good: ["<=", 0, "each seed"],
      });
      collected.add("nodes that stalled declared down", new Set(downs.map(nameOf)).size, {
        goal: ["<=", 0, "each seed"],
      });
      const unreachable = sim.told.filter(({ change }) => change.type === "nodeUnreachable");
      collected.add("nodes told as unreachable for a while", new Set(unreachable.map(nameOf)).size);
      const late = sim.observers.flatMap((observer) =>
        sim.nodes.filter(({ index }) => {
          const member = sim.statusAt(observer, index);
          return member !== undefined && member.status !== "alive";
        })
      );
      collected.add("wrong states half a minute later", late.length, {
        good: ["<=", 0, "each seed"],
      });
      collected.draw(SUSPICION, "probed in this second", watch.probed);
      collected.draw(SUSPICION, "held for unreachable", watch.unreachable);
      traces.push(sim.trace);
    }
    return { nodes, metrics: collected.metrics, plots: collected.plots, traces };
  },
};

const nameOf = ({ change }: { change: { node: string } }) => change.node;

const NEW_LIFE = {
  title: "How soon the new life of a node is known",
  x: "seconds that it was away",
  y: "ms since it is back",
};

/** E17. */
export const restarts: Experiment = {
  id: "E17",
  title: "Restarts while suspected, and stale copies",
  about:
    "Nodes crash and come back under their names 2.5 s, 6 s and 20 s later; half a minute after " +
    "each, copies of their former lives turn up again at every node. Further ones crash for good, and " +
    "copies of their rows turn up after the verdict.",
  run(settings) {
    const nodes = settings.nodes ?? 1_000;
    const collected = new Collected();
    const traces: number[] = [];
    const known = new Map<number, number[]>();
    for (const seed of settings.seeds) {
      const sim = new LivenessSim({ seed, nodes, observers: observersOf(nodes) });
      const victims = sample(seededRandom(seed), sim.nodes, 9).map(({ index }) => index);
      sim.start(victims);
      let resurrections = 0, slow = 0, isRight = true;
      for (const [round, victim] of victims.entries()) {
        const name = sim.nodes[victim]?.name;
        const backAfterMs = [2_500, 6_000, 20_000, Infinity][round % 4] as number;
        sim.crash(victim, round % 2 === 0);
        if (backAfterMs === Infinity) {
          sim.run(40_000);
          sim.told.length = 0;
          sim.replay(victim, 1, 0);
          sim.run(20_000);
          resurrections += sim.told.filter(({ change }) => change.node === name).length;
        } else {
          sim.run(backAfterMs);
          const since = sim.now;
          sim.restart(victim);
          const isUp = () =>
            sim.observers.every((observer) => {
              if (!observer.isAlive || observer.index === victim) return true;
              const member = sim.statusAt(observer, victim);
              return member?.epoch === 2 && member.status === "alive";
            });
          while (!isUp() && sim.now - since < 60_000) sim.run(250);
          slow = Math.max(slow, (sim.now - since) / 1000);
          const heard = secondsUntil(sim, since, "nodeUp", victim);
          const away = backAfterMs / 1000;
          known.set(away, [...known.get(away) ?? [], ...heard]);
          sim.run(30_000);
          sim.told.length = 0;
          sim.replay(victim, 1, 7);
          sim.run(20_000);
          resurrections += sim.told.filter(({ change }) => change.node === name).length;
          isRight &&= isUp();
        }
        settings.progress(`seed ${seed}: ${round + 1} of ${victims.length}`);
      }
      collected.add("transitions caused by stale copies", resurrections, {
        good: ["<=", 0, "each seed"],
      });
      collected.add("seconds until everybody knows the new life, worst", slow, {
        goal: ["<=", 10],
      });
      collected.add("right states at the end", isRight ? 1 : 0, { good: [">=", 1, "each seed"] });
      traces.push(sim.trace);
    }
    for (const [name, q] of [["everybody knows", 1], ["half of them know", 0.5]] as const) {
      const points = [...known].map(([away, heard]): Point => [away, 1000 * quantile(heard, q)]);
      collected.draw(NEW_LIFE, name, points);
    }
    return { nodes, metrics: collected.metrics, plots: collected.plots, traces };
  },
};
