import type { Timer } from "../base/clock.ts";
import { knownOptions } from "../base/known_options.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import type { Ref } from "../wire/ref.ts";
import type { ReceiveOptions } from "./mailbox.ts";
import type { ExitReason, SystemMessage } from "./messages.ts";
import { ExitSignal } from "./process.ts";
import type { Behaviour, Process, Self } from "./process.ts";
import type { ActorSystem } from "./system.ts";

const RECEIVE_OPTIONS = ["timeoutMs"];

/**
 * A process as it sees itself. Code that goes on after its process has ended holds on to nothing:
 * whatever it asks for throws.
 */
export class ProcessSelf<Msg> implements Self<Msg>, AsyncIterableIterator<Msg | SystemMessage> {
  readonly #system: ActorSystem;
  readonly #process: Process;
  #end: Promise<void> | undefined;

  constructor(system: ActorSystem, process: Process) {
    this.#system = system;
    this.#process = process;
  }

  /** Runs `behaviour`; its end is the system's business. What it throws at once is thrown. */
  static run<M>(system: ActorSystem, process: Process, behaviour: Behaviour<M>): void {
    const self = new ProcessSelf<M>(system, process);
    const end = behaviour(self);
    if (!(end instanceof Promise)) return system.ended(process, end);
    self.#end = end;
    // Bound, as that takes less than closures, and each process at rest holds it.
    const over = ended.bind(self);
    end.then(over, over);
  }

  /** Its function's promise has settled. */
  static over(self: ProcessSelf<unknown>): void {
    self.#system.ended(self.#process, self.#end);
  }

  get pid(): Pid<Msg> {
    return this.#process.pid;
  }

  get node(): NodeName {
    return this.#process.pid.node;
  }

  get signal(): AbortSignal {
    return this.#process.signal;
  }

  get trapExit(): boolean {
    return this.#process.trapExit;
  }

  set trapExit(value: boolean) {
    this.#process.trapExit = value;
  }

  get mailbox(): AsyncIterable<Msg | SystemMessage> {
    // Its own iteration: each process that rests holds one.
    return this;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** See `mailbox`. */
  next(): Promise<IteratorResult<Msg | SystemMessage>> {
    return this.#process.mailbox.step() as Promise<IteratorResult<Msg | SystemMessage>>;
  }

  // oxlint-disable-next-line typescript/no-explicit-any -- two overloads behind one function
  receive(first?: any, second?: ReceiveOptions): Promise<any> {
    const { mailbox } = this.#process;
    const options = typeof first === "function" ? second : first;
    try {
      knownOptions(options, RECEIVE_OPTIONS);
    } catch (error) {
      return Promise.reject(error as Error);
    }
    return typeof first === "function" ? mailbox.take(first, second) : mailbox.next(first);
  }

  monitor(target: Pid | string): Ref {
    return this.#system.monitor(alive(this.#process), target);
  }

  demonitor(ref: Ref, options?: { flush?: boolean }): void {
    this.#system.demonitor(this.#process, ref, options?.flush === true);
  }

  monitorNode(node: NodeName): void {
    this.#system.monitorNode(alive(this.#process), node);
  }

  link(other: Pid): void {
    this.#system.link(alive(this.#process), other);
  }

  unlink(other: Pid): void {
    this.#system.unlink(this.#process, other);
  }

  spawnLink<M>(behaviour: Behaviour<M>): Pid<M> {
    const process = alive(this.#process);
    const child = this.#system.create();
    this.#system.link(process, child.pid);
    this.#system.run(child, behaviour);
    return child.pid;
  }

  spawnMonitor<M>(behaviour: Behaviour<M>): { pid: Pid<M>; ref: Ref } {
    const process = alive(this.#process);
    const child = this.#system.create();
    const ref = this.#system.monitor(process, child.pid);
    this.#system.run(child, behaviour);
    return { pid: child.pid, ref };
  }

  sendAfter<M>(ms: number, target: Pid<M>, message: M): Timer {
    return this.#system.sendAfter(alive(this.#process), ms, target, message);
  }

  exit(reason: ExitReason): never {
    throw new ExitSignal(reason);
  }
}

function ended(this: ProcessSelf<unknown>): void {
  ProcessSelf.over(this);
}

// Not a private method: those would cost each process a word.
function alive(process: Process): Process {
  if (!process.isAlive) throw process.mailbox.closed;
  return process;
}
