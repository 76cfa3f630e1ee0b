import type { Clock } from "../base/clock.ts";
import type { Connection } from "../transport/contract.ts";
import { CloseCode } from "./close_codes.ts";

/**
 * When a dial that has had no answer is joined by another, milliseconds after the first: behind the
 * first probe of QUIC (RFC 9002 §6.2.2). A lost first packet costs some stacks four seconds, and a
 * burst of dials may cost others theirs for good.
 */
const FURTHER_AT_MS = [1_500, 4_000];

/**
 * Dials, and dials again beside it while there is no answer; the first connection counts. It has
 * failed when all attempts that were begun have.
 *
 * @throws what the attempt threw that failed first
 */
export function hedgedDial(
  dial: (signal: AbortSignal, timeoutMs: number) => Promise<Connection>,
  { clock, signal, timeoutMs }: { clock: Clock; signal: AbortSignal; timeoutMs: number },
): Promise<Connection> {
  return new Promise((resolve, reject) => {
    const others = new AbortController();
    const abort = () => others.abort();
    signal.addEventListener("abort", abort, { once: true });
    let isOver = false;
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
    const attempt = (leftMs: number) => {
      pending++;
      dial(others.signal, leftMs).then(
        (connection) => {
          if (isOver) connection.close(CloseCode.REPLACED, "another dial was faster");
          else finish(() => resolve(connection));
        },
        (error) => {
          failure ??= error;
          if (--pending === 0) finish(() => reject(failure));
        },
      );
    };
    const timers = FURTHER_AT_MS.filter((at) => at < timeoutMs)
      .map((at) => clock.after(at, () => attempt(timeoutMs - at)));
    if (signal.aborted) others.abort();
    attempt(timeoutMs);
  });
}
