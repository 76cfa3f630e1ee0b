import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The runtimes under test. */
export const RUNTIMES = ["deno", "bun", "node"] as const;
/** One of them. */
export type RuntimeName = (typeof RUNTIMES)[number];

const root = fileURLToPath(new URL("..", import.meta.url));

// The command that runs a program of this repository on `runtime`.
function commandOf(
  runtime: RuntimeName,
  program: string,
  exposesGc: boolean,
): [string, string[]] {
  const gc = (flag: string) => exposesGc ? [flag] : [];
  const binary = `${root}node_modules/.bin/${runtime}`;
  const file = `${root}${program}`;
  switch (runtime) {
    case "deno":
      return [binary, [
        "run",
        "-A",
        "--unstable-net",
        ...gc("--v8-flags=--expose-gc"),
        "--config",
        `${root}deno.json`,
        file,
      ]];
    case "bun":
      return [binary, [file]];
    case "node":
      return [binary, ["--disable-warning=ExperimentalWarning", ...gc("--expose-gc"), file]];
  }
}

/** A child process that talks in lines. */
export interface Program {
  readonly child: ChildProcess;
  readonly pid: number;
  /** All that it has printed. */
  readonly output: string[];
  /** Resolves with the first line, printed already or later, that `match` accepts. */
  line(match: RegExp, deadlineMs?: number): Promise<RegExpExecArray>;
  /** Writes a line to its standard input. */
  say(text: string): void;
  /** Resolves with the exit code, or the signal's name. */
  readonly exited: Promise<number | string>;
  /** Lets this process end while the program runs on; the program's standard input ends then. */
  detach(): void;
  /** Ends it and waits for its end. */
  kill(signal?: "SIGTERM" | "SIGKILL" | "SIGINT"): Promise<void>;
}

/** How a program is started. */
export interface ProgramOptions {
  /** The network namespace to run it in. */
  readonly namespace?: string;
  /** Whether it can have its garbage collected: `gc` of V8; Bun always can. */
  readonly exposesGc?: boolean;
  /** A command that runs the program, with its arguments. */
  readonly before?: readonly string[];
}

/** Starts a program of this repository on `runtime`. */
export function startProgram(
  runtime: RuntimeName,
  program: string,
  args: readonly string[] = [],
  { namespace, exposesGc = false, before: wrapper = [] }: ProgramOptions = {},
): Program {
  const [binary, prefix] = commandOf(runtime, program, exposesGc);
  const [command, ...before] = namespace === undefined
    ? [...wrapper, binary]
    : ["ip", "netns", "exec", namespace, ...wrapper, binary];
  const child = spawn(command, [...before, ...prefix, ...args], {
    stdio: ["pipe", "pipe", "pipe"],
    cwd: root,
  });
  const output: string[] = [];
  const waiting = new Set<() => void>();
  const told = () => {
    for (const check of [...waiting]) check();
  };
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on("line", (line) => {
      output.push(line);
      told();
    });
  }
  const exited = new Promise<number | string>((resolve) => {
    child.on("close", (code, signal) => {
      resolve(code ?? signal ?? "unknown");
      told();
    });
    child.on("error", (error) => {
      output.push(String(error));
      resolve("error");
      told();
    });
  });
  let over = false;
  void exited.then(() => (over = true)).then(told);
  return {
    child,
    pid: child.pid ?? -1,
    output,
    exited,
    line(match, deadlineMs = 30_000) {
      return new Promise((resolve, reject) => {
        const fail = (why: string) => {
          stop();
          reject(
            new Error(`${runtime} ${program}: ${why} ${match}; it said:\n${output.join("\n")}`),
          );
        };
        const timer = setTimeout(() => fail(`${deadlineMs} ms passed without`), deadlineMs);
        const stop = () => {
          clearTimeout(timer);
          waiting.delete(check);
        };
        const check = () => {
          for (const line of output) {
            const found = match.exec(line);
            if (found === null) continue;
            stop();
            return resolve(found);
          }
          if (over) fail("ended without");
        };
        waiting.add(check);
        check();
      });
    },
    say: (text) => void child.stdin.write(`${text}\n`),
    detach() {
      child.unref();
      for (const stream of [child.stdin, child.stdout, child.stderr]) {
        (stream as { unref?: () => void }).unref?.();
      }
    },
    async kill(signal = "SIGTERM") {
      if (!over) child.kill(signal);
      await exited;
    },
  };
}
