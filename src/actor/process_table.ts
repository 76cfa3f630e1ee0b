import type { Process } from "./process.ts";

/** Processes of one page. A page that has one process left costs half a kilobyte. */
const PAGE = 64;

interface Page {
  readonly processes: (Process | undefined)[];
  count: number;
}

/**
 * The live processes by their numbers, which are given in order: pages of them take a third of the
 * memory that a `Map` takes for each, and growing it moves none.
 */
export class ProcessTable {
  readonly #pages = new Map<number, Page>();

  /** The process with this number. */
  get(id: number): Process | undefined {
    return this.#pages.get(Math.floor(id / PAGE))?.processes[id % PAGE];
  }

  /** Adds one with a new number, the highest so far. */
  add(process: Process): void {
    const { id } = process.pid;
    const number = Math.floor(id / PAGE);
    let page = this.#pages.get(number);
    if (page === undefined) {
      page = { processes: new Array<Process | undefined>(PAGE).fill(undefined), count: 0 };
      this.#pages.set(number, page);
    }
    page.processes[id % PAGE] = process;
    page.count++;
  }

  /** Takes out one that is there. */
  delete(process: Process): void {
    const { id } = process.pid;
    const number = Math.floor(id / PAGE);
    const page = this.#pages.get(number);
    if (page?.processes[id % PAGE] !== process) return;
    page.processes[id % PAGE] = undefined;
    if (--page.count === 0) this.#pages.delete(number);
  }

  /** All of them, oldest first. */
  all(): Process[] {
    const all: Process[] = [];
    for (const { processes } of this.#pages.values()) {
      for (const process of processes) if (process !== undefined) all.push(process);
    }
    return all;
  }
}
