import type { Clock, Timer } from "../base/clock.ts";
import { Heap } from "../base/heap.ts";
import { realClock } from "../base/real.ts";

/** How a node sees the time. */
export interface ViewOptions {
  /** How far its wall clock is ahead, ms. @default 0 */
  readonly wallOffsetMs?: number;
  /** Called before each of its timers. */
  readonly onTimer?: () => void;
}

/** One node's time. */
export interface ClockView {
  readonly clock: Clock;
  /** Its timers never fire again. */
  stop(): void;
  /** Its timers that are due meanwhile fire when that is over, in their order. */
  pause(forMs: number): void;
}

/** Time that moves only when it is told to. */
export interface VirtualClock {
  /** Milliseconds since the start. */
  now(): number;
  /** A node's own view: its wall clock may be wrong, and its timers can be stopped for good. */
  view(options?: ViewOptions): ClockView;
  /** Lets `forMs` pass: timers fire in order, and between them all promises settle. */
  run(forMs: number): Promise<void>;
  /** Lets time pass until the promise settles. @throws what it rejects with, or Error after `limitMs` */
  until<T>(promise: Promise<T>, limitMs: number): Promise<T>;
}

interface Entry {
  readonly at: number;
  readonly order: number;
  readonly fn: () => void;
  cancelled: boolean;
}

/**
 * A positive delay lasts at least so long, ms: a smaller one may vanish in the sum with the time, and
 * whoever waits for the rest of a deadline would wait in vain, for ever at one moment.
 */
const LEAST_MS = 1 / 1024;
/** More timers than this at one moment are a loop that time never ends. */
const MAX_TIMERS_AT_ONCE = 1_000_000;
/** Wall clock at the start: fixed, so that runs are equal. */
const START_WALL_MS = Date.UTC(2026, 0, 1);

/** Makes a clock that stands at zero. `onStep` is called when a timer's work has settled. */
export function createVirtualClock(onStep?: () => void): VirtualClock {
  const timers = new Heap<Entry>((a, b) => a.at < b.at || (a.at === b.at && a.order < b.order));
  let now = 0;
  let order = 0;
  let fired = 0;
  let firedNow = 0;

  const after = (ms: number, fn: () => void) => {
    const delay = ms > 0 ? Math.max(ms, LEAST_MS) : 0;
    const entry: Entry = { at: now + delay, order: order++, fn, cancelled: false };
    timers.push(entry);
    return { cancel: () => void (entry.cancelled = true) };
  };

  // A turn of the real event loop: promises that were settled have told everybody by then.
  const settle = () => new Promise<void>((resolve) => realClock.nextTurn(resolve));

  // Fires what is due next, up to `end`; false when nothing is.
  const step = async (end: number): Promise<boolean> => {
    const next = timers.peek();
    if (next === undefined || next.at > end) return false;
    timers.pop();
    if (next.cancelled) return true;
    if (next.at > now) firedNow = 0;
    now = next.at;
    fired++;
    if (++firedNow > MAX_TIMERS_AT_ONCE) {
      throw new Error(`${firedNow} timers at ${now} ms of virtual time: it stands still`);
    }
    next.fn();
    await settle();
    onStep?.();
    return true;
  };

  return {
    now: () => now,
    view({ wallOffsetMs = 0, onTimer } = {}) {
      let isStopped = false;
      let pausedUntil = 0;
      const schedule = (ms: number, fn: () => void) => {
        let timer: Timer;
        const due = () => {
          if (isStopped) return;
          if (pausedUntil > now) {
            timer = after(pausedUntil - now, due);
            return;
          }
          onTimer?.();
          fn();
        };
        timer = after(ms, due);
        return { cancel: () => timer.cancel() };
      };
      return {
        stop: () => void (isStopped = true),
        pause: (forMs) => void (pausedUntil = Math.max(pausedUntil, now + forMs)),
        clock: {
          now: () => now,
          wall: () => START_WALL_MS + wallOffsetMs + now,
          after: schedule,
          nextTurn: (fn) => void schedule(0, fn),
        },
      };
    },
    async run(forMs) {
      const end = now + forMs;
      await settle();
      while (await step(end));
      now = end;
    },
    async until(promise, limitMs) {
      const end = now + limitMs;
      let isSettled = false;
      const settled = () => void (isSettled = true);
      promise.then(settled, settled);
      await settle();
      while (!isSettled) {
        if (!(await step(end))) {
          throw new Error(
            `after ${limitMs} ms of virtual time and ${fired} timers the promise has not settled`,
          );
        }
      }
      return await promise;
    },
  };
}
