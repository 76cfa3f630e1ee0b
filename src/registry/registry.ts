/**
 * The cluster-wide registry: rows of a replicated store that each node writes for its own
 * processes. An entry goes with its process or with the verdict on its node, never because two
 * nodes stopped being neighbours.
 */
import { NoProcessError } from "../actor/errors.ts";
import type { ExitReason } from "../actor/messages.ts";
import type { ActorSystem } from "../actor/system.ts";
import { Alarm } from "../base/alarm.ts";
import { equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import {
  BarrelError,
  ClosedError,
  ConfigError,
  messageOf,
  OverloadedError,
} from "../base/errors.ts";
import { Emitter } from "../base/events.ts";
import type { EventSource } from "../base/events.ts";
import { knownOptions } from "../base/known_options.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/random.ts";
import type { Channel, Links } from "../link/ports.ts";
import type { Meter } from "../metrics/meter.ts";
import type { Replication, Store } from "../replica/driver.ts";
import type { Change } from "../replica/store_state.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Pid } from "../wire/pid.ts";
import { Proxies } from "./proxy.ts";
import { MAX_IN_FLIGHT, Router } from "./router.ts";
import type { RouterEvent } from "./router.ts";
import { decodeRouter, encodeRouter } from "./router_messages.ts";
import { checkName, encodeState, rowKey, validateRow } from "./rows.ts";
import { ServiceTable } from "./service_table.ts";
import type { Instance, RegistryEvent } from "./service_table.ts";

export type { Instance, RegistryEvent } from "./service_table.ts";

/** Options of `whereis`. */
export interface WhereisOptions {
  /**
   * Wider rings of the overlay that are asked after the first when nobody here knows the name. A
   * name that nobody has costs 300 ms, doubled with each. @default 1
   */
  readonly retries?: number;
}

const WHEREIS_OPTIONS = ["retries"];

/** `node.registry`: names for processes, known on every node. */
export interface Registry extends EventSource<RegistryEvent> {
  /**
   * Makes a process of this node known under a name, which may have many instances. Registering it
   * again replaces `meta` (any message value of at most 4 KiB). Resolves once it is published.
   *
   * @throws BarrelError `bad_name`, `not_local`, `replica_limit`; NoProcessError; EncodeError
   */
  register(name: string, pid: Pid, meta?: unknown): Promise<void>;
  /** Takes a process off a name; nothing happens when it is not there. @throws BarrelError `not_local` */
  unregister(name: string, pid: Pid): Promise<void>;
  /**
   * A process with this name: of this node, of those that are known, or found through the overlay.
   * One caller gets the same one as long as it lives.
   *
   * @throws BarrelError `bad_name`; ConfigError; OverloadedError when 256 names are being searched
   * for already; ClosedError
   */
  whereis(name: string, options?: WhereisOptions): Promise<Pid | undefined>;
  /** Every instance that is known, each with a copy of its `meta`. */
  lookup(name: string): Instance[];
  /** The instances of this node. */
  lookupLocal(name: string): Instance[];
  /** Every name that has an instance. */
  names(): string[];
  /**
   * A process of this node that passes messages on to the service wherever it lives; the same one
   * for one name. Ends with `noproc` when the service has had no instance for 30 s.
   */
  proxy(name: string): Pid;
}

/** The registry as the node drives it. */
export interface RegistryDriver extends Registry {
  /** What the roster found about the life of a node. */
  onLife(what: "retire" | "restore" | "forget", publicKey: Bytes, epoch: number): void;
  /** Stops the frames and the timers, until {@link resume}. Names, ends and rows are still taken. */
  pause(): void;
  /** Goes on: reads all rows again, and begins the searches that somebody waits for anew. */
  resume(): void;
  /** Settles when all that became of our names is published. @throws ClosedError */
  flushed(): Promise<void>;
  close(): void;
}

/** What the registry needs of the node. */
export interface RegistryOptions {
  readonly system: ActorSystem;
  readonly replication: Pick<Replication, "createStore">;
  /** Who speaks for which node. Its events are a reason to ask again. */
  readonly roster: {
    nameOf(publicKey: Uint8Array): NodeName | undefined;
    /** Whether a node has said that it leaves. */
    hasLeft(node: NodeName): boolean;
    on(listener: () => void): () => void;
  };
  readonly links: Pick<Links, "self" | "channel">;
  /** The peers that queries are sent to. */
  readonly neighbours: () => readonly NodeName[];
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly meter: Meter;
  /** Told of what has thrown where nobody else would hear of it. @default throws it */
  readonly failed?: (error: unknown) => void;
}

/** An entry that ended says why for this long, in milliseconds, before its row goes. */
const LINGER_MS = 10_000;
/** Ended entries that linger; beyond, the oldest go at once. */
const MAX_LINGERING = 1024;
/** What the overlay found is believed for this long, in milliseconds. */
const ROUTE_MS = 5_000;
const MAX_ROUTES = 1024;
/** Authors whose names are asked for again, in milliseconds, while there are any. */
const NAMES_AGAIN_MS = 1_000;

/** Starts the registry. */
export function createRegistry(options: RegistryOptions): RegistryDriver {
  return new Driver(options);
}

class Driver implements RegistryDriver {
  readonly #options: RegistryOptions;
  readonly #self: NodeName;
  readonly #table: ServiceTable;
  readonly #store: Store;
  #router: Router;
  readonly #channel: Channel;
  readonly #proxies: Proxies;
  readonly #emitter: Emitter<RegistryEvent>;
  readonly #alarm: Alarm;
  readonly #endings: (() => void)[] = [];
  /** Names of our processes, by their number. */
  readonly #ours = new Map<number, Set<string>>();
  /** Rows of ours that only say how they ended, and when they go; oldest first. */
  readonly #lingering = new Map<string, number>();
  /** Authors whose rows came before the roster knew who they are. */
  readonly #unnamed = new Map<string, Bytes>();
  #namesAgainAt = Infinity;
  readonly #routes = new Map<string, { readonly pid: Pid; readonly until: number }>();
  readonly #searching = new Map<
    string,
    {
      readonly promise: Promise<Pid | undefined>;
      retries: number;
      settle(pid: Pid | undefined): void;
    }
  >();
  #isPaused = false;
  #isClosed = false;

  constructor(options: RegistryOptions) {
    this.#options = options;
    const { system, links, clock, logger, meter, roster } = options;
    this.#self = links.self.name;
    this.#emitter = new Emitter((error) => {
      logger.log("error", `a listener of registry events threw: ${messageOf(error)}`);
    });
    this.#table = new ServiceTable(system.life);
    this.#proxies = new Proxies({
      system,
      clock,
      meter,
      pick: (service) => this.#table.pick(service),
      whereis: (service) => this.whereis(service),
    });
    this.#router = this.#newRouter();
    this.#alarm = new Alarm(clock, () => this.#tick());
    this.#channel = links.channel(FrameType.ROUTER);
    this.#listen();
    this.#store = options.replication.createStore({
      name: "registry",
      validate: validateRow,
      onChange: (change) => this.#attempt(() => this.#changed(change)),
    });
    const onExit = (pid: Pid, reason: ExitReason) => this.#attempt(() => this.#exited(pid, reason));
    system.exitListeners.add(onExit);
    this.#endings.push(() => system.exitListeners.delete(onExit));
    this.#endings.push(roster.on(() => this.#attempt(() => this.#nameAuthors())));
  }

  #newRouter(): Router {
    return new Router({
      self: this.#self,
      random: this.#options.random,
      neighbours: this.#options.neighbours,
      localProcess: (service) =>
        this.#table.pids(service).find(({ node }) => node === this.#self)?.id,
      knownNodes: (service) => [...new Set(this.#table.pids(service).map(({ node }) => node))],
    });
  }

  #listen(): void {
    this.#channel.onFrame = (body, from) =>
      this.#route({ type: "message", from, message: decodeRouter(body) });
    this.#channel.onUndelivered = (peer) => this.#route({ type: "undelivered", peer });
  }

  #attempt(part: () => void): void {
    try {
      part();
    } catch (error) {
      const { failed } = this.#options;
      if (failed === undefined) throw error;
      failed(error);
    }
  }

  // ---- names of our own processes

  async register(name: string, pid: Pid, meta?: unknown): Promise<void> {
    checkName(name);
    this.#checkLocal(name, pid);
    const { system } = this.#options;
    if (system.find(pid) === undefined) throw new NoProcessError(String(pid), "noproc");
    const key = rowKey(name, pid.id);
    this.#store.put(key, encodeState({ type: "live", meta }));
    this.#lingering.delete(key);
    const names = this.#ours.get(pid.id) ?? new Set();
    this.#ours.set(pid.id, names.add(name));
    await this.#store.flushed();
  }

  async unregister(name: string, pid: Pid): Promise<void> {
    checkName(name);
    this.#checkLocal(name, pid);
    const names = this.#ours.get(pid.id);
    if (names?.delete(name) !== true) return;
    if (names.size === 0) this.#ours.delete(pid.id);
    this.#end(rowKey(name, pid.id), encodeState({ type: "unregistered" }));
    await this.#store.flushed();
  }

  #checkLocal(name: string, pid: Pid): void {
    if (this.#isClosed) throw this.#closed();
    if (pid instanceof Pid && this.#options.system.isLocal(pid)) return;
    throw new BarrelError(
      "not_local",
      `${pid} is not a process of ${this.#self}; only its own node can name it ${
        JSON.stringify(name)
      }`,
    );
  }

  #exited(pid: Pid, reason: ExitReason): void {
    const names = this.#ours.get(pid.id);
    if (names !== undefined) this.#endAll(pid.id, names, reason);
  }

  #endAll(id: number, names: Set<string>, reason: ExitReason): void {
    const state = encodeState({ type: "down", reason });
    for (const name of names) {
      this.#end(rowKey(name, id), state);
      names.delete(name);
    }
    this.#ours.delete(id);
  }

  #end(key: string, state: Bytes): void {
    try {
      this.#store.put(key, state);
    } catch (error) {
      // No room for the reason: then without.
      if (!(error instanceof BarrelError)) throw error;
      return void this.#store.remove(key);
    }
    this.#lingering.delete(key);
    this.#lingering.set(key, this.#options.clock.now() + LINGER_MS);
    if (this.#lingering.size > MAX_LINGERING) {
      this.#sweep(this.#lingering.values().next().value ?? 0);
    }
    this.#wind();
  }

  #sweep(now: number): void {
    for (const [key, at] of this.#lingering) {
      if (at > now) break;
      this.#lingering.delete(key);
      this.#store.remove(key);
    }
  }

  // ---- names of all

  lookup(name: string): Instance[] {
    this.#nameAuthors();
    return this.#table.lookup(name);
  }

  lookupLocal(name: string): Instance[] {
    return this.#table.lookup(name, this.#self);
  }

  names(): string[] {
    this.#nameAuthors();
    return this.#table.names();
  }

  proxy(name: string): Pid {
    checkName(name);
    return this.#proxies.get(name);
  }

  on(listener: (event: RegistryEvent) => void): () => void {
    return this.#emitter.on(listener);
  }

  events(...options: Parameters<EventSource<RegistryEvent>["events"]>): ReturnType<
    EventSource<RegistryEvent>["events"]
  > {
    return this.#emitter.events(...options);
  }

  #changed(change: Change): void {
    const { author } = change.row;
    const node = this.#nameOf(author);
    if (node === undefined) {
      this.#unnamed.set(String.fromCharCode(...author), author);
      const again = this.#options.clock.now() + NAMES_AGAIN_MS;
      this.#namesAgainAt = Math.min(this.#namesAgainAt, again);
      return this.#wind();
    }
    this.#tell(this.#table.change(change, node, this.#options.roster.hasLeft(node)));
  }

  #nameOf(author: Bytes): NodeName | undefined {
    const { links, roster } = this.#options;
    const { name, publicKey } = links.self;
    return equalBytes(author, publicKey) ? name : roster.nameOf(author);
  }

  // Rows may come before the record that says whose they are.
  #nameAuthors(): void {
    for (const [id, author] of this.#unnamed) {
      const node = this.#nameOf(author);
      if (node === undefined) continue;
      this.#unnamed.delete(id);
      for (const row of this.#store.rowsBy(author)) {
        this.#changed({ type: "put", row });
      }
    }
    if (this.#unnamed.size === 0) this.#namesAgainAt = Infinity;
  }

  #tell(events: readonly RegistryEvent[]): void {
    for (const event of events) {
      this.#emitter.emit(event);
      this.#proxies.serviceChanged(event.name);
      if (event.type === "registered") this.#settle(event.name, this.#table.pick(event.name));
      else if (this.#routes.get(event.name)?.pid.equals(event.pid)) this.#routes.delete(event.name);
    }
  }

  // ---- names that are not known here

  async whereis(name: string, options: WhereisOptions = {}): Promise<Pid | undefined> {
    checkName(name);
    knownOptions(options, WHEREIS_OPTIONS);
    const { retries = 1 } = options;
    if (!Number.isSafeInteger(retries) || retries < 0) {
      throw new ConfigError("retries", "must be a whole number from 0 up");
    }
    if (this.#isClosed) throw this.#closed();
    this.#nameAuthors();
    const known = this.#table.pick(name);
    if (known !== undefined) return known;
    const route = this.#routes.get(name);
    if (route !== undefined && route.until > this.#options.clock.now()) return route.pid;
    const searching = this.#searching.get(name);
    if (searching !== undefined) {
      // Who asks for more rings than the search under way gets them.
      searching.retries = Math.max(searching.retries, retries);
      this.#route({ type: "search", name, retries });
      return await this.#found(searching.promise);
    }
    if (this.#router.inFlight >= MAX_IN_FLIGHT) {
      throw new OverloadedError(`${MAX_IN_FLIGHT} names are being searched for already`);
    }
    const { promise, resolve } = Promise.withResolvers<Pid | undefined>();
    this.#searching.set(name, { promise, retries, settle: resolve });
    this.#route({ type: "search", name, retries });
    return await this.#found(promise);
  }

  async #found(search: Promise<Pid | undefined>): Promise<Pid | undefined> {
    const pid = await search;
    // Nobody has answered, which says nothing about the name.
    if (pid === undefined && this.#isClosed) throw this.#closed();
    return pid;
  }

  #closed(): ClosedError {
    return new ClosedError(`${this.#self} is closed`);
  }

  #settle(name: string, pid: Pid | undefined): void {
    const searching = this.#searching.get(name);
    if (searching === undefined) return;
    this.#searching.delete(name);
    this.#route({ type: "cancel", name });
    searching.settle(pid);
  }

  #route(event: RouterEvent): void {
    if (this.#isClosed) return;
    const { clock, meter, system } = this.#options;
    for (const effect of this.#router.handle(event, clock.now())) {
      switch (effect.type) {
        case "send":
          this.#channel.send(effect.to, encodeRouter(effect.message));
          break;
        case "found": {
          const pid = new Pid(system.life.other(effect.node, effect.epoch), effect.process);
          this.#remember(effect.name, pid);
          this.#settle(effect.name, pid);
          break;
        }
        case "missing":
          this.#settle(effect.name, undefined);
          break;
        case "refused":
          meter.count("barrel_router_refused_total", { reason: effect.reason });
          break;
      }
    }
    this.#wind();
  }

  #remember(name: string, pid: Pid): void {
    this.#routes.delete(name);
    const oldest = this.#routes.keys().next().value;
    if (this.#routes.size >= MAX_ROUTES && oldest !== undefined) this.#routes.delete(oldest);
    this.#routes.set(name, { pid, until: this.#options.clock.now() + ROUTE_MS });
  }

  // ---- the node

  onLife(what: "retire" | "restore" | "forget", publicKey: Bytes, epoch: number): void {
    if (this.#isClosed) return;
    if (what !== "restore") this.#forgetRoutes(this.#nameOf(publicKey), epoch);
    this.#store[what](publicKey, epoch);
  }

  #forgetRoutes(node: NodeName | undefined, epoch: number): void {
    for (const [name, { pid }] of this.#routes) {
      if (pid.node === node && pid.epoch <= epoch) this.#routes.delete(name);
    }
  }

  pause(): void {
    this.#isPaused = true;
    this.#alarm.cancel();
    this.#channel.onFrame = this.#channel.onUndelivered = undefined;
  }

  resume(): void {
    if (this.#isClosed) return;
    this.#isPaused = false;
    this.#listen();
    this.#endLost();
    const rows = [...this.#store.entries()];
    for (const row of rows) {
      try {
        this.#changed({ type: "put", row });
      } catch (error) {
        // One that takes us down when it comes must not do so forever.
        const { logger } = this.#options;
        logger.log("error", "a row cannot be read again", {
          error: messageOf(error),
          key: row.key,
        });
      }
    }
    this.#tell(this.#table.keepOnly(rows));
    this.#router = this.#newRouter();
    for (const [name, { retries }] of [...this.#searching]) {
      this.#route({ type: "search", name, retries });
    }
    this.#wind();
  }

  // Processes whose end we failed to write down.
  #endLost(): void {
    const { system } = this.#options;
    for (const [id, names] of this.#ours) {
      if (system.findById(id) === undefined) this.#endAll(id, names, "noproc");
    }
  }

  flushed(): Promise<void> {
    return this.#store.flushed();
  }

  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.pause();
    for (const end of this.#endings) end();
    this.#proxies.close();
    for (const { settle } of this.#searching.values()) settle(undefined);
    this.#searching.clear();
    this.#emitter.close();
  }

  #wind(): void {
    if (this.#isClosed || this.#isPaused) return;
    const lingers = this.#lingering.values().next().value ?? Infinity;
    this.#alarm.set(Math.min(this.#router.wakeAt(), lingers, this.#namesAgainAt));
  }

  #tick(): void {
    const now = this.#options.clock.now();
    this.#sweep(now);
    if (now >= this.#namesAgainAt) {
      this.#namesAgainAt = now + NAMES_AGAIN_MS;
      this.#nameAuthors();
    }
    this.#route({ type: "tick" });
  }
}
