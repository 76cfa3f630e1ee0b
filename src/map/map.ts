/** One map of a node: values in and out, around a {@link LwwState} and its store. */
import { Alarm } from "../base/alarm.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { BarrelError, ClosedError, messageOf } from "../base/errors.ts";
import { Emitter } from "../base/events.ts";
import type { EventSource } from "../base/events.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { HybridLogicalClock } from "../crdt/hlc.ts";
import type { Meter } from "../metrics/meter.ts";
import type { Replication, Store } from "../replica/driver.ts";
import { sharedName } from "../replica/store_kind.ts";
import type { Change } from "../replica/store_state.ts";
import type { DurableStore } from "../storage/contract.ts";
import { PatientWriter } from "../storage/patient_writer.ts";
import type { DecodeContext } from "../wire/decoder.ts";
import { MAX_MAP_VALUE_BYTES } from "./entry.ts";
import { watchOtherKind } from "./other_kind.ts";
import { readReplaced, saveReplaced } from "./replaced.ts";
import { LwwState } from "./lww_state.ts";
import type { LwwEffect } from "./lww_state.ts";
import type { MapOptions } from "./options.ts";
import { checkKey, valuesOf } from "./values.ts";
import type { Values } from "./values.ts";

/** What became of one key of a map. */
export type MapEvent<V> =
  | { readonly type: "set"; readonly key: string; readonly value: V; readonly isLocal: boolean }
  | { readonly type: "deleted"; readonly key: string; readonly isLocal: boolean };

/**
 * A map that every node that opened it can read and write. The last write of a key wins; a write
 * beats a deletion that did not know of it. Reading is local and never waits. Values are any message
 * value; each read gives a copy.
 */
export interface SharedMap<V> extends EventSource<MapEvent<V>> {
  readonly name: string;
  /** How many keys there are. */
  readonly size: number;
  /**
   * Sets a key. It is visible here at once; the promise resolves when it is on the disk (of a
   * persistent map) and published, and rejects when the disk refused it: then it is taken back.
   *
   * @throws BarrelError `bad_key` (1 to 255 bytes of UTF-8), `invalid_value` (the validator),
   * `replica_limit` (this node wrote too much); EncodeError (what cannot travel, or takes more than
   * 4 KiB); StorageError; ClosedError
   */
  set(key: string, value: V): Promise<void>;
  /**
   * Deletes a key; whether there was one. In a presence map too it is gone for all. An entry that is
   * hidden here, since it is from a clock far ahead, is not there.
   *
   * @throws BarrelError `bad_key`, `map_limit`; StorageError; ClosedError
   */
  delete(key: string): Promise<boolean>;
  /** Deletes every key that is there now. */
  clear(): Promise<void>;
  get(key: string): V | undefined;
  has(key: string): boolean;
  keys(): IterableIterator<string>;
  entries(): IterableIterator<[key: string, value: V]>;
}

/** What a map needs of the node. */
export interface MapContext {
  readonly replication: Pick<Replication, "createStore" | "watch">;
  readonly hlc: HybridLogicalClock;
  readonly maxDriftMs: number;
  /** What pids inside values mean. */
  readonly decode: DecodeContext;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
}

/** A map, and its end. */
export interface OpenMap<V> {
  readonly map: SharedMap<V>;
  close(): void;
}

/** How often deletions that wait for others are looked at again, in milliseconds. */
const SWEEP_MS = 5_000;

/** Opens a map; `disk` when it is persistent. */
export function openMap<V>(
  name: string,
  options: MapOptions<V>,
  disk: DurableStore | undefined,
  context: MapContext,
): OpenMap<V> {
  const driver = new MapDriver<V>(name, options, disk, context);
  return { map: driver, close: () => driver.close() };
}

class MapDriver<V> implements SharedMap<V> {
  readonly name: string;
  readonly #context: MapContext;
  /** Keeps what is known to be replaced, of a persistent map. */
  readonly #memory: PatientWriter | undefined;
  readonly #table: string;
  readonly #values: Values<V>;
  readonly #store: Store;
  readonly #state: LwwState;
  readonly #emitter: Emitter<MapEvent<V>>;
  readonly #alarm: Alarm;
  readonly #logOnce: ReturnType<typeof logOnce>;
  #events: MapEvent<V>[] = [];
  #isClosed = false;

  constructor(
    name: string,
    options: MapOptions<V>,
    disk: DurableStore | undefined,
    context: MapContext,
  ) {
    this.name = name;
    this.#context = context;
    // A disk that refuses it refuses the rows, too, and those are counted.
    this.#memory = disk &&
      new PatientWriter({ disk, clock: context.clock, refused: () => {} });
    this.#values = valuesOf(name, options, MAX_MAP_VALUE_BYTES, context.decode);
    this.#logOnce = logOnce(context.logger, 64);
    this.#emitter = new Emitter((error) => {
      context.logger.log("error", `a listener of the map ${name} threw: ${messageOf(error)}`);
    });
    this.#alarm = new Alarm(context.clock, () => this.#tick());
    const storeName = sharedName(options.ephemeral === true ? "live" : "kept", "map", name);
    this.#table = `replaced ${storeName}`;
    // The store tells what is on the disk while it is being made.
    const early: Change[] = [];
    let isEarly = true;
    const store = this.#store = context.replication.createStore({
      name: storeName,
      ...(disk === undefined ? {} : { disk }),
      onChange: (change) => void (isEarly ? early.push(change) : this.#changed(change)),
    });
    isEarly = false;
    this.#state = new LwwState(
      {
        get origin() {
          return store.origin;
        },
        dotOf: (key) => store.dotOf(key),
        knownUpTo: (origin) => store.knownUpTo(origin),
        isAway: (origin) => store.isAway(origin),
        judge: (key, value) => this.#values.judge(key, value),
      },
      context.maxDriftMs,
      disk?.entries(this.#table).flatMap(([key, value]) => readReplaced(key, value) ?? []),
    );
    for (const change of early) this.#changed(change);
    this.#perform(this.#state.loaded());
    this.#events = [];
    watchOtherKind("map", name, options.ephemeral === true, context);
  }

  // ---- reading

  get size(): number {
    return this.#state.size;
  }

  get(key: string): V | undefined {
    const value = this.#state.get(key);
    return value === undefined ? undefined : this.#values.decode(value);
  }

  has(key: string): boolean {
    return this.#state.get(key) !== undefined;
  }

  *keys(): IterableIterator<string> {
    yield* [...this.#state.keys()];
  }

  *entries(): IterableIterator<[string, V]> {
    for (const key of this.keys()) {
      const value = this.#state.get(key);
      if (value !== undefined) yield [key, this.#values.decode(value)];
    }
  }

  on(listener: (event: MapEvent<V>) => void): () => void {
    return this.#emitter.on(listener);
  }

  events(...options: Parameters<EventSource<MapEvent<V>>["events"]>): ReturnType<
    EventSource<MapEvent<V>>["events"]
  > {
    return this.#emitter.events(...options);
  }

  // ---- writing

  async set(key: string, value: V): Promise<void> {
    this.#check(key);
    const encoded = this.#values.encode(key, value);
    this.#store.put(key, this.#state.set(key, encoded, this.#context.hlc.now()));
    await this.#store.flushed();
  }

  async delete(key: string): Promise<boolean> {
    this.#check(key);
    if (!this.#delete(key)) return false;
    await this.#store.flushed();
    return true;
  }

  async clear(): Promise<void> {
    if (this.#isClosed) throw new ClosedError("the node is closed");
    for (const key of this.keys()) this.#delete(key);
    await this.#store.flushed();
  }

  #delete(key: string): boolean {
    const row = this.#state.delete(key);
    if (row === undefined) return false;
    if (row === "none") this.#store.remove(key);
    else this.#store.put(key, row);
    return true;
  }

  #check(key: unknown): void {
    if (this.#isClosed) throw new ClosedError("the node is closed");
    checkKey(key);
  }

  // ---- what the store tells

  #changed({ type, row }: Change): void {
    switch (type) {
      case "put":
      case "restored":
        return this.#perform(this.#state.put(row, this.#context.clock.wall()));
      case "removed":
        return this.#perform(this.#state.remove(row));
      case "hidden":
        return this.#perform(this.#state.setAway(row));
    }
  }

  #tick(): void {
    if (!this.#isClosed) this.#perform(this.#state.tick(this.#context.clock.wall()));
  }

  #perform(effects: readonly LwwEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case "drop":
          this.#store.remove(effect.key);
          break;
        case "shown":
          this.#show(effect);
          break;
        case "replaced":
          this.#remember(effect);
          break;
        case "follow":
          this.#context.hlc.update(effect.stamp);
          break;
        case "hidden":
          this.#hidden(effect.key, effect.reason);
          break;
        case "claimRefused":
          this.#claimRefused(effect);
          break;
        case "testify":
          this.#testify(effect.key, effect.value);
          break;
        case "unsaid":
          this.#unsaid(effect.key, effect.reason);
          break;
      }
    }
    const { clock } = this.#context;
    const future = this.#state.wakeAt() - clock.wall() + clock.now();
    const sweep = this.#state.isWaiting ? clock.now() + SWEEP_MS : Infinity;
    this.#alarm.set(Math.min(future, sweep));
  }

  // Told after the call that caused it has returned, so that a listener reads what it is told.
  #show({ key, value, isLocal }: LwwEffect & { readonly type: "shown" }): void {
    this.#events.push(
      value === undefined
        ? { type: "deleted", key, isLocal }
        : { type: "set", key, value: this.#values.decode(value), isLocal },
    );
    if (this.#events.length > 1) return;
    queueMicrotask(() => {
      const events = this.#events;
      this.#events = [];
      for (const event of events) if (!this.#isClosed) this.#emitter.emit(event);
    });
  }

  #remember({ isNew, ...replaced }: LwwEffect & { readonly type: "replaced" }): void {
    this.#memory?.write([{ table: this.#table, ...saveReplaced(replaced), isNew }]);
  }

  #hidden(key: string, reason: string): void {
    const kind = reason === "future" || reason === "unreadable" ? reason : "invalid";
    this.#context.meter.count("barrel_map_hidden_total", { map: this.name, reason: kind });
    this.#logOnce(
      kind,
      "warn",
      kind === "future"
        ? "an entry of a map is from a clock far ahead of ours; it is hidden until our clock gets there"
        : "an entry of a map that another node wrote does not pass our validator and is hidden here",
      { map: this.name, key, reason },
    );
  }

  #claimRefused({ key, reason }: LwwEffect & { readonly type: "claimRefused" }): void {
    this.#context.meter.count("barrel_map_claims_refused_total", { map: this.name, reason });
    this.#logOnce(
      reason,
      "warn",
      reason === "never_written"
        ? "an entry of a map says that it replaces what was never written; that is not believed"
        : "one replica replaced so much in a map that not all of it is remembered",
      { map: this.name, key, reason },
    );
  }

  // Nobody waits for it: what does not get into our rows is tried again.
  #testify(key: string, value: Bytes): void {
    try {
      this.#store.put(key, value);
      this.#context.meter.count("barrel_map_testimonies_total", { map: this.name });
    } catch (error) {
      if (!(error instanceof BarrelError) || error.code !== "replica_limit") throw error;
      this.#unsaid(key, error.code);
    }
  }

  #unsaid(key: string, reason: string): void {
    this.#context.meter.count("barrel_map_unsaid_total", { map: this.name, reason });
    this.#logOnce(
      `unsaid ${reason}`,
      "warn",
      "this node cannot tell the others of an entry that it knows to be replaced; they may show it",
      { map: this.name, key, reason },
    );
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#alarm.cancel();
    this.#memory?.close();
    this.#emitter.close();
  }
}
