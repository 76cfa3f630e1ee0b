import assert from "node:assert/strict";
import type { OverlaySim, SimNode } from "../../src/testing/overlay_sim.ts";

/** Sizes of the connected components among the live nodes, largest first. */
export function components(sim: OverlaySim): number[] {
  const rest = new Set(sim.live);
  const sizes: number[] = [];
  for (const start of rest) {
    let size = 0;
    const todo = [start];
    rest.delete(start);
    for (let node = todo.pop(); node !== undefined; node = todo.pop()) {
      size++;
      for (const name of node.view) {
        const peer = sim.node(name);
        if (peer !== undefined && rest.delete(peer)) todo.push(peer);
      }
    }
    sizes.push(size);
  }
  return sizes.sort((a, b) => b - a);
}

/** Edges that only one end has, edges to dead nodes, and views that events and machine disagree on. */
export function flaws(sim: OverlaySim): string[] {
  const found: string[] = [];
  for (const node of sim.live) {
    for (const name of node.view) {
      const peer = sim.node(name);
      if (!peer?.alive) found.push(`${node.name} -> ${name}: dead`);
      else if (!peer.view.has(node.name)) found.push(`${node.name} -> ${name}: one-sided`);
    }
  }
  return found;
}

/** Asserts what must hold at any time: bounds, no self, no duplicate, events agree with the views. */
export function checkInvariants(sim: OverlaySim): void {
  for (const node of sim.live) {
    const active = node.hyparview.activeView;
    const passive = node.hyparview.passiveView;
    assert.deepEqual(new Set(active), node.view);
    assert.ok(active.length <= sim.membership.activeSize);
    assert.ok(passive.length <= sim.membership.passiveSize);
    assert.equal(
      new Set([...active, ...passive, node.name]).size,
      active.length + passive.length + 1,
    );
  }
}

/** How many nodes have each degree. */
export function degrees(sim: OverlaySim): Map<number, number> {
  const result = new Map<number, number>();
  for (const { view } of sim.live) result.set(view.size, (result.get(view.size) ?? 0) + 1);
  return result;
}

/** Average clustering coefficient of the active views. */
export function clustering(sim: OverlaySim): number {
  let sum = 0;
  for (const { view } of sim.live) {
    const names = [...view];
    let edges = 0;
    for (const a of names) for (const b of names) if (sim.node(a)?.view.has(b)) edges++;
    if (names.length > 1) sum += edges / (names.length * (names.length - 1));
  }
  return sum / sim.live.length;
}

/** Average shortest path, over `samples` sources, and the longest one seen. */
export function paths(sim: OverlaySim, samples: number): { average: number; longest: number } {
  const live = sim.live;
  let sum = 0, count = 0, longest = 0;
  for (let i = 0; i < samples; i++) {
    const start = live[Math.floor((i * live.length) / samples)] as SimNode;
    const distance = new Map([[start, 0]]);
    for (const [node, hops] of distance) {
      for (const name of node.view) {
        const peer = sim.node(name);
        if (peer === undefined || distance.has(peer)) continue;
        distance.set(peer, hops + 1);
        sum += hops + 1;
        count++;
        longest = Math.max(longest, hops + 1);
      }
    }
  }
  return { average: sum / count, longest };
}
