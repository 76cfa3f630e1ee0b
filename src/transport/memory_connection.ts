/** The two ends of a connection over the in-memory network, and their pipes. */
import type { Bytes } from "../base/bytes.ts";
import type { Timer } from "../base/clock.ts";
import { TransportError } from "../base/errors.ts";
import type { CloseInfo, Connection, ConnectionOptions, Pipe } from "./contract.ts";

/** Bytes under way in one pipe above which `write` says to wait. */
const WRITE_LIMIT = 256 * 1024;

/** A packet without content. */
export const NOTHING: Bytes = new Uint8Array(0);

/** One direction of a connection: what is sent arrives later, in order, or never. */
export interface Way {
  /** Calls `arrive` at the other end when the packet gets there. */
  send(what: string, bytes: Bytes, arrive: () => void): void;
  /** Drops what is under way and takes nothing more. */
  end(): void;
}

/** One end of a connection. */
export class MemoryConnection implements Connection {
  readonly role: "client" | "server";
  readonly mode: "direct" | "edge";
  readonly remoteAddress: string;
  readonly channelBinding: Bytes | undefined;
  readonly closed: Promise<CloseInfo>;
  /** Packets to the peer. */
  readonly way: Way;
  readonly options: ConnectionOptions;
  #peer: MemoryConnection | undefined;
  #settle: (info: CloseInfo) => void = () => {};
  #isOver = false;
  #onPipe: ((pipe: Pipe) => void) | undefined;
  #early: MemoryPipe[] = [];
  readonly #pipes = new Set<MemoryPipe>();
  readonly #opened = { bidirectional: 0, unidirectional: 0 };
  #idle: Timer | undefined;
  #keepAlive: Timer | undefined;
  #heardAt: number;

  constructor(
    role: "client" | "server",
    remoteAddress: string,
    mode: "direct" | "edge",
    binding: Bytes | undefined,
    way: Way,
    options: ConnectionOptions,
  ) {
    this.role = role;
    this.remoteAddress = remoteAddress;
    this.mode = mode;
    this.channelBinding = binding;
    this.way = way;
    this.options = options;
    this.#heardAt = options.clock.now();
    this.closed = new Promise((resolve) => (this.#settle = resolve));
  }

  /** Makes two new ends one connection. */
  static pair(one: MemoryConnection, other: MemoryConnection): void {
    one.#peer = other;
    other.#peer = one;
  }

  /** From now on silence counts, and keep-alives are sent. */
  start(): void {
    if (this.#isOver) return;
    this.#heardAt = this.options.clock.now();
    this.#watchSilence(this.#idleTimeoutMs);
    this.#sendKeepAlives();
  }

  /** Ends both ends at once: they never became a connection. */
  abandon(): void {
    const info: CloseInfo = { code: 0, reason: "never connected", by: "lost" };
    const peer = this.#peer;
    this.#end(info);
    if (peer !== undefined) peer.#end(info);
  }

  // The lesser of what both ends announce (RFC 9000 §10.1).
  get #idleTimeoutMs(): number {
    const { idleTimeoutMs } = this.options;
    return Math.min(idleTimeoutMs, this.#peer?.options.idleTimeoutMs ?? idleTimeoutMs);
  }

  get onPipe(): ((pipe: Pipe) => void) | undefined {
    return this.#onPipe;
  }
  set onPipe(handler: ((pipe: Pipe) => void) | undefined) {
    this.#onPipe = handler;
    const early = this.#early;
    this.#early = [];
    if (handler) { for (const pipe of early) handler(pipe); }
  }

  openPipe(kind: "bidirectional" | "unidirectional"): Promise<Pipe> {
    const peer = this.#peer;
    if (this.#isOver || peer === undefined) {
      const text = `the connection to ${this.remoteAddress} is closed`;
      return Promise.reject(new TransportError("closed", text));
    }
    if (this.#opened[kind] >= peer.options.maxPipes) {
      const text = `${this.remoteAddress} allows no further pipes`;
      return Promise.reject(new TransportError("pipe_limit", text));
    }
    this.#opened[kind]++;
    const ours = new MemoryPipe(kind, true, this);
    const theirs = new MemoryPipe(kind, false, peer);
    MemoryPipe.pair(ours, theirs);
    this.#pipes.add(ours);
    this.transmit("pipe", NOTHING, () => peer.#arrived(theirs));
    return Promise.resolve(ours);
  }

  close(code: number, reason: string): void {
    if (this.#isOver) return;
    const peer = this.#peer as MemoryConnection;
    this.#end({ code, reason, by: "local" });
    // What is still under way is lost, as on two of the three QUIC stacks.
    if (!peer.isOver) {
      this.way.send("close", NOTHING, () => peer.#end({ code, reason, by: "peer" }));
    }
  }

  /** Sends a packet of this connection; what comes after its end is dropped. */
  transmit(what: string, bytes: Bytes, arrive: () => void): void {
    const peer = this.#peer;
    this.way.send(what, bytes, () => {
      if (peer === undefined || peer.#isOver || this.#isOver) return;
      peer.#heardAt = peer.options.clock.now();
      arrive();
    });
  }

  /**
   * The pipe needs no further attention. Its place among the pipes that may be open becomes free
   * when the end that did not open it is done with it: that end sets the limit.
   */
  forget(pipe: MemoryPipe): void {
    if (!this.#pipes.delete(pipe) || pipe.local || this.#peer === undefined) return;
    this.#peer.#opened[pipe.kind]--;
  }

  #arrived(pipe: MemoryPipe): void {
    this.#pipes.add(pipe);
    if (this.#onPipe) this.#onPipe(pipe);
    else this.#early.push(pipe);
  }

  #watchSilence(ms: number): void {
    this.#idle = this.options.clock.after(ms, () => {
      // As a moment: the difference of two differences may stay above zero for ever.
      const left = this.#heardAt + this.#idleTimeoutMs - this.options.clock.now();
      if (left > 0) return this.#watchSilence(left);
      this.#end({ code: 0, reason: "idle timeout", by: "lost" });
    });
  }

  #sendKeepAlives(): void {
    const { clock, keepAliveMs } = this.options;
    if (keepAliveMs === 0) return;
    this.#keepAlive = clock.after(keepAliveMs, () => {
      if (this.#isOver) return;
      // Acknowledged, so that both ends hear something.
      const peer = this.#peer;
      this.transmit("ping", NOTHING, () => peer?.transmit("ack", NOTHING, () => {}));
      this.#sendKeepAlives();
    });
  }

  #end(info: CloseInfo): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#idle?.cancel();
    this.#keepAlive?.cancel();
    for (const pipe of [...this.#pipes]) pipe.lost();
    this.#pipes.clear();
    this.#settle(info);
    if (this.#peer?.isOver !== true) return;
    this.way.end();
    this.#peer.way.end();
  }

  /** Whether it has ended. */
  get isOver(): boolean {
    return this.#isOver;
  }
}

class MemoryPipe implements Pipe {
  readonly kind: "bidirectional" | "unidirectional";
  readonly local: boolean;
  onDrain: (() => void) | undefined;
  onEnd: ((clean: boolean) => void) | undefined;
  readonly #connection: MemoryConnection;
  #peer: MemoryPipe | undefined;
  #onData: ((chunk: Bytes) => void) | undefined;
  #early: Bytes[] = [];
  #end: boolean | undefined;
  #isLive = false;
  #underWay = 0;
  #hasWaited = false;
  #writeOver: boolean;
  #readOver: boolean;

  constructor(
    kind: "bidirectional" | "unidirectional",
    local: boolean,
    connection: MemoryConnection,
  ) {
    this.kind = kind;
    this.local = local;
    this.#connection = connection;
    this.#writeOver = kind === "unidirectional" && !local;
    this.#readOver = kind === "unidirectional" && local;
  }

  static pair(one: MemoryPipe, other: MemoryPipe): void {
    one.#peer = other;
    other.#peer = one;
  }

  get onData(): ((chunk: Bytes) => void) | undefined {
    return this.#onData;
  }
  set onData(handler: ((chunk: Bytes) => void) | undefined) {
    this.#onData = handler;
    if (handler === undefined || this.#isLive) return;
    queueMicrotask(() => {
      this.#isLive = true;
      const early = this.#early;
      this.#early = [];
      for (const chunk of early) this.#onData?.(chunk);
      if (this.#end !== undefined) this.onEnd?.(this.#end);
    });
  }

  write(chunk: Uint8Array): boolean {
    if (this.#writeOver) return false;
    const bytes = chunk as Bytes;
    const peer = this.#peer as MemoryPipe;
    // A stack sends no packet for no bytes.
    if (bytes.length === 0) return this.#underWay < WRITE_LIMIT;
    this.#underWay += bytes.length;
    this.#connection.transmit("data", bytes, () => {
      peer.#deliver(bytes);
      this.#underWay -= bytes.length;
      if (!this.#hasWaited || this.#underWay >= WRITE_LIMIT || this.#writeOver) return;
      this.#hasWaited = false;
      this.onDrain?.();
    });
    const hasRoom = this.#underWay < WRITE_LIMIT;
    if (!hasRoom) this.#hasWaited = true;
    return hasRoom;
  }

  end(): void {
    if (this.#writeOver) return;
    this.#writeOver = true;
    const peer = this.#peer as MemoryPipe;
    this.#connection.transmit("end", NOTHING, () => peer.#deliverEnd(true));
    this.#forgetWhenOver();
  }

  destroy(): void {
    const wasOpen = !this.#writeOver || !this.#readOver;
    this.#writeOver = true;
    this.#readOver = true;
    if (wasOpen) {
      const peer = this.#peer as MemoryPipe;
      this.#connection.transmit("reset", NOTHING, () => {
        peer.#writeOver = true;
        peer.#deliverEnd(false);
        peer.#forgetWhenOver();
      });
    }
    this.#connection.forget(this);
  }

  /** The connection is gone. */
  lost(): void {
    this.#writeOver = true;
    this.#deliverEnd(false);
  }

  #deliver(chunk: Bytes): void {
    if (this.#readOver) return;
    if (this.#isLive) this.#onData?.(chunk);
    else this.#early.push(chunk);
  }

  #deliverEnd(clean: boolean): void {
    if (this.#readOver) return;
    this.#readOver = true;
    this.#end = clean;
    if (this.#isLive) this.onEnd?.(clean);
    this.#forgetWhenOver();
  }

  #forgetWhenOver(): void {
    if (this.#writeOver && this.#readOver) this.#connection.forget(this);
  }
}
