import type { Clock, Timer } from "../base/clock.ts";
import type { Connection, DialOptions } from "../transport/contract.ts";
import { CloseCode } from "./close_codes.ts";

/**
 * When a dial that has had no answer is joined by another, milliseconds after the first has begun:
 * behind the first probe of QUIC (RFC 9002 §6.2.2). A lost first packet costs some stacks four
 * seconds, and a burst of dials may cost others theirs for good.
 */
const FURTHER_AT_MS = [1_500, 4_000];

/** What the attempts of a dial differ in. */
export type DialAttempt = Pick<DialOptions, "timeoutMs" | "signal" | "onBegin" | "isRetry">;

/**
 * Dials, and dials again beside it while there is no answer; the first connection counts. It has
 * failed when all attempts that have begun have. While the first waits for its turn, none joins it.
 *
 * @param dial has to call `onBegin`; else no attempt is joined by another
 * @throws what the attempt threw that failed first
 */
export function hedgedDial(
  dial: (attempt: DialAttempt) => Promise<Connection>,
  { clock, signal, timeoutMs }: { clock: Clock; signal: AbortSignal; timeoutMs: number },
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const others = new AbortController();
    const abort = () => others.abort();
    signal.addEventListener("abort", abort, { once: true });
    let isOver = false;
    let beganAt: number | undefined;
    let timers: Timer[] = [];
    const finish = (settle: () => void) => {
      if (isOver) return;
      isOver = true;
      for (const timer of timers) timer.cancel();
      signal.removeEventListener("abort", abort);
      settle();
      others.abort();
    };
    let pending = 0;
    let failure: unknown;
    const attempt = (leftMs: number, isRetry: boolean) => {
      let hasBegun = false;
      const onBegin = () => {
        if (isOver) return;
        hasBegun = true;
        pending++;
        if (beganAt !== undefined) return;
        beganAt = clock.now();
        timers = FURTHER_AT_MS.filter((at) => at < timeoutMs)
          .map((at) => clock.after(at, () => attempt(timeoutMs - at, true)));
      };
      dial({ signal: others.signal, timeoutMs: leftMs, isRetry, onBegin }).then(
        (connection) => {
          if (isOver) connection.close(CloseCode.REPLACED, "another dial was faster");
          else finish(() => resolve(connection));
        },
        (error) => {
          if (hasBegun) pending--;
          // It was never tried, which says nothing about those that are.
          else if (isRetry) return;
          failure ??= error;
          // One that had to wait for its turn has no more time than the first.
          const isUp = beganAt !== undefined && clock.now() - beganAt >= timeoutMs;
          if (pending === 0 || (isUp && !isRetry)) finish(() => reject(failure));
        },
      );
    };
    if (signal.aborted) others.abort();
    attempt(timeoutMs, false);
  });
}
