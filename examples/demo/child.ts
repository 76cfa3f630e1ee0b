import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

/** The runtimes of the demo. */
export const RUNTIMES = ["deno", "bun", "node"] as const;
/** One of them. */
export type RuntimeName = (typeof RUNTIMES)[number];
/** One line that a node reported. */
export type Report = Record<string, unknown>;

const root = fileURLToPath(new URL("../..", import.meta.url));
const program = fileURLToPath(new URL("node.ts", import.meta.url));

function commandOf(runtime: RuntimeName): [string, string[]] {
  const binary = `${root}node_modules/.bin/${runtime}`;
  switch (runtime) {
    case "deno":
      return [binary, ["run", "--quiet", "-A", "--config", `${root}deno.json`, program]];
    case "bun":
      return [binary, [program]];
    case "node":
      return [binary, ["--disable-warning=ExperimentalWarning", program]];
  }
}

/** A node of the demo in its own process. */
export class Child {
  readonly label: string;
  readonly runtime: RuntimeName;
  /** Its name in the cluster. */
  readonly node: string;
  /** The exit code, or the signal. */
  readonly exited: Promise<number | string>;
  readonly #process: ChildProcess;
  readonly #reports: Report[] = [];
  readonly #errors: string[] = [];
  readonly #checks = new Set<() => void>();
  #isOver = false;

  constructor(label: string, runtime: RuntimeName, args: readonly (string | undefined)[]) {
    this.label = label;
    this.runtime = runtime;
    this.node = `${label}@127.0.0.1`;
    const [command, prefix] = commandOf(runtime);
    const given = args.filter((arg) => arg !== undefined);
    this.#process = spawn(command, [...prefix, this.node, ...given], {
      stdio: ["pipe", "pipe", "pipe"],
      cwd: root,
      // Ctrl-C is the parent's to handle.
      detached: true,
    });
    const { stdin, stdout, stderr } = this.#process;
    stdin?.on("error", () => {}); // it may have ended
    if (stdout) createInterface({ input: stdout }).on("line", (line) => this.#report(line));
    if (stderr) createInterface({ input: stderr }).on("line", (line) => this.#errors.push(line));
    this.exited = new Promise((resolve) => {
      this.#process.on("error", (error) => {
        this.#errors.push(error.message);
        resolve("not started");
      });
      this.#process.on("close", (code, signal) => resolve(code ?? signal ?? "unknown"));
    });
    void this.exited.then(() => {
      this.#isOver = true;
      for (const check of [...this.#checks]) check();
    });
  }

  /** The first report of this kind that matches, made already or to come. */
  wait(
    event: string,
    match: (report: Report) => boolean = () => true,
    ms = 30_000,
  ): Promise<Report> {
    return new Promise((resolve, reject) => {
      const fail = (why: string) => {
        stop();
        const said = this.#errors.slice(-5).join("\n  ");
        reject(new Error(`${this.label} (${this.runtime}) ${why}${said && `\n  ${said}`}`));
      };
      const timer = setTimeout(() => fail(`did not report "${event}" in ${ms / 1000} s`), ms);
      const stop = () => {
        clearTimeout(timer);
        this.#checks.delete(check);
      };
      const check = () => {
        const found = this.#reports.find((report) => report["event"] === event && match(report));
        const failed = this.#reports.find((report) => report["event"] === "failed");
        if (found !== undefined) {
          stop();
          resolve(found);
        } else if (failed !== undefined) fail(`failed: ${failed["message"]}`);
        else if (this.#isOver) fail(`ended before it reported "${event}"`);
      };
      this.#checks.add(check);
      check();
    });
  }

  /** Gives it an order. */
  say(line: string): void {
    this.#process.stdin?.write(`${line}\n`);
  }

  /** Ends it without warning. */
  kill(): void {
    this.#process.kill("SIGKILL");
  }

  /** Ends it: by asking, then by force. */
  async stop(): Promise<void> {
    if (this.#isOver) return;
    this.#process.stdin?.end();
    const timer = setTimeout(() => this.kill(), 4_000);
    await this.exited;
    clearTimeout(timer);
  }

  #report(line: string): void {
    try {
      this.#reports.push(JSON.parse(line) as Report);
    } catch {
      this.#errors.push(line);
    }
    for (const check of [...this.#checks]) check();
  }
}
