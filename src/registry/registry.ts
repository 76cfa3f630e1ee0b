/**
 * The registry: names of processes that the whole cluster sees. Each node writes rows for its own
 * processes into a replicated store; an entry goes with its process, with `unregister`, or with the
 * verdict on its node, and for no other reason.
 */
import type { ActorSystem } from "../actor/system.ts";
import { NoProcessError } from "../actor/errors.ts";
import { utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { BarrelError, messageOf } from "../base/errors.ts";
import { Emitter } from "../base/events.ts";
import type { EventsOptions, Overflow } from "../base/events.ts";
import type { Logger } from "../base/logger.ts";
import { pick } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { Replication } from "../replica/driver.ts";
import type { Change, Row } from "../replica/store_state.ts";
import type { RosterDriver } from "../roster/driver.ts";
import { decodeMessage } from "../wire/decoder.ts";
import { MessageEncoder } from "../wire/encoder.ts";
import { MAX_NAME_BYTES } from "../wire/limits.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Pid } from "../wire/pid.ts";

/** One process behind a name. */
export interface Instance {
  readonly name: string;
  readonly node: NodeName;
  readonly pid: Pid;
  readonly meta: unknown;
}

/** What happens to names, each transition once. */
export type RegistryEvent =
  | {
    readonly type: "registered" | "unregistered";
    readonly name: string;
    readonly node: NodeName;
    readonly pid: Pid;
  }
  | {
    readonly type: "down";
    readonly name: string;
    readonly node: NodeName;
    readonly pid: Pid;
    readonly reason: "nodeDown";
  };

/** `node.registry`. */
export interface Registry {
  /**
   * Makes a process of this node known cluster-wide; registering it again updates `meta`. Settles
   * when the entry is signed and on its way.
   *
   * @throws NoProcessError for a process that is not alive here; BarrelError `registry` for a name
   * that is empty or above 255 bytes; EncodeError for a `meta` that cannot be sent or is above 4 KiB
   */
  register(name: string, pid: Pid, meta?: unknown): Promise<void>;
  /** Takes the entry back; nothing happens when there is none. */
  unregister(name: string, pid: Pid): Promise<void>;
  /** A process behind the name: one of this node if there is one, otherwise any. */
  whereis(name: string, options?: { retries?: number }): Promise<Pid | undefined>;
  /** Every process behind the name. */
  lookup(name: string): Instance[];
  /** Those of this node. */
  lookupLocal(name: string): Instance[];
  /** Every name that has a process. */
  names(): string[];
  /** A process of this node that passes messages on to the service, wherever it lives. */
  proxy(name: string): Pid;
  events(options?: EventsOptions): AsyncIterableIterator<RegistryEvent | Overflow>;
  on(listener: (event: RegistryEvent) => void): () => void;
}

/** The registry as the node drives it. */
export interface RegistryDriver extends Registry {
  /** The verdict on a life of a node, or its end. */
  onLife(what: "retire" | "restore" | "forget", publicKey: Bytes, epoch: number): void;
  close(): void;
}

/** What the registry is made of. */
export interface RegistryOptions {
  readonly system: ActorSystem;
  readonly replication: Pick<Replication, "createStore">;
  readonly roster: Pick<RosterDriver, "nameOf" | "on">;
  readonly self: { readonly publicKey: Bytes };
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
}

interface Entry {
  readonly row: Row;
  readonly name: string;
  readonly id: number;
  readonly meta: unknown;
  /** Whether `registered` was told: its node's name must be known for that. */
  told: Instance | undefined;
}

const MAX_META_BYTES = 4 * 1024;
const RETRY_MS = 250;
const SEPARATOR = "\0";

/** Creates the registry of a node. */
export function createRegistry(options: RegistryOptions): RegistryDriver {
  const { system, roster, clock, random, logger } = options;
  const { node, epoch } = system.options;
  const encoder = new MessageEncoder(MAX_META_BYTES);
  const emitter = new Emitter<RegistryEvent>((error) => {
    logger.log("error", `a listener of the registry threw: ${messageOf(error)}`);
  });
  const context = { own: { node, epoch }, peer: { node, epoch }, sender: system };
  /** By name, then by author and process. */
  const byName = new Map<string, Map<string, Entry>>();
  const untold = new Set<Entry>();
  /** Names of our own processes, by process. */
  const ours = new Map<number, Set<string>>();
  const proxies = new Map<string, Pid>();

  const store = options.replication.createStore({
    name: "registry",
    validate: (key, value) => (parse(key) && readMeta(value) ? undefined : "malformed"),
    onChange: (change) => onChange(change),
  });

  const readMeta = (value: Bytes): { meta: unknown } | undefined => {
    try {
      return { meta: decodeMessage(value, context) };
    } catch {
      return undefined;
    }
  };

  const onChange = ({ type, row }: Change) => {
    const parsed = parse(row.key);
    if (parsed === undefined) return;
    const { name, id } = parsed;
    const key = `${String.fromCharCode(...row.author)} ${id}`;
    const entries = byName.get(name) ?? new Map<string, Entry>();
    const old = entries.get(key);
    if (type === "put" || type === "restored") {
      const meta = readMeta(row.value)?.meta;
      const entry: Entry = { row, name, id, meta, told: undefined };
      entries.set(key, entry);
      byName.set(name, entries);
      if (old !== undefined) untold.delete(old);
      // New metadata is the same registration.
      if (old?.told !== undefined && old.row.epoch === row.epoch) {
        entry.told = { ...old.told, meta };
        return;
      }
      tellGone(old, "unregistered");
      untold.add(entry);
      tellNew();
      return;
    }
    if (old === undefined) return;
    entries.delete(key);
    untold.delete(old);
    if (entries.size === 0) byName.delete(name);
    tellGone(old, type === "hidden" ? "down" : "unregistered");
  };

  const tellGone = (entry: Entry | undefined, type: "unregistered" | "down") => {
    if (entry?.told === undefined) return;
    const { name, node: where, pid } = entry.told;
    if (type === "down") emitter.emit({ type, name, node: where, pid, reason: "nodeDown" });
    else emitter.emit({ type, name, node: where, pid });
  };

  // The rows of a node may come before the roster knows whose key that is.
  const tellNew = () => {
    for (const entry of [...untold]) {
      const instance = instanceOf(entry);
      if (instance === undefined) continue;
      untold.delete(entry);
      entry.told = instance;
      const { name, node: where, pid } = instance;
      emitter.emit({ type: "registered", name, node: where, pid });
    }
  };
  const offRoster = roster.on((change) => change.type === "nodeUp" && tellNew());

  const instanceOf = (entry: Entry): Instance | undefined => {
    if (entry.told !== undefined) return entry.told;
    const where = roster.nameOf(entry.row.author);
    if (where === undefined) return undefined;
    const pid = new Pid(where, entry.row.epoch, entry.id, system);
    return { name: entry.name, node: where, pid, meta: entry.meta };
  };

  const lookup = (name: string): Instance[] =>
    [...byName.get(name)?.values() ?? []].flatMap((entry) => instanceOf(entry) ?? []);

  const onExit = (pid: Pid) => {
    for (const name of ours.get(pid.id) ?? []) store.remove(keyOf(name, pid.id));
    ours.delete(pid.id);
    for (const [name, proxy] of proxies) if (proxy.equals(pid)) proxies.delete(name);
  };
  system.exitListeners.add(onExit);

  const find = (name: string): Pid | undefined => {
    const instances = lookup(name);
    const local = instances.filter(({ pid }) => system.isLocal(pid));
    return pick(random, local.length > 0 ? local : instances)?.pid;
  };

  // Resolves when the name is registered somewhere, or after a while.
  const changed = (name: string, ms: number): Promise<void> =>
    new Promise((resolve) => {
      const done = () => {
        timer.cancel();
        off();
        resolve();
      };
      const timer = clock.after(ms, done);
      const off = emitter.on((event) => event.name === name && done());
    });

  const registry: RegistryDriver = {
    async register(name, pid, meta) {
      checkName(name);
      if (system.find(pid) === undefined) {
        const why = system.isLocal(pid) ? "noproc" : "it lives on another node: register it there";
        throw new NoProcessError(String(pid), why);
      }
      const value = new Uint8Array(encoder.encode(meta)) as Bytes;
      store.put(keyOf(name, pid.id), value);
      const names = ours.get(pid.id) ?? new Set();
      names.add(name);
      ours.set(pid.id, names);
      await store.flushed();
    },
    async unregister(name, pid) {
      if (!system.isLocal(pid) || ours.get(pid.id)?.delete(name) !== true) return;
      store.remove(keyOf(name, pid.id));
      await store.flushed();
    },
    async whereis(name, { retries = 0 } = {}) {
      for (let attempt = 0;; attempt++) {
        const pid = find(name);
        if (pid !== undefined || attempt >= retries) return pid;
        await changed(name, RETRY_MS * 2 ** Math.min(attempt, 3));
      }
    },
    lookup,
    lookupLocal: (name) => lookup(name).filter(({ pid }) => system.isLocal(pid)),
    names: () => [...byName.keys()].filter((name) => lookup(name).length > 0).sort(),
    proxy(name) {
      checkName(name);
      const known = proxies.get(name);
      if (known !== undefined) return known;
      const pid = system.spawn(async (self) => {
        for await (const message of self.mailbox) {
          const target = find(name) ?? await registry.whereis(name, { retries: 3 });
          if (target !== undefined) await system.send(target, message);
          else system.options.meter.count("barrel_messages_dropped_total", { reason: "no_name" });
        }
      });
      proxies.set(name, pid);
      return pid;
    },
    on: (listener) => emitter.on(listener),
    events: (eventsOptions) => emitter.events(eventsOptions),
    onLife: (what, publicKey, life) => store[what](publicKey, life),
    close() {
      offRoster();
      system.exitListeners.delete(onExit);
      emitter.close();
    },
  };
  return registry;
}

function keyOf(name: string, id: number): string {
  return `${name}${SEPARATOR}${id}`;
}

function parse(key: string): { name: string; id: number } | undefined {
  const at = key.lastIndexOf(SEPARATOR);
  const name = key.slice(0, at);
  const id = Number(key.slice(at + 1));
  const isGood = at > 0 && isServiceName(name) && /^\d{1,16}$/.test(key.slice(at + 1)) &&
    Number.isSafeInteger(id);
  return isGood ? { name, id } : undefined;
}

function isServiceName(name: string): boolean {
  return name.length > 0 && !name.includes(SEPARATOR) && name.isWellFormed() &&
    utf8(name).length <= MAX_NAME_BYTES;
}

function checkName(name: string): void {
  if (typeof name === "string" && isServiceName(name)) return;
  throw new BarrelError("registry", `a service name has 1 to ${MAX_NAME_BYTES} bytes of UTF-8`);
}
