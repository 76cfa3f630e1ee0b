import { EMPTY, fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { OverloadedError, ProtocolError, TransportError } from "../base/errors.ts";
import { Ring } from "../base/ring.ts";
import type { Connection } from "../transport/contract.ts";
import { FrameType } from "../wire/frame_types.ts";
import { FramedPipe } from "./framed_pipe.ts";
import type { FramedPipeHandler, FramedPipeOptions } from "./framed_pipe.ts";
import type { LinkDownReason, PeerIdentity, StreamPipe } from "./ports.ts";

/** First byte of a PREAMBLE: the pipe is a tagged stream, and its tag follows. */
export const STREAM_PIPE = 2;
/** Longest tag, bytes of UTF-8. */
const MAX_TAG_BYTES = 255;
/** Streams that each end of a link may have opened at once. */
const MAX_STREAMS = 256;
/** Streams that are asked for at once: fewer than the pipes that a peer lets wait for a PREAMBLE. */
const MAX_UNANSWERED = 32;
/** Codes of the ABORT that ends the pipe of a stream. */
export const StreamCode = {
  /** Nobody accepts the tag. */
  NO_ACCEPTOR: 1,
  /** The peer has too many streams, or pipes without a PREAMBLE, already. */
  TOO_MANY: 2,
  /** The PREAMBLE did not come in time. */
  NO_PREAMBLE: 3,
  /** The node or the link is closing. */
  CLOSING: 4,
  /** Whoever accepted the stream failed. */
  ACCEPTOR_FAILED: 5,
  /** Whoever opened it does not want it any more. */
  GIVEN_UP: 6,
  /** The link that it was asked for on was handed over: ask on the next one. */
  MOVED: 7,
} as const;

/** Bytes of one direction that may be under way before the reader has granted more. */
export const STREAM_WINDOW: number = 2 * 1024 * 1024;
/** Settings of the pipe of a stream: its reader grants the credit, and no frame comes in pieces. */
export const STREAM_SETTINGS: FramedPipeOptions = {
  maxMessageBytes: 0,
  autoConsume: false,
  window: STREAM_WINDOW,
};

/** What the streams of a link need of it. */
export interface StreamPipesOptions {
  readonly connection: Connection;
  readonly peer: PeerIdentity;
  /** A stream that the peer asks for; set its handler at once. */
  readonly onStream: (pipe: StreamPipe, tag: string) => void;
  /** A stream of the peer was refused, by name. */
  readonly onRefused: (reason: string) => void;
  /** Ends the link: the peer broke the protocol. */
  readonly fail: (error: ProtocolError) => void;
  /** The last stream is over. */
  readonly onIdle: () => void;
}

interface Live extends StreamPipe {
  readonly isOurs: boolean;
  lost: LinkDownReason | undefined;
}

/** The tagged streams of one link, each on a pipe of its own. */
export class StreamPipes {
  /** Whether there has ever been one. */
  wereUsed = false;
  readonly #options: StreamPipesOptions;
  readonly #live = new Set<Live>();
  #endedSent = 0;
  #endedReceived = 0;
  #opening = 0;
  #unanswered = 0;
  readonly #turns = new Ring<() => void>();
  #isDown = false;

  constructor(options: StreamPipesOptions) {
    this.#options = options;
  }

  /** Streams that are not over. */
  get count(): number {
    return this.#live.size + this.#opening;
  }

  /** Bytes of all streams so far. */
  get bytesSent(): number {
    let bytes = this.#endedSent;
    for (const { framed } of this.#live) bytes += framed.bytesSent;
    return bytes;
  }

  get bytesReceived(): number {
    let bytes = this.#endedReceived;
    for (const { framed } of this.#live) bytes += framed.bytesReceived;
    return bytes;
  }

  /**
   * Opens a pipe and asks for the tag.
   *
   * @throws OverloadedError when too many streams of ours are open; TransportError
   */
  async open(tag: Bytes): Promise<StreamPipe> {
    const { peer, connection } = this.#options;
    if (this.#count(true) + this.#opening >= MAX_STREAMS) {
      throw new OverloadedError(`${MAX_STREAMS} streams to ${peer.name} are open already`);
    }
    this.#opening++;
    try {
      await this.#turn();
      const pipe = await connection.openPipe("bidirectional");
      if (this.#isDown) pipe.destroy();
      this.#checkUp();
      const framed = new FramedPipe(pipe, SILENT, STREAM_SETTINGS);
      // Until it has its handlers.
      framed.pause();
      const body = new Uint8Array(1 + tag.length);
      body[0] = STREAM_PIPE;
      body.set(tag, 1);
      framed.send(0, FrameType.PREAMBLE, body, EMPTY);
      return this.#add(framed, true);
    } catch (error) {
      this.#nextTurn();
      throw error;
    } finally {
      this.#opening--;
    }
  }

  async #turn(): Promise<void> {
    if (this.#unanswered >= MAX_UNANSWERED) {
      // Whoever gets an answer hands its turn on.
      await new Promise<void>((resolve) => this.#turns.push(resolve));
    } else this.#unanswered++;
  }

  #nextTurn(): void {
    const next = this.#turns.shift();
    if (next === undefined) this.#unanswered--;
    else next();
  }

  #checkUp(): void {
    if (!this.#isDown) return;
    throw new TransportError("closed", `the link to ${this.#options.peer.name} has ended`);
  }

  /**
   * Takes a pipe whose PREAMBLE asks for a stream.
   *
   * @throws ProtocolError `bad_preamble`
   */
  accept(framed: FramedPipe, preamble: Bytes): void {
    const tag = tagOf(preamble.subarray(1));
    if (this.#count(false) >= MAX_STREAMS) {
      this.#options.onRefused("too_many_streams");
      return framed.abort(StreamCode.TOO_MANY, `${MAX_STREAMS} streams are open already`);
    }
    framed.configure(STREAM_SETTINGS);
    this.#options.onStream(this.#add(framed, false), tag);
  }

  /** The link is over: so are its streams. */
  down(reason: LinkDownReason): void {
    if (this.#isDown) return;
    this.#isDown = true;
    for (const stream of [...this.#live]) {
      stream.framed.destroy();
      stream.lost = reason;
      stream.onLost(reason);
    }
    this.#live.clear();
    for (let next = this.#turns.shift(); next !== undefined; next = this.#turns.shift()) next();
  }

  #add(framed: FramedPipe, isOurs: boolean): StreamPipe {
    const { peer, fail, onIdle } = this.#options;
    let isAnswered = !isOurs;
    const live: Live = {
      framed,
      peer,
      isOurs,
      lost: undefined,
      onLost() {},
      fail,
      answered: () => {
        if (isAnswered) return;
        isAnswered = true;
        this.#nextTurn();
      },
      done: () => {
        live.answered();
        if (!this.#live.delete(live)) return;
        this.#endedSent += framed.bytesSent;
        this.#endedReceived += framed.bytesReceived;
        if (this.count === 0) onIdle();
      },
    };
    this.wereUsed = true;
    this.#live.add(live);
    return live;
  }

  #count(isOurs: boolean): number {
    let count = 0;
    for (const live of this.#live) if (live.isOurs === isOurs) count++;
    return count;
  }
}

/**
 * The bytes of a tag.
 *
 * @throws RangeError when it has not 1 to {@link MAX_TAG_BYTES} bytes
 */
export function tagBytes(tag: string): Bytes {
  const bytes = utf8(tag);
  if (bytes.length > 0 && bytes.length <= MAX_TAG_BYTES) return bytes;
  throw new RangeError(`a tag has 1 to ${MAX_TAG_BYTES} bytes of UTF-8, not ${bytes.length}`);
}

function tagOf(bytes: Bytes): string {
  try {
    if (bytes.length > 0 && bytes.length <= MAX_TAG_BYTES) return fromUtf8(bytes);
  } catch {
    // Not UTF-8.
  }
  throw new ProtocolError("bad_preamble", `a stream's tag has 1 to ${MAX_TAG_BYTES} bytes`);
}

const SILENT: FramedPipeHandler = {
  onFrame() {},
  onEnd() {},
  onAbort() {},
  onFailure() {},
  onDrain() {},
};
