import type { Timer } from "../base/clock.ts";
import { knownOptions } from "../base/known_options.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import type { Ref } from "../wire/ref.ts";
import type { ReceiveOptions } from "./mailbox.ts";
import type { ExitReason } from "./messages.ts";
import { ExitSignal, Process } from "./process.ts";
import type { Behaviour, Self } from "./process.ts";
import type { ActorSystem } from "./system.ts";

const RECEIVE_OPTIONS = ["timeoutMs"];

/**
 * A process as it sees itself: the same object as the system's, as one more would cost each process
 * at rest 48 bytes; its type shows the function that runs in it no more than {@link Self}. Code that
 * goes on after its process has ended holds on to nothing: whatever it asks for throws.
 */
export class ProcessSelf extends Process implements Self<unknown> {
  #end: Promise<void> | undefined;

  // By way of the pid, which has what all pids of this node share: a field would cost a word.
  private get system(): ActorSystem {
    return this.pid.life.sender as ActorSystem;
  }

  /** Runs `behaviour`; its end is the system's business. What it throws at once is thrown. */
  run<M>(behaviour: Behaviour<M>): void {
    const end = behaviour(this as Self<unknown> as Self<M>);
    if (!(end instanceof Promise)) return this.system.ended(this, end);
    this.#end = end;
    // Bound, as that takes less than closures, and each process at rest holds it.
    const over = ended.bind(this);
    end.then(over, over);
  }

  /** Its function's promise has settled. */
  over(): void {
    this.system.ended(this, this.#end);
  }

  get node(): NodeName {
    return this.pid.node;
  }

  // oxlint-disable-next-line typescript/no-explicit-any -- two overloads behind one function
  receive(first?: any, second?: ReceiveOptions): Promise<any> {
    const options = typeof first === "function" ? second : first;
    try {
      knownOptions(options, RECEIVE_OPTIONS);
    } catch (error) {
      return Promise.reject(error as Error);
    }
    return typeof first === "function" ? this.take(first, second) : this.any(first);
  }

  monitor(target: Pid | string): Ref {
    return this.alive().monitor(this, target);
  }

  demonitor(ref: Ref, options?: { flush?: boolean }): void {
    this.system.demonitor(this, ref, options?.flush === true);
  }

  monitorNode(node: NodeName): void {
    this.alive().monitorNode(this, node);
  }

  link(other: Pid): void {
    this.alive().link(this, other);
  }

  unlink(other: Pid): void {
    this.system.unlink(this, other);
  }

  spawnLink<M>(behaviour: Behaviour<M>): Pid<M> {
    const system = this.alive();
    const child = system.create();
    system.link(this, child.pid);
    system.run(child, behaviour);
    return child.pid;
  }

  spawnMonitor<M>(behaviour: Behaviour<M>): { pid: Pid<M>; ref: Ref } {
    const system = this.alive();
    const child = system.create();
    const ref = system.monitor(this, child.pid);
    system.run(child, behaviour);
    return { pid: child.pid, ref };
  }

  sendAfter<M>(ms: number, target: Pid<M>, message: M): Timer {
    return this.alive().sendAfter(this, ms, target, message);
  }

  exit(reason: ExitReason): never {
    throw new ExitSignal(reason);
  }

  private alive(): ActorSystem {
    if (!this.isAlive) throw this.closed;
    return this.system;
  }
}

function ended(this: ProcessSelf): void {
  this.over();
}
