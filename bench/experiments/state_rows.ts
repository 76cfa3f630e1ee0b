/** E12 and E14: replicated state after a split and restarts, and what it costs. */
import { utf8 } from "../../src/base/bytes.ts";
import { randomBelow } from "../../src/base/random.ts";
import { World } from "../../test/replica/world.ts";
import type { Node } from "../../test/replica/world.ts";
import { mixed } from "../../test/trace.ts";
import type { Collected, Experiment, Point } from "./experiment.ts";
import { overlayHeals } from "./overlay_heals.ts";
import {
  ARRIVAL_MS,
  each,
  knowsAll,
  linkAll,
  meterOf,
  rememberedSha256,
  settle,
  sha256,
  states,
  total,
  TRAFFIC,
  until,
} from "./state_world.ts";
import { wholeTraffic } from "./whole_nodes.ts";

/** Neighbours of a late joiner. */
const DEGREE = 5;
/** How often the reference pulls the whole state of a random peer, in seconds. */
const FULL_PULL_S = 30;
const META_BYTES = 24;
/** Registered names in all, for E14. */
const NAMES = 10_000;
/** Whole nodes of E14, at most: each costs as much as dozens of bare replicas. */
const WHOLE_NODES = 40;

/** E14 with a number of names of its own; returns the trace. */
export function lateJoiner(count: number, names: number, seed: number, figures: Collected): number {
  const world = new World(
    seed,
    { loss: 0, duplication: 0, minDelayMs: 10, maxDelayMs: 10 },
    rememberedSha256(),
  );
  world.checks = false;
  const nodes = Array.from({ length: count }, () => world.addNode());
  for (let i = 0; i < names; i++) {
    const node = nodes[i % count] as Node;
    world.put(node, `${i}:service_${i}`, world.random.bytes(META_BYTES));
  }
  world.run(100);
  linkAll(world, nodes, ARRIVAL_MS);
  settle(world, nodes);
  world.run(60_000);
  const of = `${count} nodes, ${names} names:`;

  const meter = meterOf(world);
  const runSeconds = (seconds: number) => {
    for (let i = 0; i < seconds; i++) {
      world.run(1_000);
      meter.read();
    }
  };
  let before = total(world);
  const idleS = 120;
  runSeconds(idleS);
  const idle = (total(world) - before) / count / idleS;
  figures.add(`${of} idle, B/s a node`, idle, { good: ["<=", 100], goal: ["<=", 10] });

  before = total(world);
  const updates = 10;
  for (let i = 0; i < updates; i++) {
    const key = `${i}:service_${i}`;
    world.put(nodes[i % count] as Node, key, world.random.bytes(META_BYTES));
    runSeconds(1);
  }
  const noise = idle * count * updates;
  const update = (total(world) - before - noise) / updates / count;
  figures.add(`${of} one update, B a node`, update);

  const late = world.addNode();
  const state = bytesOf(world, nodes);
  before = total(world);
  const toldBefore = world.onWire.broadcast;
  const linkedAt = world.now;
  for (let i = 0; i < DEGREE; i++) {
    world.link(late, nodes[randomBelow(world.random, count)] as Node);
  }
  const isComplete = () => {
    meter.read();
    return knowsAll(world, late, nodes);
  };
  const ms = until(world, isComplete, 50, 60_000);
  figures.add(`${of} a late joiner is complete, s`, ms / 1000, {
    good: ["<=", 10],
    goal: ["<=", 3],
  });
  runSeconds(10);
  const x = `second: ${idleS} at rest, ${updates} of updates, then a late joiner`;
  figures.draw({ ...TRAFFIC, x }, `${count} nodes, ${names} names`, meter.points);
  const others = idle * count * (world.now - linkedAt) / 1000;
  const told = world.onWire.broadcast - toldBefore;
  const took = (total(world) - before - told - others) / state;
  figures.add(`${of} what its joining took, × the state's bytes`, took, {
    good: ["<=", 1.5],
    goal: ["<=", 1.2],
  });
  figures.add(`${of} that it is there, told to all, B a node`, told / count);
  figures.add(`${of} full pulls would take, B/s a node`, state / FULL_PULL_S);
  return world.trace;
}

// Keys, values, and for each author its head.
function bytesOf(world: World, nodes: readonly Node[]): number {
  let bytes = 0;
  for (const node of nodes) {
    bytes += 32 + 8 + 4 + 32 + 64;
    for (const { key, value } of world.state(node).signedRows.rows()) {
      bytes += utf8(key).length + value.length;
    }
  }
  return bytes;
}

const STATES = {
  title: "The states become equal again",
  x: "seconds since the heal, or since all write again",
  y: "different states",
};

/** E12, of state; returns the trace. */
export function splitAndRestart(count: number, seed: number, figures: Collected): number {
  const world = new World(
    seed,
    { loss: 0.01, duplication: 0, minDelayMs: 10, maxDelayMs: 50, inOrder: true },
    sha256,
  );
  world.checks = false;
  const nodes = Array.from({ length: count }, () => world.addNode());
  world.run(100);
  linkAll(world, nodes);
  const write = (round: string) => {
    for (const node of nodes) world.put(node, `name-${round}`, utf8(round));
  };
  write("before");
  world.run(1_000);
  const secondsToOne = (after: string) => {
    const start = world.now;
    const points: Point[] = [];
    const isOne = () => {
      const count = states(world, nodes);
      points.push([(world.now - start) / 1000, count]);
      return count === 1;
    };
    const ms = until(world, isOne, 250, 300_000);
    figures.draw(STATES, after, points);
    return ms / 1000;
  };
  settle(world, nodes);
  world.split(new Set(nodes.filter((_, i) => i % 2 === 0)));
  linkAll(world, nodes);
  for (let minute = 0; minute < 10; minute++) {
    write(`split-${minute}`);
    world.run(60_000);
  }
  world.heal();
  linkAll(world, nodes);
  figures.add("state equal after 10 min of a 50/50 split, s", secondsToOne("after the heal"), {
    good: ["<=", 50],
    goal: ["<=", 30],
  });
  for (const node of nodes) world.crash(node);
  for (const node of nodes) world.start(node);
  world.run(1_000);
  linkAll(world, nodes);
  write("again");
  world.run(250);
  figures.add("state equal after a full restart, s", secondsToOne("after the full restart"), {
    good: ["<=", 50],
    goal: ["<=", 30],
  });
  return world.trace;
}

/** E14. */
export const lateJoin: Experiment = {
  id: "E14",
  title: "State: idle, one update, a late joiner",
  about:
    "Registry-like rows on replicas with six neighbours in the mean, 10 ms apart. Counted are the " +
    "frames that carry something of replicas, with their headers and a broadcast's envelope (tree, " +
    "hops, origin, number, topic), and nothing else: no announcements and trees of the broadcast, no " +
    "pings, no views, nothing of QUIC. A broadcast counts once for each node that gets it, which is " +
    "what a broadcast tree sends. What joining took is all that anybody sent to a neighbour " +
    "meanwhile, questions and comparisons included, less what is idle; the newcomer's own head goes " +
    "to all by broadcast, and is counted by itself. Full pulls are what the reference's way would " +
    "cost: every node pulls the whole state every 30 s. The last figures are of whole nodes, five " +
    "minutes after they joined, with all that they send on their links, on whatever behalf, but " +
    "nothing of QUIC; of 40 updates half a second apart.",
  run: (settings) => {
    const sizes = settings.nodes === undefined ? [100, 1_000] : [settings.nodes];
    return each(settings, Math.max(...sizes), async (seed, figures) => {
      let trace = 0;
      for (const nodes of sizes) trace = mixed(trace, lateJoiner(nodes, NAMES, seed, figures));
      const whole = Math.min(WHOLE_NODES, ...sizes);
      return mixed(trace, await wholeTraffic(whole, 120, seed, figures));
    });
  },
};

/** E12. */
export const stateHeals: Experiment = {
  id: "E12",
  title: "A split of 10 minutes, and a full restart",
  about:
    "State: both sides of a 50/50 split write every minute; then it heals. Then all nodes restart " +
    "with empty memories at once. Links lose 1 % of their frames and keep the others of a pipe in " +
    "order. Overlay, in a simulation of its own: the same split; then all nodes crash and restart " +
    "within a second, with nothing but the contact's address. Cycles are of 10 s, looked at every " +
    "second.",
  run: (settings) =>
    each(
      settings,
      settings.nodes ?? 100,
      (seed, figures) => {
        const nodes = settings.nodes ?? 100;
        const trace = overlayHeals(nodes, seed, figures, settings.progress);
        return mixed(trace, splitAndRestart(nodes, seed, figures));
      },
    ),
};
