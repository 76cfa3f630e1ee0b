import { Alarm } from "../base/alarm.ts";
import type { Clock, Timer } from "../base/clock.ts";

/** Timers of which most never fire. */
export type Deadlines = Pick<Clock, "after">;

/** One of a list in the order of expiry, which it leaves without a look at the others. */
class Deadline implements Timer {
  readonly at: number;
  readonly fn: () => void;
  before: Deadline | undefined;
  behind: Deadline | undefined;

  constructor(at: number, fn: () => void) {
    this.at = at;
    this.fn = fn;
  }

  cancel(): void {
    const { before, behind } = this;
    if (before === undefined) return;
    before.behind = behind;
    if (behind !== undefined) behind.before = before;
    this.before = this.behind = undefined;
  }
}

/**
 * Timers like the clock's. Those of `usualMs` milliseconds expire in the order in which they were
 * set, so that one timer of the host serves them all: one of its own for each call would cost more
 * than the rest of the call's bookkeeping.
 */
export function createDeadlines(clock: Clock, usualMs: number): Deadlines {
  // Before the first and after the last.
  const first = new Deadline(0, () => {});
  const last = new Deadline(0, () => {});
  first.behind = last;
  last.before = first;
  const next = () => (first.behind === last ? undefined : first.behind);
  const alarm = new Alarm(clock, () => {
    const now = clock.now();
    for (let deadline = next(); deadline !== undefined; deadline = next()) {
      if (deadline.at > now) return alarm.set(deadline.at);
      deadline.cancel();
      deadline.fn();
    }
  });
  return {
    after(ms, fn) {
      if (ms !== usualMs) return clock.after(ms, fn);
      const deadline = new Deadline(clock.now() + ms, fn);
      const isFirst = first.behind === last;
      const before = last.before as Deadline;
      deadline.before = before;
      deadline.behind = last;
      before.behind = deadline;
      last.before = deadline;
      if (isFirst) alarm.set(deadline.at);
      return deadline;
    },
  };
}
