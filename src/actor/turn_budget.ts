import type { Clock } from "../base/clock.ts";

/** Messages that processes take from full mailboxes before the event loop gets a turn. */
const PER_TURN = 2_000;

/**
 * Keeps busy processes from starving timers and sockets: promises alone never let the event loop
 * run. Shared by all processes of a node.
 */
export class TurnBudget {
  readonly #clock: Clock;
  #left = PER_TURN;
  #isWatching = false;
  #waiting: (() => void)[] = [];

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Takes one; `false` when this turn's share is used up. */
  spend(): boolean {
    if (this.#left === 0) return false;
    this.#left--;
    this.#watch();
    return true;
  }

  /** Resolves in the next turn of the event loop. */
  nextTurn(): Promise<void> {
    this.#watch();
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #watch(): void {
    if (this.#isWatching) return;
    this.#isWatching = true;
    this.#clock.nextTurn(() => {
      this.#isWatching = false;
      this.#left = PER_TURN;
      const waiting = this.#waiting;
      this.#waiting = [];
      for (const resolve of waiting) resolve();
    });
  }
}
