import type { Clock, Timer } from "../src/base/clock.ts";

/** Time that passes when it is told to. */
export function manualClock(): {
  readonly clock: Clock;
  /** How many timers run. */
  waiting(): number;
  /** Lets so many milliseconds pass, and what they set off happen. */
  pass(ms: number): Promise<void>;
} {
  let now = 0;
  const due = new Set<{ at: number; fn: () => void }>();
  const after = (ms: number, fn: () => void): Timer => {
    const timer = { at: now + ms, fn };
    due.add(timer);
    return { cancel: () => void due.delete(timer) };
  };
  return {
    clock: { now: () => now, after } as unknown as Clock,
    waiting: () => due.size,
    async pass(ms: number) {
      now += ms;
      for (const timer of [...due].filter(({ at }) => at <= now)) {
        due.delete(timer);
        timer.fn();
      }
      for (let i = 0; i < 30; i++) await Promise.resolve();
    },
  };
}
