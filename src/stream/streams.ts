/** `node.streams`: who accepts which tag, and the streams that are open. */
import type { ActorSystem } from "../actor/system.ts";
import { afterwards } from "../base/afterwards.ts";
import type { Clock } from "../base/clock.ts";
import {
  BarrelError,
  ClosedError,
  ConflictError,
  messageOf,
  TimeoutError,
} from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { PeerIdentity, StreamPipe, StreamPort } from "../link/ports.ts";
import { StreamCode, tagBytes } from "../link/stream_pipes.ts";
import type { Meter } from "../metrics/meter.ts";
import { nodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import type { StreamError } from "./errors.ts";
import { loopback } from "./loopback.ts";
import { Owners } from "./owners.ts";
import { createTaggedStream } from "./tagged_stream.ts";
import type { StreamHandle, TaggedStream } from "./tagged_stream.ts";

/** Tags with this prefix are the library's own. */
const RESERVED_PREFIX = "barrel:";
const OPEN_TIMEOUT_MS = 10_000;

/** Options of `streams.open`. */
export interface OpenOptions {
  /** Deadline until the peer has accepted, the dial included, ms. @default 10_000 */
  readonly timeoutMs?: number;
  /** Gives up opening. */
  readonly signal?: AbortSignal;
}

/** Options of `streams.accept`. */
export interface AcceptOptions {
  /**
   * A process of this node for which they are accepted: when it ends, for whatever reason, the tag
   * is free, and the streams that it accepted are aborted (`acceptor_failed` at the other end).
   */
  readonly owner?: Pid;
}

/** A row of `streams.list()`. */
export interface StreamInfo {
  readonly tag: string;
  readonly peer: NodeName;
  /** Which end opened it. */
  readonly direction: "opened" | "accepted";
}

/** Tagged streams of bytes between nodes, flow-controlled end to end. */
export interface Streams {
  /**
   * Accepts streams with this tag, 1 to 255 bytes of UTF-8, from every member. The handler gets each
   * of them; one that throws, or rejects, aborts the stream. Returns the function that ends
   * accepting; streams that are open stay.
   *
   * @throws ConflictError when the tag has an acceptor; BarrelError `bad_tag`; ClosedError;
   * NoProcessError when the owner has ended
   */
  accept(
    tag: string,
    handler: (stream: TaggedStream) => void | Promise<void>,
    options?: AcceptOptions,
  ): () => void;
  /**
   * Opens a stream to whoever accepts the tag on `node`, which may be this one, dialling when there
   * is no link. Resolves when the stream has been accepted.
   *
   * @throws StreamError when it is refused or the link is lost; TimeoutError; TransportError and
   * HandshakeError of the dial; OverloadedError above 256 streams to one node; BarrelError `bad_tag`;
   * ProtocolError `bad_node_name`; RangeError; ClosedError; the signal's reason
   */
  open(tag: string, node: NodeName, options?: OpenOptions): Promise<TaggedStream>;
  /** The streams that are not over. */
  list(): StreamInfo[];
}

/** What the streams are made of. */
export interface StreamsOptions {
  /** This node. */
  readonly self: PeerIdentity;
  readonly port: StreamPort;
  readonly system: Pick<ActorSystem, "find" | "exitListeners">;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
}

interface Acceptor {
  readonly handler: (stream: TaggedStream) => void | Promise<void>;
  readonly owner: Pid | undefined;
}

/** The streams of one node, and their end. */
export interface StreamsDriver extends Streams {
  /** Aborts every stream and accepts no more. */
  close(): void;
}

/** Creates the streams of a node. */
export function createStreams(options: StreamsOptions): StreamsDriver {
  const { port, clock, logger, meter } = options;
  const self = options.self.name;
  const acceptors = new Map<string, Acceptor>();
  const owners = new Owners(options.system);
  const open = new Map<StreamHandle, StreamInfo>();
  const opening = new Set<(error: unknown) => void>();
  const once = logOnce(logger, 1_024);
  let isClosed = false;

  const begin = (
    pipe: StreamPipe,
    tag: string,
    direction: StreamInfo["direction"],
    owner?: Pid,
  ) => {
    const role = direction === "opened" ? "opener" : "acceptor";
    const handle: StreamHandle = createTaggedStream(pipe, tag, role, () => {
      open.delete(handle);
      release?.();
      meter.gauge("barrel_streams", open.size);
    });
    open.set(handle, { tag, peer: pipe.peer.name, direction });
    const release = owner && owners.watch(owner, () => {
      handle.abort(StreamCode.ACCEPTOR_FAILED, "acceptor_failed", `${owner} has ended`);
    });
    meter.gauge("barrel_streams", open.size);
    return handle;
  };

  const refuse = (pipe: StreamPipe, code: number, reason: string, text: string) => {
    const peer = pipe.peer.name;
    meter.count("barrel_streams_refused_total", { reason });
    once(`${peer} ${reason}`, "info", `refused a stream of ${peer}: ${text}`, { peer, reason });
    pipe.framed.abort(code, text);
    pipe.done();
  };

  port.onStream = (pipe, tag) => {
    const acceptor = acceptors.get(tag);
    if (isClosed) return refuse(pipe, StreamCode.CLOSING, "closing", `${self} is closing`);
    if (acceptor === undefined) {
      // The tag is a stranger's text: it goes into no label and no log.
      return refuse(pipe, StreamCode.NO_ACCEPTOR, "no_acceptor", "nobody accepts its tag");
    }
    const handle = begin(pipe, tag, "accepted", acceptor.owner);
    meter.count("barrel_streams_total", { direction: "accepted" });
    void run(acceptor, handle);
  };

  const run = async (
    { handler, owner }: Acceptor,
    { stream, abort }: StreamHandle,
  ) => {
    try {
      await handler(stream);
    } catch (error) {
      // The streams were aborted before their acceptors failed over that.
      if (isClosed || (owner !== undefined && options.system.find(owner) === undefined)) return;
      const { tag, peer } = stream;
      logger.log("error", `the acceptor of "${tag}" threw: ${messageOf(error)}`, { peer });
      abort(StreamCode.ACCEPTOR_FAILED, "acceptor_failed", messageOf(error));
    }
  };

  const openTo = (tag: string, node: NodeName): Promise<StreamPipe> => {
    if (node !== self) return port.open(node, tagBytes(tag));
    const [ours, theirs] = loopback(options.self, clock);
    ours.framed.pause();
    port.onStream(theirs, tag);
    return Promise.resolve(ours);
  };

  const openPipe = async (tag: string, node: NodeName, isGivenUp: () => boolean) => {
    const pipe = await openTo(tag, node);
    if (!isGivenUp() && !isClosed) return begin(pipe, tag, "opened");
    pipe.framed.abort(StreamCode.GIVEN_UP, "opening was given up");
    pipe.done();
    return undefined;
  };

  return {
    accept(tag, handler, { owner } = {}) {
      check(tag);
      if (typeof handler !== "function") throw new TypeError("accept takes a tag and a function");
      if (isClosed) throw new ClosedError(`${self} is closed`);
      if (acceptors.has(tag)) {
        throw new ConflictError(`"${tag}" has an acceptor on ${self} already`);
      }
      // Of its own, so that an old end ends nothing, even where one handler is given twice.
      const acceptor = { handler, owner };
      const end = () => {
        release?.();
        if (acceptors.get(tag) === acceptor) acceptors.delete(tag);
      };
      const release = owner && owners.watch(owner, end);
      acceptors.set(tag, acceptor);
      return end;
    },
    open(tag, node, { timeoutMs = OPEN_TIMEOUT_MS, signal } = {}) {
      return new Promise((resolve, reject) => {
        check(tag);
        nodeName(node);
        if (!(timeoutMs > 0)) throw new RangeError(`timeoutMs is above 0, not ${timeoutMs}`);
        if (isClosed) throw new ClosedError(`${self} is closed`);
        signal?.throwIfAborted();
        let isGivenUp = false;
        let handle: StreamHandle | undefined;
        const giveUp = (error: unknown) => {
          isGivenUp = true;
          settled();
          handle?.abort(StreamCode.GIVEN_UP, "aborted", "opening was given up");
          reject(error);
        };
        const aborted = () => giveUp(signal?.reason);
        const timer = clock.after(timeoutMs, () => {
          giveUp(new TimeoutError(`${node} did not accept "${tag}" in ${timeoutMs} ms`));
        });
        opening.add(giveUp);
        const settled = () => {
          opening.delete(giveUp);
          timer.cancel();
          signal?.removeEventListener("abort", aborted);
        };
        signal?.addEventListener("abort", aborted);
        const begun = async () => {
          for (let isAccepted = false; !isAccepted;) {
            handle = await openPipe(tag, node, () => isGivenUp);
            if (handle === undefined) throw new ClosedError(`${self} is closed`);
            isAccepted = await handle.accepted.then(() => true, (error) => {
              if (isGivenUp || (error as StreamError).reason !== "moved") throw error;
              return false;
            });
          }
          if (handle === undefined) throw new ClosedError(`${self} is closed`);
          meter.count("barrel_streams_total", { direction: "opened" });
          return handle.stream;
        };
        afterwards(begun(), settled).then(resolve, reject);
      });
    },
    list: () => [...open.values()],
    close() {
      isClosed = true;
      acceptors.clear();
      for (const giveUp of [...opening]) giveUp(new ClosedError(`${self} is closed`));
      for (const { abort } of [...open.keys()]) {
        abort(StreamCode.CLOSING, "closing", `${self} is closing`);
      }
    },
  };
}

function check(tag: string): void {
  if (tag.startsWith(RESERVED_PREFIX)) {
    throw new BarrelError("bad_tag", `tags with "${RESERVED_PREFIX}" in front are reserved`);
  }
  try {
    tagBytes(tag);
  } catch (error) {
    throw new BarrelError("bad_tag", messageOf(error), { cause: error });
  }
}
