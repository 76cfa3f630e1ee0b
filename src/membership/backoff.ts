/** First wait after a failure, milliseconds; each further failure doubles it. */
const BACKOFF_BASE_MS: number = 1_000;
/** Longest wait between two attempts, milliseconds. */
const BACKOFF_MAX_MS: number = 300_000;

/** How long to wait after the `failures`-th failure in a row, milliseconds. */
export function backoffMs(failures: number, maxMs: number = BACKOFF_MAX_MS): number {
  return Math.min(maxMs, BACKOFF_BASE_MS * 2 ** Math.min(30, Math.max(0, failures - 1)));
}
