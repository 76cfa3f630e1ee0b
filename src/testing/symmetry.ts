/**
 * Watches that neighbours are neighbours of each other, as their events tell. While an edge is made
 * or ends, one end knows of it earlier; once all is quiet around it, none may be one-sided.
 */
export class Symmetry {
  readonly #views = new Map<string, Set<string>>();
  // Edges that only their first end has, and since when; the oldest first.
  readonly #oneSided = new Map<string, number>();
  #disturbedAt = -Infinity;

  /** `node` has a new neighbour. */
  up(node: string, peer: string, now: number): void {
    const view = this.#views.get(node) ?? new Set();
    this.#views.set(node, view.add(peer));
    if (this.#has(peer, node)) this.#oneSided.delete(edge(peer, node));
    else this.#oneSided.set(edge(node, peer), now);
  }

  /** `node` has lost a neighbour. */
  down(node: string, peer: string, now: number): void {
    if (!this.#views.get(node)?.delete(peer)) return;
    this.#oneSided.delete(edge(node, peer));
    if (this.#has(peer, node)) this.#oneSided.set(edge(peer, node), now);
  }

  /** `node` is gone: what others hold of it they are to drop. */
  gone(node: string, now: number): void {
    for (const peer of this.#views.get(node) ?? []) this.down(node, peer, now);
  }

  /** There is a fault, or has been up to now: what it did needs its time. */
  disturbed(now: number): void {
    this.#disturbedAt = now;
  }

  /** For how long the oldest edge that only one end has has been so in quiet, ms; 0 without any. */
  oneSidedMs(now: number): number {
    if (this.#oneSided.size === 0) return 0;
    const [since = now] = this.#oneSided.values();
    return now - Math.max(since, this.#disturbedAt);
  }

  /** That edge. */
  get oldest(): string {
    const [which = ""] = this.#oneSided.keys();
    return which;
  }

  #has(node: string, peer: string): boolean {
    return this.#views.get(node)?.has(peer) === true;
  }
}

function edge(node: string, peer: string): string {
  return `${node} -> ${peer}`;
}
