import { ConfigError } from "./errors.ts";
import { inTurn } from "./in_turn.ts";
import { knownOptions } from "./known_options.ts";
import { notify } from "./notify.ts";
import { Ring } from "./ring.ts";

/** Told to a slow subscriber in place of the events that did not fit its queue. */
export interface Overflow {
  readonly type: "overflow";
  /** How many events were lost since the last one that was delivered. */
  readonly lost: number;
}

/** Options of every `events()`. */
export interface EventsOptions {
  /** Ends the iteration when aborted. */
  readonly signal?: AbortSignal;
}

/** What every `events()` / `on()` pair of the API offers. */
export interface EventSource<E> {
  /**
   * Calls `listener` on each event, in order; returns the function that ends it. What follows from
   * what a listener does is told after all have been told of the event.
   *
   * @throws TypeError when `listener` is no function
   */
  on(listener: (event: E) => void): () => void;
  /**
   * The events from now on. The queue of one iteration holds 1,024 events; a subscriber that falls
   * further behind gets one `overflow` event that counts what it lost.
   *
   * @throws ConfigError when an option is unknown or `signal` is no AbortSignal
   */
  events(options?: EventsOptions): AsyncIterableIterator<E | Overflow>;
}

const QUEUE_LIMIT = 1024;

/** The sending side of an {@link EventSource}. A listener that throws never harms the others. */
export class Emitter<E> implements EventSource<E> {
  readonly #listeners = new Set<(event: E) => void>();
  readonly #endings = new Set<() => void>();
  readonly #onError: (error: unknown) => void;
  readonly #coalesce: ((events: readonly E[]) => E[]) | undefined;
  #closed = false;

  /**
   * `onError` gets what a listener threw. `coalesce` makes fewer events with the same outcome of
   * those that a slow subscriber has not taken when its queue is full.
   */
  constructor(onError: (error: unknown) => void, coalesce?: (events: readonly E[]) => E[]) {
    this.#onError = onError;
    this.#coalesce = coalesce;
  }

  /** Delivers `event` to every listener now; from within a listener, once all have the present one. */
  readonly emit: (event: E) => void = inTurn((event) => {
    for (const listener of [...this.#listeners]) notify(listener, event, this.#onError);
  });

  /** Ends every iteration; later subscriptions end at once. */
  close(): void {
    this.#closed = true;
    for (const end of [...this.#endings]) end();
    this.#listeners.clear();
  }

  on(listener: (event: E) => void): () => void {
    if (typeof listener !== "function") throw new TypeError("on takes a function");
    if (this.#closed) return () => {};
    // Wrapped, so that one function registered twice is two subscriptions.
    const own = (event: E): unknown => listener(event);
    this.#listeners.add(own);
    return () => void this.#listeners.delete(own);
  }

  #shorten(queue: Ring<E>): void {
    if (this.#coalesce === undefined) return;
    const pending: E[] = [];
    for (let event = queue.shift(); event !== undefined; event = queue.shift()) pending.push(event);
    for (const event of this.#coalesce(pending)) queue.push(event);
  }

  events(options: EventsOptions = {}): AsyncIterableIterator<E | Overflow> {
    knownOptions(options, ["signal"]);
    const { signal } = options;
    if (signal !== undefined && typeof signal?.addEventListener !== "function") {
      throw new ConfigError("signal", "must be an AbortSignal, such as a controller's `signal`");
    }
    const queue = new Ring<E>();
    let lost = 0;
    let ended = this.#closed || signal?.aborted === true;
    let waiting: ((result: IteratorResult<E | Overflow>) => void)[] = [];
    const done = { done: true, value: undefined } as const;

    const take = (): E | Overflow | undefined => {
      const event = queue.shift();
      if (event !== undefined) return event;
      if (lost === 0) return undefined;
      const overflow: Overflow = { type: "overflow", lost };
      lost = 0;
      return overflow;
    };
    const off = ended ? () => {} : this.on((event) => {
      const next = waiting.shift();
      if (next) return next({ done: false, value: event });
      if (lost === 0 && queue.length >= QUEUE_LIMIT) this.#shorten(queue);
      if (lost === 0 && queue.length < QUEUE_LIMIT) queue.push(event);
      else lost++;
    });
    const end = () => {
      ended = true;
      off();
      this.#endings.delete(end);
      signal?.removeEventListener("abort", end);
      for (const next of waiting) next(done);
      waiting = [];
    };
    if (!ended) {
      this.#endings.add(end);
      signal?.addEventListener("abort", end, { once: true });
    }
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: () => {
        const event = take();
        if (event !== undefined) return Promise.resolve({ done: false, value: event });
        if (ended) return Promise.resolve(done);
        return new Promise((resolve) => waiting.push(resolve));
      },
      return: () => {
        queue.clear();
        lost = 0;
        end();
        return Promise.resolve(done);
      },
    };
  }
}
