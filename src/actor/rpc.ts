/**
 * Remote procedures: functions that a node exposes by name, and typed clients of them. Calls do
 * not name a process: they reach whichever life of the node is there.
 */
import { knownOptions } from "../base/known_options.ts";
import { ConfigError, EncodeError, OverloadedError, ProtocolError } from "../base/errors.ts";
import { takeMessage } from "../wire/decoder.ts";
import { FrameType } from "../wire/frame_types.ts";
import { isNodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { ByteReader } from "../wire/varint.ts";
import { createDeadlines } from "./deadlines.ts";
import {
  CallTimeoutError,
  NodeDownError,
  NoProcedureError,
  NoProcessError,
  RemoteError,
  unsendable,
} from "./errors.ts";
import { CALL_OPTIONS } from "./gen_server.ts";
import type { CallOptions } from "./gen_server.ts";
import { Answer, packCall, readCall, readCredit } from "./rpc_messages.ts";
import type { Reply, Request } from "./rpc_messages.ts";
import { PendingResult, WINDOW } from "./rpc_result.ts";
import type { RpcResult } from "./rpc_result.ts";
import { RpcServer } from "./rpc_server.ts";
import type { Procedures, RpcContext } from "./rpc_server.ts";
import { isName, packNumbers } from "./signals.ts";
import type { ActorSystem } from "./system.ts";

const DEFAULT_TIMEOUT_MS = 5_000;
const EMPTY = new Uint8Array(0);

type Streamed<R> = R extends AsyncIterable<infer Item> ? Item
  : R extends Iterator<infer Item> ? Item
  : never;

/** What a procedure's caller gets: see {@link RpcResult}. */
export type RpcResultOf<R> = [Streamed<R>] extends [never]
  ? R extends readonly (infer Item)[] ? RpcResult<R, Item> : RpcResult<R, R>
  : RpcResult<Streamed<R>[], Streamed<R>>;

/** The typed client of procedures. */
export type RpcClient<Api> =
  & {
    [K in keyof Api]: Api[K] extends (...args: infer Args) => infer R
      ? (...args: Args) => RpcResultOf<Awaited<R>>
      : never;
  }
  & { with(options: CallOptions): RpcClient<Api> };

/** `node.rpc`. */
export interface Rpc {
  /**
   * Lets every node of the cluster call the object's own functions under this name. What a
   * function returns goes to the caller; an async iterable or a generator is streamed, one item at
   * a time, as fast as the caller takes them. Returns the function that takes it back.
   *
   * @throws ConfigError, ConflictError
   */
  expose(name: string, procedures: Procedures): () => void;
  /**
   * A typed client. Calls fail with RemoteError, CallTimeoutError, NodeDownError, NoProcedureError,
   * NoProcessError when the call was killed there, OverloadedError, EncodeError, or the reason of
   * an aborted signal. The timeout is for the first answer; a stream may take its time.
   *
   * @throws ConfigError for what is no node name or no name
   */
  client<Api>(node: NodeName, name: string): RpcClient<Api>;
  /** Who calls, at the beginning of a procedure, before any `await`. @throws ConfigError */
  context(): RpcContext;
}

interface Pending {
  readonly node: NodeName;
  readonly what: string;
  readonly result: PendingResult;
  /** The first answer has come. */
  answered(): void;
  /** Nothing more is expected. */
  over(): void;
}

/** Adds remote procedures to an actor system. */
export function createRpc(system: ActorSystem): Rpc {
  const { clock, node: own, port, meter } = system.options;
  const server = new RpcServer(system);
  const pending = new Map<number, Pending>();
  const deadlines = createDeadlines(clock, DEFAULT_TIMEOUT_MS);
  let nextCall = 1;

  // ---- from others

  const onRequest = (
    read: (reader: ByteReader, args: () => unknown) => Request,
  ): Parameters<typeof system.handlers.set>[1] =>
  (reader, from, context) => {
    const request = read(reader, () => takeMessage(reader.bytes, context, reader.offset));
    server.handle(request, from.name, (reply) => sendReply(from.name, from.epoch, reply));
  };
  system.handlers.set(
    FrameType.RPC_CALL,
    onRequest((reader, rest) => {
      const head = readCall(reader);
      const args = rest();
      if (!Array.isArray(args)) throw new ProtocolError("bad_rpc", "the arguments are no list");
      return { type: "call", ...head, args };
    }),
  );
  system.handlers.set(
    FrameType.RPC_CREDIT,
    onRequest((reader) => {
      return { type: "credit", id: reader.varint(), items: readCredit(reader) };
    }),
  );
  system.handlers.set(
    FrameType.RPC_CANCEL,
    onRequest((reader) => ({ type: "cancel", id: reader.varint() })),
  );
  system.handlers.set(FrameType.RPC_ANSWER, (reader, from, context) => {
    const id = reader.varint();
    const status = reader.varint() as Answer;
    if (pending.get(id)?.node !== from.name) return;
    onReply({
      type: "answer",
      id,
      status,
      value: takeMessage(reader.bytes, context, reader.offset),
    });
  });
  system.handlers.set(FrameType.RPC_ITEM, (reader, from, context) => {
    const id = reader.varint();
    // The caller gave up, or somebody else than the called node answers.
    if (pending.get(id)?.node !== from.name) return;
    onReply({ type: "item", id, value: takeMessage(reader.bytes, context, reader.offset) });
  });
  system.disconnectListeners.add(({ node: peer, reason, epoch }) => {
    // Calls of procedures are for whichever life is there.
    if (epoch !== undefined) return;
    for (const call of [...pending.values()]) {
      if (call.node !== peer) continue;
      call.over();
      call.result.fail(new NodeDownError(peer, reason));
    }
    server.disconnected(peer);
  });

  const onReply = (reply: Reply) => {
    const call = pending.get(reply.id);
    if (call === undefined) return;
    const { result, node, what } = call;
    if (reply.type === "item") return result.item(reply.value);
    call.answered();
    if (reply.status === Answer.STREAM) return result.stream();
    call.over();
    switch (reply.status) {
      case Answer.VALUE:
        return result.value(reply.value);
      case Answer.END:
        return result.end();
      case Answer.THREW:
        return result.fail(new RemoteError(reply.value));
      case Answer.NO_PROCEDURE:
        return result.fail(new NoProcedureError(node, what));
      case Answer.BUSY:
        return result.fail(new OverloadedError(`${node} runs too many calls of ours already`));
      case Answer.ENDED:
        return result.fail(new NoProcessError(`${what}() on ${node}`, reply.value));
      default:
        throw new ProtocolError("bad_rpc", `no answer has number ${String(reply.status)}`);
    }
  };

  // What cannot travel is told in words; so is what ends a stream in the middle.
  const sendReply = (node: NodeName, epoch: number, reply: Reply): void | Promise<void> => {
    const { id, value } = reply;
    const isItem = reply.type === "item";
    let status = isItem ? 0 : reply.status;
    let payload: Uint8Array;
    try {
      payload = system.encode(value, node, epoch);
    } catch (error) {
      const problem = unsendable(value, error);
      // Thrown into the producer: it ends, and says why.
      if (isItem) throw problem;
      status = Answer.THREW;
      payload = system.encode(problem, node, epoch);
    }
    if (!port.connected(node)) return;
    const [type, head] = isItem
      ? [FrameType.RPC_ITEM, packNumbers(id)]
      : [FrameType.RPC_ANSWER, packNumbers(id, status)];
    try {
      return port.send(node, epoch, id, type, head, payload);
    } catch (error) {
      meter.count("barrel_signals_dropped_total");
      system.warnOnce(`rpc ${node}`, error);
    }
  };

  const replyHere = (reply: Reply): void => {
    try {
      system.encoder.check(reply.value);
    } catch (error) {
      const problem = unsendable(reply.value, error);
      if (reply.type === "item") throw problem;
      return onReply({ ...reply, status: Answer.THREW, value: problem });
    }
    onReply(reply);
  };

  // ---- to others

  const sendRequest = (node: NodeName, request: Request): void => {
    if (node === own) {
      // By reference, in a later microtask, as between processes.
      if (request.type === "call") system.encoder.check(request.args);
      queueMicrotask(() => server.handle(request, own, replyHere));
      return;
    }
    const { id } = request;
    if (request.type === "call") {
      // Encoded first: it throws at the caller.
      const payload = system.encode(request.args, node, 0);
      void port.send(node, 0, id, FrameType.RPC_CALL, packCall(request), payload);
    } else if (port.connected(node)) {
      const [type, head] = request.type === "credit"
        ? [FrameType.RPC_CREDIT, packNumbers(id, request.items)]
        : [FrameType.RPC_CANCEL, packNumbers(id)];
      void port.send(node, 0, id, type, head, EMPTY);
    }
  };

  const call = (
    node: NodeName,
    service: string,
    procedure: string,
    args: unknown[],
    { signal, timeoutMs = DEFAULT_TIMEOUT_MS }: CallOptions,
  ): PendingResult => {
    const id = nextCall++;
    const what = `${service}.${procedure}`;
    const giveUp = (error: unknown) => {
      stop();
      result.fail(error);
    };
    const stop = () => {
      if (!pending.has(id)) return;
      over();
      sendRequest(node, { type: "cancel", id });
    };
    const over = () => {
      pending.delete(id);
      timer.cancel();
      signal?.removeEventListener("abort", aborted);
    };
    const aborted = () => giveUp(signal?.reason);
    const result: PendingResult = new PendingResult({
      grant: (items) => {
        if (pending.has(id)) sendRequest(node, { type: "credit", id, items });
      },
      cancel: stop,
    });
    const timer = deadlines.after(
      timeoutMs,
      () => giveUp(new CallTimeoutError(node, what, timeoutMs)),
    );
    if (signal?.aborted) {
      timer.cancel();
      result.fail(signal.reason);
      return result;
    }
    signal?.addEventListener("abort", aborted, { once: true });
    pending.set(id, { node, what, result, answered: () => timer.cancel(), over });
    try {
      sendRequest(node, { type: "call", id, credit: WINDOW, service, procedure, args });
    } catch (error) {
      over();
      // A mistake of the caller shows where it is made; what is full may empty.
      if (error instanceof EncodeError) throw error;
      result.fail(error);
    }
    return result;
  };

  const client = <Api>(node: NodeName, service: string, options: CallOptions): RpcClient<Api> => {
    knownOptions(options, CALL_OPTIONS);
    const methods = new Proxy(Object.create(null) as object, {
      get(_target, key) {
        // `then`: a client is no promise, whoever awaits it.
        if (typeof key !== "string" || key === "then") return undefined;
        if (key === "with") {
          return (more: CallOptions) => client<Api>(node, service, { ...options, ...more });
        }
        return (...args: unknown[]) => {
          if (!isName(key)) throw new NoProcedureError(node, `${service}.${key}`);
          return call(node, service, key, args, options);
        };
      },
    });
    return methods as RpcClient<Api>;
  };

  return {
    expose: (name, procedures) => server.expose(name, procedures),
    client(node, name) {
      if (!isNodeName(node)) {
        throw new ConfigError("node", `${String(node)} is not a node name; write name@host`);
      }
      if (!isName(name)) throw new ConfigError("name", "a name has 1 to 255 bytes of UTF-8");
      return client(node, name, {});
    },
    context: () => server.context(),
  };
}
