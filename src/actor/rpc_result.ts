import { afterwards } from "../base/afterwards.ts";
import { ClosedError, ProtocolError } from "../base/errors.ts";
import { Ring } from "../base/ring.ts";

/** Items that may come before the consumer has taken any. */
export const WINDOW = 16;

/**
 * The result of a remote procedure: a promise of its value, and the items of its stream, whichever
 * is asked for. An array and a stream are the same to the caller: awaiting gives all items,
 * iterating gives one after the other. A result that is neither is its own only item.
 */
export type RpcResult<T, Item> = Promise<T> & AsyncIterable<Item>;

/** What a result needs of its call. */
export interface ResultOwner {
  /** Room for further items. */
  grant(items: number): void;
  /** Nobody wants the rest. */
  cancel(): void;
}

type Waiter = {
  resolve(result: IteratorResult<unknown>): void;
  reject(error: unknown): void;
};

/** See {@link RpcResult}. */
export class PendingResult implements RpcResult<unknown, unknown> {
  readonly [Symbol.toStringTag] = "RpcResult";
  readonly #owner: ResultOwner;
  readonly #outcome = Promise.withResolvers<unknown>();
  readonly #buffer = new Ring<{ readonly value: unknown }>();
  readonly #waiters: Waiter[] = [];
  #use: "none" | "await" | "iterate" = "none";
  #collected: unknown[] = [];
  #isStream = false;
  #over: { readonly error?: unknown } | undefined;
  /** Items that may still come, and those taken since credit was granted last. */
  #expected = WINDOW;
  #taken = 0;

  constructor(owner: ResultOwner) {
    this.#owner = owner;
  }

  // ---- what the called node says

  /** The whole result. */
  value(value: unknown): void {
    if (this.#over !== undefined) return;
    this.#over = {};
    for (const item of Array.isArray(value) ? value : [value]) this.#deliver(item);
    this.#outcome.resolve(value);
    this.#endWaiters();
  }

  /** Items follow. */
  stream(): void {
    this.#isStream = true;
  }

  /** One item. @throws ProtocolError when there was no room for it */
  item(value: unknown): void {
    if (this.#over !== undefined) return;
    if (!this.#isStream || this.#expected === 0) {
      throw new ProtocolError("bad_rpc", "an item that nobody asked for");
    }
    this.#expected--;
    this.#deliver(value);
  }

  /** All items have come. */
  end(): void {
    if (this.#over !== undefined) return;
    this.#over = {};
    this.#outcome.resolve(this.#collected);
    this.#endWaiters();
  }

  /** It failed; items that came before can still be taken. */
  fail(error: unknown): void {
    if (this.#over !== undefined) return;
    this.#over = { error };
    this.#outcome.reject(error);
    this.#endWaiters();
  }

  #deliver(value: unknown): void {
    if (this.#use === "await") {
      this.#collected.push(value);
      return this.#took();
    }
    const waiter = this.#waiters.shift();
    if (waiter === undefined) return this.#buffer.push({ value });
    waiter.resolve({ done: false, value });
    this.#took();
  }

  #endWaiters(): void {
    for (const waiter of this.#waiters.splice(0)) this.#finish(waiter);
  }

  #finish({ resolve, reject }: Waiter): void {
    const over = this.#over;
    if (over === undefined || !("error" in over)) return resolve({ done: true, value: undefined });
    // Told once; then it is over like any other.
    this.#over = {};
    reject(over.error);
  }

  #took(): void {
    this.#taken++;
    if (!this.#isStream || this.#over !== undefined || this.#taken < WINDOW / 2) return;
    this.#expected += this.#taken;
    this.#owner.grant(this.#taken);
    this.#taken = 0;
  }

  // ---- what the caller asks for

  // oxlint-disable-next-line unicorn/no-thenable -- it is a promise, by contract
  then<A = unknown, B = never>(
    onValue?: ((value: unknown) => A | PromiseLike<A>) | null,
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    return this.#awaited().then(onValue, onError);
  }

  catch<B = never>(
    onError?: ((error: unknown) => B | PromiseLike<B>) | null,
  ): Promise<unknown> {
    return this.#awaited().catch(onError);
  }

  finally(onEnd?: (() => void) | null): Promise<unknown> {
    return afterwards(this.#awaited(), () => onEnd?.());
  }

  #awaited(): Promise<unknown> {
    if (this.#use === "iterate" && this.#isStream) {
      return Promise.reject(new ClosedError("the stream is being iterated; it has no value"));
    }
    if (this.#use === "none") {
      this.#use = "await";
      for (let item = this.#buffer.shift(); item !== undefined; item = this.#buffer.shift()) {
        this.#collected.push(item.value);
        this.#took();
      }
    }
    return this.#outcome.promise;
  }

  [Symbol.asyncIterator](): AsyncIterableIterator<unknown> {
    if (this.#use === "await" && this.#isStream) {
      throw new ClosedError("the stream is being awaited; its items go there");
    }
    if (this.#use === "await") {
      // Whether it is a stream is not known yet: all comes at once, then.
      return itemsOf(this.#outcome.promise);
    }
    this.#use = "iterate";
    // Whoever iterates is told of errors there.
    this.#outcome.promise.catch(() => {});
    return {
      [Symbol.asyncIterator]() {
        return this;
      },
      next: () => {
        const item = this.#buffer.shift();
        if (item !== undefined) {
          this.#took();
          return Promise.resolve({ done: false, value: item.value });
        }
        return new Promise((resolve, reject) => {
          if (this.#over !== undefined) this.#finish({ resolve, reject });
          else this.#waiters.push({ resolve, reject });
        });
      },
      return: () => {
        this.#buffer.clear();
        if (this.#over === undefined) {
          this.#owner.cancel();
          this.end();
        }
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }
}

async function* itemsOf(result: Promise<unknown>): AsyncGenerator<unknown> {
  const value = await result;
  if (Array.isArray(value)) yield* value;
  else yield value;
}
