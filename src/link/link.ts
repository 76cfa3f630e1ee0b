import { EMPTY, fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { ProtocolError, TimeoutError } from "../base/errors.ts";
import type { Connection, Pipe } from "../transport/contract.ts";
import { FrameType } from "../wire/frame_types.ts";
import { ByteReader, varintLength, writeVarint } from "../wire/varint.ts";
import { CloseCode } from "./close_codes.ts";
import { FramedPipe } from "./framed_pipe.ts";
import type { FramedPipeHandler, FramedPipeOptions, Pace } from "./framed_pipe.ts";
import type { LinkDownReason, PeerIdentity, StreamPipe } from "./ports.ts";
import { STREAM_PIPE, StreamCode, StreamPipes } from "./stream_pipes.ts";

/** First byte of a PREAMBLE: what the pipe is for. */
const DATA_PIPE = 1;
/** Data pipes that a peer may open; its number is its own choice. */
const MAX_DATA_PIPES = 64;
/** How long a goodbye goes on while no byte moves, and in all, milliseconds. */
const GOODBYE_QUIET_MS = 3_000;
const GOODBYE_MAX_MS = 30_000;
/** The same quiet when another link takes over: what is not delivered by then is lost. */
const HANDOVER_QUIET_MS = 8_000;
/** The ends of a connection and of its pipes are told this close together, milliseconds. */
const TOLD_WITHIN_MS = 100;
/** How long the first measurement of the round trip may take, milliseconds. */
const FIRST_PING_MS = 10_000;
/** Pipes of the peer whose PREAMBLE has not come, and how long it may take, milliseconds. */
const MAX_PENDING_PIPES = 64;
const PREAMBLE_MS = 10_000;
/** What may wait on the control pipe of a peer that pings. */
const MAX_UNSENT_PONGS_BYTES = 1024 * 1024;
/** Pings that may wait for an answer. */
const MAX_PINGS = 16;

/** Why we say goodbye; the word travels. */
export type GoodbyeReason = "left" | "goodbye" | "replaced" | "idle";

/** Who is told what happens on a link. */
export interface LinkOwner {
  /** One frame for a room above. A ProtocolError thrown here ends the link. */
  onFrame(link: Link, type: number, body: Bytes): void;
  /** All pipes stand: frames may be sent. */
  onReady(link: Link): void;
  /** The peer asks for a tagged stream. */
  onStream(link: Link, pipe: StreamPipe, tag: string): void;
  /** A pipe of the peer was refused; the link goes on. */
  onPipeRefused(link: Link, reason: string): void;
  /** Some of what was buffered has left. */
  onDrain(link: Link): void;
  /** The peer broke the protocol; the link ends because of it. */
  onRefused(link: Link, error: ProtocolError): void;
  /** It is over; called once. */
  onDown(link: Link, reason: LinkDownReason): void;
}

/** What a link is made of. */
export interface LinkOptions {
  readonly connection: Connection;
  /** The pipe of the handshake, paused: the control pipe from now on. */
  readonly control: FramedPipe;
  /** Pipes that the peer has opened already. */
  readonly earlyPipes: readonly Pipe[];
  readonly peer: PeerIdentity & { publicKey: Bytes };
  /** By this both ends name the connection. */
  readonly id: Bytes;
  /** The link that its dialler meant it to take over from, by its `id`; empty for none. */
  readonly replaces: Bytes;
  readonly owner: LinkOwner;
  readonly clock: Clock;
  /** How many data pipes to open; the client decides. */
  readonly dataPipes: number;
  readonly maxMessageBytes: number;
}

/** An authenticated connection: one control pipe and a pool of data pipes. */
export class Link {
  /** Its key changes when the peer rotates it under way. */
  readonly peer: PeerIdentity & { publicKey: Bytes };
  readonly connection: Connection;
  /** By this both ends name the connection. */
  readonly id: Bytes;
  /** The `id` of the link that it takes over from; empty for none. */
  readonly replaces: Bytes;
  /** Whether more than the protocols has ever used it: only the reaper closes such a link. */
  isKept = false;
  /** Frames received in all, answers to pings among them: unchanged means that the peer is silent. */
  heard = 0;

  /** The tagged streams on it. */
  readonly streams: StreamPipes;

  readonly #owner: LinkOwner;
  readonly #options: LinkOptions;
  readonly #control: FramedPipe;
  readonly #data: (FramedPipe | undefined)[] = [];
  readonly #pending = new Map<FramedPipe, Timer>();
  #usedAt: number;
  #wasUsed = false;
  #expected = 0;
  #isReady = false;
  #reason: LinkDownReason | undefined;
  #isDown = false;
  #isAborting = false;

  #latestRttMs: number | undefined;
  #smoothedRttMs: number | undefined;

  #goodbye: GoodbyeReason | undefined;
  #goodbyeTimer: Timer | undefined;
  #peerSaidGoodbye = false;
  #endsSeen = 0;
  #ackSent = false;
  #ackReceived = false;
  #isDrained = false;
  #isLingering = false;
  #ownStreamsOver = false;
  #peerStreamsOver = false;
  #isTold = false;
  readonly #over = Promise.withResolvers<void>();

  // The answer to a message may leave by another pipe.
  readonly #pace: Pace = { received: 0 };
  readonly #pings = new Map<number, { at: number; resolve: (rttMs: number) => void }>();
  #nextPing = 1;

  constructor(options: LinkOptions) {
    this.#options = options;
    this.#owner = options.owner;
    this.peer = options.peer;
    this.connection = options.connection;
    this.id = options.id;
    this.replaces = options.replaces;
    this.#usedAt = options.clock.now();
    this.streams = new StreamPipes({
      connection: options.connection,
      peer: options.peer,
      onStream: (pipe, tag) => this.#owner.onStream(this, pipe, tag),
      onRefused: (reason) => this.#owner.onPipeRefused(this, reason),
      fail: (error) => this.fail(error),
      onIdle: () => this.#closeWithStreams(),
    });
    this.#control = options.control;
    this.#control.handler = this.#handlerOf(
      this.#control,
      (type, body) => this.#onControl(type, body),
    );
    void this.connection.closed.then((info) => {
      const isGoodbye = info.by === "peer" && info.code === CloseCode.GOODBYE;
      // Whoever closes so has seen our acknowledgement, and has sent its own.
      if (isGoodbye) this.#isDrained = true;
      this.#down(isGoodbye ? this.#endReason() : "lost");
    });
  }

  /** Begins to work; frames that came behind the handshake are delivered now. */
  start(): void {
    this.connection.onPipe = (pipe) => this.#acceptPipe(pipe);
    for (const pipe of this.#options.earlyPipes) this.#acceptPipe(pipe);
    this.#control.resume();
    if (this.connection.role === "client") {
      this.#openDataPipes().catch(() => this.fail(new ProtocolError("lost", "no data pipes")));
    }
  }

  /** Whether frames may be sent: all pipes stand and nobody has said goodbye. */
  get isOpen(): boolean {
    return this.#isReady && !this.#isDown && this.#goodbye === undefined;
  }

  /**
   * When a frame for a room above was sent or received last, on the node's clock; as precise as it is
   * asked for often.
   */
  get usedAt(): number {
    if (this.#wasUsed) {
      this.#wasUsed = false;
      this.#usedAt = this.#options.clock.now();
    }
    return this.#usedAt;
  }

  /** Which end of it we are. */
  get role(): "client" | "server" {
    return this.connection.role;
  }

  /** Whether it ended with everything delivered that either end had sent. */
  get isDrained(): boolean {
    return this.#isDrained;
  }

  /** Whether only streams go on over it: another link has taken over. */
  get isLingering(): boolean {
    return this.#isLingering;
  }

  /** Whether it carries no more messages; streams may go on. */
  get isOver(): boolean {
    return this.#isTold;
  }

  /** Settles when it carries no more messages; streams may go on. */
  get over(): Promise<void> {
    return this.#over.promise;
  }

  /** Round trips over the control pipe, milliseconds; smoothed as RFC 6298 §2 does. */
  get rtt(): { latestMs: number | undefined; smoothedMs: number | undefined } {
    return { latestMs: this.#latestRttMs, smoothedMs: this.#smoothedRttMs };
  }

  /** Bytes of all pipes. */
  get bytesSent(): number {
    return this.#sum((pipe) => pipe.bytesSent) + this.streams.bytesSent;
  }

  get bytesReceived(): number {
    return this.#sum((pipe) => pipe.bytesReceived) + this.streams.bytesReceived;
  }

  /** Whether a pipe waits for the peer's credit or for the transport. */
  get isCongested(): boolean {
    return this.#control.isCongested || this.#data.some((pipe) => pipe?.isCongested);
  }

  /** Bytes that wait on all pipes. */
  get buffered(): number {
    let bytes = this.#control.buffered;
    for (const pipe of this.#data) bytes += pipe?.buffered ?? 0;
    return bytes;
  }

  /** Sends on the control pipe. */
  sendControl(type: number, body: Uint8Array): void {
    this.#touch();
    this.#control.send(type, type, body, EMPTY);
  }

  /** Sends on the data pipe of `key`; frames with one key stay in order. Copies both parts. */
  sendData(key: number, type: number, head: Uint8Array, payload: Uint8Array): void {
    (this.#data[key % this.#data.length] as FramedPipe).send(key, type, head, payload);
  }

  /**
   * The round trip over the control pipe, milliseconds.
   *
   * @throws TimeoutError when no answer comes in `timeoutMs`
   */
  ping(timeoutMs: number): Promise<number> {
    const { clock } = this.#options;
    if (this.#pings.size >= MAX_PINGS) {
      return Promise.reject(
        new TimeoutError(`${MAX_PINGS} pings to ${this.peer.name} wait already`),
      );
    }
    const id = this.#nextPing++;
    const body = new Uint8Array(varintLength(id));
    writeVarint(body, 0, id);
    return new Promise((resolve, reject) => {
      const timer = clock.after(timeoutMs, () => {
        this.#pings.delete(id);
        reject(new TimeoutError(`${this.peer.name} did not answer in ${timeoutMs} ms`));
      });
      this.#pings.set(id, {
        at: clock.now(),
        resolve: (rttMs) => {
          timer.cancel();
          resolve(rttMs);
        },
      });
      this.#control.send(0, FrameType.PING, body, EMPTY);
    });
  }

  /** Says goodbye: what was sent arrives first, then the connection closes. Idempotent. */
  close(reason: GoodbyeReason): void {
    if (this.#goodbye !== undefined || this.#isDown) return;
    this.#goodbye = reason;
    this.#watchGoodbye(this.#moved(), this.#options.clock.now() + GOODBYE_MAX_MS);
    this.#control.send(0, FrameType.GOODBYE, utf8(reason), EMPTY);
    for (const pipe of this.#data) pipe?.end();
    this.#finishGoodbye();
  }

  // Gives up when nothing moves any more: what is large may take its time.
  #watchGoodbye(moved: number, end: number): void {
    const { clock } = this.#options;
    const quietMs = this.#isReplaced ? HANDOVER_QUIET_MS : GOODBYE_QUIET_MS;
    this.#goodbyeTimer = clock.after(quietMs, () => {
      const now = this.#moved();
      if (now !== moved && clock.now() < end) return this.#watchGoodbye(now, end);
      this.connection.close(CloseCode.GOODBYE_TIMEOUT, "goodbye timed out");
      this.#down(this.#endReason());
    });
  }

  // Bytes on data pipes, either way: pings alone are no progress.
  #moved(): number {
    let bytes = 0;
    for (const pipe of this.#data) bytes += (pipe?.bytesSent ?? 0) + (pipe?.bytesReceived ?? 0);
    return bytes;
  }

  #sum(of: (pipe: FramedPipe) => number): number {
    let total = of(this.#control);
    for (const pipe of this.#data) total += pipe === undefined ? 0 : of(pipe);
    return total;
  }

  #touch(): void {
    // The clock is looked at when somebody asks: messages are many.
    this.#wasUsed = true;
  }

  /** Ends it at once: it broke the protocol, is replaced, or does not take what is sent. */
  abort(reason: LinkDownReason, text: string): void {
    if (this.#isDown || this.#isAborting) return;
    // The pipes may break before the connection tells why.
    this.#isAborting = true;
    const code = reason === "replaced"
      ? CloseCode.REPLACED
      : reason === "overloaded"
      ? CloseCode.OVERLOADED
      : CloseCode.PROTOCOL;
    this.connection.close(code, text);
    this.#down(reason);
  }

  /** Ends it because of what the peer sent. */
  fail(error: ProtocolError): void {
    if (this.#isDown || this.#isAborting) return;
    const isLost = error.reason === "truncated" || error.reason === "lost";
    if (!isLost) this.#owner.onRefused(this, error);
    const abort = () => this.abort(isLost ? "lost" : "protocol", error.reason);
    // The close that ends the pipes says whether the goodbye was complete.
    if (isLost && this.#peerSaidGoodbye) this.#options.clock.after(TOLD_WITHIN_MS, abort);
    else abort();
  }

  #handlerOf(
    pipe: FramedPipe,
    onFrame: (type: number, body: Bytes) => void,
  ): FramedPipeHandler {
    const isData = pipe !== this.#control;
    // Data pipes tell once a chunk and once a write, so that messages need no look at the clock.
    const touch = () => {
      if (isData) this.#touch();
    };
    return {
      onFrame,
      onReceive: touch,
      onEnd: () => {
        if (isData) this.#pipeEnded();
      },
      onAbort: (_code, reason) => this.fail(new ProtocolError("aborted", reason)),
      onFailure: (error) => this.fail(error),
      onDrain: () => {
        touch();
        this.#owner.onDrain(this);
      },
    };
  }

  async #openDataPipes(): Promise<void> {
    const total = this.#options.dataPipes;
    for (let index = 0; index < total; index++) {
      const framed = this.#frame(await this.connection.openPipe("bidirectional"));
      framed.send(0, FrameType.PREAMBLE, Uint8Array.of(DATA_PIPE, index, total), EMPTY);
      this.#data.push(framed);
    }
    this.#expected = total;
    this.#ready();
  }

  #frame(pipe: Pipe): FramedPipe {
    const framed = new FramedPipe(pipe, SILENT, this.#dataSettings);
    framed.handler = this.#handlerOf(framed, (type, body) => this.#onData(type, body));
    return framed;
  }

  get #dataSettings(): FramedPipeOptions {
    const { maxMessageBytes } = this.#options;
    return { maxMessageBytes, autoConsume: true, pace: this.#pace };
  }

  #acceptPipe(pipe: Pipe): void {
    if (pipe.kind === "unidirectional") {
      this.#owner.onPipeRefused(this, "unidirectional");
      return pipe.destroy();
    }
    const framed = new FramedPipe(pipe, SILENT, { maxMessageBytes: 0, autoConsume: true });
    if (this.#pending.size >= MAX_PENDING_PIPES) {
      this.#owner.onPipeRefused(this, "too_many_pending");
      return framed.abort(StreamCode.TOO_MANY, `${MAX_PENDING_PIPES} pipes say not what they are`);
    }
    const timer = this.#options.clock.after(PREAMBLE_MS, () => {
      this.#dropPending(framed, "preamble_timeout");
      framed.abort(StreamCode.NO_PREAMBLE, `no preamble came in ${PREAMBLE_MS} ms`);
    });
    this.#pending.set(framed, timer);
    framed.handler = {
      ...SILENT,
      onFrame: (type, body) => this.#onPreamble(framed, type, body),
      onEnd: () => this.#dropPending(framed, "no_preamble"),
      onAbort: () => this.#dropPending(framed, "no_preamble"),
      onFailure: (error) => {
        // Its opener may have changed its mind; a link that is not up would wait for the pipe.
        if (error.reason === "truncated" && this.#isReady) this.#dropPending(framed, "no_preamble");
        else this.fail(error);
      },
    };
  }

  #dropPending(framed: FramedPipe, reason: string): void {
    this.#pending.get(framed)?.cancel();
    if (!this.#pending.delete(framed)) return;
    this.#owner.onPipeRefused(this, reason);
    if (reason === "no_preamble") framed.destroy();
  }

  #onPreamble(framed: FramedPipe, type: number, body: Bytes): void {
    this.#pending.get(framed)?.cancel();
    this.#pending.delete(framed);
    if (type === FrameType.PREAMBLE && body[0] === STREAM_PIPE) {
      this.#touch();
      // Until the stream has its handlers.
      framed.handler = this.#handlerOf(framed, () => {});
      if (this.#goodbye === undefined) return this.streams.accept(framed, body);
      if (this.#isReplaced) return framed.abort(StreamCode.MOVED, "another link took over");
      return framed.abort(StreamCode.CLOSING, "the link is closing");
    }
    const [kind, index, total] = body;
    const isData = type === FrameType.PREAMBLE && kind === DATA_PIPE && body.length === 3 &&
      this.connection.role === "server" && index !== undefined && total !== undefined &&
      index < total && total <= MAX_DATA_PIPES && this.#data[index] === undefined &&
      (this.#expected === 0 || this.#expected === total);
    if (!isData) throw new ProtocolError("bad_preamble", "a pipe begins with no valid PREAMBLE");
    framed.configure(this.#dataSettings);
    this.#expected = total;
    this.#data[index] = framed;
    framed.handler = this.#handlerOf(framed, (frameType, frame) => this.#onData(frameType, frame));
    // The peer may say goodbye before its pipes have all arrived.
    if (this.#goodbye !== undefined) framed.end();
    if (this.#data.filter(Boolean).length === total) this.#ready();
  }

  #ready(): void {
    if (this.#isDown) return;
    this.#isReady = true;
    this.#owner.onReady(this);
    this.ping(FIRST_PING_MS).catch(() => {});
    this.#acknowledge();
  }

  #onData(type: number, body: Bytes): void {
    this.heard++;
    this.#owner.onFrame(this, type, body);
  }

  #onControl(type: number, body: Bytes): void {
    this.heard++;
    switch (type) {
      case FrameType.PING:
        if (this.#control.buffered > MAX_UNSENT_PONGS_BYTES) {
          throw new ProtocolError("ping_flood", "the peer pings and does not read the answers");
        }
        return this.#control.send(0, FrameType.PONG, body.subarray(0, 8), EMPTY);
      case FrameType.PONG:
        return this.#pong(body);
      case FrameType.GOODBYE:
        return this.#onGoodbye(body);
      case FrameType.GOODBYE_ACK:
        // The second one says that the streams are over, too.
        if (this.#isLingering) this.#peerStreamsOver = true;
        this.#ackReceived = true;
        return this.#finishGoodbye();
      default:
        this.#touch();
        this.#owner.onFrame(this, type, body);
    }
  }

  #pong(body: Bytes): void {
    const id = new ByteReader(body).varint();
    const ping = this.#pings.get(id);
    // A late answer to a ping that was given up is no fault.
    if (ping === undefined) return;
    this.#pings.delete(id);
    const rttMs = this.#options.clock.now() - ping.at;
    this.#latestRttMs = rttMs;
    this.#smoothedRttMs = this.#smoothedRttMs === undefined
      ? rttMs
      : this.#smoothedRttMs + (rttMs - this.#smoothedRttMs) / 8;
    ping.resolve(rttMs);
  }

  #onGoodbye(body: Bytes): void {
    const word = fromUtf8(body.subarray(0, 16));
    this.#peerSaidGoodbye = true;
    this.#reason ??= word === "left" || word === "replaced" || word === "idle" ? word : "goodbye";
    // The answer drains our direction too.
    this.close("goodbye");
    this.#acknowledge();
  }

  #pipeEnded(): void {
    this.#endsSeen++;
    this.#acknowledge();
  }

  // Everything that the peer sent before its goodbye has been delivered.
  #acknowledge(): void {
    if (!this.#peerSaidGoodbye || this.#ackSent) return;
    if (!this.#isReady || this.#endsSeen < this.#expected) return;
    this.#ackSent = true;
    this.#control.send(0, FrameType.GOODBYE_ACK, EMPTY, EMPTY);
    this.#finishGoodbye();
  }

  #finishGoodbye(): void {
    if (!this.#ackReceived || !this.#ackSent || this.#isDown) return;
    this.#isDrained = true;
    if (!this.#isReplaced) return this.#closeGently();
    // Messages go over the successor from now on; the streams of this connection stay on it.
    this.#goodbyeTimer?.cancel();
    if (!this.#isLingering) {
      this.#isLingering = true;
      this.#tellDown(this.#endReason());
    }
    this.#closeWithStreams();
  }

  #closeWithStreams(): void {
    if (!this.#isLingering || this.#isDown) return;
    if (!this.#ownStreamsOver && this.streams.count === 0) {
      this.#ownStreamsOver = true;
      this.#control.send(0, FrameType.GOODBYE_ACK, EMPTY, EMPTY);
    }
    if (this.#ownStreamsOver && this.#peerStreamsOver) this.#closeGently();
  }

  // In a turn, so that the acknowledgement leaves before the connection does; should it be lost,
  // the close code says the same.
  #closeGently(): void {
    const reason = this.#endReason();
    this.#options.clock.nextTurn(() => {
      this.connection.close(CloseCode.GOODBYE, reason);
      this.#down(reason);
    });
  }

  get #isReplaced(): boolean {
    return this.#goodbye === "replaced" || this.#reason === "replaced";
  }

  // The peer's word counts; our own leaving says nothing about the peer.
  #endReason(): LinkDownReason {
    const own = this.#goodbye === "left" ? "goodbye" : this.#goodbye;
    return this.#reason ?? own ?? "goodbye";
  }

  #down(reason: LinkDownReason): void {
    if (this.#isDown) return;
    this.#isDown = true;
    this.#goodbyeTimer?.cancel();
    this.#tellDown(reason === "lost" && this.#peerSaidGoodbye ? this.#endReason() : reason);
    this.#control.destroy();
    for (const [pipe, timer] of this.#pending) {
      timer.cancel();
      pipe.destroy();
    }
    this.streams.down(reason);
    for (const pipe of this.#data) pipe?.destroy();
  }

  #tellDown(reason: LinkDownReason): void {
    if (this.#isTold) return;
    this.#isTold = true;
    this.#owner.onDown(this, reason);
    this.#over.resolve();
  }
}

const SILENT: FramedPipeHandler = {
  onFrame() {},
  onEnd() {},
  onAbort() {},
  onFailure() {},
  onDrain() {},
};
