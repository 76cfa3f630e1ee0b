import type { NodeName } from "./node_name.ts";

/** Delivers what is sent to a pid: the actor system of the node that made or decoded it. */
export interface PidSender {
  send(pid: Pid, message: unknown): void | Promise<void>;
}

/** The name of one process in the cluster; a value: usable in any message, on any node. */
// oxlint-disable-next-line typescript/no-explicit-any -- a pid of unknown protocol takes any message, as in Erlang
export class Pid<Msg = any> {
  /** The node it lives on. */
  readonly node: NodeName;
  /** The life of that node; a pid of an earlier life names nobody. */
  readonly epoch: number;
  /** Its number on that node. */
  readonly id: number;
  readonly #sender: PidSender;

  constructor(node: NodeName, epoch: number, id: number, sender: PidSender) {
    this.node = node;
    this.epoch = epoch;
    this.id = id;
    this.#sender = sender;
  }

  /**
   * Sends a message, at most once, in order with others to the same process. Returns a promise to
   * await when much is waiting for that node already.
   *
   * @throws EncodeError when it cannot travel; OverloadedError when too much is waiting
   */
  send(message: Msg): void | Promise<void> {
    return this.#sender.send(this as Pid, message);
  }

  /** Whether both name the same process. */
  equals(other: unknown): boolean {
    return other instanceof Pid && other.id === this.id && other.node === this.node &&
      other.epoch === this.epoch;
  }

  /** `<node1@127.0.0.1.42>`. */
  toString(): string {
    return `<${this.node}.${this.id}>`;
  }
}
