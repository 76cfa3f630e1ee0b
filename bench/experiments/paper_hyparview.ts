/**
 * HyParView as the paper's pseudo-code has it, for as many nodes as fit into typed arrays: it
 * calibrates the experiments. After Leitão, Pereira and Rodrigues, DSN 2007, algorithms 1 to 3;
 * no time, messages one by one in the order they were sent, as in the paper's simulator.
 */
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import type { Graph } from "./graph.ts";

const ACTIVE = 5, PASSIVE = 30, ARWL = 6, PRWL = 3, SHUFFLE_ACTIVE = 3, SHUFFLE_PASSIVE = 4;

type Frame =
  | { readonly type: "join"; readonly from: number; readonly to: number }
  | {
    readonly type: "forwardJoin";
    readonly from: number;
    readonly to: number;
    readonly newcomer: number;
    readonly ttl: number;
  }
  | { readonly type: "added" | "disconnect"; readonly from: number; readonly to: number }
  | {
    readonly type: "shuffle";
    readonly from: number;
    readonly to: number;
    readonly origin: number;
    readonly ttl: number;
    readonly entries: readonly number[];
  }
  | {
    readonly type: "shuffleReply";
    readonly from: number;
    readonly to: number;
    readonly entries: readonly number[];
    readonly sent: readonly number[];
  };

/** A bounded list of node numbers for each node. */
class Lists {
  readonly #limit: number;
  readonly #items: Int32Array;
  readonly #sizes: Uint8Array;

  constructor(nodes: number, limit: number) {
    this.#limit = limit;
    this.#items = new Int32Array(nodes * limit);
    this.#sizes = new Uint8Array(nodes);
  }

  size(node: number): number {
    return this.#sizes[node] as number;
  }

  isFull(node: number): boolean {
    return this.size(node) >= this.#limit;
  }

  of(node: number): number[] {
    const start = node * this.#limit;
    return [...this.#items.subarray(start, start + this.size(node))];
  }

  has(node: number, item: number): boolean {
    const start = node * this.#limit;
    for (let i = start + this.size(node) - 1; i >= start; i--) {
      if (this.#items[i] === item) return true;
    }
    return false;
  }

  add(node: number, item: number): void {
    if (this.isFull(node)) throw new Error(`invariant: the list of ${node} is full`);
    this.#items[node * this.#limit + this.size(node)] = item;
    this.#sizes[node] = this.size(node) + 1;
  }

  remove(node: number, item: number): boolean {
    const start = node * this.#limit;
    const last = start + this.size(node) - 1;
    for (let i = start; i <= last; i++) {
      if (this.#items[i] !== item) continue;
      this.#items[i] = this.#items[last] as number;
      this.#sizes[node] = this.size(node) - 1;
      return true;
    }
    return false;
  }
}

/** The overlay of the paper. */
export class PaperOverlay implements Graph {
  readonly size: number;
  readonly alive: Uint8Array;
  readonly #random: Random;
  readonly #active: Lists;
  readonly #passive: Lists;
  #queue: Frame[] = [];

  constructor(size: number, seed: number) {
    this.size = size;
    this.alive = new Uint8Array(size).fill(1);
    this.#random = seededRandom(seed);
    this.#active = new Lists(size, ACTIVE);
    this.#passive = new Lists(size, PASSIVE);
  }

  /** All nodes join through node 0, one by one; then `cycles` cycles. */
  build(cycles: number, progress: (line: string) => void): void {
    for (let node = 1; node < this.size; node++) {
      this.#queue.push({ type: "join", from: node, to: 0 });
      this.#settle();
    }
    for (let i = 0; i < cycles; i++) {
      this.cycle();
      if (i % 10 === 9) progress(`cycle ${i + 1} of ${cycles}`);
    }
  }

  neighbours(node: number): readonly number[] {
    return this.#active.of(node);
  }

  /** Every live node shuffles once. */
  cycle(): void {
    for (let node = 0; node < this.size; node++) {
      if (!this.alive[node]) continue;
      const target = this.#pick(this.#active.of(node));
      if (target === undefined) {
        this.#replace(node);
        continue;
      }
      const others = this.#active.of(node).filter((peer) => peer !== target);
      const entries = [
        node,
        ...this.#sample(others, SHUFFLE_ACTIVE),
        ...this.#sample(this.#passive.of(node), SHUFFLE_PASSIVE),
      ];
      this.#queue.push({
        type: "shuffle",
        from: node,
        to: target,
        origin: node,
        ttl: ARWL,
        entries,
      });
      this.#settle();
    }
  }

  /** A neighbour turned out to be dead: the reaction of algorithm 1 and §4.3. */
  failed(node: number, peer: number): void {
    if (!this.#active.remove(node, peer)) return;
    this.#replace(node);
  }

  settle(): void {
    this.#settle();
  }

  #settle(): void {
    for (let i = 0; i < this.#queue.length; i++) this.#receive(this.#queue[i] as Frame);
    this.#queue = [];
  }

  #receive(frame: Frame): void {
    const { from, to } = frame;
    if (!this.alive[to]) {
      // The connection is refused; a walk that meets a dead neighbour ends (reset, then repair).
      if (this.#active.has(from, to)) this.failed(from, to);
      this.#passive.remove(from, to);
      return;
    }
    switch (frame.type) {
      case "join":
        this.#addActive(to, from);
        for (const peer of this.#active.of(to)) {
          if (peer === from) continue;
          this.#queue.push({ type: "forwardJoin", from: to, to: peer, newcomer: from, ttl: ARWL });
        }
        return;
      case "forwardJoin": {
        const { newcomer, ttl } = frame;
        if (ttl === 0 || this.#active.size(to) === 1) return this.#addActive(to, newcomer);
        if (ttl === PRWL) this.#addPassive(to, newcomer, []);
        const next = this.#pick(this.#active.of(to).filter((peer) => peer !== from));
        if (next === undefined) return this.#addActive(to, newcomer);
        this.#queue.push({ type: "forwardJoin", from: to, to: next, newcomer, ttl: ttl - 1 });
        return;
      }
      case "added":
        return this.#addActive(to, from, false);
      case "disconnect":
        if (!this.#active.remove(to, from)) return;
        this.#addPassive(to, from, []);
        return this.#replace(to);
      case "shuffle": {
        const { origin, entries } = frame;
        const ttl = frame.ttl - 1;
        const next = ttl > 0 && this.#active.size(to) > 1
          ? this.#pick(this.#active.of(to).filter((peer) => peer !== from && peer !== origin))
          : undefined;
        if (next !== undefined) {
          this.#queue.push({ ...frame, from: to, to: next, ttl });
          return;
        }
        if (origin === to) return;
        const reply = this.#sample(this.#passive.of(to), entries.length);
        this.#queue.push({
          type: "shuffleReply",
          from: to,
          to: origin,
          entries: reply,
          sent: entries,
        });
        return this.#integrate(to, entries, reply);
      }
      case "shuffleReply":
        return this.#integrate(to, frame.entries, frame.sent);
    }
  }

  #addActive(node: number, peer: number, tell = true): void {
    if (node === peer || this.#active.has(node, peer)) return;
    if (this.#active.isFull(node)) {
      const victim = this.#pick(this.#active.of(node)) as number;
      this.#active.remove(node, victim);
      this.#addPassive(node, victim, []);
      this.#queue.push({ type: "disconnect", from: node, to: victim });
    }
    this.#passive.remove(node, peer);
    this.#active.add(node, peer);
    // The view is symmetric: the other side adds us over the connection that was opened.
    if (tell) this.#queue.push({ type: "added", from: node, to: peer });
  }

  /** §4.3: passive peers are asked in random order until one takes us. */
  #replace(node: number): void {
    const untried = this.#passive.of(node);
    while (untried.length > 0 && !this.#active.isFull(node)) {
      const index = randomBelow(this.#random, untried.length);
      const peer = untried[index] as number;
      untried[index] = untried[untried.length - 1] as number;
      untried.pop();
      if (!this.alive[peer]) {
        this.#passive.remove(node, peer);
        continue;
      }
      // The neighbour's answer is awaited before the next is asked.
      const isUrgent = this.#active.size(node) === 0;
      if (!isUrgent && this.#active.isFull(peer)) continue;
      if (this.#active.has(peer, node)) continue;
      this.#addActive(peer, node, false);
      this.#addActive(node, peer, false);
      return;
    }
  }

  #addPassive(node: number, peer: number, sent: number[]): void {
    if (peer === node || this.#active.has(node, peer) || this.#passive.has(node, peer)) return;
    if (this.#passive.isFull(node)) {
      let victim: number | undefined;
      while (victim === undefined && sent.length > 0) {
        const candidate = sent.pop() as number;
        if (this.#passive.has(node, candidate)) victim = candidate;
      }
      victim ??= this.#pick(this.#passive.of(node)) as number;
      this.#passive.remove(node, victim);
    }
    this.#passive.add(node, peer);
  }

  #integrate(node: number, entries: readonly number[], sent: readonly number[]): void {
    const gone = [...sent];
    for (const peer of entries) this.#addPassive(node, peer, gone);
  }

  #pick(items: readonly number[]): number | undefined {
    return items.length === 0 ? undefined : items[randomBelow(this.#random, items.length)];
  }

  #sample(items: number[], count: number): number[] {
    for (let i = 0; i < Math.min(count, items.length); i++) {
      const j = i + randomBelow(this.#random, items.length - i);
      [items[i], items[j]] = [items[j] as number, items[i] as number];
    }
    return items.slice(0, count);
  }
}
