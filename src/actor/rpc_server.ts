/**
 * The called side of remote procedures: what is exposed, and the calls under way. Each call is a
 * process of its own, so that it is listed, ends with its node, and can be killed. Items of a
 * stream are produced only when the caller has room for them.
 */
import { ConfigError, ConflictError, ProtocolError } from "../base/errors.ts";
import type { Meter } from "../metrics/meter.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { ExitReason } from "./messages.ts";
import { Requests } from "./requests.ts";
import type { Process, Self } from "./process.ts";
import { Answer, MAX_CREDIT } from "./rpc_messages.ts";
import type { Reply, Request } from "./rpc_messages.ts";
import { isName } from "./signals.ts";
import type { ActorSystem } from "./system.ts";

// oxlint-disable-next-line typescript/no-explicit-any -- arguments and result are the procedure's own business
type Procedure = (...args: any[]) => unknown;

/** Functions that others may call. */
export type Procedures = Readonly<Record<string, Procedure>>;

/** What a procedure may know of its call. */
export interface RpcContext {
  /** The node that calls. */
  readonly peer: NodeName;
  /** Aborted when nobody waits for the result any more. */
  readonly signal: AbortSignal;
}

/** Calls of one peer that run at once. */
const MAX_CALLS_PER_PEER = 1_024;
/** Names that mean something else on clients, or to the language. */
const RESERVED = ["with", "then", "constructor", "prototype", "__proto__"];

/** Where replies go. A promise is awaited before the next item. */
export type SendReply = (reply: Reply) => void | Promise<void>;

interface Running {
  credit: number;
  /** Wakes a producer that waits for credit. */
  wake: (() => void) | undefined;
  process: Process;
}

/** The called side of one node. */
export class RpcServer {
  readonly #system: ActorSystem;
  readonly #meter: Meter;
  readonly #services = new Map<string, Map<string, Procedure>>();
  readonly #running = new Map<NodeName, Map<number, Running>>();
  #context: RpcContext | undefined;

  constructor(system: ActorSystem) {
    this.#system = system;
    this.#meter = system.options.meter;
  }

  /** Exposes functions; returns what takes them back. @throws ConfigError, ConflictError */
  expose(service: string, procedures: Procedures): () => void {
    if (!isName(service)) throw new ConfigError(service, "a name has 1 to 255 bytes of UTF-8");
    if (this.#services.has(service)) {
      throw new ConflictError(`this node exposes "${service}" already`);
    }
    // A copy of the object's own functions: a peer's string never reaches an object.
    const own = new Map<string, Procedure>();
    for (const [name, procedure] of Object.entries(procedures)) {
      const path = `${service}.${name}`;
      if (typeof procedure !== "function") throw new ConfigError(path, "is no function");
      if (!isName(name)) throw new ConfigError(path, "a name has 1 to 255 bytes of UTF-8");
      if (RESERVED.includes(name)) throw new ConfigError(path, "this name is reserved");
      own.set(name, (...args) => procedure.apply(procedures, args));
    }
    if (own.size === 0) throw new ConfigError(service, "the object has no functions of its own");
    this.#services.set(service, own);
    return () => {
      if (this.#services.get(service) === own) this.#services.delete(service);
    };
  }

  /** Who calls, while a procedure runs its first, synchronous part. @throws ConfigError elsewhere */
  context(): RpcContext {
    if (this.#context === undefined) {
      throw new ConfigError(
        "rpc",
        "context() is for the beginning of a procedure, before any await",
      );
    }
    return this.#context;
  }

  /** Takes a message of a calling node. @throws ProtocolError `bad_rpc` */
  handle(request: Request, peer: NodeName, send: SendReply): void {
    if (request.type === "call") return this.#call(request, peer, send);
    const running = this.#running.get(peer)?.get(request.id);
    // The answer may have crossed it.
    if (running === undefined) return;
    if (request.type === "cancel") return this.#system.terminate(running.process, "shutdown");
    running.credit += request.items;
    if (running.credit > MAX_CREDIT) throw new ProtocolError("bad_rpc", "too much credit");
    running.wake?.();
  }

  /** Nobody waits for the answers to this node any more. */
  disconnected(peer: NodeName): void {
    for (const { process } of [...this.#running.get(peer)?.values() ?? []]) {
      this.#system.terminate(process, "noconnection");
    }
  }

  #call(request: Request & { type: "call" }, peer: NodeName, send: SendReply): void {
    const { id } = request;
    const refuse = (status: Answer, reason: string) => {
      this.#meter.count("barrel_rpc_refused_total", { reason });
      void send({ type: "answer", id, status, value: undefined });
    };
    const procedure = this.#services.get(request.service)?.get(request.procedure);
    if (procedure === undefined) return refuse(Answer.NO_PROCEDURE, "no_procedure");
    let calls = this.#running.get(peer);
    if (calls === undefined) this.#running.set(peer, calls = new Map());
    if (calls.has(id)) throw new ProtocolError("bad_rpc", "two calls under one number");
    if (calls.size >= MAX_CALLS_PER_PEER) return refuse(Answer.BUSY, "busy");
    this.#run(request, peer, procedure, calls, send);
  }

  #run(
    request: Request & { type: "call" },
    peer: NodeName,
    procedure: Procedure,
    calls: Map<number, Running>,
    send: SendReply,
  ): void {
    const { id } = request;
    const process = this.#system.create();
    process.kind = "procedure";
    const running: Running = { credit: request.credit, wake: undefined, process };
    calls.set(id, running);
    let isAnswered = false;
    const answer = (status: Answer, value?: unknown): void | Promise<void> => {
      if (isAnswered || !process.isAlive) return;
      isAnswered = status !== Answer.STREAM;
      return send({ type: "answer", id, status, value });
    };
    const over = (reason: ExitReason) => {
      calls.delete(id);
      if (calls.size === 0 && this.#running.get(peer) === calls) this.#running.delete(peer);
      running.wake?.();
      // Somebody killed it here; a caller that cancelled, or has gone, expects nothing.
      const isExpected = isAnswered || reason === "shutdown" || reason === "noconnection";
      if (!isExpected) void send({ type: "answer", id, status: Answer.ENDED, value: reason });
    };
    (process.requests ??= new Requests()).add({ refuse: over });
    this.#system.run(process, async (self) => {
      const context: RpcContext = { peer, signal: self.signal };
      try {
        const result = await this.#within(context, () => procedure(...request.args));
        const iterator = iteratorOf(result);
        if (iterator === undefined) return void await answer(Answer.VALUE, result);
        await answer(Answer.STREAM);
        await this.#produce(
          iterator,
          context,
          self,
          running,
          (value) => send({ type: "item", id, value }),
        );
        await answer(Answer.END);
      } catch (error) {
        await answer(Answer.THREW, error);
      }
    });
  }

  async #produce(
    iterator: Iterator<unknown> | AsyncIterator<unknown>,
    context: RpcContext,
    self: Self<unknown>,
    running: Running,
    send: (value: unknown) => void | Promise<void>,
  ): Promise<void> {
    // An iterator that is cancelled is told at once, also while it makes an item.
    let isOver = false;
    const stop = () => {
      if (isOver) return;
      isOver = true;
      try {
        Promise.resolve(iterator.return?.()).catch(() => {});
      } catch {
        // Nobody is left to be told.
      }
    };
    self.signal.addEventListener("abort", stop, { once: true });
    try {
      while (!self.signal.aborted) {
        if (running.credit === 0) {
          await new Promise<void>((resolve) => (running.wake = resolve));
          running.wake = undefined;
          continue;
        }
        const { done, value } = await this.#within(context, () => iterator.next());
        if (done) isOver = true;
        if (done || self.signal.aborted) return;
        running.credit--;
        await send(value);
        const pause = this.#system.pause();
        if (pause !== undefined) await pause;
      }
    } catch (error) {
      stop();
      throw error;
    }
  }

  // The context is there while the procedure, or the next part of its generator, begins.
  #within<T>(context: RpcContext, run: () => T): T {
    const outer = this.#context;
    this.#context = context;
    try {
      return run();
    } finally {
      this.#context = outer;
    }
  }
}

/** The items of a stream; arrays, strings and other collections are values. */
function iteratorOf(result: unknown): Iterator<unknown> | AsyncIterator<unknown> | undefined {
  if (typeof result !== "object" || result === null) return undefined;
  const stream = result as Partial<AsyncIterable<unknown> & Iterator<unknown>>;
  const iterate = stream[Symbol.asyncIterator];
  if (typeof iterate === "function") return iterate.call(stream);
  const isIterator = typeof stream.next === "function" && Symbol.iterator in result;
  return isIterator ? stream as Iterator<unknown> : undefined;
}
