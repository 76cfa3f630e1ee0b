import { ConfigError, TimeoutError } from "../base/errors.ts";
import { knownOptions } from "../base/known_options.ts";
import type { Pid } from "../wire/pid.ts";
import { ExitSignal } from "./process.ts";
import type { Self } from "./process.ts";
import { Exit, Timeout } from "./messages.ts";
import type { ExitReason } from "./messages.ts";
import { isName } from "./signals.ts";

/** A reply that is given later: return it from a call, resolve it when ready. */
export interface Deferred<T> {
  readonly promise: Promise<T>;
  resolve(value: T | PromiseLike<T>): void;
  reject(error: unknown): void;
  /** Marks it for types: the client sees `Promise<T>`. */
  readonly isDeferred: true;
}

/** What `init` gets as its first argument: there is no state yet. */
export interface InitContext {
  readonly self: Self<unknown>;
  /** `info` gets a `Timeout` when no message comes within `ms`; any message ends the wait. */
  timeoutAfter(ms: number): void;
}

/** What a server's functions get as their first argument. */
export interface ServerContext<State> {
  /** Whatever `init` returned; may be replaced. */
  state: State;
  readonly self: Self<unknown>;
  /**
   * Who calls or casts: the process that its client named, or number 0 of the caller's node where it
   * named none. Undefined in `info` and `terminate`.
   */
  readonly from: Pid | undefined;
  /** Ends the server after this function has returned. */
  stop(reason?: ExitReason): void;
  /** `info` gets a `Timeout` when no message comes within `ms`; any message ends the wait. */
  timeoutAfter(ms: number): void;
  /** A reply for later: others are served meanwhile. */
  defer<T>(): Deferred<T>;
}

// oxlint-disable-next-line typescript/no-explicit-any -- the arguments are the definition's own business
type AnyFunction<State> = (ctx: ServerContext<State>, ...args: any[]) => unknown;

/** A server: how it starts, what can be asked of it, what it is told. */
export interface ServerDefinition<
  State,
  Args extends unknown[],
  Calls,
  Casts,
> {
  /** Makes the state; `start` waits for it, and fails when it throws. */
  init: (ctx: InitContext, ...args: Args) => State | Promise<State>;
  /** Requests with an answer; an error thrown goes to the caller, the server lives on. */
  calls?: Calls & Record<string, AnyFunction<State>>;
  /** Requests without an answer; an error thrown ends the server. */
  casts?: Casts & Record<string, AnyFunction<State>>;
  /** Any other message, system messages among them. */
  info?(ctx: ServerContext<State>, message: unknown): void | Promise<void>;
  /**
   * Called once before the server ends: after `stop`, after an error in a cast, or when the
   * supervisor that started it asks it to and it traps exits. As in OTP, an exit signal that is not
   * trapped ends it without.
   */
  terminate?(ctx: ServerContext<State>, reason: ExitReason): void | Promise<void>;
}

/** Any server definition. */
// oxlint-disable-next-line typescript/no-explicit-any -- stands for every definition
export type AnyServer = ServerDefinition<any, any, any, any>;

type Result<T> = Awaited<T> extends Deferred<infer R> ? R : Awaited<T>;
// oxlint-disable-next-line typescript/no-explicit-any -- infers the arguments behind the context
type ArgumentsOf<F> = F extends (ctx: any, ...args: infer A) => unknown ? A : never;
// oxlint-disable-next-line typescript/no-explicit-any -- infers the result of any function
type ResultOf<F> = F extends (...args: any[]) => infer R ? Result<R> : never;

/** The typed client of a server. */
export type ServerClient<D> = D extends ServerDefinition<
  // oxlint-disable-next-line typescript/no-explicit-any -- only calls and casts matter here
  any,
  // oxlint-disable-next-line typescript/no-explicit-any -- only calls and casts matter here
  any,
  infer Calls,
  infer Casts
> ?
    & { [K in keyof Calls]: (...args: ArgumentsOf<Calls[K]>) => Promise<ResultOf<Calls[K]>> }
    & { [K in keyof Casts]: (...args: ArgumentsOf<Casts[K]>) => void | Promise<void> }
    & { with(options: CallOptions): ServerClient<D> }
  : never;

/** The arguments of a server's `init`. */
export type InitArguments<D> = D extends // oxlint-disable-next-line typescript/no-explicit-any -- only the arguments matter here
ServerDefinition<any, infer Args, any, any> ? Args
  : never;

/** How to call. */
export interface CallOptions {
  /** Give up after so long, milliseconds. @default 5_000 */
  readonly timeoutMs?: number;
  /** Gives up when aborted; the call fails with the signal's reason. */
  readonly signal?: AbortSignal;
  /** A process of this node on whose behalf the client calls: `ctx.from` at the server. */
  readonly from?: Pid;
}

const RESERVED = ["with", "then"];
const DEFINITION = ["init", "calls", "casts", "info", "terminate"];
/** The names of {@link CallOptions}. */
export const CALL_OPTIONS: readonly string[] = ["timeoutMs", "signal", "from"];

/**
 * Defines a server; types flow from here to its clients when `init` stands first.
 *
 * @throws ConfigError when a name is reserved, too long or both a call and a cast
 */
export function defineServer<
  State,
  Args extends unknown[],
  Calls = Record<never, never>,
  Casts = Record<never, never>,
>(
  definition: ServerDefinition<State, Args, Calls, Casts>,
): ServerDefinition<State, Args, Calls, Casts> {
  knownOptions(definition, DEFINITION);
  if (typeof definition.init !== "function") throw new ConfigError("init", "must be a function");
  const calls = Object.keys(definition.calls ?? {});
  const casts = Object.keys(definition.casts ?? {});
  for (const name of [...calls, ...casts]) {
    if (!isName(name)) throw new ConfigError(name, "a name has 1 to 255 bytes of UTF-8");
    if (RESERVED.includes(name)) throw new ConfigError(name, "this name is reserved on clients");
    if (calls.includes(name) && casts.includes(name)) {
      throw new ConfigError(name, "is a call and a cast; a name is one of them");
    }
  }
  return definition;
}

/** A call in a server's mailbox. `answer` and `refuse` may each be used once. */
export interface CallRequest {
  readonly method: string;
  readonly args: unknown[];
  readonly from: Pid;
  /** Whether the caller has given up: it need not be served. */
  readonly isCancelled: boolean;
  answer(value: unknown): void;
  fail(error: unknown): void;
}

/** A cast in a server's mailbox. */
export class CastRequest {
  readonly method: string;
  readonly args: unknown[];
  readonly from: Pid;
  constructor(method: string, args: unknown[], from: Pid) {
    this.method = method;
    this.args = args;
    this.from = from;
  }
}

/** Serves a definition on a process until it ends: one message after the other. */
export async function serve(
  definition: AnyServer,
  self: Self<unknown>,
  args: unknown[],
  parent: Pid | undefined,
  isCall: (message: unknown) => message is CallRequest,
  started: (failure?: { readonly error: unknown }) => void,
): Promise<void> {
  let stopped: { reason: ExitReason } | undefined;
  let from: Pid | undefined;
  let idleMs: number | undefined;
  const ctx: ServerContext<unknown> = {
    state: undefined,
    self,
    get from() {
      return from;
    },
    stop: (reason = "normal") => void (stopped ??= { reason }),
    timeoutAfter: (ms) => void (idleMs = ms),
    defer: makeDeferred,
  };
  try {
    ctx.state = await definition.init(ctx, ...args);
  } catch (error) {
    const reason: unknown = error instanceof ExitSignal ? error.reason : error;
    started({ error: reason });
    throw new ExitSignal(reason);
  }
  started();
  const finish = async (reason: ExitReason) => {
    from = undefined;
    await definition.terminate?.(ctx, reason);
    return reason;
  };
  try {
    while (stopped === undefined) {
      const message: unknown = idleMs === undefined
        ? await self.receive()
        : await receiveWithin(self, idleMs);
      idleMs = undefined;
      if (isCall(message)) {
        from = message.from;
        const done = answerCall(definition, ctx, message);
        // A function that is not asynchronous costs no further turn.
        if (done !== undefined) await done;
      } else if (message instanceof CastRequest) {
        from = message.from;
        await own(definition.casts, message.method)?.(ctx, ...message.args);
      } else if (message instanceof Exit && message.from.equals(parent)) {
        // As in OTP: who started it ends it, and so does the end of who started it.
        throw new ExitSignal(message.reason);
      } else {
        from = undefined;
        await definition.info?.(ctx, message);
      }
    }
  } catch (error) {
    if (self.signal.aborted) throw error;
    await finish(error instanceof ExitSignal ? error.reason : error);
    throw error;
  }
  throw new ExitSignal(await finish(stopped.reason));
}

async function receiveWithin(self: Self<unknown>, timeoutMs: number): Promise<unknown> {
  try {
    return await self.receive({ timeoutMs });
  } catch (error) {
    if (error instanceof TimeoutError) return new Timeout(timeoutMs);
    throw error;
  }
}

function answerCall(
  definition: AnyServer,
  ctx: ServerContext<unknown>,
  request: CallRequest,
): Promise<void> | undefined {
  if (request.isCancelled) return undefined;
  const call = own(definition.calls, request.method);
  if (call === undefined) {
    request.fail(new TypeError(`the server has no call "${request.method}"`));
    return undefined;
  }
  try {
    const result: unknown = call(ctx, ...request.args);
    if (isDeferred(result)) {
      answerLater(result, request);
      return undefined;
    }
    if (result instanceof Promise) {
      return result.then((value) => {
        if (isDeferred(value)) answerLater(value, request);
        else request.answer(value);
      }, (error) => {
        if (error instanceof ExitSignal) throw error;
        request.fail(error);
      });
    }
    request.answer(result);
  } catch (error) {
    if (error instanceof ExitSignal) throw error;
    request.fail(error);
  }
  return undefined;
}

function answerLater(deferred: Deferred<unknown>, request: CallRequest): void {
  deferred.promise.then((value) => request.answer(value), (error) => request.fail(error));
}

// Own functions only: a peer chooses the name.
function own(
  functions: Record<string, AnyFunction<unknown>> | undefined,
  name: string,
): AnyFunction<unknown> | undefined {
  if (functions === undefined || !Object.hasOwn(functions, name)) return undefined;
  const found = functions[name];
  return typeof found === "function" ? found : undefined;
}

// By identity: what looks like one may have come in a message.
const deferreds = new WeakSet<object>();

function makeDeferred<T>(): Deferred<T> {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  // Nobody may be waiting yet when it fails.
  promise.catch(() => {});
  const deferred: Deferred<T> = { promise, resolve, reject, isDeferred: true };
  deferreds.add(deferred);
  return deferred;
}

function isDeferred(value: unknown): value is Deferred<unknown> {
  return typeof value === "object" && value !== null && deferreds.has(value);
}
