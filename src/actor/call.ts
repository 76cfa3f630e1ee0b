/** One call: in its server's mailbox, and at its caller. */
import type { Timer } from "../base/clock.ts";

import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import { NodeDownError, NoProcessError, RemoteError, unsendable } from "./errors.ts";
import { CastRequest } from "./gen_server.ts";
import type { CallRequest } from "./gen_server.ts";
import type { ExitReason } from "./messages.ts";
import type { Requests } from "./requests.ts";
import { ReplyStatus } from "./signals.ts";
import type { ActorSystem } from "./system.ts";

/** A call that waits for its answer from another node. */
export interface Pending {
  /** Where its answer comes from. */
  node: NodeName;
  epoch: number;
  readonly target: Pid | string;
  resolve(value: unknown): void;
  reject(error: unknown): void;
}

/** One call in the mailbox of a server, until it is answered, once. */
export abstract class Call implements CallRequest {
  readonly method: string;
  readonly args: unknown[];
  readonly from: Pid;
  isCancelled = false;
  /** Set where somebody else serves it. */
  onCancel: (() => void) | undefined;
  slot = -1;
  #waitingIn: Requests | undefined;

  constructor(method: string, args: unknown[], from: Pid) {
    this.method = method;
    this.args = args;
    this.from = from;
  }

  /** The process's requests, which it leaves when it is answered. */
  waitIn(requests: Requests): void {
    this.#waitingIn = requests;
    requests.add(this);
  }

  /** It does not wait there any more. */
  leave(): void {
    this.#waitingIn?.delete(this);
    this.#waitingIn = undefined;
  }

  /** The caller has given up. */
  cancel(): void {
    this.isCancelled = true;
    this.leave();
    this.onCancel?.();
  }

  answer(value: unknown): void {
    this.leave();
    this.answered(value);
  }

  fail(error: unknown): void {
    this.leave();
    this.failed(error);
  }

  refuse(reason: ExitReason): void {
    this.leave();
    this.refused(reason);
  }

  protected abstract answered(value: unknown): void;
  protected abstract failed(error: unknown): void;
  protected abstract refused(reason: ExitReason): void;
}

/** A call of a peer: its answer is sent. */
export class ServedCall extends Call {
  readonly #reply: (status: number, value: unknown) => void;

  constructor(
    method: string,
    args: unknown[],
    from: Pid,
    reply: (status: number, value: unknown) => void,
  ) {
    super(method, args, from);
    this.#reply = reply;
  }

  protected answered(value: unknown): void {
    this.#reply(ReplyStatus.OK, value);
  }

  protected failed(error: unknown): void {
    this.#reply(ReplyStatus.THREW, error);
  }

  protected refused(reason: ExitReason): void {
    const why = reason instanceof NodeDownError ? "noconnection" : reason;
    this.#reply(ReplyStatus.NO_PROCESS, why);
  }
}

/** A call of a process of this node, to whichever node: its answer settles a promise. */
export class OwnCall extends Call implements Pending {
  readonly #system: ActorSystem;
  readonly #resolve: (value: unknown) => void;
  readonly #reject: (error: unknown) => void;
  readonly target: Pid | string;
  /** Where its answer comes from, once that is known. */
  node: NodeName = "";
  epoch = 0;
  timer: Timer | undefined;
  signal: AbortSignal | undefined;
  onAbort: (() => void) | undefined;

  constructor(
    system: ActorSystem,
    target: Pid | string,
    method: string,
    args: unknown[],
    from: Pid,
    resolve: (value: unknown) => void,
    reject: (error: unknown) => void,
  ) {
    super(method, args, from);
    this.#system = system;
    this.target = target;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  resolve(value: unknown): void {
    this.#settle();
    this.#resolve(value);
  }

  reject(error: unknown): void {
    this.#settle();
    this.#reject(error);
  }

  /** Its caller waits no longer. */
  giveUp(error: unknown): void {
    this.cancel();
    this.reject(error);
  }

  protected answered(value: unknown): void {
    try {
      this.#system.encoder.check(value);
    } catch (error) {
      return this.reject(new RemoteError(unsendable(value, error)));
    }
    this.resolve(value);
  }

  protected failed(thrown: unknown): void {
    let told = thrown;
    try {
      this.#system.encoder.check(thrown);
    } catch (error) {
      told = unsendable(thrown, error);
    }
    this.reject(new RemoteError(told));
  }

  protected refused(reason: ExitReason): void {
    this.reject(
      reason instanceof NodeDownError ? reason : new NoProcessError(String(this.target), reason),
    );
  }

  #settle(): void {
    this.timer?.cancel();
    if (this.onAbort !== undefined) this.signal?.removeEventListener("abort", this.onAbort);
  }
}

/** A message for people: calls and casts without what is inside them. */
export function readable(message: unknown): unknown {
  if (message instanceof Call) return { call: message.method, args: message.args };
  if (message instanceof CastRequest) return { cast: message.method, args: message.args };
  return message;
}

/** Whether a message is a call. */
export function isCall(message: unknown): message is CallRequest {
  return message instanceof Call;
}
