import { Alarm } from "../base/alarm.ts";
import type { Clock, Timer } from "../base/clock.ts";

/** Timers of which most never fire. */
export type Deadlines = Pick<Clock, "after">;

interface Deadline extends Timer {
  readonly at: number;
  readonly fn: () => void;
}

/**
 * Timers like the clock's. Those of `usualMs` milliseconds expire in the order in which they were
 * set, so that one timer of the host serves them all: one of its own for each call would cost more
 * than the rest of the call's bookkeeping.
 */
export function createDeadlines(clock: Clock, usualMs: number): Deadlines {
  const waiting = new Set<Deadline>();
  const alarm = new Alarm(clock, () => {
    const now = clock.now();
    for (const deadline of waiting) {
      if (deadline.at > now) return alarm.set(deadline.at);
      waiting.delete(deadline);
      deadline.fn();
    }
  });
  return {
    after(ms, fn) {
      if (ms !== usualMs) return clock.after(ms, fn);
      const at = clock.now() + ms;
      const deadline: Deadline = { at, fn, cancel: () => void waiting.delete(deadline) };
      waiting.add(deadline);
      if (waiting.size === 1) alarm.set(at);
      return deadline;
    },
  };
}
