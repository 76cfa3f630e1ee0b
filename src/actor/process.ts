import type { Timer } from "../base/clock.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import type { Ref } from "../wire/ref.ts";
import { Mailbox } from "./mailbox.ts";
import type { MailboxSettings, ReceiveOptions } from "./mailbox.ts";
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

/** What runs in a process. */
export type ProcessKind =
  | "process"
  | "server"
  | "supervisor"
  /** A call of an exposed procedure. */
  | "procedure"
  /** Passes on what a registered name gets. */
  | "proxy"
  /** A part of the node itself. */
  | "service";

/** What few processes have: made when first needed. */
interface Held {
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
export class Process extends Mailbox {
  readonly pid: Pid;
  /** Local name. */
  name: string | undefined;
  kind: ProcessKind = "process";
  trapExit = false;
  isAlive = true;
  /** Takes calls and casts; raw processes do not. */
  isServer = false;
  /** It has been said that it does not keep up with its messages. */
  isFlooded = false;
  #held: Held | undefined;

  constructor(pid: Pid, settings: MailboxSettings) {
    super(settings);
    this.pid = pid;
  }

  /** Its messages. */
  get mailbox(): Mailbox {
    return this;
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
