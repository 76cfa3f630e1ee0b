import type { Timer } from "../../src/base/clock.ts";
import { TransportError } from "../../src/base/errors.ts";
import type { DialOptions } from "../../src/transport/contract.ts";

/** Ends the waiting of a dial: when its time is up, or its signal says so. */
export class Deadline {
  readonly #timer: Timer;
  readonly #signal: AbortSignal | undefined;
  readonly #stopped: Promise<never>;
  #stop: (error: TransportError) => void = () => {};

  /** @param late makes the error of when the time is up */
  constructor({ clock, signal, timeoutMs }: DialOptions, late: () => TransportError) {
    this.#signal = signal;
    this.#stopped = new Promise((_, reject) => (this.#stop = reject));
    this.#stopped.catch(() => {});
    this.#timer = clock.after(timeoutMs, () => this.#stop(late()));
    if (signal?.aborted) this.#aborted();
    signal?.addEventListener("abort", this.#aborted, { once: true });
  }

  /** `work`, unless the time is up first. @throws what `late` made; TransportError `aborted` */
  race<T>(work: Promise<T>): Promise<T> {
    return Promise.race([this.#stopped, work]);
  }

  /** The waiting is over. */
  stop(): void {
    this.#timer.cancel();
    this.#signal?.removeEventListener("abort", this.#aborted);
  }

  readonly #aborted = (): void => {
    this.#stop(new TransportError("aborted", "the dial was aborted"));
  };
}

/** The error of a dial that nobody answered in time. */
export function noAnswer(address: string, timeoutMs: number): TransportError {
  return new TransportError("timeout", `${address} did not answer in ${timeoutMs} ms`);
}
