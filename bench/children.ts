import { createInterface } from "node:readline";
import { startProgram } from "../test/processes.ts";
import type { Program, RuntimeName } from "../test/processes.ts";

/** The processes of a measurement: each is announced, and all are killed at the end. */
export class Children {
  readonly #tell: (line: string) => void;
  #running: Program[] = [];

  /** `tell` takes lines of progress. */
  constructor(tell: (line: string) => void) {
    this.#tell = tell;
  }

  /** Starts a program of this repository; of its lines those are told that `step` finds a text in. */
  start(
    runtime: RuntimeName,
    program: string,
    args: readonly string[],
    role: string,
    step?: (line: string) => string | undefined,
  ): Program {
    const child = startProgram(runtime, program, args);
    this.#running.push(child);
    this.#tell(`${role} on ${runtime}, process ${child.pid}`);
    if (step !== undefined && child.child.stdout !== null) {
      createInterface({ input: child.child.stdout }).on("line", (line) => {
        const text = step(line);
        if (text !== undefined) this.#tell(`${role}: ${text}`);
      });
    }
    return child;
  }

  /** Tells how far it is. */
  tell(line: string): void {
    this.#tell(line);
  }

  /** Kills all that run and waits for their end. */
  async stop(): Promise<void> {
    const running = this.#running;
    this.#running = [];
    await Promise.all(running.map((child) => child.kill("SIGKILL")));
  }
}
