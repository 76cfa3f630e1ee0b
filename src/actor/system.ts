/**
 * The actor system of a node: processes, their names, what is sent to them, and the signals of
 * other nodes. Monitors are in `monitors.ts`, links and exit signals in `process_links.ts`, what a
 * process can do itself in `self.ts`. What crosses nodes goes through a `SignalPort`.
 */
import type { Bytes } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { ClosedError, ConflictError, ProtocolError } from "../base/errors.ts";
import { knownOptions } from "../base/known_options.ts";
import type { Logger } from "../base/logger.ts";
import type { LinkEvent, PeerIdentity, SignalPort } from "../link/ports.ts";
import type { Meter } from "../metrics/meter.ts";
import { decodeMessage, takeMessage } from "../wire/decoder.ts";
import type { DecodeContext } from "../wire/decoder.ts";
import { MessageEncoder } from "../wire/encoder.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Life, Pid } from "../wire/pid.ts";
import type { PidSender } from "../wire/pid.ts";
import type { Ref } from "../wire/ref.ts";
import { text } from "./errors.ts";
import { mailboxSettings } from "./mailbox.ts";
import type { MailboxSettings } from "./mailbox.ts";
import { NodeDown } from "./messages.ts";
import type { ExitReason } from "./messages.ts";
import { Monitors } from "./monitors.ts";
import { Peers } from "./peers.ts";
import { ExitSignal } from "./process.ts";
import type { Behaviour, Process } from "./process.ts";
import { ProcessTable } from "./process_table.ts";
import { ProcessLinks } from "./process_links.ts";
import { ProcessSelf } from "./self.ts";
import { isName, packNumbers, readerOf } from "./signals.ts";
import { TurnBudget } from "./turn_budget.ts";

/** Its reactions are microtasks that cost less than `queueMicrotask`, which Node and Deno wrap. */
const SETTLED = Promise.resolve();

/** What an actor system is made of. */
export interface ActorSystemOptions {
  readonly node: NodeName;
  readonly epoch: number;
  readonly port: SignalPort;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly maxMessageBytes: number;
  /** Messages in one mailbox that are a reason to warn. */
  readonly mailboxHighWater: number;
  /** A pid for a name that no process of this node has: the registry, injected. */
  readonly resolveName: (name: string) => Promise<Pid | undefined>;
  /** Whether a node is a live member of the cluster: the roster, injected. */
  readonly isMember: (node: NodeName) => boolean;
}

/** Options of `spawn`. */
export interface SpawnOptions {
  /** A name on this node. @throws ConflictError when it is taken */
  readonly name?: string;
}

const SPAWN_OPTIONS = ["name"];

/** A remote process's frames that this room does not handle itself. */
export type SignalHandler = (
  reader: ReturnType<typeof readerOf>,
  from: PeerIdentity,
  context: DecodeContext,
) => void;

/** Nothing comes from a node any more; `epoch`: from that life of it, which is over. */
export interface Disconnection {
  readonly node: NodeName;
  readonly reason: string;
  readonly epoch: number | undefined;
}

/** See the module. */
export class ActorSystem implements PidSender {
  readonly options: ActorSystemOptions;
  /** This life of this node. */
  readonly life: Life;
  readonly encoder: MessageEncoder;
  /** Frames of other files of this room, by type. */
  readonly handlers: Map<number, SignalHandler> = new Map();
  /** Called when a process has ended, after its monitors and links were told. */
  readonly exitListeners: Set<(pid: Pid, reason: ExitReason) => void> = new Set();
  /** Called when the link to a peer has gone or nothing reaches it. */
  readonly disconnectListeners: Set<(event: Disconnection) => void> = new Set();

  /** Passes on what another process got, calls and casts included; set by `createCalls`. */
  forward: (target: Pid, message: unknown) => void | Promise<void> = (target, message) =>
    this.send(target, message);
  /** Tells the caller, where a message that nobody takes is a call; set by `createCalls`. */
  refuse: (message: unknown, reason: ExitReason) => void = () => {};

  readonly #processes = new ProcessTable();
  readonly #names = new Map<string, Process>();
  readonly #nodeWatchers = new Map<NodeName, Set<Process>>();
  readonly #peers: Peers;
  readonly #monitors: Monitors;
  readonly #links: ProcessLinks;
  readonly #mailboxes: MailboxSettings;
  #nextId = 1;
  #isClosed = false;

  constructor(options: ActorSystemOptions) {
    this.options = options;
    this.life = new Life(options.node, options.epoch, this);
    this.encoder = new MessageEncoder(options.maxMessageBytes);
    this.#peers = new Peers(options, this.encoder, this.life);
    this.#monitors = new Monitors(this, this.#peers);
    this.#links = new ProcessLinks(this, this.#peers);
    this.#mailboxes = mailboxSettings({
      clock: options.clock,
      budget: new TurnBudget(options.clock),
      highWaterMark: options.mailboxHighWater,
      onHighWater: (mailbox) => this.#flooded(mailbox as Process),
    });
    const { port } = options;
    port.onSignal = (type, body, from) => this.#onSignal(type, body, from);
    port.onUndelivered = (peer, epoch, reason) => this.#undelivered(peer, epoch, reason);
    port.onLink((event) => this.#onLink(event));
  }

  // ---- local processes -------------------------------------------------------------------

  /** Starts a process. @throws ConflictError, ClosedError */
  spawn<Msg>(behaviour: Behaviour<Msg>, options: SpawnOptions = {}): Pid<Msg> {
    if (typeof behaviour !== "function") {
      throw new TypeError(`spawn takes a function, not ${typeof behaviour}`);
    }
    knownOptions(options, SPAWN_OPTIONS);
    const process = this.create(options);
    this.run(process, behaviour);
    return process.pid;
  }

  /** Makes a process that does nothing yet. @throws ConflictError, ClosedError */
  create({ name }: SpawnOptions = {}): ProcessSelf {
    if (this.#isClosed) throw new ClosedError(`${this.options.node} is closed`);
    if (name !== undefined) this.#checkName(name);
    const pid = new Pid(this.life, this.#nextId++);
    const process = new ProcessSelf(pid, this.#mailboxes.none);
    this.#processes.add(process);
    if (name !== undefined) {
      process.name = name;
      this.#names.set(name, process);
    }
    return process;
  }

  /** Lets a process begin, in a later microtask; its end is this system's business. */
  run<Msg>(process: ProcessSelf, behaviour: Behaviour<Msg>): void {
    void SETTLED.then(() => {
      if (!process.isAlive) return;
      try {
        process.run(behaviour);
      } catch (error) {
        this.#failed(process, error);
      }
    });
  }

  /** The function of a process has returned; what it returned, or its promise that has settled. */
  ended(process: Process, end: unknown): void {
    void Promise.resolve(end).then(
      () => this.terminate(process, "normal"),
      (error) => this.#failed(process, error),
    );
  }

  #failed(process: Process, error: unknown): void {
    if (error instanceof ExitSignal) return this.terminate(process, error.reason);
    if (!process.isAlive) return;
    this.options.logger.log("warn", `${process.pid} crashed: ${text(error)}`, {
      pid: String(process.pid),
      stack: (error as Error)?.stack,
    });
    this.terminate(process, error);
  }

  /** The live process behind a pid or a local name. */
  find(target: Pid | string): Process | undefined {
    if (typeof target === "string") return this.#names.get(target);
    return this.isLocal(target) ? this.#processes.get(target.id) : undefined;
  }

  /** The live process with this number. */
  findById(id: number): Process | undefined {
    return this.#processes.get(id);
  }

  /** Whether the pid is of this life of this node. */
  isLocal(pid: Pid): boolean {
    return pid.node === this.options.node && pid.epoch === this.options.epoch;
  }

  /** The live processes, oldest first. */
  all(): Process[] {
    return this.#processes.all();
  }

  /** Ends a process: everything it held is freed, monitors and links are told. */
  terminate(process: Process, reason: ExitReason): void {
    if (!process.isAlive) return;
    process.isAlive = false;
    const { pid, name } = process;
    this.#processes.delete(process);
    if (name !== undefined) this.#names.delete(name);
    for (const timer of process.timers ?? []) timer.cancel();
    process.mailbox.close(() => new ExitSignal(reason));
    process.requests?.refuse(reason);
    process.abort();
    for (const node of process.nodes ?? []) this.#unwatchNode(process, node);
    this.#monitors.ended(process, reason);
    this.#links.ended(process, reason);
    for (const listener of this.exitListeners) listener(pid, reason);
  }

  /** Whether the node has closed: nothing is sent or spawned any more. */
  get isClosed(): boolean {
    return this.#isClosed;
  }

  /** Ends every process with `shutdown`. */
  close(): void {
    this.#isClosed = true;
    for (const process of this.#processes.all()) this.terminate(process, "shutdown");
  }

  #flooded(process: Process): void {
    this.options.meter.count("barrel_mailbox_high_water_total");
    if (process.isFlooded) return;
    process.isFlooded = true;
    const { pid, name, length } = process;
    const who = name === undefined ? String(pid) : `${pid} "${name}"`;
    const fields = { pid: String(pid), name, mailboxLength: length };
    const message = `${who} does not keep up: ${length} messages wait for it`;
    this.options.logger.log("warn", message, fields);
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
    // `undefined`, too, is refused in words below.
    if (pid?.life === this.life) {
      this.encoder.check(message);
      this.#processes.get(pid.id)?.push(message);
      return;
    }
    const { node, epoch, port } = this.options;
    if (pid?.node === node) {
      this.encoder.check(message);
      if (pid.epoch === epoch) this.#processes.get(pid.id)?.mailbox.push(message);
      return;
    }
    if (!(pid instanceof Pid)) throw new TypeError(`send takes a pid or a name, not ${typeof pid}`);
    const payload = this.encode(message, pid.node, pid.epoch);
    return port.send(pid.node, pid.epoch, pid.id, FrameType.SEND, packNumbers(pid.id), payload);
  }

  /** Sends to a pid or a name: of this node first, then of the registry. */
  async sendTo(target: Pid | string, message: unknown): Promise<void> {
    if (target instanceof Pid) return await this.send(target, message);
    const local = this.#names.get(target);
    if (local !== undefined) {
      this.encoder.check(message);
      return local.mailbox.push(message);
    }
    const pid = await this.#resolve(target);
    if (pid !== undefined) await this.send(pid, message);
    else this.options.meter.count("barrel_messages_dropped_total", { reason: "no_name" });
  }

  // Who sends to a node that closes is not told, by a pid or by a name: few wait for a send.
  async #resolve(name: string): Promise<Pid | undefined> {
    try {
      return await this.options.resolveName(name);
    } catch (error) {
      if (error instanceof ClosedError) return undefined;
      throw error;
    }
  }

  /** Encodes for a peer; valid until the next call. @throws EncodeError */
  encode(message: unknown, node: NodeName, epoch: number): Uint8Array {
    return this.encoder.encode(message, { own: this.options, peer: { node, epoch } });
  }

  /** Sends an exit signal. `"kill"` cannot be trapped. */
  exit(target: Pid, reason: ExitReason, from?: Pid): void {
    if (!(target instanceof Pid)) throw new TypeError(`exit takes a pid, not ${typeof target}`);
    const sender = from ?? new Pid(this.life, 0);
    this.#links.exit(target, reason, sender);
  }

  /** Sends later, on behalf of a process, unless that has ended by then. */
  sendAfter(process: Process, ms: number, target: Pid, message: unknown): Timer {
    // Now, while somebody is there to be told.
    if (!(target instanceof Pid)) {
      throw new TypeError(`sendAfter takes a pid, not ${typeof target}`);
    }
    this.encoder.check(message);
    const timers = process.timers ??= new Set();
    const timer = this.options.clock.after(ms, () => {
      timers.delete(timer);
      try {
        void this.send(target, message);
      } catch (error) {
        // Full, or changed since: nobody is there to be told, the process may be anywhere by now.
        this.options.meter.count("barrel_messages_dropped_total", { reason: "not_sent" });
        this.warnOnce(`sendAfter ${target}`, error);
      }
    });
    timers.add(timer);
    return {
      cancel() {
        timer.cancel();
        timers.delete(timer);
      },
    };
  }

  // ---- monitors and links ------------------------------------------------------------------

  /** Monitors a process on behalf of one of ours. */
  monitor(process: Process, target: Pid | string): Ref {
    return this.#monitors.start(process, target);
  }

  /** Ends a monitor; `flush` also removes its `Down` from the mailbox. */
  demonitor(process: Process, ref: Ref, flush: boolean): void {
    this.#monitors.stop(process, ref, flush);
  }

  /** Links one of our processes with another. */
  link(process: Process, other: Pid): void {
    this.#links.link(process, other);
  }

  /** Takes a link back. */
  unlink(process: Process, other: Pid): void {
    this.#links.unlink(process, other);
  }

  /** Watches a node on behalf of one of our processes. */
  monitorNode(process: Process, node: NodeName): void {
    const { node: own, isMember, port } = this.options;
    if (node === own) return;
    if (!isMember(node) && !port.connected(node)) {
      return process.mailbox.push(new NodeDown(node));
    }
    (process.nodes ??= new Set()).add(node);
    const watchers = this.#nodeWatchers.get(node) ?? new Set();
    this.#nodeWatchers.set(node, watchers.add(process));
  }

  #unwatchNode(process: Process, node: NodeName): void {
    const watchers = this.#nodeWatchers.get(node);
    watchers?.delete(process);
    if (watchers?.size === 0) this.#nodeWatchers.delete(node);
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

  // ---- the other nodes -------------------------------------------------------------------

  #onLink(event: LinkEvent): void {
    this.#peers.onLink(event);
    if (event.type === "linkDown") this.#disconnected(event.peer.name, "the connection was lost");
  }

  #undelivered(node: NodeName, epoch: number, reason: string): void {
    this.#peers.unreachable(node, reason);
    if (epoch === 0 || !this.options.port.connected(node)) this.#disconnected(node, reason);
    else if (!this.#peers.isOver(node, epoch)) this.#lost(node, "noconnection", reason, epoch);
    // Signals for an earlier life of a node that lives again: those processes are gone.
    else this.#lost(node, "noproc", "the process was of an earlier life of its node", epoch);
  }

  // Monitors and links across a lost connection get `noconnection` at once, as in OTP.
  #disconnected(node: NodeName, reason: string): void {
    this.#lost(node, "noconnection", reason, undefined);
  }

  #lost(node: NodeName, exit: ExitReason, reason: string, epoch: number | undefined): void {
    const peer = this.#peers.peek(node);
    if (peer !== undefined) {
      this.#monitors.lost(peer, exit, epoch);
      this.#links.lost(peer, exit, epoch);
      this.#peers.changed(peer);
    }
    for (const listener of this.disconnectListeners) listener({ node, reason, epoch });
  }

  #onSignal(type: FrameType, body: Bytes, from: PeerIdentity): void {
    const reader = readerOf(body);
    const context = this.#peers.contextOf(from);
    switch (type) {
      case FrameType.SEND: {
        const process = this.#processes.get(reader.varint());
        const message = takeMessage(reader.bytes, context, reader.offset);
        // As in OTP: a message to a process that has ended goes nowhere.
        if (process !== undefined) process.mailbox.push(message);
        else this.options.meter.count("barrel_messages_dropped_total", { reason: "no_process" });
        return;
      }
      case FrameType.MONITOR:
        return this.#monitors.onMonitor(reader, from);
      case FrameType.DEMONITOR:
        return this.#monitors.onDemonitor(reader, from);
      case FrameType.DOWN:
        return this.#monitors.onDown(
          reader.varint(),
          decodeMessage(reader.bytes, context, reader.offset),
          from,
        );
      case FrameType.LINK:
        return this.#links.onLink(reader, from);
      case FrameType.UNLINK:
        return this.#links.onUnlink(reader, from);
      case FrameType.UNLINK_ACK:
        return this.#links.onUnlinkAck(reader, from);
      case FrameType.EXIT:
        return this.#links.onExit(
          reader,
          from,
          () => decodeMessage(reader.bytes, context, reader.offset),
        );
    }
    const handler = this.handlers.get(type);
    if (handler === undefined) {
      throw new ProtocolError("unknown_frame", `no signal has type ${type}`);
    }
    handler(reader, from, context);
  }

  /** For work beside mailboxes: what to await before more of it, when this turn is used up. */
  pause(): Promise<void> | undefined {
    const { budget } = this.#mailboxes;
    if (budget.spend()) return undefined;
    return new Promise((resolve) => budget.defer({ serve: resolve }));
  }

  /** Tells once that something of a peer or of a user went wrong. */
  warnOnce(key: string, error: unknown): void {
    this.#peers.warnOnce(key, error);
  }
}
