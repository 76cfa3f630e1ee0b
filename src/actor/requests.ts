import type { ExitReason } from "./messages.ts";

/** Something that waits for a process, and is told when that ends without having served it. */
export interface Request {
  refuse(reason: ExitReason): void;
  /** Where it stands among the requests of its process: theirs to set. */
  slot?: number;
}

/** The requests that a process has not answered. No set: hashing each call costs more than the rest. */
export class Requests {
  readonly #waiting: Request[] = [];

  /** How many wait. */
  get size(): number {
    return this.#waiting.length;
  }

  /** Adds one that is not there. */
  add(request: Request): void {
    request.slot = this.#waiting.length;
    this.#waiting.push(request);
  }

  /** Takes one out, when it is there. */
  delete(request: Request): void {
    const { slot = -1 } = request;
    if (this.#waiting[slot] !== request) return;
    const last = this.#waiting.pop() as Request;
    if (last === request) return;
    this.#waiting[slot] = last;
    last.slot = slot;
  }

  /** Refuses all. */
  refuse(reason: ExitReason): void {
    for (const request of this.#waiting.splice(0)) request.refuse(reason);
  }
}
