/** Replicated rows that are merged by a function of the user's: counters, sets, whatever commutes. */
import { utf8 } from "../base/bytes.ts";
import { BarrelError, ClosedError, ConfigError, ConflictError, messageOf } from "../base/errors.ts";
import { Emitter } from "../base/events.ts";
import type { EventSource } from "../base/events.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { Store } from "../replica/driver.ts";
import { sharedName } from "../replica/store_kind.ts";
import type { Row } from "../replica/store_state.ts";
import type { DurableStore } from "../storage/contract.ts";
import type { MapContext } from "./map.ts";
import type { MapOptions } from "./options.ts";
import { watchOtherKind } from "./other_kind.ts";
import { checkKey, valuesOf } from "./values.ts";
import type { Values } from "./values.ts";

/** Options of `node.replicas.create`. */
export interface MergedOptions<V, M> extends MapOptions<V> {
  /** 1 to 64 bytes of UTF-8, the same on every node. */
  readonly name: string;
  /**
   * What readers see of the rows under one key, of which there is one at least. The order of the
   * rows must not matter, since it differs from node to node. Cluster-wide.
   */
  readonly merge: (rows: readonly MergedRow<V>[], key: string) => M;
}

/** What one writer has to say about a key. */
export interface MergedRow<V> {
  /** Who wrote it: a life of a node, or all lives of a node that keeps the rows on its disk. */
  readonly writer: string;
  readonly isOwn: boolean;
  readonly value: V;
}

/** A key that merges to something else than before, or to nothing (`undefined`). */
export interface MergedEvent<M> {
  readonly type: "changed";
  readonly key: string;
  readonly value: M | undefined;
  /** Whether this node wrote. */
  readonly isLocal: boolean;
}

/**
 * Rows that each writer keeps for itself and every node sees, merged by a function. A writer
 * changes its own rows only, so that nothing is ever in conflict; what the rows mean together is
 * for the function to say.
 */
export interface Merged<V, M> extends EventSource<MergedEvent<M>> {
  readonly name: string;
  /**
   * Writes this node's row of a key; the promise is that of a map's `set`.
   *
   * @throws BarrelError `bad_key`, `invalid_value`, `replica_limit`; EncodeError (what cannot travel, or
   * takes more than 8 KiB); StorageError; ClosedError
   */
  put(key: string, value: V): Promise<void>;
  /** Takes this node's row of a key back; whether there was one. */
  remove(key: string): Promise<boolean>;
  /** This node's row of a key. */
  own(key: string): V | undefined;
  /** The rows of a key, of all writers. */
  rows(key: string): MergedRow<V>[];
  /** What the rows of a key come to; `undefined` without any. Throws what the merge throws. */
  get(key: string): M | undefined;
  /** The keys that have a row. */
  keys(): IterableIterator<string>;
  entries(): IterableIterator<[key: string, value: M]>;
}

/** `node.replicas`. */
export interface Replicas {
  /**
   * Opens replicated rows with a merge of your own; each node does that wants to read or write them.
   *
   * @throws BarrelError `bad_name`, `replica_limit`; ConflictError when the name is open; ConfigError;
   * StorageError
   */
  create<V, M>(options: MergedOptions<V, M>): Promise<Merged<V, M>>;
}

/** The replicas as the node drives them. */
export interface ReplicasDriver extends Replicas {
  close(): void;
}

const MAX_NAME_BYTES = 64;
const MAX_VALUE_BYTES = 8 * 1024;

/** Starts without any. `disk` opens the node's durable store at the first need. */
export function createReplicas(
  context: MapContext,
  disk: () => Promise<DurableStore>,
): ReplicasDriver {
  /** By name; undefined while one is being opened. */
  const open = new Map<string, { close(): void } | undefined>();
  let isClosed = false;
  return {
    async create<V, M>(options: MergedOptions<V, M>): Promise<Merged<V, M>> {
      const { name, persist = false, ephemeral = false } = options;
      if (typeof name !== "string" || !name.isWellFormed() || !fits(name)) {
        throw new BarrelError(
          "bad_name",
          `a replica's name has 1 to ${MAX_NAME_BYTES} bytes of UTF-8`,
        );
      }
      if (persist && ephemeral) {
        throw new ConfigError("persist", "rows that go with their node (ephemeral) cannot be kept");
      }
      if (isClosed) throw new ClosedError("the node is closed");
      if (open.has(name)) throw new ConflictError(`the replica ${name} is open already`);
      open.set(name, undefined);
      try {
        const saved = persist ? await disk() : undefined;
        if (isClosed) throw new ClosedError("the node is closed");
        const merged = new MergedDriver(options, saved, context);
        open.set(name, merged);
        return merged;
      } catch (error) {
        open.delete(name);
        throw error;
      }
    },
    close() {
      isClosed = true;
      for (const one of open.values()) one?.close();
    },
  };
}

function fits(name: string): boolean {
  const { length } = utf8(name);
  return length > 0 && length <= MAX_NAME_BYTES;
}

class MergedDriver<V, M> implements Merged<V, M> {
  readonly name: string;
  readonly #values: Values<V>;
  readonly #merge: MergedOptions<V, M>["merge"];
  readonly #store: Store;
  readonly #emitter: Emitter<MergedEvent<M>>;
  readonly #logger: Logger;
  /** Keys that changed and were not told yet, and whether it was us. */
  #changed = new Map<string, boolean>();
  #isClosed = false;

  constructor(
    options: MergedOptions<V, M>,
    disk: DurableStore | undefined,
    context: MapContext,
  ) {
    const { replication, decode, logger, meter } = context;
    const { name } = options;
    this.name = name;
    this.#merge = options.merge;
    this.#logger = logger;
    const values = this.#values = valuesOf(name, options, MAX_VALUE_BYTES, decode);
    this.#emitter = new Emitter((error) => {
      logger.log("error", `a listener of the replica ${name} threw: ${messageOf(error)}`);
    });
    const once = logOnce(logger, 1);
    let isOpening = true;
    this.#store = replication.createStore({
      name: sharedName(options.ephemeral === true ? "live" : "kept", "merged", name),
      ...(disk === undefined ? {} : { disk }),
      validate(key, value) {
        const reason = values.judge(key, value);
        if (reason === undefined) return undefined;
        meter.count("barrel_map_hidden_total", { map: name, reason: "invalid" });
        once("invalid", "warn", "a row that another node wrote does not pass our validator", {
          replica: name,
          key,
          reason,
        });
        return "invalid_value";
      },
      onChange: ({ row }) => {
        if (!isOpening) this.#note(row.key, row.origin === this.#store.origin);
      },
    });
    isOpening = false;
    watchOtherKind("merged", name, options.ephemeral === true, context);
  }

  async put(key: string, value: V): Promise<void> {
    this.#check(key);
    this.#store.put(key, this.#values.encode(key, value));
    await this.#store.flushed();
  }

  async remove(key: string): Promise<boolean> {
    this.#check(key);
    if (!this.#store.remove(key)) return false;
    await this.#store.flushed();
    return true;
  }

  #check(key: string): void {
    if (this.#isClosed) throw new ClosedError("the node is closed");
    checkKey(key);
  }

  own(key: string): V | undefined {
    return this.rows(key).find(({ isOwn }) => isOwn)?.value;
  }

  rows(key: string): MergedRow<V>[] {
    return this.#store.rows(key).map((row) => this.#read(row));
  }

  #read({ origin, value }: Row): MergedRow<V> {
    const writer = Array.from(origin, (char) => char.charCodeAt(0).toString(16).padStart(2, "0"));
    return {
      writer: writer.join(""),
      isOwn: origin === this.#store.origin,
      value: this.#values.decode(value),
    };
  }

  get(key: string): M | undefined {
    const rows = this.rows(key);
    return rows.length === 0 ? undefined : this.#merge(rows, key);
  }

  *keys(): IterableIterator<string> {
    yield* new Set([...this.#store.entries()].map(({ key }) => key));
  }

  *entries(): IterableIterator<[string, M]> {
    const rows = new Map<string, MergedRow<V>[]>();
    for (const row of this.#store.entries()) {
      const list = rows.get(row.key) ?? [];
      rows.set(row.key, list);
      list.push(this.#read(row));
    }
    for (const [key, list] of rows) yield [key, this.#merge(list, key)];
  }

  on(listener: (event: MergedEvent<M>) => void): () => void {
    return this.#emitter.on(listener);
  }

  events(...options: Parameters<EventSource<MergedEvent<M>>["events"]>): ReturnType<
    EventSource<MergedEvent<M>>["events"]
  > {
    return this.#emitter.events(...options);
  }

  // Told after the call that caused it has returned; several changes of a key are one event.
  #note(key: string, isLocal: boolean): void {
    this.#changed.set(key, (this.#changed.get(key) ?? false) || isLocal);
    if (this.#changed.size > 1) return;
    queueMicrotask(() => {
      const changed = this.#changed;
      this.#changed = new Map();
      for (const [name, isOurs] of changed) {
        if (this.#isClosed) return;
        this.#tell(name, isOurs);
      }
    });
  }

  // Nobody called, so nobody catches what a merge throws; readers get it from `get`.
  #tell(key: string, isLocal: boolean): void {
    let value: M | undefined;
    try {
      value = this.get(key);
    } catch (error) {
      this.#logger.log("error", `the merge of the replica ${this.name} threw`, {
        key,
        error: messageOf(error),
      });
      return;
    }
    this.#emitter.emit({ type: "changed", key, value, isLocal });
  }

  close(): void {
    this.#isClosed = true;
    this.#emitter.close();
  }
}
