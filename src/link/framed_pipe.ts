import { concat, EMPTY } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { messageOf, ProtocolError } from "../base/errors.ts";
import { Ring } from "../base/ring.ts";
import { SPENT } from "../transport/contract.ts";
import type { Pipe } from "../transport/contract.ts";
import { FrameType } from "../wire/frame_types.ts";
import { MAX_BODY_BYTES } from "../wire/limits.ts";
import { ByteReader, varintLength, writeVarint } from "../wire/varint.ts";
import { FRAGMENT_BYTES, layOut, MAX_TRANSFERS, nextFrameBytes } from "./fragments.ts";
import type { Transfer } from "./fragments.ts";
import { FrameReader } from "./frame_reader.ts";
import { frameBytes, FrameWriter } from "./frame_writer.ts";
import { Reassembly } from "./reassembly.ts";
import { SealedPipe } from "./sealed_pipe.ts";

/** Bytes of frames that one end may send before the other has granted more (CREDIT). */
export const CREDIT_WINDOW: number = 1024 * 1024;
/** CREDIT is granted once this share of the window has been read. */
const GRANTED_SHARE = 1 / 4;
/** Bodies above this travel as fragments. */
const MAX_WHOLE_BODY = 2 * FRAGMENT_BYTES;
/** What is packed ahead of a pipe that takes no more: small, so that a small frame soon has its turn. */
const PACK_AHEAD = 128 * 1024;
/** Microtasks in which nothing was written before what was written leaves. */
const QUIET_ROUNDS = 6;
/** Bytes that leave without waiting for more. */
const ENOUGH_BYTES = 16 * 1024;
/** Its reactions are microtasks that cost less than `queueMicrotask`, which Node and Deno wrap. */
const SETTLED = Promise.resolve();
/** Frames that need no credit. */
const FIRST_FREE_TYPE = FrameType.STREAM_ACCEPTED;
const LAST_FREE_TYPE = FrameType.STREAM_STOP;
/** Longest reason of an ABORT, bytes. */
const MAX_REASON_BYTES = 255;

/** What a framed pipe reports. All calls come in the order of the bytes. */
export interface FramedPipeHandler {
  /** Bytes have come; called once a chunk, before its frames. */
  onReceive?(): void;
  /** One frame or whole message; `body` belongs to the callee. A ProtocolError fails the pipe. */
  onFrame(type: number, body: Bytes): void;
  /** The peer ended its direction in order: everything it sent has been delivered. */
  onEnd(): void;
  /** The peer gave up with a code and a reason. */
  onAbort(code: number, reason: string): void;
  /** The pipe broke: it ended without END, or the peer broke the protocol. */
  onFailure(error: ProtocolError): void;
  /** Some of what was buffered has left. */
  onDrain(): void;
}

/** Settings of a {@link FramedPipe}. */
export interface FramedPipeOptions {
  /** Largest message put together from fragments, bytes. */
  readonly maxMessageBytes: number;
  /** Whether frames count as read once delivered; otherwise `consumed` must be called. */
  readonly autoConsume: boolean;
  /** Bytes of frames that each end may send before the other has granted more. @default 1 MiB */
  readonly window?: number;
  /** Shared with the pipes by which answers leave. */
  readonly pace?: Pace;
}

/** What pipes that belong together have received since one of them was written to: whole frames. */
export interface Pace {
  received: number;
}

/** A small frame that waits. */
interface Waiting {
  readonly type: number;
  readonly body: Bytes;
}

/** What waits costs about so much beside its bytes. */
export const QUEUED_COST = 64;

function queuedBytes(frame: Waiting | Transfer): number {
  return QUEUED_COST + ("body" in frame ? frame.body.length : frame.frames.length);
}

/**
 * Frames over one pipe, with what the QUIC stacks do not have in common: an END that proves that
 * all has arrived, an ABORT with a code, and CREDIT, so that a reader that does not read makes the
 * writer wait on every runtime. What is written in one turn of the event loop leaves in one write;
 * large messages are cut into fragments and interleaved with small ones. Frames with one `key`
 * stay in order.
 */
export class FramedPipe {
  #pipe: Pipe;
  /** May be exchanged, between frames: the handshake hands over to the link. */
  handler: FramedPipeHandler;

  #autoConsume = false;
  #pace: Pace = { received: 0 };
  readonly #reader = new FrameReader(MAX_BODY_BYTES + 1, FrameType.FRAGMENT);
  readonly #writer = new FrameWriter();
  #reassembly = new Reassembly(0);

  #paused = false;
  #delivering = false;
  #finished = false;
  #dead = false;
  #pipeEnded: "no" | "clean" | "broken" = "no";

  #window = 0;
  #credit = 0;
  #granted = 0;
  #bytesSent = 0;
  #bytesReceived = 0;
  #unacknowledged = 0;

  // Small frames that wait for credit or room, then large messages in turn, then those that may
  // not overtake a large one with their key.
  readonly #waiting = new Ring<Waiting>();
  readonly #transfers: Transfer[] = [];
  readonly #behind = new Map<number, Ring<Waiting | Transfer>>();
  #queuedBytes = 0;
  #nextTransfer = 0;
  #nextTransferId = 1;
  #blocked = false;
  #flushing = false;
  // What had been written when it was looked at last, and how often it is looked at again.
  #written = 0;
  #rounds = 0;
  #ending = false;
  #endSent = false;
  #endReceived = false;

  constructor(pipe: Pipe, handler: FramedPipeHandler, options: FramedPipeOptions) {
    this.handler = handler;
    this.configure(options);
    this.#pipe = this.#attach(pipe);
  }

  #attach(pipe: Pipe): Pipe {
    pipe.onData = (chunk) => this.#receive(chunk);
    pipe.onEnd = (clean) => this.#pipeOver(clean);
    pipe.onDrain = () => {
      this.#blocked = false;
      this.#flush();
    };
    if (pipe instanceof SealedPipe) pipe.onFault = (error) => this.#fault(error);
    return pipe;
  }

  /** What carries the frames. */
  get pipe(): Pipe {
    return this.#pipe;
  }

  /**
   * Puts another pipe in place of its own, at the border of two frames: what was sent has left on the
   * old one, and `wrap` gets what came on it and has not been looked at. Only while it is paused.
   */
  exchange(wrap: (pipe: Pipe, unread: Bytes) => Pipe): void {
    this.#writeOut();
    this.#pipe = this.#attach(wrap(this.#pipe, this.#reader.takeUnread()));
  }

  /** Bytes of frames that have not been handed to the pipe. */
  get buffered(): number {
    return this.#queuedBytes + this.#writer.bytes;
  }

  /** Bytes handed to the pipe, and taken from it, since it was made. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  get bytesReceived(): number {
    return this.#bytesReceived;
  }

  /** Whether frames wait for credit of the peer or for room in the transport. */
  get isCongested(): boolean {
    return this.#blocked || this.#queuedBytes > 0;
  }

  /** Whether END has been handed to the pipe: all that was sent is on its way. */
  get endSent(): boolean {
    return this.#endSent;
  }

  /** Changes the settings, between frames: the first frame tells what a pipe is for. */
  configure(options: FramedPipeOptions): void {
    const { autoConsume, maxMessageBytes, window = CREDIT_WINDOW, pace } = options;
    this.#autoConsume = autoConsume;
    if (pace !== undefined) this.#pace = pace;
    this.#reassembly = new Reassembly(maxMessageBytes);
    this.#credit += window - this.#window;
    this.#granted += window - this.#window;
    this.#window = window;
  }

  /**
   * Whether a frame with a body of so many bytes would leave at once. When not, `onDrain` tells when
   * to ask again.
   */
  hasRoom(bodyBytes: number): boolean {
    return this.#waiting.length === 0 && this.#fits(frameBytes(bodyBytes));
  }

  /** Sends one frame whole, of 64 KiB at most; `hasRoom` has said yes. Copies `payload`. */
  sendWhole(type: number, payload: Uint8Array): void {
    if (this.#dead || this.#ending) return;
    this.#credit -= frameBytes(payload.length);
    this.#writer.writeAlone(type, payload);
    this.#scheduleFlush();
  }

  /** Sends a frame of a tagged stream that needs no credit, behind what has left so far. */
  sendFree(type: number, body: Uint8Array): void {
    if (this.#dead || this.#ending) return;
    this.#writer.write(type, body, EMPTY);
    this.#scheduleFlush();
  }

  /** Sends one frame or message; copies `head` and `payload` before it returns. */
  send(key: number, type: number, head: Uint8Array, payload: Uint8Array): void {
    if (this.#dead || this.#ending) return;
    const length = head.length + payload.length;
    const behind = this.#behind.size === 0 ? undefined : this.#behind.get(key);
    if (behind === undefined && length <= MAX_WHOLE_BODY) {
      const bytes = frameBytes(length);
      if (this.#waiting.length === 0 && this.#hasRoom(bytes)) {
        this.#credit -= bytes;
        this.#writer.write(type, head, payload);
        this.#scheduleFlush();
        return;
      }
    }
    const frame = length <= MAX_WHOLE_BODY
      ? { type, body: concat([head, payload]) }
      : { key, frames: layOut(this.#nextTransferId++, type, head, payload), sent: 0 };
    this.#queuedBytes += queuedBytes(frame);
    if (behind !== undefined) behind.push(frame);
    else this.#enqueue(key, frame);
    this.#scheduleFlush();
  }

  /** Ends our direction, behind everything that was sent. */
  end(): void {
    if (this.#dead || this.#ending) return;
    this.#ending = true;
    this.#scheduleFlush();
  }

  /** Gives up: drops what waits, tells the peer, closes the pipe. */
  abort(code: number, reason: string): void {
    if (this.#dead) return;
    const text = reason.slice(0, MAX_REASON_BYTES);
    const body = new Uint8Array(varintLength(code) + MAX_REASON_BYTES * 3);
    const offset = writeVarint(body, 0, code);
    const { written } = new TextEncoder().encodeInto(text, body.subarray(offset));
    this.#writer.write(FrameType.ABORT, body.subarray(0, offset + written), EMPTY);
    this.#writeOut();
    this.#dead = true;
    this.#queuedBytes = 0;
    this.pipe.end();
  }

  /** Drops everything without a word: the connection is going. */
  destroy(): void {
    if (this.#dead) return;
    this.#dead = true;
    this.#queuedBytes = 0;
    this.pipe.destroy();
  }

  /** Holds back frames until `resume`; bytes keep arriving up to the credit window. */
  pause(): void {
    this.#paused = true;
  }

  /** Delivers what was held back and goes on. */
  resume(): void {
    this.#paused = false;
    this.#deliver();
  }

  /** Grants the peer room for `bytes` more: the user of the pipe has read them. */
  consumed(bytes: number): void {
    if (this.#dead || this.#finished || this.#endReceived) return;
    this.#unacknowledged += bytes;
    if (this.#unacknowledged < this.#window * GRANTED_SHARE) return;
    const head = new Uint8Array(varintLength(this.#unacknowledged));
    writeVarint(head, 0, this.#unacknowledged);
    this.#granted += this.#unacknowledged;
    this.#unacknowledged = 0;
    this.#writer.write(FrameType.CREDIT, head, EMPTY);
    this.#scheduleFlush();
  }

  #hasRoom(bytes: number): boolean {
    return this.#credit >= bytes && (!this.#blocked || this.#writer.bytes < PACK_AHEAD);
  }

  #enqueue(key: number, frame: Waiting | Transfer): void {
    if ("body" in frame) this.#waiting.push(frame);
    else {
      this.#behind.set(key, new Ring());
      this.#transfers.push(frame);
    }
  }

  #scheduleFlush(): void {
    if (this.#flushing || this.#blocked) return;
    this.#flushing = true;
    this.#written = this.#writer.bytes;
    // One message has come: nobody else has been woken, and its answer leaves at once.
    this.#rounds = this.#pace.received === 1 ? 0 : QUIET_ROUNDS;
    void SETTLED.then(this.#flushWhenQuiet);
  }

  // Processes that one packet has woken answer a few microtasks apart: all that leaves in one write.
  readonly #flushWhenQuiet = (): void => {
    const { bytes } = this.#writer;
    if (bytes < ENOUGH_BYTES) {
      if (bytes > this.#written) this.#rounds = QUIET_ROUNDS + 1;
      this.#written = bytes;
      if (this.#rounds-- > 0) return void SETTLED.then(this.#flushWhenQuiet);
    }
    this.#flushing = false;
    this.#pace.received = 0;
    this.#flush();
  };

  #flush(): void {
    while (!this.#dead && !this.#blocked) {
      this.#pack();
      if (this.#writer.bytes === 0) break;
      this.#writeOut();
    }
    if (this.#dead) return;
    if (this.#ending && !this.#endSent && this.buffered === 0) this.#sendEnd();
    this.handler.onDrain();
  }

  #writeOut(): void {
    for (const buffer of this.#writer.take()) {
      this.#bytesSent += buffer.length;
      if (!this.pipe.write(buffer)) this.#blocked = true;
    }
  }

  #sendEnd(): void {
    this.#endSent = true;
    this.#writer.write(FrameType.END, EMPTY, EMPTY);
    this.#writeOut();
    if (this.#endReceived || this.pipe.kind === "unidirectional") this.pipe.end();
  }

  // The pipe itself stays until both have ended: the other direction may need credit.
  #takeEnd(): void {
    this.#endReceived = true;
    if (this.#endSent) {
      // quiche forgets a FIN that travels alone when its packet is lost: a last frame carries it.
      this.#writer.write(FrameType.CREDIT, Uint8Array.of(0), EMPTY);
      this.#writeOut();
      this.pipe.end();
    }
    this.handler.onEnd();
  }

  // Moves what waits into the writer, as far as credit and room go: small frames first, then one
  // fragment of each large message in turn.
  #pack(): void {
    for (;;) {
      const frame = this.#waiting.at(0);
      if (frame === undefined) break;
      const bytes = frameBytes(frame.body.length);
      if (!this.#fits(bytes)) return;
      this.#waiting.shift();
      this.#credit -= bytes;
      this.#queuedBytes -= queuedBytes(frame);
      this.#writer.write(frame.type, frame.body, EMPTY);
    }
    while (this.#transfers.length > 0) {
      // A receiver takes a bounded number of messages in pieces at once.
      const active = Math.min(this.#transfers.length, MAX_TRANSFERS);
      if (this.#nextTransfer >= active) this.#nextTransfer = 0;
      if (!this.#packFragment(this.#transfers[this.#nextTransfer] as Transfer)) return;
    }
  }

  #fits(bytes: number): boolean {
    return this.#credit >= bytes && this.#writer.bytes < PACK_AHEAD;
  }

  #packFragment(transfer: Transfer): boolean {
    const bytes = nextFrameBytes(transfer);
    if (!this.#fits(bytes)) return false;
    const end = transfer.sent + bytes;
    this.#credit -= bytes;
    this.#queuedBytes -= bytes;
    this.#writer.append(transfer.frames.subarray(transfer.sent, end));
    transfer.sent = end;
    if (end < transfer.frames.length) {
      this.#nextTransfer++;
      return true;
    }
    this.#queuedBytes -= QUEUED_COST;
    this.#transfers.splice(this.#nextTransfer, 1);
    this.#release(transfer.key);
    return true;
  }

  // The large message with this key has left: those behind it may go, up to the next large one.
  #release(key: number): void {
    const behind = this.#behind.get(key);
    this.#behind.delete(key);
    for (let frame = behind?.shift(); frame !== undefined; frame = behind?.shift()) {
      const later = this.#behind.get(key);
      if (later !== undefined) later.push(frame);
      else this.#enqueue(key, frame);
    }
    // Released small frames go before further fragments.
    if (this.#waiting.length > 0) this.#scheduleFlush();
  }

  #receive(chunk: Bytes): typeof SPENT | undefined {
    if (this.#dead || this.#finished) return SPENT;
    this.#bytesReceived += chunk.length;
    this.handler.onReceive?.();
    this.#reader.push(chunk);
    if (this.#delivering) return undefined;
    this.#deliver();
    return this.#reader.release() ? SPENT : undefined;
  }

  #deliver(): void {
    // A handler may resume while it is being called; the loop below goes on by itself.
    if (this.#delivering) return;
    this.#delivering = true;
    try {
      while (!this.#paused && !this.#dead && !this.#finished && this.#reader.next()) {
        this.#dispatch(this.#reader.type, this.#reader.body);
      }
    } catch (error) {
      this.#fail(error);
    } finally {
      this.#delivering = false;
    }
    if (!this.#paused) this.#settleEnd();
  }

  #dispatch(type: number, body: Bytes): void {
    switch (type) {
      case FrameType.CREDIT:
        return this.#takeCredit(body);
      case FrameType.ABORT:
        return this.#takeAbort(body);
    }
    if (this.#endReceived) throw new ProtocolError("after_end", "a frame came behind END");
    if (type === FrameType.END) return this.#takeEnd();
    // Each comes once: whoever takes them holds that against the peer.
    if (type >= FIRST_FREE_TYPE && type <= LAST_FREE_TYPE) return this.handler.onFrame(type, body);
    this.#pace.received++;
    const bytes = frameBytes(body.length);
    const autoConsume = this.#autoConsume;
    this.#granted -= bytes;
    if (this.#granted < 0) {
      throw new ProtocolError("credit_exceeded", "the peer sent more than it was granted");
    }
    if (type === FrameType.FRAGMENT) {
      const message = this.#reassembly.add(body);
      if (message !== undefined) this.handler.onFrame(message.type, message.body);
    } else {
      this.handler.onFrame(type, body);
    }
    // Fragments are put together here, whoever reads the message later.
    if (autoConsume || type === FrameType.FRAGMENT) this.consumed(bytes);
  }

  #takeCredit(body: Bytes): void {
    const credit = new ByteReader(body).varint();
    if (this.#credit + credit > this.#window) {
      throw new ProtocolError("bad_credit", "the peer granted more than the window");
    }
    this.#credit += credit;
    this.#scheduleFlush();
  }

  #takeAbort(body: Bytes): void {
    const reader = new ByteReader(body);
    const code = reader.varint();
    const reason = new TextDecoder().decode(reader.rest().subarray(0, MAX_REASON_BYTES));
    this.#finished = true;
    this.handler.onAbort(code, reason);
  }

  #fail(error: unknown): void {
    this.#finished = true;
    // Whatever a handler throws ends this pipe, never the process.
    this.handler.onFailure(
      error instanceof ProtocolError
        ? error
        : new ProtocolError("internal", `a handler failed: ${messageOf(error)}`, { cause: error }),
    );
  }

  // Nothing that came on the pipe counts any more, even what was held back.
  #fault(error: ProtocolError): void {
    if (!this.#dead && !this.#finished) this.#fail(error);
  }

  #pipeOver(clean: boolean): void {
    this.#pipeEnded = clean ? "clean" : "broken";
    if (!this.#paused) this.#settleEnd();
  }

  // An end of the pipe without END is a failure, however clean the stack thinks it was.
  #settleEnd(): void {
    if (this.#pipeEnded === "no" || this.#finished || this.#dead) return;
    this.#finished = true;
    if (this.#endReceived) return;
    this.handler.onFailure(
      new ProtocolError("truncated", `the pipe ended (${this.#pipeEnded}) without END`),
    );
  }
}
