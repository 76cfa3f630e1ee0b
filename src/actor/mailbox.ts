import type { Clock, Timer } from "../base/clock.ts";
import { ClosedError, TimeoutError } from "../base/errors.ts";
import { Ring } from "../base/ring.ts";
import type { Turn, TurnBudget } from "./turn_budget.ts";

/** Options of a receive. */
export interface ReceiveOptions {
  /** Give up after so long, milliseconds. Default: never. */
  readonly timeoutMs?: number;
}

/** What all mailboxes of a node share. */
export interface MailboxSettings {
  /** No messages. */
  readonly none: Messages;
  readonly clock: Clock;
  readonly budget: TurnBudget;
  /** Waiting messages that are a reason to tell somebody. */
  readonly highWaterMark: number;
  readonly onHighWater: (mailbox: Mailbox) => void;
}

/** The settings of a node's mailboxes. */
export function mailboxSettings(given: Omit<MailboxSettings, "none">): MailboxSettings {
  const settings = { ...given } as { -readonly [K in keyof MailboxSettings]: MailboxSettings[K] };
  settings.none = new Messages(settings);
  return settings;
}

/** Told what a traced mailbox gets and gives. */
export type Tracer = (type: "arrived" | "taken", message: unknown) => void;

interface Waiter {
  /** Takes a message or leaves it. */
  offer(message: unknown): boolean;
  fail(error: Error): void;
}

/** What a mailbox that closes fails with: made when a receive meets it, which few do. */
class Closing {
  readonly why: () => Error;
  error: Error | undefined;
  constructor(why: () => Error) {
    this.why = why;
  }
}

/** In `flags`: the receive that waits wants the step of an iteration, not the message itself. */
const STEP = 1;
/** In `flags`: some messages wait for this process to have its turn. */
const IN_LINE = 2;
/** In `flags`: nothing is delivered any more. */
const CLOSED = 4;
/** The lowest of the flags that subclasses may use. */
export const FIRST_FREE_FLAG = 8;

/** Messages that wait, and by the way what the mailbox shares with others: a field less in each. */
export class Messages extends Ring<unknown> {
  readonly settings: MailboxSettings;

  constructor(settings: MailboxSettings) {
    super();
    this.settings = settings;
  }
}

/** Who is told of the messages of the few mailboxes that are traced. */
const tracersOf = new WeakMap<Mailbox, Set<Tracer>>();

/**
 * The messages of one process, in the order of their arrival. A selective receive takes the first
 * one that matches and leaves the others where they are.
 */
export abstract class Mailbox implements Turn, AsyncIterable<unknown> {
  // Few fields, as a large system has a million of these at rest, and no #methods: a class that has
  // such costs each of its objects a word.
  #messages: Messages;
  /**
   * The receive that waits: of whatever comes, as most are, the function that settles it. When it is
   * closed: what every receive fails with.
   */
  #receiver: Waiter | ((value: unknown) => void) | Closing | undefined;
  /** Whatever is true or false of it, in one number: each field would cost a word. */
  protected flags = 0;

  /** `none`: no messages, shared by the many mailboxes in which none has ever waited. */
  constructor(none: Messages) {
    this.#messages = none;
  }

  protected setFlag(flag: number, isSet: boolean): void {
    this.flags = isSet ? this.flags | flag : this.flags & ~flag;
  }

  /** What every receive fails with since `close`. */
  get closed(): Error {
    const closing = this.#receiver;
    if (!(closing instanceof Closing)) return new ClosedError("the process has ended");
    return closing.error ??= closing.why();
  }

  /** How many messages wait. */
  get length(): number {
    return this.#messages.length;
  }

  /** Whether the process waits for a message, and none that it wants is there. */
  get isWaiting(): boolean {
    return this.isReceiving && !this.isInLine;
  }

  private get isReceiving(): boolean {
    return this.#receiver !== undefined && !this.isClosed;
  }

  private get isClosed(): boolean {
    return (this.flags & CLOSED) !== 0;
  }

  private get isInLine(): boolean {
    return (this.flags & IN_LINE) !== 0;
  }

  private get isStep(): boolean {
    return (this.flags & STEP) !== 0;
  }

  /** Delivers one message; nothing happens after `close`. */
  push(message: unknown): void {
    if (this.isClosed) return;
    if (this.#receiver !== undefined && !this.isInLine) {
      if (!this.#messages.settings.budget.spend()) this.standInLine();
      else if (this.offer(message)) return;
    }
    let messages = this.#messages;
    const { settings } = messages;
    if (messages === settings.none) messages = this.#messages = new Messages(settings);
    messages.push(message);
    if (messages.length === settings.highWaterMark) settings.onHighWater(this);
  }

  /** Ends it: a waiting receive fails with what `why` returns, and so does every later one. */
  close(why: () => Error): void {
    this.#messages = this.#messages.settings.none;
    const receiver = this.#receiver;
    this.#receiver = new Closing(why);
    this.flags |= CLOSED;
    if (typeof receiver === "function") receiver(Promise.reject(this.closed));
    else if (receiver !== undefined) (receiver as Waiter).fail(this.closed);
  }

  /** Removes the messages that `match` accepts. */
  remove(match: (message: unknown) => boolean): void {
    for (let i = this.#messages.length - 1; i >= 0; i--) {
      if (match(this.#messages.at(i))) this.#messages.removeAt(i);
    }
  }

  /** The next message. @throws TimeoutError, ClosedError when the process has ended */
  any(options?: ReceiveOptions): Promise<unknown> {
    if (this.mayTake()) return Promise.resolve(this.#messages.shift());
    if (options?.timeoutMs !== undefined) {
      return this.wait((message) => ({ value: message }), options);
    }
    return this.waitForAny(false) as Promise<unknown>;
  }

  /** It is its own iteration: each process that rests would hold another one. */
  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The next message as the step of an iteration. @throws ClosedError when the process has ended */
  next(): Promise<IteratorResult<unknown>> {
    if (this.mayTake()) return Promise.resolve({ done: false, value: this.#messages.shift() });
    return this.waitForAny(true) as Promise<IteratorResult<unknown>>;
  }

  // Whether a message is there and this turn allows to take it.
  private mayTake(): boolean {
    if (this.#messages.length === 0 || this.isReceiving) return false;
    if (!this.isInLine && this.#messages.settings.budget.spend()) return true;
    // This turn has been used up: others first.
    this.standInLine();
    return false;
  }

  private waitForAny(isStep: boolean): Promise<unknown> {
    const refusal = this.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve) => {
      this.#receiver = resolve;
      this.setFlag(STEP, isStep);
    });
  }

  // Why nobody may wait now.
  private refusal(): Error | undefined {
    if (this.isClosed) return this.closed;
    if (!this.isReceiving) return undefined;
    return new ClosedError("the process waits in another receive already");
  }

  // Gives a message to the receive that waits; `false` when it does not want it.
  private offer(message: unknown): boolean {
    const receiver = this.#receiver;
    if (typeof receiver !== "function") {
      return receiver !== undefined && !this.isClosed && (receiver as Waiter).offer(message);
    }
    this.#receiver = undefined;
    receiver(this.isStep ? { done: false, value: message } : message);
    return true;
  }

  /**
   * The first message for which `match` returns something else than `undefined`: that result.
   *
   * @throws TimeoutError, ClosedError, and what `match` throws
   */
  take<T>(match: (message: unknown) => T | undefined, options?: ReceiveOptions): Promise<T> {
    if (!this.isReceiving && !this.isInLine) {
      for (let i = 0; i < this.#messages.length; i++) {
        let result: T | undefined;
        try {
          result = match(this.#messages.at(i));
        } catch (error) {
          return Promise.reject(error);
        }
        if (result === undefined) continue;
        if (!this.#messages.settings.budget.spend()) {
          this.standInLine();
          break;
        }
        this.#messages.removeAt(i);
        return Promise.resolve(result);
      }
    }
    return this.wait((message) => {
      const value = match(message);
      return value === undefined ? undefined : { value };
    }, options);
  }

  /** Its turn has come: a waiting receive gets the first message that it takes. */
  serve(): void {
    this.flags &= ~IN_LINE;
    this.offerAll();
  }

  /**
   * Tells of each message as it arrives and as it is taken; returns what ends that. This object's
   * own methods are replaced meanwhile, so that no other mailbox pays for the question.
   */
  trace(tell: Tracer): () => void {
    const tracers = tracersOf.get(this) ?? new Set();
    if (!tracersOf.has(this)) {
      tracersOf.set(this, tracers);
      this.beginTrace(tracers);
    }
    // Wrapped, so that one function given twice is two.
    const own: Tracer = (type, message) => tell(type, message);
    tracers.add(own);
    return () => {
      if (!tracers.delete(own) || tracers.size > 0) return;
      tracersOf.delete(this);
      const { push, any, next, take } = Mailbox.prototype;
      Object.assign(this, { push, any, next, take });
    };
  }

  private beginTrace(tracers: ReadonlySet<Tracer>): void {
    const { push, any, take } = Mailbox.prototype;
    const tell: Tracer = (type, message) => {
      for (const one of [...tracers]) one(type, message);
    };
    // A receive that has begun already.
    const receiver = this.#receiver;
    if (typeof receiver === "function") {
      this.#receiver = (value: unknown) => {
        receiver(value);
        if (!this.isClosed) {
          tell("taken", this.isStep ? (value as IteratorResult<unknown>).value : value);
        }
      };
    } else if (receiver !== undefined && !(receiver instanceof Closing)) {
      const { offer } = receiver;
      receiver.offer = (message) => {
        const isTaken = offer(message);
        if (isTaken) tell("taken", message);
        return isTaken;
      };
    }
    this.push = (message) => {
      tell("arrived", message);
      push.call(this, message);
    };
    this.any = (options) =>
      any.call(this, options).then((message) => {
        tell("taken", message);
        return message;
      });
    this.next = () => this.any().then((value) => ({ done: false, value }));
    this.take = <T>(match: (message: unknown) => T | undefined, options?: ReceiveOptions) => {
      let taken: unknown;
      const noting = (message: unknown) => {
        const result = match(message);
        if (result !== undefined) taken = message;
        return result;
      };
      return (take as typeof this.take<T>).call(this, noting, options).then((result) => {
        tell("taken", taken);
        return result;
      });
    };
  }

  private standInLine(): void {
    if (this.isInLine) return;
    this.flags |= IN_LINE;
    this.#messages.settings.budget.defer(this);
  }

  private offerAll(): boolean {
    for (let i = 0; i < this.#messages.length; i++) {
      if (!this.isReceiving) return true;
      if (!this.offer(this.#messages.at(i))) continue;
      this.#messages.removeAt(i);
      return true;
    }
    return !this.isReceiving;
  }

  private wait<T>(
    accept: (message: unknown) => { value: T } | undefined,
    options: ReceiveOptions | undefined,
  ): Promise<T> {
    const refusal = this.refusal();
    if (refusal !== undefined) return Promise.reject(refusal);
    return new Promise((resolve, reject) => {
      let timer: Timer | undefined;
      const done = () => {
        timer?.cancel();
        if (!this.isClosed) this.#receiver = undefined;
      };
      const fail = (error: unknown) => {
        done();
        reject(error);
      };
      this.#receiver = {
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
      timer = this.#messages.settings.clock.after(timeoutMs, () => {
        // What has arrived in time counts, even while it waits for its turn.
        if (this.isInLine && this.offerAll()) return;
        fail(new TimeoutError(`no message within ${timeoutMs} ms`));
      });
    });
  }
}
