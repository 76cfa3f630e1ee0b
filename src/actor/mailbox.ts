import type { Clock, Timer } from "../base/clock.ts";
import { ClosedError, TimeoutError } from "../base/errors.ts";
import { Ring } from "../base/ring.ts";
import type { TurnBudget } from "./turn_budget.ts";

/** Options of a receive. */
export interface ReceiveOptions {
  /** Give up after so long, milliseconds. Default: never. */
  readonly timeoutMs?: number;
}

interface Waiter {
  /** Takes a message or leaves it. */
  offer(message: unknown): boolean;
  fail(error: Error): void;
}

/**
 * The messages of one process, in the order of their arrival. A selective receive takes the first
 * one that matches and leaves the others where they are.
 */
export class Mailbox {
  readonly #messages = new Ring<unknown>();
  readonly #clock: Clock;
  readonly #budget: TurnBudget;
  #waiter: Waiter | undefined;
  #closed: Error | undefined;

  constructor(clock: Clock, budget: TurnBudget) {
    this.#clock = clock;
    this.#budget = budget;
  }

  /** How many messages wait. */
  get length(): number {
    return this.#messages.length;
  }

  /** Delivers one message; nothing happens after `close`. */
  push(message: unknown): void {
    if (this.#closed !== undefined) return;
    if (this.#waiter?.offer(message)) return;
    this.#messages.push(message);
  }

  /** Ends it: a waiting receive fails with `error`, and so does every later one. */
  close(error: Error): void {
    this.#closed = error;
    this.#messages.clear();
    this.#waiter?.fail(error);
  }

  /** Removes the messages that `match` accepts. */
  remove(match: (message: unknown) => boolean): void {
    for (let i = this.#messages.length - 1; i >= 0; i--) {
      if (match(this.#messages.at(i))) this.#messages.removeAt(i);
    }
  }

  /** The next message. @throws TimeoutError, ClosedError when the process has ended */
  next(options?: ReceiveOptions): Promise<unknown> {
    if (this.#messages.length === 0 || this.#closed !== undefined) {
      return this.#wait((message) => ({ value: message }), options);
    }
    if (this.#budget.spend()) return Promise.resolve(this.#messages.shift());
    // This turn has been used up: others first.
    return this.#budget.nextTurn().then(() => this.next(options));
  }

  /**
   * The first message for which `match` returns something else than `undefined`: that result.
   *
   * @throws TimeoutError, ClosedError, and what `match` throws
   */
  take<T>(match: (message: unknown) => T | undefined, options?: ReceiveOptions): Promise<T> {
    if (this.#closed === undefined) {
      for (let i = 0; i < this.#messages.length; i++) {
        let result: T | undefined;
        try {
          result = match(this.#messages.at(i));
        } catch (error) {
          return Promise.reject(error);
        }
        if (result === undefined) continue;
        this.#messages.removeAt(i);
        return Promise.resolve(result);
      }
    }
    return this.#wait((message) => {
      const value = match(message);
      return value === undefined ? undefined : { value };
    }, options);
  }

  #wait<T>(
    accept: (message: unknown) => { value: T } | undefined,
    options: ReceiveOptions | undefined,
  ): Promise<T> {
    if (this.#closed !== undefined) return Promise.reject(this.#closed);
    if (this.#waiter !== undefined) {
      return Promise.reject(new ClosedError("the process waits in another receive already"));
    }
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined;
      const done = () => {
        timer?.cancel();
        this.#waiter = undefined;
      };
      const fail = (error: unknown) => {
        done();
        reject(error);
      };
      this.#waiter = {
        offer: (message) => {
          try {
            const accepted = accept(message);
            if (accepted === undefined) return false;
            done();
            resolve(accepted.value);
          } catch (error) {
            // The message stays; the receive fails with what its matcher threw.
            fail(error);
            return false;
          }
          return true;
        },
        fail,
      };
      const timeoutMs = options?.timeoutMs;
      if (timeoutMs === undefined) return;
      timer = this.#clock.after(timeoutMs, () => {
        fail(new TimeoutError(`no message within ${timeoutMs} ms`));
      });
    });
  }
}
