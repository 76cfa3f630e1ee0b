import { NoProcessError } from "../actor/errors.ts";
import type { ActorSystem } from "../actor/system.ts";
import type { Pid } from "../wire/pid.ts";

/** What happens when a process of this node ends; costs other processes nothing. */
export class Owners {
  readonly #system: Pick<ActorSystem, "find" | "exitListeners">;
  readonly #whenEnded = new Map<number, Set<() => void>>();

  constructor(system: Pick<ActorSystem, "find" | "exitListeners">) {
    this.#system = system;
  }

  /** Calls `ended` when the process ends; returns what takes that back. @throws NoProcessError */
  watch(pid: Pid, ended: () => void): () => void {
    if (this.#system.find(pid) === undefined) throw new NoProcessError(String(pid), "noproc");
    const all = this.#whenEnded.get(pid.id) ?? new Set();
    this.#whenEnded.set(pid.id, all);
    this.#system.exitListeners.add(this.#onExit);
    const own = () => ended();
    all.add(own);
    return () => {
      if (all.delete(own) && all.size === 0) this.#forget(pid.id);
    };
  }

  readonly #onExit = (pid: Pid): void => {
    const all = this.#whenEnded.get(pid.id);
    if (all === undefined) return;
    this.#forget(pid.id);
    for (const ended of [...all]) ended();
  };

  #forget(id: number): void {
    this.#whenEnded.delete(id);
    if (this.#whenEnded.size === 0) this.#system.exitListeners.delete(this.#onExit);
  }
}
