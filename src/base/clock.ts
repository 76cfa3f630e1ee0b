/** A running timer; `cancel` is idempotent. */
export interface Timer {
  cancel(): void;
}

/**
 * Time as the node sees it. Injected, so that a whole node can run on virtual time.
 * The real one is `realClock` of `base/real.ts`.
 */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary start; may carry a fraction. Never goes back. */
  now(): number;
  /** Wall-clock milliseconds since the Unix epoch. May jump; decides nothing but HLC and epochs. */
  wall(): number;
  /** Calls `fn` once after `ms` milliseconds, however many. It does not keep the process alive. */
  after(ms: number, fn: () => void): Timer;
  /** Calls `fn` when the current turn of the event loop has ended (a macrotask). */
  nextTurn(fn: () => void): void;
}
