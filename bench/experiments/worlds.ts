/** Overlays to experiment on: the papers' and ours behind one face. */
import { randomBelow, sample, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { OverlaySim } from "../../src/testing/overlay_sim.ts";
import type { OverlayOptions, SimNode } from "../../src/testing/overlay_sim.ts";
import { distances, living } from "./graph.ts";
import type { Graph } from "./graph.ts";
import { PaperOverlay } from "./paper_hyparview.ts";

/** Milliseconds of a cycle of our machines: their shuffle interval. */
export const CYCLE_MS = 10_000;

/** An overlay, and what the experiments do to it. */
export interface World extends Graph {
  /** A hash of all that happened. */
  readonly trace: number;
  /** Kills nodes at once; their connections are reset, which neighbours learn in {@link react}. */
  kill(nodes: readonly number[]): void;
  /** Lets the neighbours of the dead learn of it, and react for a second; no cycle begins. */
  react(): void;
  /** One cycle. */
  cycle(): void;
}

/** Our machines, joined one by one through one contact. */
export class OurWorld implements World {
  readonly sim: OverlaySim;
  readonly #cache: { version: number; peers: readonly number[] }[] = [];
  readonly alive: Uint8Array;

  constructor(size: number, options: OverlayOptions) {
    this.sim = new OverlaySim({ checkEvery: 16, ...options });
    this.alive = new Uint8Array(size).fill(1);
  }

  get size(): number {
    return this.sim.nodes.length;
  }

  get trace(): number {
    return this.sim.trace;
  }

  /** Runs for `ms`, and looks every `stepMs`. */
  watch(ms: number, stepMs: number, look: () => void): void {
    for (let i = 0; i < ms / stepMs; i++) {
      this.sim.run(stepMs);
      look();
    }
  }

  /** All join through the first, `gapMs` apart. */
  join(count: number, gapMs: number, progress: (line: string) => void): void {
    const { sim } = this;
    const contact = sim.nodes[0] ?? sim.add();
    while (sim.nodes.length < count) {
      sim.run(gapMs);
      sim.join(sim.add(), contact);
      if (sim.nodes.length % 1000 === 0) progress(`${sim.nodes.length} nodes have joined`);
    }
  }

  neighbours(index: number): readonly number[] {
    const node = this.sim.nodes[index] as SimNode;
    const version = node.events.length;
    const cached = this.#cache[index];
    // A crash empties the view without an event.
    if (cached?.version === version && cached.peers.length === node.view.size) return cached.peers;
    const peers = [...node.view].map((name) => (this.sim.node(name) as SimNode).index);
    this.#cache[index] = { version, peers };
    return peers;
  }

  kill(nodes: readonly number[]): void {
    for (const index of nodes) {
      this.alive[index] = 0;
      this.sim.crash(this.sim.nodes[index] as SimNode);
    }
  }

  react(): void {
    this.sim.muted.add("shuffle");
    this.sim.run(1_000);
    this.sim.muted.clear();
  }

  cycle(): void {
    this.sim.run(CYCLE_MS);
  }
}

class PaperWorld extends PaperOverlay implements World {
  #trace = 0;

  get trace(): number {
    return this.#trace;
  }

  kill(nodes: readonly number[]): void {
    for (const node of nodes) this.alive[node] = 0;
  }

  react(): void {
    for (const node of living(this)) {
      for (const peer of this.neighbours(node)) if (!this.alive[peer]) this.failed(node, peer);
    }
    this.settle();
    for (const node of living(this)) {
      for (const peer of this.neighbours(node)) {
        this.#trace = (Math.imul(this.#trace ^ peer, 0x9e3779b1) ^ node) >>> 0;
      }
    }
  }
}

/** An overlay of `nodes` after `cycles` cycles. */
export function stableWorld(
  nodes: number,
  cycles: number,
  seed: number,
  isPaper: boolean,
  progress: (line: string) => void,
): World {
  if (isPaper) {
    const world = new PaperWorld(nodes, seed);
    world.build(cycles, progress);
    world.react();
    return world;
  }
  const world = new OurWorld(nodes, { seed });
  world.join(nodes, 10, progress);
  for (let i = 0; i < cycles; i++) {
    world.cycle();
    if (i % 10 === 9) progress(`cycle ${i + 1} of ${cycles}`);
  }
  return world;
}

/** Kills `percent` of the nodes at random; not the contact of all, if it is `spared`. */
export function killShare(world: World, percent: number, seed: number, spared = false): void {
  const count = Math.round((world.size * percent) / 100);
  const nodes = living(world).slice(spared ? 1 : 0);
  world.kill(sample(seededRandom(seed), nodes, count));
}

/** Floods one message from a random node over the active views; percent of the living it reaches. */
export function flood(world: World, random: Random): number {
  const nodes = living(world);
  const from = nodes[randomBelow(random, nodes.length)] as number;
  return (100 * distances(world, from).reached) / nodes.length;
}
