/**
 * Runs a {@link Replica}: frames to and from the links, signatures by the injected crypto, timers
 * by the injected clock, and a {@link Store} for each user.
 */
import { Alarm } from "../base/alarm.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Crypto, KeyPair } from "../base/crypto.ts";
import { ClosedError, messageOf } from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/random.ts";
import { Ring } from "../base/ring.ts";
import type { Channel, Links } from "../link/ports.ts";
import type { Meter } from "../metrics/meter.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { DurableStore } from "../storage/contract.ts";
import { PatientWriter } from "../storage/patient_writer.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { OriginId } from "./head.ts";
import { Replica } from "./replica.ts";
import type { ReplicaEffect, ReplicaEvent } from "./replica.ts";
import { readSaved, tableOf } from "./saved_rows.ts";
import type { Admission, Change, Row, StoreState, Validate } from "./store_state.ts";

/** What replication needs of the node. */
export interface ReplicationOptions {
  readonly links: Pick<Links, "self" | "channel">;
  /** The keys behind `links.self`, and those that it has had in this life: by the public one. */
  readonly keysOf: (publicKey: Bytes) => KeyPair;
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly logger: Logger;
  readonly meter: Meter;
  /** Broadcasts bytes to all nodes, which hand them to {@link Replication.receive}. */
  readonly publish: (body: Bytes) => void;
  /**
   * Mean time between comparisons with a random neighbour, in milliseconds. Nodes may differ.
   * @default 10_000
   */
  readonly intervalMs?: number;
  /** Who may write to a store that does not say so itself. @default everybody is a member */
  readonly admission?: Admission;
  /** Told of what an effect, or the answer to one, has thrown. @default throws it */
  readonly failed?: (error: unknown) => void;
}

/** How a store is made. */
export interface StoreOptions {
  /** 1 to 96 bytes of UTF-8, the same on every node; its start says of which kind it is (`kindOf`). */
  readonly name: string;
  /** Where the rows are kept, and where they go on from. @default nowhere */
  readonly disk?: DurableStore;
  /**
   * Says what is wrong with a row, in a short stable word. Such a row of another node is held and
   * relayed, so that all nodes agree, but not shown; our own is refused. @default accepts all
   */
  readonly validate?: Validate;
  /** Who may write to it. @default as for all stores */
  readonly admission?: Admission;
  /** Told of each transition of each visible row once, in order, our own included. */
  readonly onChange?: (change: Change) => void;
}

/** Rows that each node writes for itself and all nodes see. */
export interface Store {
  readonly name: string;
  /**
   * Writes a row of ours: visible here at once, everywhere once it is signed and published.
   *
   * @throws BarrelError `replica_limit` (key above 512 bytes, value above 8 KiB, 65,536 rows, 16 MiB
   * in all), `invalid_row`
   */
  put(key: string, value: Bytes): void;
  /** Removes a row of ours; whether there was one. */
  remove(key: string): boolean;
  /** The row that a node wrote under a key. */
  get(author: Uint8Array, key: string): Row | undefined;
  /** The rows that all nodes wrote under a key. */
  rows(key: string): Row[];
  /** The rows of one node. */
  rowsBy(author: Uint8Array): IterableIterator<Row>;
  /** Every visible row. */
  entries(): IterableIterator<Row>;
  /** Our origin in this store. */
  readonly origin: OriginId;
  /** The dot of our row under a key; undefined while that very row is not signed. */
  dotOf(key: string): number | undefined;
  /** How far we know an origin: its last operation that is covered; `Infinity` when it is forgotten. */
  knownUpTo(origin: OriginId): number;
  /** Whether the life that an origin is was declared over: its rows are hidden. */
  isAway(origin: OriginId): boolean;
  /**
   * Settles when all that we wrote so far is signed, on the disk if the store is kept there, and
   * published. @throws ClosedError @throws StorageError when the disk refused it: it is taken back
   */
  flushed(): Promise<void>;
  /** Hides the rows of a node's life that was declared over, until {@link restore}. */
  retire(author: Bytes, epoch: number): void;
  /** Shows the rows of a life again that was declared over wrongly. */
  restore(author: Bytes, epoch: number): void;
  /** Drops the rows of a life that was declared over. */
  forget(author: Bytes, epoch: number): void;
}

/** The replicated stores of one node. */
export interface Replication {
  /** @throws ConflictError when the name is taken. @throws BarrelError `replica_limit` */
  createStore(options: StoreOptions): Store;
  /**
   * Calls `listener` for each row that comes of a store which is held here for others, and once when
   * there are some already.
   */
  watch(name: string, listener: () => void): void;
  /** Takes what some node published; never throws. */
  receive(body: Bytes): void;
  /** Call once broadcasts reach the new neighbour: what was written in solitude is published now. */
  neighbourUp(peer: NodeName): void;
  neighbourDown(peer: NodeName): void;
  /** What became of a node's life; for the rows of the stores whose rows go with their node. */
  onLife(what: "retire" | "restore" | "forget", publicKey: Bytes, epoch: number): void;
  /** `links.self` and the keys have changed: writes everything anew under them. */
  rekey(): void;
  /**
   * Stops the frames and the timers, until {@link resume}. Writes, neighbours, verdicts and answers
   * are still taken: nobody would tell them twice.
   */
  pause(): void;
  /** Goes on with what there is: asks again for what got lost, and compares with each neighbour. */
  resume(): void;
  /** Stops; every pending `flushed` is rejected. */
  close(): void;
}

interface Flush {
  readonly writes: number;
  resolve(): void;
  reject(error: Error): void;
}

/** Where a store is kept. */
interface Disk {
  readonly store: DurableStore;
  /** For what nobody waits for: the rows of others. */
  readonly others: PatientWriter;
}

/** Starts replication over the channels REPLICA_CONTROL and REPLICA_DATA. */
export function createReplication(options: ReplicationOptions): Replication {
  return new Driver(options);
}

class Driver implements Replication {
  readonly #options: ReplicationOptions;
  readonly #machine: Replica;
  readonly #control: Channel;
  readonly #data: Channel;
  readonly #alarm: Alarm;
  readonly #listeners = new Map<string, (change: Change) => void>();
  readonly #watchers = new Map<string, () => void>();
  readonly #disks = new Map<string, Disk>();
  readonly #effects = new Ring<ReplicaEffect>();
  readonly #logOnce: ReturnType<typeof logOnce>;
  /** Stores whose batch is with the keys or the disk. */
  readonly #underWay = new Set<string>();
  readonly #failed: (error: unknown) => void;
  /** Those of each store, in the order of their writes. */
  readonly #flushes = new Map<StoreState, Flush[]>();
  #isDraining = false;
  #isPaused = false;
  #hasTurn = false;
  #isClosed = false;

  constructor(options: ReplicationOptions) {
    this.#options = options;
    this.#failed = options.failed ?? rethrow;
    const { links, clock, random, crypto, intervalMs = 10_000, admission } = options;
    const { name: self, publicKey, epoch } = links.self;
    const { sha256 } = crypto;
    this.#logOnce = logOnce(options.logger, 1_000);
    this.#machine = new Replica(
      { self, publicKey, epoch, random, sha256, intervalMs, admission },
      clock.now(),
    );
    this.#alarm = new Alarm(clock, () => this.#feed({ type: "tick" }));
    this.#control = links.channel(FrameType.REPLICA_CONTROL);
    this.#data = links.channel(FrameType.REPLICA_DATA);
    this.#listen();
    this.#alarm.set(this.#machine.wakeAt());
  }

  #listen(): void {
    this.#control.onFrame = (body, from) => this.#feed({ type: "control", from: from.name, body });
    this.#data.onFrame = (body, from) => this.#feed({ type: "data", from: from.name, body });
    const onUndelivered = (peer: NodeName) => this.#feed({ type: "undelivered", peer });
    this.#control.onUndelivered = onUndelivered;
    this.#data.onUndelivered = onUndelivered;
  }

  createStore(options: StoreOptions): Store {
    const { name, validate = () => undefined, onChange, disk, admission } = options;
    const saved = disk && readSaved(name, disk.entries(tableOf(name)));
    const before = this.#listeners.get(name);
    const diskBefore = this.#disks.get(name);
    if (disk !== undefined) this.#disks.set(name, this.#diskOf(name, disk));
    // What is on the disk is told as it is read.
    if (onChange !== undefined) this.#listeners.set(name, onChange);
    try {
      const event = { type: "createStore", name, validate, admission } as const;
      this.#feed(saved === undefined ? event : { ...event, saved });
    } catch (error) {
      if (before !== undefined) this.#listeners.set(name, before);
      if (diskBefore !== undefined) this.#disks.set(name, diskBefore);
      else this.#disks.delete(name);
      throw error;
    }
    this.#atEndOfTurn();
    const state = this.#machine.store(name) as StoreState;
    return {
      name,
      put: (key, value) => {
        this.#feed({ type: "put", store: name, key, value });
        this.#atEndOfTurn();
      },
      remove: (key) => {
        if (!state.own.values.has(key)) return false;
        this.#feed({ type: "remove", store: name, key });
        this.#atEndOfTurn();
        return true;
      },
      get: (author, key) => state.get(author, key),
      rows: (key) => state.rowsOf(key),
      rowsBy: (author) => state.rowsBy(author),
      entries: () => state.rows(),
      get origin() {
        return state.self.origin;
      },
      dotOf: (key) => state.ownDot(key),
      knownUpTo: (origin) => state.knownUpTo(origin),
      isAway: (origin) => state.isAway(origin),
      flushed: () => this.#flushed(state),
      retire: (publicKey, epoch) => this.#feed({ type: "retire", store: name, publicKey, epoch }),
      restore: (publicKey, epoch) => this.#feed({ type: "restore", store: name, publicKey, epoch }),
      forget: (publicKey, epoch) => this.#feed({ type: "forget", store: name, publicKey, epoch }),
    };
  }

  watch(name: string, listener: () => void): void {
    this.#watchers.set(name, listener);
    if (this.#machine.store(name)?.rows().next().done === false) listener();
  }

  receive(body: Bytes): void {
    if (!this.#isPaused) this.#feed({ type: "broadcast", body });
  }

  neighbourUp(peer: NodeName): void {
    this.#feed({ type: "neighbourUp", peer });
  }

  neighbourDown(peer: NodeName): void {
    this.#feed({ type: "neighbourDown", peer });
  }

  onLife(what: "retire" | "restore" | "forget", publicKey: Bytes, epoch: number): void {
    this.#feed({ type: "life", what, publicKey, epoch });
  }

  rekey(): void {
    this.#feed({ type: "rekey", publicKey: this.#options.links.self.publicKey });
  }

  pause(): void {
    this.#isPaused = true;
    this.#alarm.cancel();
    this.#control.onFrame = this.#data.onFrame = undefined;
    this.#control.onUndelivered = this.#data.onUndelivered = undefined;
  }

  resume(): void {
    if (this.#isClosed) return;
    this.#isPaused = false;
    this.#listen();
    this.#feed({ type: "resumed", underWay: this.#underWay });
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.pause();
    for (const { others } of this.#disks.values()) others.close();
    const error = new ClosedError("the node was closed before its writes were published");
    for (const flushes of this.#flushes.values()) for (const flush of flushes) flush.reject(error);
    this.#flushes.clear();
  }

  // Listeners may write: what follows from that waits until the effects before it are done.
  #feed(event: ReplicaEvent): void {
    if (this.#isClosed) return;
    for (const effect of this.#machine.handle(event, this.#options.clock.now())) {
      this.#effects.push(effect);
    }
    if (this.#isDraining) return;
    this.#isDraining = true;
    try {
      for (let effect = this.#effects.shift(); effect; effect = this.#effects.shift()) {
        try {
          this.#perform(effect);
        } catch (error) {
          // The others are not lost with it.
          this.#failed(error);
        }
      }
    } finally {
      this.#isDraining = false;
    }
    this.#settleFlushes();
    if (!this.#isClosed && !this.#isPaused) this.#alarm.set(this.#machine.wakeAt());
  }

  #answered(event: ReplicaEvent): void {
    try {
      this.#feed(event);
    } catch (error) {
      this.#failed(error);
    }
  }

  #perform(effect: ReplicaEffect): void {
    const { crypto, keysOf, meter, publish } = this.#options;
    switch (effect.type) {
      case "sendControl":
        return this.#control.send(effect.to, effect.body);
      case "sendData":
        return this.#data.send(effect.to, effect.body);
      case "publish":
        return publish(effect.body);
      case "sign":
        crypto.sign(effect.message, keysOf(effect.author)).then(
          (signature) => {
            this.#underWay.delete(effect.store);
            this.#answered({ type: "signed", store: effect.store, signature });
          },
          (error) => {
            this.#underWay.delete(effect.store);
            this.#options.logger.log("error", "signing a replica head failed; trying again", {
              store: effect.store,
              error: messageOf(error),
            });
            this.#answered({ type: "signed", store: effect.store, signature: undefined });
          },
        );
        this.#underWay.add(effect.store);
        return;
      case "verify": {
        const { id, message, signature, publicKey } = effect;
        crypto.verify(signature, message, publicKey).then(
          (isGood) => this.#answered({ type: "verified", id, isGood }),
          () => this.#answered({ type: "verified", id, isGood: false }),
        );
        return;
      }
      case "save":
        return this.#save(effect);
      case "change":
        return this.#tell(effect.store, effect.change);
      case "applied":
        return meter.count("barrel_replica_applied_total", {
          store: effect.store,
          via: effect.via,
        });
      case "overtook":
        meter.count("barrel_replica_overtook_total", { store: effect.store });
        return this.#logOnce(
          `${effect.store} overtook`,
          "debug",
          "more of a store came before what it builds on than is kept, and is pulled; from now on " +
            "this is only counted",
          { store: effect.store },
        );
      case "refused":
        return this.#refused(effect.reason, effect.store ?? "none");
      case "damaged":
        return this.#damaged(effect);
      case "outdated":
        meter.count("barrel_replica_damaged_total", { store: effect.store, what: "outdated" });
        return this.#logOnce(
          `outdated ${effect.store}`,
          "warn",
          "others know more of what this node wrote than its disk does, as after a restored backup; " +
            "its rows come from them, and what it writes now belongs to a new life",
          { store: effect.store },
        );
      case "impostor":
        meter.count("barrel_replica_refused_total", { store: effect.store, reason: "impostor" });
        return this.#logOnce("impostor", "error", "another process uses this node's key", {
          store: effect.store,
          epoch: effect.epoch,
        });
    }
  }

  #diskOf(name: string, disk: DurableStore): Disk {
    const refused = (error: Error) => this.#unsaved(name, error);
    const { clock } = this.#options;
    return { store: disk, others: new PatientWriter({ disk, clock, refused }) };
  }

  #save({ store, writes, id }: ReplicaEffect & { readonly type: "save" }): void {
    const disk = this.#disks.get(store);
    if (id === undefined) return disk?.others.write(writes);
    this.#underWay.add(store);
    disk?.store.commit(writes).then(
      () => {
        this.#underWay.delete(store);
        this.#answered({ type: "saved", store, id, isSaved: true });
      },
      (error: Error) => this.#takenBack(store, id, error),
    );
  }

  #takenBack(store: string, id: number, error: Error): void {
    this.#underWay.delete(store);
    this.#unsaved(store, error);
    const state = this.#machine.store(store) as StoreState;
    const covers = state.own.batch?.covers ?? 0;
    const lost = this.#takeFlushes(state, covers);
    this.#answered({ type: "saved", store, id, isSaved: false });
    for (const flush of lost) flush.reject(error);
  }

  #unsaved(store: string, error: Error): void {
    this.#options.meter.count("barrel_replica_unsaved_total", { store });
    this.#logOnce(
      `unsaved ${store} ${messageOf(error)}`,
      "error",
      "the disk does not take the rows of a store; from now on this is only counted",
      { store, error: messageOf(error) },
    );
  }

  #damaged({ store, damage }: ReplicaEffect & { readonly type: "damaged" }): void {
    const { meter, logger } = this.#options;
    const { own, others, strays } = damage;
    const count = (what: string, by: number) =>
      by > 0 && meter.count("barrel_replica_damaged_total", { store, what }, by);
    count("own", own.lives);
    count("others", others.lives);
    count("strays", strays);
    let keptAs: string | undefined;
    try {
      keptAs = this.#disks.get(store)?.store.setAside?.();
    } catch (error) {
      logger.log("error", `no copy of a damaged store could be kept: ${messageOf(error)}`, {
        store,
      });
    }
    logger.log(
      "error",
      "the rows of a replicated store on this node's disk do not add up, so the disk lost some: what is " +
        "left is shown here, and what other nodes have is fetched from them again",
      {
        store,
        ownRowsLeft: own.left,
        othersRowsLeft: others.left,
        unreadable: strays,
        ...(keptAs === undefined ? {} : { keptAs }),
      },
    );
  }

  #tell(store: string, change: Change): void {
    try {
      if (change.type === "put") this.#watchers.get(store)?.();
      this.#listeners.get(store)?.(change);
    } catch (error) {
      this.#options.logger.log("error", "a listener of a replicated store threw", {
        store,
        error: messageOf(error),
      });
    }
  }

  #refused(reason: string, store: string): void {
    this.#options.meter.count("barrel_replica_refused_total", { store, reason });
    this.#logOnce(
      `${store} ${reason}`,
      "warn",
      "refused what a peer sent of a replicated store; from now on this is only counted",
      { store, reason },
    );
  }

  #atEndOfTurn(): void {
    if (this.#hasTurn || this.#isClosed) return;
    this.#hasTurn = true;
    this.#options.clock.nextTurn(() => {
      this.#hasTurn = false;
      this.#feed({ type: "turnEnded" });
    });
  }

  #flushed(store: StoreState): Promise<void> {
    if (this.#isClosed) return Promise.reject(new ClosedError("the node is closed"));
    const { writes } = store.own;
    if (isFlushed(store, writes)) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const flushes = this.#flushes.get(store) ?? [];
      this.#flushes.set(store, flushes);
      flushes.push({ writes, resolve, reject });
    });
  }

  // Takes out those that wait for no later write than `writes`.
  #takeFlushes(store: StoreState, writes: number): Flush[] {
    const flushes = this.#flushes.get(store) ?? [];
    const after = flushes.findIndex((flush) => flush.writes > writes);
    if (after === -1) this.#flushes.delete(store);
    return after === -1 ? flushes : flushes.splice(0, after);
  }

  // After every event: whoever writes thousands of rows has as many waiting.
  #settleFlushes(): void {
    for (const [store, [first]] of this.#flushes) {
      if (first === undefined || !isFlushed(store, first.writes)) continue;
      for (const flush of this.#takeFlushes(store, store.own.signedWrites)) flush.resolve();
    }
  }
}

function rethrow(error: unknown): never {
  throw error;
}

function isFlushed(store: StoreState, writes: number): boolean {
  if (store.own.signedWrites < writes) return false;
  return store.signedRows.head !== undefined || store.kind !== "own";
}
