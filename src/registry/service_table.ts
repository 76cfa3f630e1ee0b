/** The services that are known, from the rows of the registry's store, and what becomes of them. */
import type { Bytes } from "../base/bytes.ts";
import type { Change, Row } from "../replica/store_state.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Pid } from "../wire/pid.ts";
import type { Life } from "../wire/pid.ts";
import { decodeState, parseKey } from "./rows.ts";

/** One instance of a service. */
export interface Instance {
  readonly name: string;
  readonly node: NodeName;
  readonly pid: Pid;
  /** What it was registered with; each lookup gives a copy. */
  readonly meta: unknown;
}

/** A transition of one instance, told once. */
export interface RegistryEvent {
  /** `down`: its process ended, or its node was declared down. */
  readonly type: "registered" | "unregistered" | "down";
  readonly name: string;
  readonly node: NodeName;
  readonly pid: Pid;
  /**
   * Of `down`: the exit reason; `"shutdown"` when its node closed or left the cluster,
   * `"noconnection"` when that was declared down.
   */
  readonly reason?: unknown;
}

interface Held extends Omit<Instance, "meta"> {
  /** What its row says, from which each reader gets metadata of its own. */
  readonly value: Bytes;
  /** The row it comes from: author and key. */
  readonly row: string;
  /** How much this node prefers it; see `pick`. */
  readonly score: number;
}

/** The instances by name and by row. */
export class ServiceTable {
  readonly #own: Life;
  readonly #byRow = new Map<string, Held>();
  readonly #byName = new Map<string, Map<string, Held>>();

  /** `own` is this life of this node. */
  constructor(own: Life) {
    this.#own = own;
  }

  /** Takes a change of a row whose author is `node`; `hasLeft` when that says itself that it goes. */
  change({ type, row }: Change, node: NodeName, hasLeft: boolean): RegistryEvent[] {
    const id = rowId(row.author, row.key);
    const held = this.#byRow.get(id);
    switch (type) {
      case "put":
      case "restored":
        return this.#put(id, row, node, held);
      case "removed":
        // Its row said why before; who missed that knows only that it is gone.
        return held === undefined ? [] : this.#drop([held], "down", "noproc");
      case "hidden":
        // Which of its words comes first, this or how its processes ended, is chance.
        return held === undefined
          ? []
          : this.#drop([held], "down", hasLeft ? "shutdown" : "noconnection");
    }
  }

  /** Drops what none of the visible rows says: it was missed that they went. */
  keepOnly(rows: readonly Row[]): RegistryEvent[] {
    const left = new Set(rows.map(({ author, key }) => rowId(author, key)));
    return [...this.#byRow.values()].filter(({ row }) => !left.has(row))
      .flatMap((held) => this.#drop([held], "down", "noproc"));
  }

  /** Every instance of a name, or those of one node. Metadata is read anew, so reading costs that. */
  lookup(name: string, node?: NodeName): Instance[] {
    return this.#instances(name)
      .filter((held) => node === undefined || held.node === node)
      .map((held) => this.#entryOf(held));
  }

  /** The processes of a name. */
  pids(name: string): Pid[] {
    return this.#instances(name).map(({ pid }) => pid);
  }

  // One for each process, under whichever key of its node.
  #instances(name: string): Held[] {
    const instances: Held[] = [];
    for (const held of this.#byName.get(name)?.values() ?? []) {
      if (!instances.some(({ pid }) => pid.equals(held.pid))) instances.push(held);
    }
    return instances;
  }

  #entryOf({ name, node, pid, value }: Held): Instance {
    const state = decodeState(value, { own: this.#own, peer: pid.life });
    return { name, node, pid, meta: state?.type === "live" ? state.meta : undefined };
  }

  /** The names that have an instance. */
  names(): string[] {
    return [...this.#byName.keys()];
  }

  /** Whether a name has an instance. */
  has(name: string): boolean {
    return this.#byName.has(name);
  }

  /**
   * One instance: of this node if there is one, otherwise always the same for one caller as long
   * as it lives, and different ones for different nodes (rendezvous hashing), so that what one
   * node sends stays in order and the load is spread.
   */
  pick(name: string): Pid | undefined {
    let best: Held | undefined;
    for (const held of this.#byName.get(name)?.values() ?? []) {
      if (best === undefined || held.score > best.score) best = held;
    }
    return best?.pid;
  }

  #put(id: string, row: Row, node: NodeName, held: Held | undefined): RegistryEvent[] {
    const key = parseKey(row.key);
    const life = this.#own.other(node, row.epoch);
    const state = decodeState(row.value, { own: this.#own, peer: life });
    if (key === undefined || state === undefined) return [];
    if (state.type !== "live") {
      const ended = new Pid(life, key.id);
      const all = [...held === undefined ? [] : [held], ...this.#twins(key.name, ended, id)];
      return state.type === "down"
        ? this.#drop(all, "down", state.reason)
        : this.#drop(all, "unregistered");
    }
    const events: RegistryEvent[] = [];
    const isSame = held?.pid.epoch === row.epoch;
    // The same number in a later life of the node is another process.
    if (held !== undefined && !isSame) events.push(...this.#drop([held], "down", "noproc"));
    const pid = isSame ? held.pid : new Pid(life, key.id);
    const score = this.#scoreOf(pid);
    const instance: Held = { name: key.name, node, pid, value: row.value, row: id, score };
    this.#byRow.set(id, instance);
    const instances = this.#byName.get(key.name) ?? new Map<string, Held>();
    this.#byName.set(key.name, instances);
    instances.set(id, instance);
    // After a rotation of its node's key one process may stand under both for a while.
    const isTold = isSame || this.#twins(key.name, pid, id).length > 0;
    if (!isTold) events.push({ type: "registered", name: key.name, node, pid });
    return events;
  }

  // The entries of one process from other rows than `row`.
  #twins(name: string, pid: Pid, row: string): Held[] {
    return [...this.#byName.get(name)?.values() ?? []]
      .filter((held) => held.row !== row && held.pid.equals(pid));
  }

  #scoreOf(pid: Pid): number {
    const bonus = pid.node === this.#own.node ? 2 ** 32 : 0;
    return bonus + fnv1a(`${this.#own.node} ${pid} ${pid.epoch}`);
  }

  // Entries of one process; it has ended, for others, when none is left.
  #drop(all: Held[], type: "unregistered" | "down", reason?: unknown): RegistryEvent[] {
    for (const { name, row } of all) {
      this.#byRow.delete(row);
      const instances = this.#byName.get(name);
      instances?.delete(row);
      if (instances?.size === 0) this.#byName.delete(name);
    }
    const [first] = all;
    if (first === undefined) return [];
    const { name, node, pid, row } = first;
    if (this.#twins(name, pid, row).length > 0) return [];
    return [type === "down" ? { type, name, node, pid, reason } : { type, name, node, pid }];
  }
}

function rowId(author: Bytes, key: string): string {
  return String.fromCharCode(...author) + key;
}

function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}
