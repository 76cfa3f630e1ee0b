import type { Clock } from "../base/clock.ts";
import { Ring } from "../base/ring.ts";

/** Messages between two looks at the clock. */
const SLICE = 32;
/** How long processes may keep the event loop, milliseconds. */
const TURN_MS = 10;
/** Messages of one turn, however fast they are handled. */
const MAX_PER_TURN = 2_000;

/** What waits for a turn of its own. */
export interface Turn {
  /** Called in a later turn of the event loop, once for each `defer`. */
  serve(): void;
}

/**
 * Keeps busy processes from starving timers, sockets and each other: promises alone never let the
 * event loop run. Shared by all processes of a node; every message that a process takes costs one.
 * When the turn's share is used up, those who want more wait in line for the next turn. How much a
 * turn can do follows from how long the last one took.
 */
export class TurnBudget {
  readonly #clock: Clock;
  readonly #waiting = new Ring<Turn>();
  #left = SLICE;
  /** The end of this turn is being waited for. */
  #isWatching = false;
  #startedAt = 0;
  /** Messages of this turn, as far as they are counted. */
  #used = 0;
  /** What a turn in which processes wait in line may do. */
  #share = SLICE;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes one; `false` when this turn's share is used up, or others wait in line. */
  spend(): boolean {
    if (this.#left === 0) return this.#another();
    this.#left--;
    return true;
  }

  /** Lets `turn` have its turn. */
  defer(turn: Turn): void {
    this.#waiting.push(turn);
    this.#left = 0;
    this.#watch();
  }

  // A slice is used up. Turns are told apart only now: few messages a turn cost nothing.
  #another(): boolean {
    if (this.#waiting.length > 0) return false;
    if (!this.#isWatching) {
      this.#startedAt = this.#clock.now();
      this.#used = 0;
      this.#watch();
    }
    this.#used += SLICE;
    if (this.#used > MAX_PER_TURN || this.#clock.now() - this.#startedAt >= TURN_MS) return false;
    this.#left = SLICE - 1;
    return true;
  }

  #watch(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    this.#clock.nextTurn(() => this.#begin());
  }

  #begin(): void {
    this.#isWatching = false;
    if (this.#waiting.length === 0) {
      this.#left = SLICE;
      return;
    }
    const now = this.#clock.now();
    const tookMs = now - this.#startedAt;
    if (tookMs > TURN_MS) this.#share = Math.max(SLICE, this.#share >> 1);
    else if (tookMs < TURN_MS / 2) this.#share = Math.min(MAX_PER_TURN, this.#share << 1);
    this.#startedAt = now;
    const count = Math.min(this.#share, this.#waiting.length);
    this.#used = count;
    this.#left = this.#waiting.length > count ? 0 : Math.min(SLICE, this.#share - count);
    this.#watch();
    for (let i = 0; i < count; i++) this.#waiting.shift()?.serve();
  }
}
