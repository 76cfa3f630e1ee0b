import type { NodeName } from "./node_name.ts";

/** A unique reference, such as a monitor's; a value. */
export class Ref {
  /** The node that made it. */
  readonly node: NodeName;
  /** The life of that node. */
  readonly epoch: number;
  /** Its number on that node. */
  readonly id: number;

  constructor(node: NodeName, epoch: number, id: number) {
    this.node = node;
    this.epoch = epoch;
    this.id = id;
  }

  /** Whether both are the same reference. */
  equals(other: unknown): boolean {
    return other instanceof Ref && other.id === this.id && other.node === this.node &&
      other.epoch === this.epoch;
  }

  /** `#Ref<node1@127.0.0.1.7>`. */
  toString(): string {
    return `#Ref<${this.node}.${this.id}>`;
  }
}
