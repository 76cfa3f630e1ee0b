import { spawn } from "node:child_process";
import { delimiter } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

/** The repository's folder, with a slash at its end. */
export const root: string = fileURLToPath(new URL("../..", import.meta.url));

/** The path of a program that `npm ci` brought. */
export function bin(name: string): string {
  return `${root}node_modules/.bin/${name}`;
}

/** What a finished command left. */
export interface Finished {
  readonly ok: boolean;
  readonly code: number | string;
  /** Standard output and standard error as they came. */
  readonly output: string;
  readonly stdout: string;
}

/** Settings of {@link run}. */
export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Record<string, string>;
  /** Milliseconds until the command and its children are killed. @default 300,000 */
  readonly timeoutMs?: number;
  /** Called with each piece of output. */
  readonly onOutput?: (text: string) => void;
}

// Each command leads a process group of its own, so that nothing it started outlives it.
const groups = new Set<number>();
const killGroup = (pid: number) => {
  try {
    process.kill(-pid, "SIGKILL");
  } catch {
    // It has ended already.
  }
};
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    for (const pid of groups) killGroup(pid);
    process.exit(130);
  });
}

/** Runs a command to its end. Never rejects: what went wrong is in the output. */
export function run(
  command: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Finished> {
  const timeoutMs = options.timeoutMs ?? 300_000;
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: options.cwd ?? root,
      detached: true,
      stdio: ["ignore", "pipe", "pipe"],
      env: {
        ...process.env,
        PATH: `${root}node_modules/.bin${delimiter}${process.env["PATH"]}`,
        NO_COLOR: "1",
        DENO_NO_UPDATE_CHECK: "1",
        ...options.env,
      },
    });
    let output = "";
    let stdout = "";
    const pid = child.pid;
    if (pid !== undefined) groups.add(pid);
    const timer = setTimeout(() => {
      output += `\n${command} did not end within ${timeoutMs / 1000} s\n`;
      if (pid !== undefined) killGroup(pid);
    }, timeoutMs);
    const finish = (code: number | string) => {
      clearTimeout(timer);
      if (pid !== undefined) groups.delete(pid);
      resolve({ ok: code === 0, code, output, stdout });
    };
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        output += text;
        if (stream === child.stdout) stdout += text;
        options.onOutput?.(text);
      });
    }
    // What it left behind would hold its output open.
    child.on("exit", () => pid === undefined || killGroup(pid));
    child.on("error", (error) => {
      output += `${error}\n`;
      finish("error");
    });
    child.on("close", (code, signal) => finish(code ?? signal ?? "unknown"));
  });
}
