/** The tests on the three runtimes, and one count for all of them. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { bin, run } from "./command.ts";
import { filesUnder } from "./files.ts";
import { countJunit } from "./junit.ts";
import { pooled, printLine } from "./tasks.ts";
import type { Tally } from "./tasks.ts";

/** The runtimes under test. The slowest to run the tests comes first. */
export const runtimes = ["node", "deno", "bun"] as const;
/** One of them. */
export type Runtime = (typeof runtimes)[number];

/** Milliseconds for all tests on one runtime, whatever its own deadlines do. */
const DEADLINE_MS = 1_200_000;

interface Runner {
  /** Whether each file has a process of its own. */
  readonly isAlone?: boolean;
  readonly args: (report: string, files: readonly string[]) => string[];
  /** The line that a test leaves when it has ended. */
  readonly ended: RegExp;
}

const runners: Record<Runtime, Runner> = {
  deno: {
    args: (report, files) => [
      "test",
      "--allow-all",
      "--unstable-net",
      // `deno check` has its own place in the gate.
      "--no-check",
      `--junit-path=${report}`,
      ...files,
    ],
    ended: /^.* \.\.\. (?:ok|FAILED|ignored|cancelled)\b.*\n/gm,
  },
  bun: {
    // Bun 1.4's QUIC tells the end of an endpoint when its file is over and its globals with it,
    // which fails a test of the next one: `--isolate` is not enough.
    isAlone: true,
    args: (report, files) => [
      "test",
      "--reporter=junit",
      `--reporter-outfile=${report}`,
      ...files.map((file) => `./${file}`),
    ],
    ended: /^\((?:pass|fail|skip)\) .*\n/gm,
  },
  node: {
    args: (report, files) => [
      "--disable-warning=ExperimentalWarning",
      "--test",
      "--test-concurrency=1",
      // Behind the harness's own deadline: for a file that hangs outside a test.
      "--test-timeout=300000",
      "--test-reporter=junit",
      `--test-reporter-destination=${report}`,
      "--test-reporter=spec",
      "--test-reporter-destination=stdout",
      ...files,
    ],
    ended: /^(?:✔|✖|﹣) .*\n/gm,
  },
};

/** All test files, or those whose path contains one of `filters`. */
export function testFiles(filters: readonly string[]): string[] {
  const all = filesUnder("test", ".test.ts");
  return filters.length === 0
    ? all
    : all.filter((path) => filters.some((filter) => path.includes(filter)));
}

/** Runs `files` on the runtimes named, printing progress and one line for each runtime. */
export async function runTests(files: readonly string[], on: readonly Runtime[]): Promise<Tally> {
  const tally: Tally = { passed: 0, failed: 0 };
  const folder = mkdtempSync(join(tmpdir(), "barrel-tests-"));
  const progress = showProgress();
  try {
    await pooled(on, async (runtime) => {
      const start = performance.now();
      const { args, ended, isAlone = false } = runners[runtime];
      const counts = { passed: 0, failed: 0, skipped: 0 };
      const problems: string[] = [];
      const outputs: string[] = [];
      const groups = isAlone ? files.map((file) => [file]) : [files];
      for (const [index, group] of groups.entries()) {
        const report = join(folder, `${runtime}-${index}.xml`);
        const finished = await run(bin(runtime), args(report, group), {
          timeoutMs: DEADLINE_MS,
          onOutput: (text) => progress.add(runtime, text.match(ended)?.length ?? 0),
        });
        const own = countJunit(readReport(report));
        counts.passed += own.passed;
        counts.failed += own.failed;
        counts.skipped += own.skipped;
        const isSilent = !finished.ok && own.failed === 0;
        if (isSilent) {
          const what = isAlone ? `${group[0]} on ${runtime}` : runtime;
          problems.push(`no test failed, and yet ${what} ended with ${finished.code}`);
        }
        if (!finished.ok) outputs.push(withoutPassed(finished.output));
      }
      if (counts.passed + counts.failed === 0) problems.push(`no test ran on ${runtime}`);
      // A runner that failed as a whole counts as one failed test.
      const failed = counts.failed + problems.length;
      tally.passed += counts.passed;
      tally.failed += failed;
      const skipped = counts.skipped === 0 ? "" : `, ${counts.skipped} skipped`;
      progress.clear();
      printLine(`tests on ${runtime}`, {
        ok: failed === 0,
        note: `${counts.passed} passed, ${failed} failed${skipped}`.replace(", 0 failed", ""),
        output: [...problems, ...outputs].join("\n"),
      }, performance.now() - start);
    });
  } finally {
    progress.end();
    rmSync(folder, { recursive: true });
  }
  return tally;
}

function readReport(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

function withoutPassed(output: string): string {
  return output
    .replace(/^(?:✔|﹣|ℹ|\(pass\)|\(skip\)) .*\n/gm, "")
    .replace(/^.* \.\.\. (?:ok|ignored)\b.*\n/gm, "")
    .replace(/^Stack backtrace:\n +0: <unknown>\n/gm, "")
    .replace(/\n{3,}/g, "\n\n");
}

interface Progress {
  add(runtime: Runtime, tests: number): void;
  clear(): void;
  end(): void;
}

// One line that changes on a terminal; elsewhere a line now and then, so that a log shows life.
function showProgress(): Progress {
  const start = performance.now();
  const counts = new Map<Runtime, number>();
  const terminal = process.stdout.isTTY;
  const clear = () => {
    if (terminal) process.stdout.write("\r\x1b[K");
  };
  const timer = setInterval(() => {
    const told = [...counts].map(([runtime, count]) => `${runtime} ${count}`).join(", ");
    const line = `     tests so far: ${told || "none"}  ${
      Math.round((performance.now() - start) / 1000)
    } s`;
    if (terminal) process.stdout.write(`\r\x1b[K${line}`);
    else console.log(line);
  }, terminal ? 200 : 15_000);
  return {
    add: (runtime, tests) => void counts.set(runtime, (counts.get(runtime) ?? 0) + tests),
    clear,
    end() {
      clearInterval(timer);
      clear();
    },
  };
}
