/** What a set of views looks like from above: paths, clustering, components, floods. */
import { randomBelow } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";

/** Active views of nodes `0` to `size - 1`. */
export interface Graph {
  readonly size: number;
  readonly alive: Uint8Array;
  neighbours(node: number): readonly number[];
}

/** The shape of the overlay of the living. */
export interface Shape {
  readonly clustering: number;
  readonly path: number;
  readonly longest: number;
  /** Percent of the nodes within 0, 1, 2 … hops, the mean of the samples. */
  readonly within: readonly number[];
  /** Percent of the nodes with `degree` neighbours. */
  readonly full: number;
  readonly components: number;
  readonly oneSided: number;
}

/** Distances from one node. */
export interface Distances {
  /** -1 where no way leads. */
  readonly hops: Int16Array;
  readonly reached: number;
  /** Hops to the farthest. */
  readonly last: number;
}

/** Distances from `start` by the views as they are. */
export function distances(graph: Graph, start: number): Distances {
  const hops = new Int16Array(graph.size).fill(-1);
  const queue = new Int32Array(graph.size);
  let reached = 1;
  hops[start] = 0;
  queue[0] = start;
  for (let i = 0; i < reached; i++) {
    const node = queue[i] as number;
    for (const peer of graph.neighbours(node)) {
      if (!graph.alive[peer] || hops[peer] !== -1) continue;
      hops[peer] = (hops[node] as number) + 1;
      queue[reached++] = peer;
    }
  }
  return { hops, reached, last: hops[queue[reached - 1] as number] as number };
}

/** The numbers of the living. */
export function living(graph: Graph): number[] {
  const nodes: number[] = [];
  for (let node = 0; node < graph.size; node++) if (graph.alive[node]) nodes.push(node);
  return nodes;
}

/** Measures the graph; paths from `samples` random nodes. */
export function shapeOf(graph: Graph, degree: number, samples: number, random: Random): Shape {
  const nodes = living(graph);
  let clustering = 0, full = 0, oneSided = 0;
  for (const node of nodes) {
    const views = graph.neighbours(node);
    if (views.length >= degree) full++;
    let edges = 0;
    for (const peer of views) {
      const others = graph.neighbours(peer);
      if (!others.includes(node)) oneSided++;
      for (const third of views) if (others.includes(third)) edges++;
    }
    if (views.length > 1) clustering += edges / (views.length * (views.length - 1));
  }
  let sum = 0, count = 0, longest = 0;
  const atHop: number[] = [];
  for (let i = 0; i < samples; i++) {
    const { hops, reached, last } = distances(graph, nodes[randomBelow(random, nodes.length)] ?? 0);
    for (const node of nodes) {
      const hop = hops[node] as number;
      if (hop === -1) continue;
      sum += hop;
      atHop[hop] = (atHop[hop] ?? 0) + 1;
    }
    count += reached - 1;
    longest += last;
  }
  let reached = 0;
  return {
    clustering: clustering / nodes.length,
    path: sum / count,
    longest: longest / samples,
    within: atHop.map((count) => (100 * (reached += count)) / (samples * nodes.length)),
    full: (100 * full) / nodes.length,
    components: components(graph, nodes),
    oneSided,
  };
}

/** In how many pieces these nodes are: 1 where each can reach all others. */
export function components(graph: Graph, nodes: readonly number[]): number {
  const parent = Int32Array.from({ length: graph.size }, (_, i) => i);
  const find = (node: number): number => {
    let top = node;
    while (parent[top] !== top) {
      parent[top] = parent[parent[top] as number] as number;
      top = parent[top] as number;
    }
    return top;
  };
  for (const node of nodes) {
    for (const peer of graph.neighbours(node)) {
      if (graph.alive[peer]) parent[find(node)] = find(peer);
    }
  }
  return nodes.filter((node) => find(node) === node).length;
}
