import type { Timer } from "../base/clock.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import type { Ref } from "../wire/ref.ts";
import type { Mailbox, ReceiveOptions } from "./mailbox.ts";
import type { ExitReason, SystemMessage } from "./messages.ts";
import { ExitSignal } from "./process.ts";
import type { Behaviour, Process, Self } from "./process.ts";
import type { ActorSystem } from "./system.ts";

/** The iteration over a mailbox: one small object, as each process that rests holds one. */
class Messages<Msg> implements AsyncIterableIterator<Msg | SystemMessage> {
  readonly #mailbox: Mailbox;

  constructor(mailbox: Mailbox) {
    this.#mailbox = mailbox;
  }

  next(): Promise<IteratorResult<Msg | SystemMessage>> {
    return this.#mailbox.step() as Promise<IteratorResult<Msg | SystemMessage>>;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

/**
 * A process as it sees itself. Code that goes on after its process has ended holds on to nothing:
 * whatever it asks for throws.
 */
export class ProcessSelf<Msg> implements Self<Msg> {
  readonly #system: ActorSystem;
  readonly #process: Process;

  constructor(system: ActorSystem, process: Process) {
    this.#system = system;
    this.#process = process;
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
    return new Messages<Msg>(this.#process.mailbox);
  }

  // oxlint-disable-next-line typescript/no-explicit-any -- two overloads behind one function
  receive(first?: any, second?: ReceiveOptions): Promise<any> {
    const { mailbox } = this.#process;
    return typeof first === "function" ? mailbox.take(first, second) : mailbox.next(first);
  }

  monitor(target: Pid | string): Ref {
    return this.#system.monitor(this.#alive(), target);
  }

  demonitor(ref: Ref, options?: { flush?: boolean }): void {
    this.#system.demonitor(this.#process, ref, options?.flush === true);
  }

  monitorNode(node: NodeName): void {
    this.#system.monitorNode(this.#alive(), node);
  }

  link(other: Pid): void {
    this.#system.link(this.#alive(), other);
  }

  unlink(other: Pid): void {
    this.#system.unlink(this.#process, other);
  }

  spawnLink<M>(behaviour: Behaviour<M>): Pid<M> {
    const process = this.#alive();
    const child = this.#system.create();
    this.#system.link(process, child.pid);
    this.#system.run(child, behaviour);
    return child.pid;
  }

  spawnMonitor<M>(behaviour: Behaviour<M>): { pid: Pid<M>; ref: Ref } {
    const process = this.#alive();
    const child = this.#system.create();
    const ref = this.#system.monitor(process, child.pid);
    this.#system.run(child, behaviour);
    return { pid: child.pid, ref };
  }

  sendAfter<M>(ms: number, target: Pid<M>, message: M): Timer {
    return this.#system.sendAfter(this.#alive(), ms, target, message);
  }

  exit(reason: ExitReason): never {
    throw new ExitSignal(reason);
  }

  #alive(): Process {
    if (!this.#process.isAlive) throw this.#process.mailbox.closed;
    return this.#process;
  }
}
