import type { Clock, Timer } from "./clock.ts";

/**
 * One timer for a pure machine that says when it wants to be woken. Moving the alarm later costs
 * nothing: the running timer fires early and is wound up again.
 */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #wantedAt = Infinity;
  #timerAt = Infinity;
  #timer: Timer | undefined;

  /** `ring` is called once the time set last has come. */
  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  /** Rings at `at`, in `clock.now()` milliseconds, instead of the time set before; `Infinity` = never. */
  set(at: number): void {
    this.#wantedAt = at;
    if (at >= this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = at;
    this.#timer = this.#clock.after(Math.max(0, at - this.#clock.now()), () => this.#fire());
  }

  /** Never rings again unless set again. */
  cancel(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    this.#timerAt = Infinity;
    this.#wantedAt = Infinity;
  }

  #fire(): void {
    this.#timer = undefined;
    this.#timerAt = Infinity;
    const wantedAt = this.#wantedAt;
    // Moved later since, or a host's timer that fires a fraction of a millisecond early.
    if (wantedAt > this.#clock.now()) {
      if (wantedAt !== Infinity) this.set(wantedAt);
      return;
    }
    this.#wantedAt = Infinity;
    this.#ring();
  }
}
