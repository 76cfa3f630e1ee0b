import type { Timer } from "../base/clock.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import type { Ref } from "../wire/ref.ts";
import { FIRST_FREE_FLAG, Mailbox } from "./mailbox.ts";
import type { Messages, ReceiveOptions } from "./mailbox.ts";
import type { ExitReason, SystemMessage } from "./messages.ts";

import type { Requests } from "./requests.ts";

/** Stands before the names of a node's own services: other nodes can neither end them nor link to them. */
export const SERVICE_PREFIX: string = "barrel:";

/** What a process does: an asynchronous function over its mailbox. When it returns, it ends. */
export type Behaviour<Msg> = (self: Self<Msg>) => void | Promise<void>;

/** A process as it sees itself. */
export interface Self<Msg> {
  readonly pid: Pid<Msg>;
  /** The node it lives on. */
  readonly node: NodeName;
  /** Aborted when the process ends. */
  readonly signal: AbortSignal;
  /** Whether exit signals of linked processes arrive as `Exit` messages. */
  trapExit: boolean;
  /** The messages, one after the other; ends with the process. */
  readonly mailbox: AsyncIterable<Msg | SystemMessage>;
  /** The next message. @throws TimeoutError */
  receive(options?: ReceiveOptions): Promise<Msg | SystemMessage>;
  /** The first message that `match` gives a result for: that result. @throws TimeoutError */
  receive<T>(
    match: (message: Msg | SystemMessage) => T | undefined,
    options?: ReceiveOptions,
  ): Promise<T>;
  /** Asks for a `Down` when the process ends or cannot be reached. */
  monitor(target: Pid | string): Ref;
  /** Ends a monitor; `flush` also removes its `Down` from the mailbox. */
  demonitor(ref: Ref, options?: { flush?: boolean }): void;
  /** Asks for a `NodeDown` when the node is declared down; at once when it is no member. */
  monitorNode(node: NodeName): void;
  /** Ties both lives together: when one ends, the other gets an exit signal. */
  link(pid: Pid): void;
  unlink(pid: Pid): void;
  /** Starts a process and links to it in one step. */
  spawnLink<M>(behaviour: Behaviour<M>): Pid<M>;
  /** Starts a process and monitors it in one step. */
  spawnMonitor<M>(behaviour: Behaviour<M>): { pid: Pid<M>; ref: Ref };
  /** Sends after `ms` milliseconds, unless cancelled or this process has ended. */
  sendAfter<M>(ms: number, pid: Pid<M>, message: M): Timer;
  /** Ends this process. Does not return. */
  exit(reason: ExitReason): never;
}

/** Thrown by `self.exit`, and into a receive of a process that was killed. */
export class ExitSignal extends Error {
  readonly reason: ExitReason;
  constructor(reason: ExitReason) {
    super("the process has ended");
    this.name = "ExitSignal";
    this.reason = reason;
  }
}

/**
 * What runs in a process: `procedure` is a call of an exposed one, `proxy` passes on what a
 * registered name gets, `service` is a part of the node itself.
 */
export type ProcessKind = (typeof KINDS)[number];
const KINDS = ["process", "server", "supervisor", "procedure", "proxy", "service"] as const;

// Bits of a process's flags, the lowest ones of which are the mailbox's; its kind is above them.
const TRAPS_EXIT = FIRST_FREE_FLAG;
const ENDED = FIRST_FREE_FLAG * 2;
const SERVER = FIRST_FREE_FLAG * 4;
const FLOODED = FIRST_FREE_FLAG * 8;
const KIND = FIRST_FREE_FLAG * 16;
const KIND_MASK = 7;

/** What few processes have: made when first needed. */
interface Held {
  name?: string | undefined;
  watchers?: Map<string, Watcher> | undefined;
  monitors?: Map<number, Monitor> | undefined;
  links?: Map<string, ProcessLink> | undefined;
  nodes?: Set<NodeName> | undefined;
  requests?: Requests | undefined;
  timers?: Set<Timer> | undefined;
  abort?: AbortController | undefined;
}

/**
 * What the system keeps of a process, and its mailbox: one small object, as a large system has a
 * million of them at rest.
 */
export abstract class Process extends Mailbox {
  readonly pid: Pid;
  #held: Held | undefined;

  constructor(pid: Pid, none: Messages) {
    super(none);
    this.pid = pid;
  }

  /** Its messages. */
  get mailbox(): Mailbox {
    return this;
  }

  /** Local name. */
  get name(): string | undefined {
    return this.#held?.name;
  }
  set name(name: string | undefined) {
    (this.#held ??= {}).name = name;
  }

  /** What runs in it. */
  get kind(): ProcessKind {
    return KINDS[this.flags / KIND & KIND_MASK] ?? "process";
  }
  set kind(kind: ProcessKind) {
    this.flags = this.flags & ~(KIND_MASK * KIND) | KINDS.indexOf(kind) * KIND;
  }

  /** Whether exit signals of linked processes arrive as messages. */
  get trapExit(): boolean {
    return (this.flags & TRAPS_EXIT) !== 0;
  }
  set trapExit(value: boolean) {
    this.setFlag(TRAPS_EXIT, value);
  }

  /** Until it ends, once and for all. */
  get isAlive(): boolean {
    return (this.flags & ENDED) === 0;
  }
  set isAlive(value: boolean) {
    this.setFlag(ENDED, !value);
  }

  /** Takes calls and casts; raw processes do not. */
  get isServer(): boolean {
    return (this.flags & SERVER) !== 0;
  }
  set isServer(value: boolean) {
    this.setFlag(SERVER, value);
  }

  /** It has been said that it does not keep up with its messages. */
  get isFlooded(): boolean {
    return (this.flags & FLOODED) !== 0;
  }
  set isFlooded(value: boolean) {
    this.setFlag(FLOODED, value);
  }

  /** Monitors of others on this process, by the watcher's key. */
  get watchers(): Map<string, Watcher> | undefined {
    return this.#held?.watchers;
  }
  set watchers(watchers: Map<string, Watcher> | undefined) {
    (this.#held ??= {}).watchers = watchers;
  }

  /** Monitors of this process on others, by reference id. */
  get monitors(): Map<number, Monitor> | undefined {
    return this.#held?.monitors;
  }
  set monitors(monitors: Map<number, Monitor> | undefined) {
    (this.#held ??= {}).monitors = monitors;
  }

  /** Linked processes, by node, epoch and number. */
  get links(): Map<string, ProcessLink> | undefined {
    return this.#held?.links;
  }
  set links(links: Map<string, ProcessLink> | undefined) {
    (this.#held ??= {}).links = links;
  }

  /** Nodes that it watches. */
  get nodes(): Set<NodeName> | undefined {
    return this.#held?.nodes;
  }
  set nodes(nodes: Set<NodeName> | undefined) {
    (this.#held ??= {}).nodes = nodes;
  }

  /** Requests that it has not answered; refused when it ends. */
  get requests(): Requests | undefined {
    return this.#held?.requests;
  }
  set requests(requests: Requests | undefined) {
    (this.#held ??= {}).requests = requests;
  }

  /** Messages that it sends later. */
  get timers(): Set<Timer> | undefined {
    return this.#held?.timers;
  }
  set timers(timers: Set<Timer> | undefined) {
    (this.#held ??= {}).timers = timers;
  }

  /** Made when first asked for. */
  get signal(): AbortSignal {
    const abort = (this.#held ??= {}).abort ??= new AbortController();
    if (!this.isAlive) abort.abort();
    return abort.signal;
  }

  /** Aborts the signal, when somebody has asked for it. */
  abort(): void {
    this.#held?.abort?.abort();
  }
}

/** A link as one of its sides sees it. */
export interface ProcessLink {
  readonly pid: Pid;
  /** 0, or the number under which it was taken back and is not yet acknowledged. */
  unlinking: number;
}

/** Who is told when a process ends. */
export interface Watcher {
  /** The watching process of this node, or the watching node with its own number. */
  readonly local: Process | undefined;
  readonly node: NodeName;
  readonly epoch: number;
  readonly ref: number;
  /** The watching process's number on its node. */
  readonly id: number;
}

/** A monitor as its owner sees it. */
export interface Monitor {
  readonly ref: Ref;
  /** What `Down` names. */
  readonly target: Pid | string;
  /** The process, once it is known. */
  readonly node: NodeName;
  readonly epoch: number;
  readonly id: number;
}
