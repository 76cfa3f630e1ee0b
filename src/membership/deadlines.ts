import type { NodeName } from "../wire/node_name.ts";

/** Values by peer that end at a time: requests under way, slots promised, peers on their way out. */
export class Deadlines<V> {
  readonly #limit: number;
  readonly #slots = new Map<NodeName, { value: V; until: number }>();

  /** Holds at most `limit` values; one more drops the oldest. */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** How many values there are, expired ones included until {@link expire} takes them. */
  get size(): number {
    return this.#slots.size;
  }

  /** Whether `name` has a value. */
  has(name: NodeName): boolean {
    return this.#slots.has(name);
  }

  /** The value of `name`. */
  get(name: NodeName): V | undefined {
    return this.#slots.get(name)?.value;
  }

  /** All names, oldest first. */
  names(): NodeName[] {
    return [...this.#slots.keys()];
  }

  /** All values, oldest first. */
  *values(): Generator<V> {
    for (const slot of this.#slots.values()) yield slot.value;
  }

  /** Sets or replaces a value, which ends at `until`. */
  set(name: NodeName, value: V, until: number): void {
    this.#slots.delete(name);
    if (this.#slots.size >= this.#limit) {
      const oldest = this.#slots.keys().next().value;
      if (oldest !== undefined) this.#slots.delete(oldest);
    }
    this.#slots.set(name, { value, until });
  }

  /** Takes a value out. */
  delete(name: NodeName): V | undefined {
    const slot = this.#slots.get(name);
    if (slot !== undefined) this.#slots.delete(name);
    return slot?.value;
  }

  /** Takes out the values whose time has come. */
  expire(now: number): [NodeName, V][] {
    const over: [NodeName, V][] = [];
    if (this.#slots.size === 0) return over;
    for (const [name, slot] of this.#slots) if (slot.until <= now) over.push([name, slot.value]);
    for (const [name] of over) this.#slots.delete(name);
    return over;
  }

  /** When the next value ends; `Infinity` when there is none. */
  get nextAt(): number {
    let next = Infinity;
    // Asked after every event: the usual case allocates no iterator.
    if (this.#slots.size === 0) return next;
    for (const slot of this.#slots.values()) if (slot.until < next) next = slot.until;
    return next;
  }

  /** Forgets everything. */
  clear(): void {
    this.#slots.clear();
  }
}
