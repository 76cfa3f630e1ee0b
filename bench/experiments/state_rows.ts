/** Replicated state: what it costs at rest, for an update and for a node that joins late. */
import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { randomBelow } from "../../src/base/random.ts";
import { World } from "../../test/replica/world.ts";
import type { Node } from "../../test/replica/world.ts";
import { Collected } from "./experiment.ts";
import type { Experiment, Point, Result, Settings } from "./experiment.ts";
import { overlayHeals } from "./overlay_heals.ts";

const DEGREE = 5;
/** How often the reference pulls the whole state of a random peer, in seconds. */
const FULL_PULL_S = 30;
const META_BYTES = 24;
/** Registered names in all, for E14. */
const NAMES = 10_000;

// The host's own is three times as fast as the one that runs everywhere.
const sha256 = (data: Uint8Array): Bytes => new Uint8Array(hash("sha256", data, "buffer"));

/** Rows that are remembered. */
const MAX_REMEMBERED = 100_000;

interface Expansion {
  readonly seed: Bytes;
  readonly blocks: (Bytes | undefined)[];
}

// Every node hashes the same rows, which is most of what a world of 1,000 of them does: the digest of
// a row is found by its bytes, the blocks that it is expanded to by their seed.
function rememberedSha256(): (data: Uint8Array) => Bytes {
  const rows = new Map<string, Bytes>();
  const expansions = new Map<number, Expansion>();
  return (data) => {
    if (data.length > 128) return sha256(data);
    if (data.length === 33) return expanded(data);
    const key = Buffer.from(data.buffer, data.byteOffset, data.length).toString("latin1");
    let digest = rows.get(key);
    if (digest === undefined) {
      if (rows.size >= MAX_REMEMBERED) rows.clear();
      rows.set(key, digest = sha256(data));
    }
    return digest;
  };

  function expanded(data: Uint8Array): Bytes {
    const [a, b, c, d, e, f] = data as unknown as [number, number, number, number, number, number];
    const key = ((a << 16 | b << 8 | c) * 0x1000000) + (d << 16 | e << 8 | f);
    let known = expansions.get(key);
    if (known === undefined || !startsWith(data, known.seed)) {
      if (expansions.size >= MAX_REMEMBERED) expansions.clear();
      expansions.set(key, known = { seed: new Uint8Array(data.subarray(0, 32)), blocks: [] });
    }
    return known.blocks[data[32] as number] ??= sha256(data);
  }
}

function startsWith(data: Uint8Array, seed: Bytes): boolean {
  for (let i = 0; i < 32; i++) if (data[i] !== seed[i]) return false;
  return true;
}

/** Between two nodes that come, so that what one says has arrived when the next speaks. */
const ARRIVAL_MS = 20;

// A ring and random chords: connected, and everybody has about as many neighbours. `gapMs` apart, a
// thousand nodes do not have a million deltas on their way at once.
function linkAll(world: World, nodes: readonly Node[], gapMs: number = 0): void {
  const { length } = nodes;
  for (const [i, node] of nodes.entries()) {
    if (gapMs > 0) world.run(gapMs);
    world.link(node, nodes[(i + 1) % length] as Node);
    for (let k = 0; k < (DEGREE - 2) / 2; k++) {
      world.link(node, nodes[randomBelow(world.random, length)] as Node);
    }
  }
}

function total(world: World): number {
  return world.sent.control + world.sent.data + world.sent.broadcast;
}

function knowsAll(world: World, node: Node, authors: readonly Node[]): boolean {
  const state = world.state(node);
  return authors.every((author) => {
    const { epoch, seq } = state.version(author.origin);
    const head = world.state(author).signedRows.head;
    return epoch === head?.epoch && seq === head.seq;
  });
}

// Nodes of one state have the same heads of all authors, and so the same rows.
function states(world: World, nodes: readonly Node[]): number {
  return new Set(nodes.map((node) => String(world.state(node).digests.root()))).size;
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

// What is measured begins with equal states.
function settle(world: World, nodes: readonly Node[]): void {
  const ms = until(world, () => states(world, nodes) === 1, 1_000, 120_000);
  if (ms === Infinity) throw new Error("the nodes did not come to one state");
}

const TRAFFIC = { title: "What nodes send", y: "bytes a second a node" };

/** Bytes a second a node, one point for each second or more between two readings. */
function meterOf(world: World): { readonly points: Point[]; readonly read: () => void } {
  const points: Point[] = [];
  const start = world.now;
  let at = start, before = total(world);
  const read = () => {
    const seconds = (world.now - at) / 1000;
    if (seconds < 1) return;
    at = world.now;
    const bytes = total(world) - before;
    before += bytes;
    points.push([(at - start) / 1000, bytes / seconds / world.nodes.length]);
  };
  return { points, read };
}

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
  const toldBefore = world.sent.broadcast;
  const linkedAt = world.now;
  const rest = [late, ...nodes];
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
  const told = world.sent.broadcast - toldBefore;
  const took = (total(world) - before - told - others) / state;
  figures.add(`${of} what its joining took, × the state's bytes`, took, {
    good: ["<=", 1.5],
    goal: ["<=", 1.2],
  });
  figures.add(`${of} that it is there, told to all, B a node`, told / count);
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
  return world.events;
}

function viewChurn(count: number, seed: number, figures: Collected): number {
  const world = new World(
    seed,
    { loss: 0.01, duplication: 0, minDelayMs: 10, maxDelayMs: 50, inOrder: true },
    rememberedSha256(),
  );
  world.checks = false;
  const nodes = Array.from({ length: count }, () => world.addNode());
  for (const [i, node] of nodes.entries()) world.put(node, `${i}:service_${i}`, utf8("here"));
  world.run(100);
  linkAll(world, nodes, ARRIVAL_MS);
  settle(world, nodes);
  let wrong = 0;
  let asked = 0;
  const meter = meterOf(world);
  for (let round = 0; round < 100; round++) {
    for (let k = 0; k < count / 10; k++) {
      const a = nodes[randomBelow(world.random, count)] as Node;
      world.unlink(a, nodes[randomBelow(world.random, count)] as Node);
      world.link(a, nodes[randomBelow(world.random, count)] as Node);
    }
    world.run(1_000);
    meter.read();
    for (let k = 0; k < 100; k++) {
      const i = randomBelow(world.random, count);
      const asker = world.state(nodes[randomBelow(world.random, count)] as Node);
      asked++;
      if (asker.rowsOf(`${i}:service_${i}`).length !== 1) wrong++;
    }
  }
  figures.draw({ ...TRAFFIC, x: "second" }, "measured", meter.points);
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
  return { nodes, metrics: figures.metrics, plots: figures.plots, traces };
}

/** E14. */
export const lateJoin: Experiment = {
  id: "E14",
  title: "State: idle, one update, a late joiner",
  about:
    "Registry-like rows on nodes with five neighbours, 10 ms apart. A broadcast counts once for " +
    "each node that gets it, which is what a broadcast tree sends. The last figure is what the " +
    "reference's way would cost: every node pulls the whole state every 30 s. What joining took is " +
    "all that anybody sent to a neighbour meanwhile, questions and comparisons included, less what " +
    "is idle; the newcomer's own head goes to all by broadcast, and is counted by itself.",
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
    "links lose 1 % of their frames, and random nodes look random names up.",
  run: (settings) =>
    each(
      settings,
      settings.nodes ?? 200,
      (seed, figures) => viewChurn(settings.nodes ?? 200, seed, figures),
    ),
};
