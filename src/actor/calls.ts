/** Calls and casts of GenServers, local and remote: requests, replies, deadlines. */
import { ClosedError, ProtocolError } from "../base/errors.ts";
import { knownOptions } from "../base/known_options.ts";
import type { PeerIdentity } from "../link/ports.ts";
import { takeMessage } from "../wire/decoder.ts";
import type { DecodeContext } from "../wire/decoder.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Pid } from "../wire/pid.ts";
import type { ByteReader } from "../wire/varint.ts";
import {
  CallTimeoutError,
  NodeDownError,
  NoProcessError,
  RemoteError,
  unsendable,
} from "./errors.ts";
import { Call, isCall, OwnCall, ServedCall } from "./call.ts";
import type { Pending } from "./call.ts";
import { createDeadlines } from "./deadlines.ts";
import { CALL_OPTIONS, CastRequest, serve } from "./gen_server.ts";
import type { AnyServer, CallOptions, InitArguments, ServerClient } from "./gen_server.ts";
import type { ExitReason } from "./messages.ts";
import { Requests } from "./requests.ts";
import { packNamed, packNumbers, readName, ReplyStatus } from "./signals.ts";
import type { Process } from "./process.ts";
import type { ActorSystem, SpawnOptions } from "./system.ts";

const DEFAULT_TIMEOUT_MS = 5_000;

/** Options of `node.start`. */
export interface StartOptions extends SpawnOptions {
  /** Registers the server cluster-wide under this name. */
  readonly register?: string;
  /** What others see beside the registration. */
  readonly meta?: unknown;
}

const START_OPTIONS = ["name", "register", "meta"];

/** Who starts a process that somebody watches over from its first moment. */
export interface Parent {
  readonly pid: Pid;
  /** Called with the new process before it begins to run. */
  adopt(process: Process): void;
}

/** What calls need of the rooms above. */
export interface CallsOptions {
  /** Makes a process known cluster-wide. */
  readonly register: (name: string, pid: Pid, meta: unknown) => Promise<void>;
}

/** The calling side and the serving side of a node's GenServers. */
export interface Calls {
  /** Starts a server; resolves when its `init` has. @throws what `init` throws, ConflictError */
  start<D extends AnyServer>(
    definition: D,
    args: InitArguments<D>,
    options?: StartOptions,
    parent?: Parent,
  ): Promise<Pid>;
  /** A typed client of a pid or a name. */
  client<D extends AnyServer>(
    definition: D,
    target: Pid | string,
    options?: CallOptions,
  ): ServerClient<D>;
}

/** Adds calls to an actor system. */
export function createCalls(system: ActorSystem, { register }: CallsOptions): Calls {
  const { clock, node, port, resolveName } = system.options;
  const pending = new Map<number, Pending>();
  /** Calls of peers that are being served, by caller and number, so that they can be cancelled. */
  const serving = new Map<NodeName, Map<number, Call>>();
  const deadlines = createDeadlines(clock, DEFAULT_TIMEOUT_MS);
  // Who calls where no process does.
  const nobody = new Pid(system.life, 0);
  let nextCall = 1;

  system.disconnectListeners.add(({ node: peer, reason, epoch }) => {
    for (const [id, call] of [...pending]) {
      if (call.node !== peer || (epoch !== undefined && call.epoch !== epoch)) continue;
      pending.delete(id);
      call.reject(
        epoch === undefined
          ? new NodeDownError(peer, reason)
          : new NoProcessError(String(call.target), "noproc"),
      );
    }
    if (epoch !== undefined) return;
    for (const call of serving.get(peer)?.values() ?? []) call.cancel();
    serving.delete(peer);
  });

  system.handlers.set(FrameType.CALL, (reader, from, context) => onCall(reader, from, context));
  system.handlers.set(FrameType.REPLY, (reader, from, context) => onReply(reader, from, context));
  system.handlers.set(FrameType.CANCEL_CALL, (reader, from) => {
    const id = reader.varint();
    const calls = serving.get(from.name);
    calls?.get(id)?.cancel();
    calls?.delete(id);
  });

  const onCall = (reader: ByteReader, from: PeerIdentity, context: DecodeContext) => {
    const target = new Pid(system.life, reader.varint());
    const id = reader.varint();
    const caller = new Pid(context.peer, reader.varint());
    const method = readName(reader);
    const args = takeMessage(reader.bytes, context, reader.offset);
    if (!Array.isArray(args)) throw new ProtocolError("bad_signal", "the arguments are no list");
    // A cast is a call that nobody waits for.
    if (id === 0) return deliver(target, new CastRequest(method, args, caller));
    let calls = serving.get(from.name);
    if (calls === undefined) serving.set(from.name, calls = new Map());
    const reply = (status: number, value: unknown) => {
      if (!call.isCancelled && calls.delete(id)) sendReply(from, id, status, value);
    };
    const call: Call = new ServedCall(method, args, caller, reply);
    calls.set(id, call);
    deliver(target, call);
  };

  const sendReply = (to: PeerIdentity, id: number, status: number, value: unknown) => {
    const { name, epoch } = to;
    let payload: Uint8Array;
    try {
      payload = system.encode(value, name, epoch);
    } catch (error) {
      // The caller learns why it gets no result.
      status = ReplyStatus.THREW;
      payload = system.encode(unsendable(value, error), name, epoch);
    }
    if (!port.connected(name)) return;
    try {
      void port.send(name, epoch, id, FrameType.REPLY, packNumbers(id, status), payload);
    } catch (error) {
      system.options.meter.count("barrel_signals_dropped_total");
      system.warnOnce(`reply ${name}`, error);
    }
  };

  const onReply = (reader: ByteReader, from: PeerIdentity, context: DecodeContext) => {
    const id = reader.varint();
    const status = reader.varint();
    const call = pending.get(id);
    // The caller gave up, or somebody else than the called node answers.
    if (call === undefined || call.node !== from.name) return;
    const value = takeMessage(reader.bytes, context, reader.offset);
    pending.delete(id);
    if (status === ReplyStatus.OK) call.resolve(value);
    else if (status === ReplyStatus.THREW) call.reject(new RemoteError(value));
    else call.reject(new NoProcessError(String(call.target), value));
  };

  const deliver = (target: Pid, message: Call | CastRequest) => {
    const process = system.find(target);
    if (process?.isServer) {
      if (message instanceof Call) message.waitIn(process.requests ??= new Requests());
      process.mailbox.push(message);
    } else if (message instanceof Call) {
      message.refuse(process === undefined ? "noproc" : "not a server");
    }
  };

  const call = (
    target: Pid | string,
    method: string,
    args: unknown[],
    options: CallOptions,
  ): Promise<unknown> => {
    if (options.signal?.aborted === true) return Promise.reject(options.signal.reason);
    if (system.isClosed) return Promise.reject(new ClosedError(`${node} is closed`));
    if (target instanceof Pid) return callPid(target, target, method, args, options);
    const local = system.find(target);
    if (local !== undefined) return callPid(target, local.pid, method, args, options);
    return resolveName(target).then((pid) => {
      if (pid === undefined) throw new NoProcessError(target, "noproc");
      options.signal?.throwIfAborted();
      return callPid(target, pid, method, args, options);
    });
  };

  const callPid = (
    target: Pid | string,
    pid: Pid,
    method: string,
    args: unknown[],
    { signal, timeoutMs = DEFAULT_TIMEOUT_MS, from = nobody }: CallOptions,
  ): Promise<unknown> =>
    new Promise((resolve, reject) => {
      const own = new OwnCall(system, target, method, args, from, resolve, reject);
      own.timer = deadlines.after(timeoutMs, () => {
        own.giveUp(new CallTimeoutError(String(target), method, timeoutMs));
      });
      if (signal !== undefined) {
        own.signal = signal;
        own.onAbort = () => own.giveUp(signal.reason);
        signal.addEventListener("abort", own.onAbort, { once: true });
      }
      try {
        if (pid.node !== node) own.onCancel = callThere(pid, method, args, from, own);
        else {
          system.encoder.check(args);
          if (system.isLocal(pid)) deliver(pid, own);
          else own.refuse("noproc");
        }
      } catch (error) {
        own.reject(error);
      }
    });

  // A proxy passes calls on in the order in which they and other messages came.
  system.forward = (target, message) => {
    if (message instanceof CastRequest) {
      return cast(target, message.method, message.args, message.from);
    }
    if (!(message instanceof Call)) return system.send(target, message);
    if (message.isCancelled) return;
    message.leave();
    if (target.node === node) {
      if (system.isLocal(target)) deliver(target, message);
      else message.refuse("noproc");
      return;
    }
    const { method, args, from } = message;
    try {
      message.onCancel = callThere(target, method, args, from, {
        target,
        node: target.node,
        epoch: target.epoch,
        resolve: (value) => message.answer(value),
        reject(error) {
          if (error instanceof RemoteError) message.fail(error.cause);
          else message.refuse(error instanceof NoProcessError ? error.reason : error);
        },
      });
    } catch (error) {
      message.fail(error);
    }
  };
  system.refuse = (message, reason) => {
    if (message instanceof Call) message.refuse(reason);
  };

  // A peer's process that called through a proxy here cannot be named in our own name.
  const numberOf = (from: Pid) => system.isLocal(from) ? from.id : 0;

  const callThere = (pid: Pid, method: string, args: unknown[], from: Pid, call: Pending) => {
    const id = nextCall++;
    const payload = system.encode(args, pid.node, pid.epoch);
    call.node = pid.node;
    call.epoch = pid.epoch;
    pending.set(id, call);
    const head = packNamed(method, pid.id, id, numberOf(from));
    try {
      void port.send(pid.node, pid.epoch, pid.id, FrameType.CALL, head, payload);
    } catch (error) {
      pending.delete(id);
      throw error;
    }
    return () => {
      if (!pending.delete(id) || !port.connected(pid.node)) return;
      void port.send(pid.node, pid.epoch, pid.id, FrameType.CANCEL_CALL, packNumbers(id), EMPTY);
    };
  };

  const cast = (
    target: Pid | string,
    method: string,
    args: unknown[],
    from: Pid,
  ): void | Promise<void> => {
    if (typeof target === "string") {
      const local = system.find(target);
      if (local === undefined) {
        return resolveName(target).then((pid) => {
          if (pid === undefined) throw new NoProcessError(target, "noproc");
          return cast(pid, method, args, from);
        });
      }
      system.encoder.check(args);
      return deliver(local.pid, new CastRequest(method, args, from));
    }
    if (target.node === node) {
      system.encoder.check(args);
      if (system.isLocal(target)) deliver(target, new CastRequest(method, args, from));
      return;
    }
    const payload = system.encode(args, target.node, target.epoch);
    const head = packNamed(method, target.id, 0, numberOf(from));
    return port.send(target.node, target.epoch, target.id, FrameType.CALL, head, payload);
  };

  const client = (definition: AnyServer, target: Pid | string, options: CallOptions = {}) => {
    knownOptions(options, CALL_OPTIONS);
    const { from = nobody } = options;
    if (!(from instanceof Pid) || !system.isLocal(from)) {
      throw new TypeError(`a client calls from a process of ${node}, not from ${String(from)}`);
    }
    if (typeof target !== "string" && !(target instanceof Pid)) {
      throw new TypeError(`a client calls a pid or a name, not ${typeof target}`);
    }
    const methods: Record<string, unknown> = Object.create(null);
    for (const method of Object.keys(definition.calls ?? {})) {
      methods[method] = (...args: unknown[]) => call(target, method, args, options);
    }
    for (const method of Object.keys(definition.casts ?? {})) {
      methods[method] = (...args: unknown[]) => cast(target, method, args, from);
    }
    methods["with"] = (more: CallOptions) => client(definition, target, { ...options, ...more });
    return methods;
  };

  const begin = (
    definition: AnyServer,
    args: unknown[],
    { name }: StartOptions,
    parent: Parent | undefined,
  ): Promise<Pid> =>
    new Promise((resolve, reject) => {
      const process = system.create(name === undefined ? {} : { name });
      process.isServer = true;
      process.kind = "server";
      parent?.adopt(process);
      const starting = {
        refuse: (reason: ExitReason) => reject(new NoProcessError(String(process.pid), reason)),
      };
      const requests = process.requests ??= new Requests();
      requests.add(starting);
      system.run(process, (self) =>
        serve(definition, self, args, parent?.pid, isCall, (failure) => {
          requests.delete(starting);
          if (failure === undefined) return resolve(process.pid);
          // Its name is free again when the caller learns of it.
          system.terminate(process, failure.error);
          reject(failure.error);
        }));
    });

  return {
    async start(definition, args, options = {}, parent) {
      knownOptions(options, START_OPTIONS);
      if (!Array.isArray(args)) {
        throw new TypeError("start takes the arguments of init as an array, [] for none");
      }
      const pid = await begin(definition, args, options, parent);
      if (options.register === undefined) return pid;
      try {
        await register(options.register, pid, options.meta);
        return pid;
      } catch (error) {
        system.exit(pid, "kill");
        throw error;
      }
    },
    client: (definition, target, options) => client(definition, target, options) as never,
  };
}

const EMPTY = new Uint8Array(0);
