/** Turns that dials of the first class have between two of the second, where both wait. */
const FIRST_IN_A_ROW = 3;

/**
 * Dials that wait for their turn. First come, first served in each of two classes; while both wait,
 * three turns of four are the first class's: what is likely to be in vain holds up nobody by more
 * than that, and gets its turn all the same.
 */
export class DialQueue {
  readonly #capacity: number;
  readonly #first = new Set<() => void>();
  readonly #second = new Set<() => void>();
  #inARow = 0;

  /** @param capacity how many dials of each class may wait */
  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** How many wait, of both classes. */
  get size(): number {
    return this.#first.size + this.#second.size;
  }

  /** Puts `turn` at the end of its class. Returns false, and does nothing, where that is full. */
  add(turn: () => void, isSecondClass: boolean): boolean {
    const waiting = isSecondClass ? this.#second : this.#first;
    if (waiting.size >= this.#capacity) return false;
    waiting.add(turn);
    return true;
  }

  /** Takes `turn` out. Returns whether it was still waiting. */
  delete(turn: () => void): boolean {
    return this.#first.delete(turn) || this.#second.delete(turn);
  }

  /** Takes out whose turn it is. */
  next(): (() => void) | undefined {
    const isSeconds = this.#first.size === 0 ||
      (this.#second.size > 0 && this.#inARow >= FIRST_IN_A_ROW);
    const waiting = isSeconds ? this.#second : this.#first;
    const [turn] = waiting;
    if (turn === undefined) return undefined;
    waiting.delete(turn);
    this.#inARow = isSeconds || this.#second.size === 0 ? 0 : this.#inARow + 1;
    return turn;
  }
}
