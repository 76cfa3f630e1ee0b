/**
 * The actor system of a node: processes, names, monitors, links and exit signals, local and
 * remote, with OTP's rules. What crosses nodes goes through a `SignalPort`.
 */
import type { Bytes } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { ClosedError, ConflictError, messageOf, ProtocolError } from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { LinkEvent, PeerIdentity, SignalPort } from "../link/ports.ts";
import type { Meter } from "../metrics/meter.ts";
import { decodeMessage } from "../wire/decoder.ts";
import type { DecodeContext } from "../wire/decoder.ts";
import { MessageEncoder } from "../wire/encoder.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Pid } from "../wire/pid.ts";
import type { PidSender } from "../wire/pid.ts";
import { Ref } from "../wire/ref.ts";
import { Mailbox } from "./mailbox.ts";
import { Down, Exit, NodeDown } from "./messages.ts";
import type { ExitReason, SystemMessage } from "./messages.ts";
import { ExitSignal, Process } from "./process.ts";
import type { Behaviour, Monitor, Self, Watcher } from "./process.ts";
import { text } from "./errors.ts";
import { isName, packNumbers, readerOf } from "./signals.ts";
import { TurnBudget } from "./turn_budget.ts";

/** What an actor system is made of. */
export interface ActorSystemOptions {
  readonly node: NodeName;
  readonly epoch: number;
  readonly port: SignalPort;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly maxMessageBytes: number;
  /** A pid for a name that no process of this node has: the registry, injected. */
  readonly resolveName: (name: string) => Promise<Pid | undefined>;
}

/** Options of `spawn`. */
export interface SpawnOptions {
  /** A name on this node. @throws ConflictError when it is taken */
  readonly name?: string;
}

/** A remote process's frames that this room does not handle itself. */
export type SignalHandler = (
  reader: ReturnType<typeof readerOf>,
  from: PeerIdentity,
  context: DecodeContext,
) => void;

const NOTHING = new Uint8Array(0);
/** Monitors and links that one peer may have on processes here. */
const MAX_WATCHES_PER_PEER = 1_000_000;

/** See the module. */
export class ActorSystem implements PidSender {
  readonly options: ActorSystemOptions;
  readonly encoder: MessageEncoder;
  /** Frames of other files of this room, by type. */
  readonly handlers: Map<number, SignalHandler> = new Map();
  /** Called when a process has ended, after its monitors and links were told. */
  readonly exitListeners: Set<(pid: Pid, reason: ExitReason) => void> = new Set();

  readonly #processes = new Map<number, Process>();
  readonly #names = new Map<string, Process>();
  /** Watches of other nodes on processes here: the processes, by node. */
  readonly #watchedBy = new Map<NodeName, Map<string, Process>>();
  /** Monitors and links of ours towards other nodes: the processes, by node. */
  readonly #towards = new Map<NodeName, Set<Process>>();
  readonly #nodeWatchers = new Map<NodeName, Set<Process>>();
  readonly #contexts = new Map<NodeName, DecodeContext>();
  readonly #budget: TurnBudget;
  readonly #once: ReturnType<typeof logOnce>;
  #nextId = 1;
  #nextRef = 1;
  #isClosed = false;

  constructor(options: ActorSystemOptions) {
    this.options = options;
    this.encoder = new MessageEncoder(options.maxMessageBytes);
    this.#budget = new TurnBudget(options.clock);
    this.#once = logOnce(options.logger, 1_024);
    const { port } = options;
    port.onSignal = (type, body, from) => this.#onSignal(type, body, from);
    port.onUndelivered = (peer, epoch, reason) => this.#undelivered(peer, epoch, reason);
    port.onLink((event) => this.#onLink(event));
  }

  /** Called with a peer when its link has gone or nothing reaches it. */
  readonly disconnectListeners: Set<(node: NodeName, reason: string) => void> = new Set();

  // ---- local processes -------------------------------------------------------------------

  /** Starts a process. @throws ConflictError, ClosedError */
  spawn<Msg>(behaviour: Behaviour<Msg>, options: SpawnOptions = {}): Pid<Msg> {
    const process = this.create(options);
    this.run(process, behaviour);
    return process.pid;
  }

  /** Makes a process that does nothing yet. @throws ConflictError, ClosedError */
  create({ name }: SpawnOptions = {}): Process {
    const { node, epoch, clock } = this.options;
    if (this.#isClosed) throw new ClosedError(`${node} is closed`);
    if (name !== undefined) this.#checkName(name);
    const pid = new Pid(node, epoch, this.#nextId++, this);
    const process = new Process(pid, new Mailbox(clock, this.#budget));
    this.#processes.set(pid.id, process);
    if (name !== undefined) {
      process.name = name;
      this.#names.set(name, process);
    }
    return process;
  }

  /** Lets a process begin, in a later microtask; its end is this system's business. */
  run<Msg>(process: Process, behaviour: Behaviour<Msg>): void {
    const self = this.selfOf<Msg>(process);
    Promise.resolve().then(() => (process.isAlive ? behaviour(self) : undefined)).then(
      () => this.terminate(process, "normal"),
      (error) => {
        if (error instanceof ExitSignal) return this.terminate(process, error.reason);
        if (!process.isAlive) return;
        this.options.logger.log("warn", `${process.pid} crashed: ${text(error)}`, {
          pid: String(process.pid),
          stack: (error as Error)?.stack,
        });
        this.terminate(process, error);
      },
    );
  }

  /** The live process behind a pid or a local name. */
  find(target: Pid | string): Process | undefined {
    if (typeof target === "string") return this.#names.get(target);
    return this.isLocal(target) ? this.#processes.get(target.id) : undefined;
  }

  /** Whether the pid is of this life of this node. */
  isLocal(pid: Pid): boolean {
    return pid.node === this.options.node && pid.epoch === this.options.epoch;
  }

  /** The live processes. */
  list(): { pid: Pid; name: string | undefined; mailboxLength: number }[] {
    return [...this.#processes.values()].map(({ pid, name, mailbox }) => {
      return { pid, name, mailboxLength: mailbox.length };
    });
  }

  /** Ends a process: everything it held is freed, monitors and links are told. */
  terminate(process: Process, reason: ExitReason): void {
    if (!process.isAlive) return;
    process.isAlive = false;
    const { pid, name } = process;
    this.#processes.delete(pid.id);
    if (name !== undefined) this.#names.delete(name);
    for (const timer of process.timers ?? []) timer.cancel();
    process.mailbox.close(new ExitSignal(reason));
    for (const request of process.requests ?? []) request.refuse(reason);
    process.abort();
    for (const node of process.nodes ?? []) this.#nodeWatchers.get(node)?.delete(process);
    for (const monitor of process.monitors?.values() ?? []) this.#stopMonitor(monitor);
    for (const watcher of process.watchers?.values() ?? []) {
      this.#tellDown(process, watcher, reason);
    }
    const links = process.links;
    process.links = undefined;
    for (const other of links?.values() ?? []) this.#tellLinked(pid, other, reason);
    for (const node of [...this.#towards.keys()]) this.#releaseTowards(process, node);
    for (const listener of this.exitListeners) listener(pid, reason);
  }

  /** Ends every process with `shutdown`. */
  close(): void {
    this.#isClosed = true;
    for (const process of [...this.#processes.values()]) this.terminate(process, "shutdown");
  }

  #checkName(name: string): void {
    if (!isName(name)) throw new ConflictError("a process name has 1 to 255 bytes of UTF-8");
    const holder = this.#names.get(name);
    if (holder === undefined) return;
    throw new ConflictError(`"${name}" is taken on this node by ${holder.pid}`);
  }

  // ---- sending ---------------------------------------------------------------------------

  /** Sends to a pid; see {@link Pid.send}. */
  send(pid: Pid, message: unknown): void | Promise<void> {
    const { node, epoch, port } = this.options;
    if (pid.node === node) {
      if (pid.epoch === epoch) this.#processes.get(pid.id)?.mailbox.push(message);
      return;
    }
    const payload = this.encode(message, pid.node, pid.epoch);
    return port.send(pid.node, pid.epoch, pid.id, FrameType.SEND, packNumbers(pid.id), payload);
  }

  /** Sends to a pid or a name: of this node first, then of the registry. */
  async sendTo(target: Pid | string, message: unknown): Promise<void> {
    if (target instanceof Pid) return await this.send(target, message);
    const local = this.#names.get(target);
    if (local !== undefined) return local.mailbox.push(message);
    const pid = await this.options.resolveName(target);
    if (pid !== undefined) await this.send(pid, message);
    else this.options.meter.count("barrel_messages_dropped_total", { reason: "no_name" });
  }

  /** Encodes for a peer; valid until the next call. @throws EncodeError */
  encode(message: unknown, node: NodeName, epoch: number): Uint8Array {
    return this.encoder.encode(message, { own: this.options, peer: { node, epoch } });
  }

  /** Sends an exit signal. `"kill"` cannot be trapped. */
  exit(target: Pid, reason: ExitReason, from?: Pid): void {
    const sender = from ?? new Pid(this.options.node, this.options.epoch, 0, this);
    if (this.isLocal(target)) return this.#exitSignal(target, sender, reason, false);
    const { node, epoch, id } = target;
    const payload = this.encode(reason, node, epoch);
    this.#signal(node, epoch, id, FrameType.EXIT, packNumbers(id, sender.id, 0), payload);
  }

  // An exit signal arrives: from a linked process that ended, or from somebody's `exit`.
  #exitSignal(target: Pid, from: Pid, reason: ExitReason, isLink: boolean): void {
    const process = this.#processes.get(target.id);
    if (process === undefined) return;
    if (isLink && process.links?.delete(keyOf(from)) !== true) return;
    if (!isLink && reason === "kill") return this.terminate(process, "killed");
    if (process.trapExit) return process.mailbox.push(new Exit(from, reason));
    // "normal" from another process is ignored; to oneself it ends.
    if (reason !== "normal" || (!isLink && from.equals(target))) this.terminate(process, reason);
  }

  // ---- what a process can do ----------------------------------------------------------------

  /** The process's own view. */
  selfOf<Msg>(process: Process): Self<Msg> {
    const { mailbox, pid } = process;
    const system = this;
    const iterator: AsyncIterator<Msg | SystemMessage> = {
      next: () =>
        mailbox.next().then((value) => ({ done: false, value: value as Msg | SystemMessage })),
    };
    return {
      pid,
      node: this.options.node,
      get signal() {
        return process.signal;
      },
      get trapExit() {
        return process.trapExit;
      },
      set trapExit(value) {
        process.trapExit = value;
      },
      mailbox: { [Symbol.asyncIterator]: () => iterator },
      // oxlint-disable-next-line typescript/no-explicit-any -- two overloads behind one function
      receive(first?: any, second?: any): any {
        return typeof first === "function" ? mailbox.take(first, second) : mailbox.next(first);
      },
      monitor: (target) => this.monitor(process, target),
      demonitor: (ref, options) => this.#demonitor(process, ref, options?.flush === true),
      monitorNode: (node) => this.#monitorNode(process, node),
      link: (other) => this.link(process, other),
      unlink: (other) => this.#unlink(process, other),
      spawnLink: (behaviour) => {
        const child = this.create();
        this.link(process, child.pid);
        this.run(child, behaviour);
        return child.pid;
      },
      spawnMonitor: (behaviour) => {
        const child = this.create();
        const ref = this.monitor(process, child.pid);
        this.run(child, behaviour);
        return { pid: child.pid, ref };
      },
      sendAfter(ms, target, message) {
        const timer = system.options.clock.after(ms, () => {
          process.timers?.delete(timer);
          void system.send(target, message);
        });
        (process.timers ??= new Set()).add(timer);
        return {
          cancel() {
            timer.cancel();
            process.timers?.delete(timer);
          },
        } satisfies Timer;
      },
      exit(reason) {
        throw new ExitSignal(reason);
      },
    };
  }

  // ---- monitors --------------------------------------------------------------------------

  /** Monitors a process on behalf of one of ours. */
  monitor(process: Process, target: Pid | string): Ref {
    const { node, epoch } = this.options;
    const ref = new Ref(node, epoch, this.#nextRef++);
    if (typeof target === "string" && !this.#names.has(target)) {
      void this.#monitorByName(process, ref, target);
      return ref;
    }
    const pid = typeof target === "string" ? (this.#names.get(target) as Process).pid : target;
    this.#startMonitor(process, ref, target, pid);
    return ref;
  }

  async #monitorByName(process: Process, ref: Ref, name: string): Promise<void> {
    const placeholder: Monitor = { ref, target: name, node: "", epoch: 0, id: 0 };
    (process.monitors ??= new Map()).set(ref.id, placeholder);
    const pid = await this.options.resolveName(name).catch(() => undefined);
    if (!process.monitors.delete(ref.id) || !process.isAlive) return;
    if (pid === undefined) process.mailbox.push(new Down(ref, name, "noproc"));
    else this.#startMonitor(process, ref, name, pid);
  }

  #startMonitor(process: Process, ref: Ref, target: Pid | string, pid: Pid): void {
    const { node, epoch } = this.options;
    if (pid.node === node) {
      const watched = pid.epoch === epoch ? this.#processes.get(pid.id) : undefined;
      if (watched === undefined) return process.mailbox.push(new Down(ref, target, "noproc"));
      const watcher = { local: process, node, epoch, ref: ref.id };
      (watched.watchers ??= new Map()).set(watcherKey(node, ref.id), watcher);
    } else {
      this.#holdTowards(process, pid.node);
      const head = packNumbers(pid.id, ref.id);
      this.#signal(pid.node, pid.epoch, pid.id, FrameType.MONITOR, head, NOTHING);
    }
    const monitor: Monitor = { ref, target, node: pid.node, epoch: pid.epoch, id: pid.id };
    (process.monitors ??= new Map()).set(ref.id, monitor);
  }

  #demonitor(process: Process, ref: Ref, flush: boolean): void {
    const monitor = process.monitors?.get(ref.id);
    if (monitor !== undefined) {
      process.monitors?.delete(ref.id);
      this.#stopMonitor(monitor);
      this.#releaseTowards(process, monitor.node);
    }
    if (flush) {
      process.mailbox.remove((message) => message instanceof Down && message.ref.equals(ref));
    }
  }

  #stopMonitor(monitor: Monitor): void {
    const { ref, node, epoch, id } = monitor;
    if (node === this.options.node) {
      this.#processes.get(id)?.watchers?.delete(watcherKey(node, ref.id));
    } else if (this.options.port.connected(node)) {
      const head = packNumbers(id, ref.id);
      this.#signal(node, epoch, id, FrameType.DEMONITOR, head, NOTHING);
    }
  }

  #tellDown(process: Process, watcher: Watcher, reason: ExitReason): void {
    if (watcher.local !== undefined) return this.#down(watcher.local, watcher.ref, reason);
    const { node, epoch, ref } = watcher;
    this.#watchedBy.get(node)?.delete(watchKey("m", ref));
    if (!this.options.port.connected(node)) return;
    this.#sendReason(node, epoch, process.pid.id, FrameType.DOWN, packNumbers(ref), reason);
  }

  // A `Down` for one monitor, once.
  #down(process: Process, refId: number, reason: ExitReason): void {
    const monitor = process.monitors?.get(refId);
    if (monitor === undefined) return;
    process.monitors?.delete(refId);
    process.mailbox.push(new Down(monitor.ref, monitor.target, reason));
    this.#releaseTowards(process, monitor.node);
  }

  // A reason that cannot travel is told in words rather than not at all.
  #sendReason(
    node: NodeName,
    epoch: number,
    key: number,
    type: FrameType,
    head: Uint8Array,
    reason: ExitReason,
  ): void {
    let payload: Uint8Array;
    try {
      payload = this.encode(reason, node, epoch);
    } catch {
      payload = this.encode(text(reason), node, epoch);
    }
    this.#signal(node, epoch, key, type, head, payload);
  }

  // Signals of the system itself have nobody to await room for them.
  #signal(
    node: NodeName,
    epoch: number,
    key: number,
    type: FrameType,
    head: Uint8Array,
    payload: Uint8Array,
  ): void {
    try {
      void this.options.port.send(node, epoch, key, type, head, payload);
    } catch (error) {
      this.options.meter.count("barrel_signals_dropped_total");
      this.warnOnce(`signal ${node}`, error);
    }
  }

  #monitorNode(process: Process, node: NodeName): void {
    (process.nodes ??= new Set()).add(node);
    const watchers = this.#nodeWatchers.get(node) ?? new Set();
    watchers.add(process);
    this.#nodeWatchers.set(node, watchers);
  }

  /** A node was declared down: its monitors fire, and nothing is expected from it any more. */
  nodeDown(node: NodeName): void {
    this.#disconnected(node, "the node is down");
    const watchers = this.#nodeWatchers.get(node);
    this.#nodeWatchers.delete(node);
    for (const process of watchers ?? []) {
      process.nodes?.delete(node);
      process.mailbox.push(new NodeDown(node));
    }
  }

  // ---- links -----------------------------------------------------------------------------

  /** Links one of our processes with another. */
  link(process: Process, other: Pid): void {
    if (other.equals(process.pid) || process.links?.has(keyOf(other))) return;
    const { pid } = process;
    if (other.node === this.options.node) {
      const target = this.find(other);
      if (target === undefined) {
        // As in OTP: linking to nobody brings the exit signal of nobody.
        (process.links ??= new Map()).set(keyOf(other), other);
        return this.#exitSignal(pid, other, "noproc", true);
      }
      (target.links ??= new Map()).set(keyOf(pid), pid);
    } else {
      this.#holdTowards(process, other.node);
      const head = packNumbers(other.id, pid.id);
      this.#signal(other.node, other.epoch, other.id, FrameType.LINK, head, NOTHING);
    }
    (process.links ??= new Map()).set(keyOf(other), other);
  }

  #unlink(process: Process, other: Pid): void {
    if (process.links?.delete(keyOf(other)) !== true) return;
    if (other.node === this.options.node) {
      this.find(other)?.links?.delete(keyOf(process.pid));
      return;
    }
    const head = packNumbers(other.id, process.pid.id);
    this.#signal(other.node, other.epoch, other.id, FrameType.UNLINK, head, NOTHING);
    this.#releaseTowards(process, other.node);
  }

  #tellLinked(pid: Pid, other: Pid, reason: ExitReason): void {
    if (other.node === this.options.node) return this.#exitSignal(other, pid, reason, true);
    if (!this.options.port.connected(other.node)) return;
    const head = packNumbers(other.id, pid.id, 1);
    this.#sendReason(other.node, other.epoch, other.id, FrameType.EXIT, head, reason);
  }

  // ---- the other nodes -------------------------------------------------------------------

  #holdTowards(process: Process, node: NodeName): void {
    let processes = this.#towards.get(node);
    if (processes === undefined) {
      processes = new Set();
      this.#towards.set(node, processes);
    }
    if (processes.size === 0) this.options.port.hold(node);
    processes.add(process);
  }

  #releaseTowards(process: Process, node: NodeName): void {
    const processes = this.#towards.get(node);
    if (!processes?.has(process)) return;
    const isUsed = process.isAlive &&
      ([...process.monitors?.values() ?? []].some((monitor) => monitor.node === node) ||
        [...process.links?.values() ?? []].some((pid) => pid.node === node));
    if (isUsed) return;
    processes.delete(process);
    if (processes.size > 0) return;
    this.#towards.delete(node);
    this.options.port.release(node);
  }

  #onLink(event: LinkEvent): void {
    const { name } = event.peer;
    // A new life or a new connection: pids of the peer are read anew.
    this.#contexts.delete(name);
    if (event.type === "linkDown") this.#disconnected(name, "the connection was lost");
  }

  #undelivered(node: NodeName, epoch: number, reason: string): void {
    this.#once(`undelivered ${node}`, "info", `nothing reaches ${node}: ${reason}`, { node });
    if (epoch === 0 || !this.options.port.connected(node)) this.#disconnected(node, reason);
    else this.#staleLife(node, epoch);
  }

  // Signals for an earlier life of a node that lives again: those processes are gone.
  #staleLife(node: NodeName, epoch: number): void {
    for (const process of [...this.#towards.get(node) ?? []]) {
      for (const monitor of [...process.monitors?.values() ?? []]) {
        if (monitor.node !== node || monitor.epoch !== epoch) continue;
        this.#down(process, monitor.ref.id, "noproc");
      }
      for (const pid of [...process.links?.values() ?? []]) {
        if (pid.node !== node || pid.epoch !== epoch) continue;
        this.#exitSignal(process.pid, pid, "noproc", true);
      }
    }
    this.#tellDisconnected(node, "the process was of an earlier life of its node");
  }

  // Monitors and links across a lost connection get `noconnection` at once, as in OTP.
  #disconnected(node: NodeName, reason: string): void {
    for (const process of [...this.#towards.get(node) ?? []]) {
      for (const monitor of [...process.monitors?.values() ?? []]) {
        if (monitor.node === node) this.#down(process, monitor.ref.id, "noconnection");
      }
      for (const pid of [...process.links?.values() ?? []]) {
        if (pid.node === node) this.#exitSignal(process.pid, pid, "noconnection", true);
      }
      this.#releaseTowards(process, node);
    }
    for (const [key, process] of this.#watchedBy.get(node) ?? []) {
      if (key.startsWith("m")) process.watchers?.delete(watcherKey(node, Number(key.slice(1))));
      else this.#linkedNodeLost(process, node);
    }
    this.#watchedBy.delete(node);
    this.#tellDisconnected(node, reason);
  }

  #tellDisconnected(node: NodeName, reason: string): void {
    for (const listener of this.disconnectListeners) listener(node, reason);
  }

  #linkedNodeLost(process: Process, node: NodeName): void {
    for (const pid of [...process.links?.values() ?? []]) {
      if (pid.node === node) this.#exitSignal(process.pid, pid, "noconnection", true);
    }
  }

  #watch(node: NodeName, key: string, process: Process): void {
    let watched = this.#watchedBy.get(node);
    if (watched === undefined) {
      watched = new Map();
      this.#watchedBy.set(node, watched);
    }
    if (watched.size >= MAX_WATCHES_PER_PEER) {
      throw new ProtocolError("too_many_monitors", `${node} watches too many processes`);
    }
    watched.set(key, process);
  }

  #onSignal(type: FrameType, body: Bytes, from: PeerIdentity): void {
    const reader = readerOf(body);
    const context = this.contextOf(from);
    switch (type) {
      case FrameType.SEND: {
        const process = this.#processes.get(reader.varint());
        const message = decodeMessage(reader.rest(), context);
        // As in OTP: a message to a process that has ended goes nowhere.
        if (process !== undefined) process.mailbox.push(message);
        else this.options.meter.count("barrel_messages_dropped_total", { reason: "no_process" });
        return;
      }
      case FrameType.MONITOR:
        return this.#onMonitor(reader.varint(), reader.varint(), from);
      case FrameType.DEMONITOR: {
        const process = this.#processes.get(reader.varint());
        const ref = reader.varint();
        process?.watchers?.delete(watcherKey(from.name, ref));
        this.#watchedBy.get(from.name)?.delete(watchKey("m", ref));
        return;
      }
      case FrameType.DOWN:
        return this.#onDown(reader.varint(), decodeMessage(reader.rest(), context), from);
      case FrameType.LINK:
        return this.#onLinked(reader.varint(), reader.varint(), from);
      case FrameType.UNLINK: {
        const process = this.#processes.get(reader.varint());
        const other = new Pid(from.name, from.epoch, reader.varint(), this);
        process?.links?.delete(keyOf(other));
        this.#watchedBy.get(from.name)?.delete(watchKey("l", other.id));
        return;
      }
      case FrameType.EXIT: {
        const { node, epoch } = this.options;
        const target = new Pid(node, epoch, reader.varint(), this);
        const other = new Pid(from.name, from.epoch, reader.varint(), this);
        const isLink = reader.varint() === 1;
        return this.#exitSignal(target, other, decodeMessage(reader.rest(), context), isLink);
      }
    }
    const handler = this.handlers.get(type);
    if (handler === undefined) {
      throw new ProtocolError("unknown_frame", `no signal has type ${type}`);
    }
    handler(reader, from, context);
  }

  #onMonitor(id: number, ref: number, from: PeerIdentity): void {
    const process = this.#processes.get(id);
    const { name: node, epoch } = from;
    if (process === undefined) {
      return this.#sendReason(node, epoch, id, FrameType.DOWN, packNumbers(ref), "noproc");
    }
    this.#watch(node, watchKey("m", ref), process);
    (process.watchers ??= new Map()).set(watcherKey(node, ref), {
      local: undefined,
      node,
      epoch,
      ref,
    });
  }

  #onDown(ref: number, reason: ExitReason, from: PeerIdentity): void {
    for (const process of this.#towards.get(from.name) ?? []) {
      // Only the node that was asked may answer.
      if (process.monitors?.get(ref)?.node !== from.name) continue;
      return this.#down(process, ref, reason);
    }
  }

  #onLinked(id: number, otherId: number, from: PeerIdentity): void {
    const process = this.#processes.get(id);
    const other = new Pid(from.name, from.epoch, otherId, this);
    if (process === undefined) {
      const head = packNumbers(otherId, id, 1);
      return this.#sendReason(from.name, from.epoch, otherId, FrameType.EXIT, head, "noproc");
    }
    this.#watch(from.name, watchKey("l", otherId), process);
    (process.links ??= new Map()).set(keyOf(other), other);
  }

  /** How to read what a peer wrote. */
  contextOf(from: PeerIdentity): DecodeContext {
    let context = this.#contexts.get(from.name);
    if (context === undefined || context.peer.epoch !== from.epoch) {
      const { node, epoch } = this.options;
      context = {
        own: { node, epoch },
        peer: { node: from.name, epoch: from.epoch },
        sender: this,
      };
      this.#contexts.set(from.name, context);
    }
    return context;
  }

  /** Tells once that something of a peer or of a user went wrong. */
  warnOnce(key: string, error: unknown): void {
    this.#once(key, "warn", messageOf(error));
  }
}

function keyOf(pid: Pid): string {
  return `${pid.node} ${pid.epoch} ${pid.id}`;
}

function watcherKey(node: NodeName, ref: number): string {
  return `${node} ${ref}`;
}

function watchKey(kind: "m" | "l", id: number): string {
  return `${kind}${id}`;
}
