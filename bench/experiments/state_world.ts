/** Replicas on virtual time for experiments: how they are linked, settled, and what they send. */
import { Buffer } from "node:buffer";
import { hash } from "node:crypto";
import type { Bytes } from "../../src/base/bytes.ts";
import { randomBelow } from "../../src/base/random.ts";
import type { Node, World } from "../../test/replica/world.ts";
import { Collected } from "./experiment.ts";
import type { Point, Result, Settings } from "./experiment.ts";

/** The host's own: it is three times as fast as the one that runs everywhere. */
export const sha256 = (data: Uint8Array): Bytes => new Uint8Array(hash("sha256", data, "buffer"));

/** Rows that are remembered. */
const MAX_REMEMBERED = 100_000;

interface Expansion {
  readonly seed: Bytes;
  readonly blocks: (Bytes | undefined)[];
}

/**
 * SHA-256 that remembers. Every node hashes the same rows, which is most of what a world of 1,000 of
 * them does: the digest of a row is found by its bytes, the blocks that it is expanded to by their
 * seed.
 */
export function rememberedSha256(): (data: Uint8Array) => Bytes {
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
export const ARRIVAL_MS = 20;

/**
 * A ring, and two random chords from each: connected, and six neighbours in the mean. `gapMs` apart, a
 * thousand nodes do not have a million deltas on their way at once.
 */
export function linkAll(world: World, nodes: readonly Node[], gapMs: number = 0): void {
  const { length } = nodes;
  for (const [i, node] of nodes.entries()) {
    if (gapMs > 0) world.run(gapMs);
    world.link(node, nodes[(i + 1) % length] as Node);
    for (let k = 0; k < 2; k++) {
      world.link(node, nodes[randomBelow(world.random, length)] as Node);
    }
  }
}

/** Bytes of all frames that carried something of replicas so far. */
export function total({ onWire }: World): number {
  return onWire.control + onWire.data + onWire.broadcast;
}

/** Whether a node has all that these authors have signed. */
export function knowsAll(world: World, node: Node, authors: readonly Node[]): boolean {
  const state = world.state(node);
  return authors.every((author) => {
    const { epoch, seq } = state.version(author.origin);
    const head = world.state(author).signedRows.head;
    return epoch === head?.epoch && seq === head.seq;
  });
}

/** Different states: nodes of one have the same heads of all authors, and so the same rows. */
export function states(world: World, nodes: readonly Node[]): number {
  return new Set(nodes.map((node) => String(world.state(node).digests.root()))).size;
}

/** Runs until it holds; the virtual milliseconds it took. */
export function until(
  world: World,
  holds: () => boolean,
  stepMs: number,
  withinMs: number,
): number {
  const start = world.now;
  while (!holds()) {
    if (world.now - start > withinMs) return Infinity;
    world.run(stepMs);
  }
  return world.now - start;
}

/** Runs until all have one state: what is measured begins so. */
export function settle(world: World, nodes: readonly Node[]): void {
  const ms = until(world, () => states(world, nodes) === 1, 1_000, 120_000);
  if (ms === Infinity) throw new Error("the nodes did not come to one state");
}

/** Axes of a plot of what nodes send. */
export const TRAFFIC = { title: "What nodes send", y: "bytes a second a node" };

/** Bytes a second a node, one point for each second or more between two readings. */
export function meterOf(world: World): { readonly points: Point[]; readonly read: () => void } {
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

/** Runs an experiment on state for each seed. */
export async function each(
  { seeds, progress }: Settings,
  nodes: number,
  run: (seed: number, figures: Collected) => number | Promise<number>,
): Promise<Result> {
  const figures = new Collected();
  const traces: number[] = [];
  for (const seed of seeds) {
    progress(`seed ${seed}`);
    traces.push(await run(seed, figures));
  }
  return { nodes, metrics: figures.metrics, plots: figures.plots, traces };
}
