import type { NodeName } from "./node_name.ts";

/** Delivers what is sent to a pid: the actor system of the node that made or decoded it. */
export interface PidSender {
  send(pid: Pid, message: unknown): void | Promise<void>;
}

/** One life of a node, from its start to its end: what the pids of its processes have in common. */
export class Life {
  readonly node: NodeName;
  readonly epoch: number;
  readonly #sender: PidSender;

  /** `sender` delivers for its pids. */
  constructor(node: NodeName, epoch: number, sender: PidSender) {
    this.node = node;
    this.epoch = epoch;
    this.#sender = sender;
  }

  /** Who delivers for its pids. */
  get sender(): PidSender {
    return this.#sender;
  }

  /** Another life, or another node's, for which the same one delivers. */
  other(node: NodeName, epoch: number): Life {
    return new Life(node, epoch, this.#sender);
  }
}

/** The name of one process in the cluster; a value: usable in any message, on any node. */
// oxlint-disable-next-line typescript/no-explicit-any -- a pid of unknown protocol takes any message, as in Erlang
export class Pid<Msg = any> {
  /** The life of its node; a pid of an earlier life names nobody. */
  readonly life: Life;
  /** Its number on that node. */
  readonly id: number;

  constructor(life: Life, id: number) {
    this.life = life;
    this.id = id;
  }

  /** The node it lives on. */
  get node(): NodeName {
    return this.life.node;
  }

  /** Which life of that node. */
  get epoch(): number {
    return this.life.epoch;
  }

  /**
   * Sends a message, at most once, in order with others to the same process. Returns a promise to
   * await when much is waiting for that node already.
   *
   * @throws EncodeError when it cannot travel; OverloadedError when too much is waiting
   */
  send(message: Msg): void | Promise<void> {
    return this.life.sender.send(this as Pid, message);
  }

  /** Whether both name the same process. */
  equals(other: unknown): boolean {
    return other instanceof Pid && other.id === this.id && other.node === this.node &&
      other.epoch === this.epoch;
  }

  /** What `JSON.stringify` writes, for logs. */
  toJSON(): { node: NodeName; epoch: number; id: number } {
    return { node: this.node, epoch: this.epoch, id: this.id };
  }

  /** `<node1@127.0.0.1.42>`. */
  toString(): string {
    return `<${this.node}.${this.id}>`;
  }
}
