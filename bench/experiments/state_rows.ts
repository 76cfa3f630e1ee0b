/** Replicated state: what it costs at rest, for an update and for a node that joins late. */
import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { randomBelow } from "../../src/base/random.ts";
import { World } from "../../test/replica/world.ts";
import type { Node } from "../../test/replica/world.ts";
import { Collected } from "./experiment.ts";
import type { Experiment, Result, Settings } from "./experiment.ts";
import { overlayHeals } from "./overlay_heals.ts";

const DEGREE = 5;
/** How often the reference pulls the whole state of a random peer, in seconds. */
const FULL_PULL_S = 30;
const META_BYTES = 24;
/** Digests that are remembered: of each row nine. */
const MAX_REMEMBERED = 500_000;
/** Registered names in all, for E14. */
const NAMES = 10_000;

// The host's own is three times as fast as the one that runs everywhere.
const sha256 = (data: Uint8Array): Bytes => new Uint8Array(hash("sha256", data, "buffer"));

// Every node hashes the same rows, which is most of what a world of 1,000 of them does.
function rememberedSha256(): (data: Uint8Array) => Bytes {
  const known = new Map<string, Bytes>();
  return (data) => {
    if (data.length > 128) return sha256(data);
    const key = Buffer.from(data.buffer, data.byteOffset, data.length).toString("latin1");
    let digest = known.get(key);
    if (digest === undefined) {
      if (known.size >= MAX_REMEMBERED) known.clear();
      known.set(key, digest = sha256(data));
    }
    return digest;
  };
}

// A ring and random chords: connected, and everybody has about as many neighbours.
function linkAll(world: World, nodes: readonly Node[]): void {
  const { length } = nodes;
  for (const [i, node] of nodes.entries()) {
    world.link(node, nodes[(i + 1) % length] as Node);
    for (let k = 0; k < (DEGREE - 2) / 2; k++) {
      world.link(node, nodes[randomBelow(world.random, length)] as Node);
    }
  }
}

function total(world: World): number {
  return world.sent.control + world.sent.data + world.sent.broadcast;
}

function isWhole(world: World, node: Node, authors: readonly Node[]): boolean {
  const state = world.state(node);
  return authors.every((author) => {
    if (author === node) return true;
    const { epoch, seq } = state.version(author.origin);
    const head = world.state(author).signedRows.head;
    return epoch === head?.epoch && seq === head.seq;
  });
}

/** Runs until it holds; the virtual milliseconds it took. */
function until(world: World, holds: () => boolean, stepMs: number, withinMs: number): number {
  const start = world.now;
  while (!holds()) {
    if (world.now - start > withinMs) return Infinity;
    world.run(stepMs);
  }
  return world.now - start;
}

function lateJoiner(count: number, names: number, seed: number, figures: Collected): number {
  const world = new World(
    seed,
    { loss: 0, duplication: 0, minDelayMs: 10, maxDelayMs: 10 },
    rememberedSha256(),
  );
  world.checks = false;
  const nodes = Array.from({ length: count }, () => world.addNode());
  world.run(100);
  linkAll(world, nodes);
  for (let i = 0; i < names; i++) {
    const node = nodes[i % count] as Node;
    world.put(node, `${i}:service_${i}`, world.random.bytes(META_BYTES));
  }
  world.run(1_000);
  until(world, () => nodes.every((node) => isWhole(world, node, nodes)), 1_000, 120_000);
  world.run(60_000);
  const of = `${count} nodes, ${names} names:`;

  let before = total(world);
  const idleS = 120;
  world.run(idleS * 1000);
  const idle = (total(world) - before) / count / idleS;
  figures.add(`${of} idle, B/s a node`, idle, { good: ["<=", 100], goal: ["<=", 10] });

  before = total(world);
  const updates = 10;
  for (let i = 0; i < updates; i++) {
    const key = `${i}:service_${i}`;
    world.put(nodes[i % count] as Node, key, world.random.bytes(META_BYTES));
    world.run(1_000);
  }
  const noise = idle * count * updates;
  const update = (total(world) - before - noise) / updates / count;
  figures.add(`${of} one update, B a node`, update);

  const late = world.addNode();
  const state = bytesOf(world, nodes);
  before = total(world);
  const linkedAt = world.now;
  const rest = [late, ...nodes];
  for (let i = 0; i < DEGREE; i++) {
    world.link(late, nodes[randomBelow(world.random, count)] as Node);
  }
  const ms = until(world, () => isWhole(world, late, nodes), 50, 60_000);
  figures.add(`${of} a late joiner is complete, s`, ms / 1000, {
    good: ["<=", 10],
    goal: ["<=", 3],
  });
  world.run(10_000);
  const others = idle * count * (world.now - linkedAt) / 1000;
  const took = (total(world) - before - others) / state;
  figures.add(`${of} what its joining took, × the state's bytes`, took, {
    good: ["<=", 1.5],
    goal: ["<=", 1.2],
  });
  figures.add(`${of} full pulls would take, B/s a node`, state / FULL_PULL_S);
  return rest.length + world.events;
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

function splitAndRestart(count: number, seed: number, figures: Collected): number {
  const world = new World(
    seed,
    { loss: 0.01, duplication: 0, minDelayMs: 10, maxDelayMs: 50 },
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
  const whole = () => nodes.every((node) => isWhole(world, node, nodes));
  until(world, whole, 500, 120_000);
  world.split(new Set(nodes.filter((_, i) => i % 2 === 0)));
  linkAll(world, nodes);
  for (let minute = 0; minute < 10; minute++) {
    write(`split-${minute}`);
    world.run(60_000);
  }
  world.heal();
  linkAll(world, nodes);
  const healed = until(world, whole, 250, 300_000);
  figures.add("state equal after 10 min of a 50/50 split, s", healed / 1000, {
    good: ["<=", 50],
    goal: ["<=", 30],
  });
  for (const node of nodes) world.crash(node);
  for (const node of nodes) world.start(node);
  world.run(1_000);
  linkAll(world, nodes);
  write("again");
  world.run(250);
  figures.add("state equal after a full restart, s", until(world, whole, 250, 300_000) / 1000, {
    good: ["<=", 50],
    goal: ["<=", 30],
  });
  return world.events;
}

function viewChurn(count: number, seed: number, figures: Collected): number {
  const world = new World(
    seed,
    { loss: 0.01, duplication: 0, minDelayMs: 10, maxDelayMs: 50 },
    sha256,
  );
  world.checks = false;
  const nodes = Array.from({ length: count }, () => world.addNode());
  world.run(100);
  linkAll(world, nodes);
  for (const [i, node] of nodes.entries()) world.put(node, `${i}:service_${i}`, utf8("here"));
  world.run(1_000);
  until(world, () => nodes.every((node) => isWhole(world, node, nodes)), 500, 120_000);
  let wrong = 0;
  let asked = 0;
  for (let round = 0; round < 100; round++) {
    for (let k = 0; k < count / 10; k++) {
      const a = nodes[randomBelow(world.random, count)] as Node;
      world.unlink(a, nodes[randomBelow(world.random, count)] as Node);
      world.link(a, nodes[randomBelow(world.random, count)] as Node);
    }
    world.run(1_000);
    for (let k = 0; k < 100; k++) {
      const i = randomBelow(world.random, count);
      const asker = world.state(nodes[randomBelow(world.random, count)] as Node);
      asked++;
      if (asker.rowsOf(`${i}:service_${i}`).length !== 1) wrong++;
    }
  }
  figures.add("look-ups while views churn", asked);
  figures.add("of those wrong", wrong, { good: ["<=", 0], goal: ["<=", 0] });
  return world.events;
}

function each(
  { seeds, progress }: Settings,
  nodes: number,
  run: (seed: number, figures: Collected) => number,
): Result {
  const figures = new Collected();
  const traces = seeds.map((seed) => {
    progress(`seed ${seed}`);
    return run(seed, figures);
  });
  return { nodes, metrics: figures.metrics, plots: [], traces };
}

/** E14. */
export const lateJoin: Experiment = {
  id: "E14",
  title: "State: idle, one update, a late joiner",
  about:
    "Registry-like rows on nodes with five neighbours, 10 ms apart. A broadcast counts once for " +
    "each node that gets it, which is what a broadcast tree sends. The last figure is what the " +
    "reference's way would cost: every node pulls the whole state every 30 s. What joining took is " +
    "all that anybody sent meanwhile, questions and comparisons included, less what is idle.",
  run: (settings) => {
    const sizes = settings.nodes === undefined ? [100, 1_000] : [settings.nodes];
    return each(
      settings,
      Math.max(...sizes),
      (seed, figures) =>
        sizes.reduce((trace, nodes) => trace + lateJoiner(nodes, NAMES, seed, figures), 0),
    );
  },
};

/** E12. */
export const stateHeals: Experiment = {
  id: "E12",
  title: "A split of 10 minutes, and a full restart",
  about:
    "State: both sides of a 50/50 split write every minute; then it heals. Then all nodes restart " +
    "with empty memories at once. Links lose 1 % of their frames. Overlay, in a simulation of its " +
    "own: the same split; then all nodes crash and restart within a second, with nothing but the " +
    "contact's address. Cycles are of 10 s, looked at every second.",
  run: (settings) =>
    each(
      settings,
      settings.nodes ?? 100,
      (seed, figures) => {
        const nodes = settings.nodes ?? 100;
        const trace = overlayHeals(nodes, seed, figures, settings.progress);
        return (trace ^ splitAndRestart(nodes, seed, figures)) >>> 0;
      },
    ),
};

/** E13. */
export const lookUps: Experiment = {
  id: "E13",
  title: "Look-ups while views churn and nobody dies",
  about:
    "A tenth of the edges of the overlay are torn and made anew every second for 100 seconds, " +
    "and random nodes look random names up.",
  run: (settings) =>
    each(
      settings,
      settings.nodes ?? 200,
      (seed, figures) => viewChurn(settings.nodes ?? 200, seed, figures),
    ),
};
