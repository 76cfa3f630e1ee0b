import { availableParallelism } from "node:os";
import process from "node:process";

/** What a check found. */
export interface Verdict {
  readonly ok: boolean;
  /** A few words for the check's line. */
  readonly note?: string;
  /** Shown only when the check failed. */
  readonly output: string;
}

/** One check of the gate. */
export interface Check {
  readonly name: string;
  readonly title: string;
  run(): Promise<Verdict>;
}

/** A check could not run, because what it needs failed; its message says what. */
export class Blocked extends Error {
  override readonly name = "Blocked";
}

/** How many checks passed and failed. */
export interface Tally {
  passed: number;
  failed: number;
}

/** Calls `work` on each item, a few at a time. */
export async function pooled<T>(
  items: readonly T[],
  work: (item: T) => Promise<void>,
  width: number = Math.max(2, availableParallelism()),
): Promise<void> {
  const queue = [...items];
  const lane = async () => {
    for (let item = queue.shift(); item !== undefined; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: width }, lane));
}

/** Runs the checks and prints one line for each, with its time; its output only when it failed. */
export async function runChecks(checks: readonly Check[]): Promise<Tally> {
  const tally: Tally = { passed: 0, failed: 0 };
  await pooled(checks, async (check) => {
    const start = performance.now();
    const verdict = await check.run().catch((error: unknown): Verdict => ({
      ok: false,
      output: error instanceof Blocked || !(error instanceof Error)
        ? String(error)
        : error.stack ?? error.message,
    }));
    tally[verdict.ok ? "passed" : "failed"]++;
    printLine(check.title, verdict, performance.now() - start);
  });
  return tally;
}

/** Prints the line of one check or one runtime's tests. */
export function printLine(title: string, verdict: Verdict, ms: number): void {
  const seconds = `${(ms / 1000).toFixed(1)} s`;
  const note = verdict.note === undefined ? "" : `  ${verdict.note}`;
  console.log(`${verdict.ok ? "ok  " : "FAIL"} ${title.padEnd(32)} ${seconds.padStart(7)}${note}`);
  if (!verdict.ok) console.log(verdict.output.trimEnd().replace(/^/gm, "     "));
}

/** Ends with the one line that sums everything up, and the exit code that goes with it. */
export function close(tallies: readonly Tally[]): void {
  const passed = tallies.reduce((sum, tally) => sum + tally.passed, 0);
  const failed = tallies.reduce((sum, tally) => sum + tally.failed, 0);
  console.log(`\n${passed} passed, ${failed} failed`);
  process.exitCode = failed > 0 || passed === 0 ? 1 : 0;
}
