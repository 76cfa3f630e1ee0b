/** One tagged stream: the protocol's driver, with a WHATWG stream on each side of it. */
import type { Bytes } from "../base/bytes.ts";
import { EMPTY } from "../base/bytes.ts";
import { messageOf, ProtocolError } from "../base/errors.ts";
import { frameBytes } from "../link/frame_writer.ts";
import type { StreamPipe } from "../link/ports.ts";
import { StreamCode } from "../link/stream_pipes.ts";
import { FrameType } from "../wire/frame_types.ts";
import { MAX_BODY_BYTES } from "../wire/limits.ts";
import type { NodeName } from "../wire/node_name.ts";
import { StreamError } from "./errors.ts";
import type { StreamFailure } from "./errors.ts";
import { Inbox } from "./inbox.ts";
import { StreamProtocol } from "./protocol.ts";
import type { StreamEffect, StreamEvent } from "./protocol.ts";

/**
 * Bytes to and from another node. The two directions are independent, and each is flow-controlled
 * from the reader to the writer: at most 2 MiB are under way.
 *
 * - A write is done when its bytes have left within the credit of the peer; the chunk may be used
 *   again then. `writable.close()` is done when the peer has everything.
 * - `writable.abort(reason)` fails the peer's reader, `readable.cancel(reason)` its writer, with a
 *   {@link StreamError} whose message carries the reason.
 * - When the link is lost, both directions fail with reason `lost`; what has arrived completely can
 *   still be read.
 */
export interface TaggedStream {
  /** What the peer writes. The chunks belong to the reader; their sizes are of no meaning. */
  readonly readable: ReadableStream<Bytes>;
  /** Takes chunks of any size. */
  readonly writable: WritableStream<Uint8Array>;
  /** The node at the other end. */
  readonly peer: NodeName;
  readonly tag: string;
}

/** A stream and the handles of whoever made it. */
export interface StreamHandle {
  readonly stream: TaggedStream;
  /** Settles when the peer has accepted or refused. */
  readonly accepted: Promise<void>;
  /** Ends both directions at both ends, at once. */
  abort(code: number, reason: StreamFailure, message: string): void;
}

/** Puts a stream on a pipe. `onOver` is called once, when nothing of it is left on the link. */
export function createTaggedStream(
  pipe: StreamPipe,
  tag: string,
  role: "opener" | "acceptor",
  onOver: () => void,
): StreamHandle {
  const { framed } = pipe;
  const peer = pipe.peer.name;
  const protocol = new StreamProtocol(role);
  const inbox = new Inbox();
  const accepted = Promise.withResolvers<void>();
  accepted.promise.catch(() => {});
  let reader: ReadableStreamDefaultController<Bytes>;
  let isReaderOver = false;
  let isWanted = false;
  let writer: WritableStreamDefaultController;
  let writing: PromiseWithResolvers<void> | undefined;
  let closing: PromiseWithResolvers<void> | undefined;
  let rest: Uint8Array = EMPTY;
  let isOver = false;

  const act = (event: StreamEvent) => {
    for (const effect of protocol.handle(event)) carryOut(effect);
  };

  const carryOut = (effect: StreamEffect): void => {
    switch (effect.type) {
      case "send":
        return framed.sendFree(effect.frame, effect.body);
      case "accepted":
        pipe.answered();
        return accepted.resolve();
      case "data":
        return received(effect.body);
      case "drop":
        return framed.consumed(frameBytes(effect.body.length));
      case "readEnd":
        if (inbox.isEmpty) endReader();
        return;
      case "readReset":
        return failReader(new StreamError("aborted", `${peer} aborted "${tag}": ${effect.reason}`));
      case "written":
        return closing?.resolve();
      case "writeStopped":
        return failWriter(
          new StreamError("stopped", `${peer} reads no more of "${tag}": ${effect.reason}`),
        );
      case "over":
        return framed.end();
    }
  };

  const received = (body: Bytes) => {
    if (!isWanted) return inbox.push(body);
    isWanted = false;
    reader.enqueue(body);
    framed.consumed(frameBytes(body.length));
  };

  const endReader = () => {
    if (isReaderOver) return;
    isReaderOver = true;
    reader.close();
  };

  const failReader = (error: unknown) => {
    if (isReaderOver) return;
    isReaderOver = true;
    inbox.clear();
    reader.error(error);
  };

  const failWriter = (error: unknown) => {
    rest = EMPTY;
    writing?.reject(error);
    closing?.reject(error);
    writing = undefined;
    writer.error(error);
  };

  // Nothing more comes or goes: what is not finished has failed.
  const fail = (error: unknown) => {
    if (isOver) return;
    isOver = true;
    accepted.reject(error);
    if (!protocol.isReadOver) failReader(error);
    if (!protocol.isWriteOver) failWriter(error);
    pipe.done();
    onOver();
  };

  // Sends what the credit allows; whether nothing is left.
  const pump = (): boolean => {
    while (rest.length > 0) {
      const size = Math.min(rest.length, MAX_BODY_BYTES);
      if (!framed.hasRoom(size)) return false;
      framed.sendWhole(FrameType.DATA, rest.subarray(0, size));
      rest = rest.subarray(size);
    }
    return true;
  };

  const readable = new ReadableStream<Bytes>({
    start: (controller) => void (reader = controller),
    pull() {
      const chunk = inbox.shift();
      if (chunk === undefined) {
        isWanted = true;
        return;
      }
      reader.enqueue(chunk.body);
      framed.consumed(chunk.credit);
      if (protocol.isReadOver && inbox.isEmpty) endReader();
    },
    cancel(reason) {
      isReaderOver = true;
      framed.consumed(inbox.clear());
      act({ type: "stop", reason: textOf(reason) });
    },
  }, { highWaterMark: 0 });

  const writable = new WritableStream<Uint8Array>({
    start(controller) {
      writer = controller;
      // A write that waits for credit would keep the abort waiting, too.
      controller.signal.addEventListener("abort", () => {
        const { reason } = controller.signal;
        act({ type: "reset", reason: textOf(reason) });
        rest = EMPTY;
        writing?.reject(reason);
        writing = undefined;
      });
    },
    write(chunk) {
      if (!(chunk instanceof Uint8Array)) {
        const error = new TypeError("a stream takes chunks of Uint8Array");
        act({ type: "reset", reason: error.message });
        throw error;
      }
      rest = chunk;
      if (pump()) return;
      writing = Promise.withResolvers();
      return writing.promise;
    },
    close() {
      closing = Promise.withResolvers();
      act({ type: "finish" });
      return closing.promise;
    },
  });

  framed.handler = {
    onFrame: (frame, body) => act({ type: "frame", frame, body }),
    onEnd() {
      if (protocol.isReadOver && protocol.isWriteOver) fail(undefined);
      else pipe.fail(new ProtocolError("bad_stream_frame", "END on a stream that is not over"));
    },
    onAbort(code, reason) {
      framed.destroy();
      fail(abortError(code, peer, tag, reason));
    },
    onFailure(error) {
      if (error.reason !== "truncated") return pipe.fail(error);
      framed.destroy();
      fail(new StreamError("lost", `the stream "${tag}" with ${peer} was cut off`));
    },
    onDrain() {
      if (writing === undefined || !pump()) return;
      const { resolve } = writing;
      writing = undefined;
      resolve();
    },
  };
  pipe.onLost = (reason) => {
    fail(new StreamError("lost", `the link to ${peer} ended (${reason}) under "${tag}"`));
  };
  const { lost } = pipe;
  if (lost !== undefined) queueMicrotask(() => pipe.onLost(lost));
  if (role === "acceptor") {
    accepted.resolve();
    framed.sendFree(FrameType.STREAM_ACCEPTED, EMPTY);
  } else framed.resume();

  return {
    stream: Object.freeze({ readable, writable, peer, tag }),
    accepted: accepted.promise,
    abort(code, reason, message) {
      if (isOver) return;
      framed.abort(code, message);
      fail(new StreamError(reason, message));
    },
  };
}

// What a peer's ABORT says.
function abortError(code: number, peer: NodeName, tag: string, reason: string): StreamError {
  switch (code) {
    case StreamCode.NO_ACCEPTOR:
      return new StreamError("no_acceptor", `nobody on ${peer} accepts "${tag}"`);
    case StreamCode.TOO_MANY:
      return new StreamError("too_many", `${peer} refused "${tag}": ${reason}`);
    case StreamCode.CLOSING:
      return new StreamError("closing", `${peer} is closing: ${reason}`);
    case StreamCode.MOVED:
      return new StreamError("moved", `the link to ${peer} was handed over: ${reason}`);
    case StreamCode.ACCEPTOR_FAILED:
      return new StreamError("acceptor_failed", `whoever accepted "${tag}" failed: ${reason}`);
    default:
      return new StreamError("aborted", `${peer} aborted "${tag}": ${reason}`);
  }
}

function textOf(reason: unknown): string {
  return reason === undefined ? "no reason given" : messageOf(reason);
}
