/**
 * How long to wait for an answer, learned from how long answers took: smoothed mean and deviation
 * as in RFC 6298.
 */
export class Rto {
  readonly #minMs: number;
  readonly #maxMs: number;
  #meanMs: number;
  #deviationMs: number;
  #sampled = false;

  /** Waits `initialMs` until the first sample, and always between `minMs` and `maxMs`. */
  constructor(initialMs: number, minMs: number, maxMs: number) {
    this.#minMs = minMs;
    this.#maxMs = maxMs;
    this.#meanMs = initialMs;
    this.#deviationMs = 0;
  }

  /** An answer took `ms` milliseconds. */
  sample(ms: number): void {
    if (!this.#sampled) {
      this.#sampled = true;
      this.#meanMs = ms;
      this.#deviationMs = ms / 2;
      return;
    }
    this.#deviationMs += (Math.abs(ms - this.#meanMs) - this.#deviationMs) / 4;
    this.#meanMs += (ms - this.#meanMs) / 8;
  }

  /** Milliseconds after which an answer is late. */
  get timeoutMs(): number {
    const timeout = this.#meanMs + 4 * this.#deviationMs;
    return Math.min(this.#maxMs, Math.max(this.#minMs, timeout));
  }
}
