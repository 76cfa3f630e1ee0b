/**
 * The protocol of one tagged stream, as a machine without I/O. Each end writes in one direction and
 * reads in the other, and the two end independently:
 *
 * - FINISH ends what we write behind all of it; the peer answers FINISH_ACK, so that an end that has
 *   been acknowledged outlives the link;
 * - RESET gives up what we write, with a reason;
 * - STOP says that we read no more, with a reason; the peer answers with RESET.
 *
 * The end that opened the stream first waits for ACCEPTED. When both directions are over, END follows
 * on the pipe. Whatever comes out of turn breaks the protocol.
 */
import { EMPTY, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { FrameType } from "../wire/frame_types.ts";

/** Longest reason of a RESET or a STOP, bytes of UTF-8. */
const MAX_REASON_BYTES = 1_024;

/** What happens to a stream. */
export type StreamEvent =
  /** A frame came. */
  | { readonly type: "frame"; readonly frame: number; readonly body: Bytes }
  /** Everything has been written. */
  | { readonly type: "finish" }
  /** What we write is given up. */
  | { readonly type: "reset"; readonly reason: string }
  /** We read no more. */
  | { readonly type: "stop"; readonly reason: string };

/** What is to be done, in order. */
export type StreamEffect =
  /** Send a frame; it needs no credit. */
  | { readonly type: "send"; readonly frame: FrameType; readonly body: Bytes }
  /** The peer has accepted. */
  | { readonly type: "accepted" }
  /** Bytes for the reader. */
  | { readonly type: "data"; readonly body: Bytes }
  /** Bytes that nobody reads any more. */
  | { readonly type: "drop"; readonly body: Bytes }
  /** The reader has had everything. */
  | { readonly type: "readEnd" }
  /** The peer gave up what it writes. */
  | { readonly type: "readReset"; readonly reason: string }
  /** The peer has everything that was written. */
  | { readonly type: "written" }
  /** The peer reads no more. */
  | { readonly type: "writeStopped"; readonly reason: string }
  /** Both directions are over. */
  | { readonly type: "over" };

/** One end of a tagged stream. */
export class StreamProtocol {
  #isAccepted: boolean;
  #out: "open" | "finishing" | "over" = "open";
  #in: "open" | "stopped" | "over" = "open";
  #wasStopped = false;
  #isOver = false;

  /** The end that opened the stream waits for ACCEPTED; the other has sent it. */
  constructor(role: "opener" | "acceptor") {
    this.#isAccepted = role === "acceptor";
  }

  /** Whether everything that the peer writes has come, or is no longer wanted. */
  get isReadOver(): boolean {
    return this.#in !== "open";
  }

  /** Whether what we write has ended: acknowledged, given up or stopped. */
  get isWriteOver(): boolean {
    return this.#out === "over";
  }

  /** @throws ProtocolError `bad_stream_frame` when the peer's frame is out of turn */
  handle(event: StreamEvent): StreamEffect[] {
    const effects = this.#handle(event);
    if (this.#out === "over" && this.#in === "over" && !this.#isOver) {
      this.#isOver = true;
      effects.push({ type: "over" });
    }
    return effects;
  }

  #handle(event: StreamEvent): StreamEffect[] {
    switch (event.type) {
      case "frame":
        return this.#frame(event.frame, event.body);
      case "finish":
        if (this.#out !== "open") return [];
        this.#out = "finishing";
        return [send(FrameType.STREAM_FINISH)];
      case "reset":
        // Behind FINISH everything has been sent: what is left to come is the answer.
        if (this.#out !== "open") return [];
        this.#out = "over";
        return [send(FrameType.STREAM_RESET, event.reason)];
      case "stop":
        if (this.#in !== "open") return [];
        this.#in = "stopped";
        return [send(FrameType.STREAM_STOP, event.reason)];
    }
  }

  #frame(frame: number, body: Bytes): StreamEffect[] {
    if (!this.#isAccepted) {
      require(frame === FrameType.STREAM_ACCEPTED && body.length === 0, "before it was accepted");
      this.#isAccepted = true;
      return [{ type: "accepted" }];
    }
    switch (frame) {
      case FrameType.DATA:
        require(this.#in !== "over" && body.length > 0, "no bytes, or bytes behind the end");
        return [{ type: this.#in === "open" ? "data" : "drop", body }];
      case FrameType.STREAM_FINISH: {
        require(this.#in !== "over" && body.length === 0, "two ends");
        const isWanted = this.#in === "open";
        this.#in = "over";
        // Without the answer the peer takes our STOP for the end.
        return isWanted ? [send(FrameType.STREAM_FINISH_ACK), { type: "readEnd" }] : [];
      }
      case FrameType.STREAM_RESET: {
        require(this.#in !== "over", "two ends");
        const isWanted = this.#in === "open";
        this.#in = "over";
        return isWanted ? [{ type: "readReset", reason: textOf(body) }] : [];
      }
      case FrameType.STREAM_FINISH_ACK:
        require(this.#out === "finishing" && body.length === 0, "an answer to nothing");
        this.#out = "over";
        return [{ type: "written" }];
      case FrameType.STREAM_STOP:
        return this.#stop(textOf(body));
      default:
        throw new ProtocolError("bad_stream_frame", `a frame of type ${frame} on a stream`);
    }
  }

  #stop(reason: string): StreamEffect[] {
    require(!this.#wasStopped, "two stops");
    this.#wasStopped = true;
    // It crossed our RESET, or the peer's answer to FINISH went before it.
    if (this.#out === "over") return [];
    const isAnswered = this.#out === "finishing";
    this.#out = "over";
    const stopped: StreamEffect = { type: "writeStopped", reason };
    return isAnswered ? [stopped] : [send(FrameType.STREAM_RESET), stopped];
  }
}

function send(frame: FrameType, reason = ""): StreamEffect {
  return { type: "send", frame, body: reason === "" ? EMPTY : cut(reason) };
}

function cut(reason: string): Bytes {
  // No character has more than three bytes per unit of UTF-16.
  const bytes = utf8(reason.slice(0, MAX_REASON_BYTES));
  if (bytes.length <= MAX_REASON_BYTES) return bytes;
  let end = MAX_REASON_BYTES;
  while (((bytes[end] as number) & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

function textOf(body: Bytes): string {
  require(body.length <= MAX_REASON_BYTES, "a reason that is too long");
  return new TextDecoder().decode(body);
}

function require(condition: boolean, what: string): void {
  if (!condition) throw new ProtocolError("bad_stream_frame", `a stream brought ${what}`);
}
