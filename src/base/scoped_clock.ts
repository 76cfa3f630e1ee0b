import type { Clock, Timer } from "./clock.ts";

/** A clock whose timers all end at once. */
export interface ScopedClock extends Clock {
  /** Cancels every timer; later ones never fire. */
  close(): void;
}

/** Lends `clock` to something that ends: a node frees every timer when it closes. */
export function scopedClock(clock: Clock): ScopedClock {
  const running = new Set<Timer>();
  let isClosed = false;
  return {
    now: () => clock.now(),
    wall: () => clock.wall(),
    nextTurn: (fn) => clock.nextTurn(fn),
    after(ms, fn) {
      if (isClosed) return { cancel() {} };
      const timer = clock.after(ms, () => {
        running.delete(timer);
        fn();
      });
      running.add(timer);
      return {
        cancel() {
          running.delete(timer);
          timer.cancel();
        },
      };
    },
    close() {
      isClosed = true;
      for (const timer of running) timer.cancel();
      running.clear();
    },
  };
}
