import { Heap } from "../base/heap.ts";

/** Discrete events on virtual time: each runs at its moment, equal ones in the order of their making. */
export class EventQueue {
  /** Milliseconds since the start. */
  now: number = 0;
  /** Events that have run. */
  steps: number = 0;
  #order = 0;
  readonly #heap = new Heap<{ at: number; order: number; run: () => void }>(
    (x, y) => x.at < y.at || (x.at === y.at && x.order < y.order),
  );

  /** Runs `run` in so many milliseconds. */
  in(ms: number, run: () => void): void {
    this.#heap.push({ at: this.now + ms, order: this.#order++, run });
  }

  /** Lets so many milliseconds pass. */
  run(ms: number): void {
    const end = this.now + ms;
    for (let next = this.#heap.peek(); next && next.at <= end; next = this.#heap.peek()) {
      this.#heap.pop();
      this.now = next.at;
      this.steps++;
      next.run();
    }
    this.now = end;
  }
}
