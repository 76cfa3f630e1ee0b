import type { Bytes } from "../../../src/base/bytes.ts";
import type { Timer } from "../../../src/base/clock.ts";
import { TransportError } from "../../../src/base/errors.ts";
import type {
  CloseInfo,
  Connection,
  ConnectionOptions,
  ConnectionStats,
  Pipe,
} from "../../../src/transport/contract.ts";
import { formatAddress } from "../address.ts";
import type { HostPort, QuicheHandle } from "./binding.ts";
import { QuichePipe } from "./pipe.ts";
import type { PipeOwner } from "./pipe.ts";
import type { UdpSocket } from "./socket.ts";

/** What a connection needs of the port it lives on. */
export interface ConnectionHome {
  readonly socket: UdpSocket;
  /** Asks for a turn: read streams, send packets. */
  schedule(connection: QuicheConnection): void;
  /** The connection is over: forget its ids. */
  gone(connection: QuicheConnection): void;
}

const scratch = new Uint8Array(64 * 1024);

/** One QUIC connection driven by quiche. */
export class QuicheConnection implements Connection, PipeOwner {
  readonly role: "client" | "server";
  readonly mode = "direct";
  readonly handle: QuicheHandle;
  readonly closed: Promise<CloseInfo>;
  readonly established: Promise<void>;
  remoteAddress: string;
  channelBinding: Bytes | undefined;
  isDirty = false;
  /** Packets have come in since streams were last read. */
  hasInput = false;
  /** The ids by which packets find it. */
  readonly ids: Set<string> = new Set();

  readonly #home: ConnectionHome;
  readonly #options: ConnectionOptions;
  readonly #pipes = new Map<number, QuichePipe>();
  // Pipes opened here, bidirectional and unidirectional, and how many of them quiche has counted.
  readonly #opened = [0, 0];
  readonly #counted = [0, 0];
  readonly #side: 0 | 1;
  #early: Pipe[] = [];
  #onPipe: ((pipe: Pipe) => void) | undefined;
  #timer: Timer | undefined;
  #timerAt = Infinity;
  #keepAlive: Timer | undefined;
  #settle: (info: CloseInfo) => void = () => {};
  #establish: () => void = () => {};
  #fail: (error: Error) => void = () => {};
  #isEstablished = false;
  #isOver = false;
  #isGone = false;

  constructor(
    role: "client" | "server",
    handle: QuicheHandle,
    remote: HostPort,
    home: ConnectionHome,
    options: ConnectionOptions,
  ) {
    this.role = role;
    this.handle = handle;
    this.remoteAddress = formatAddress(remote.host, remote.port);
    this.#home = home;
    this.#options = options;
    this.#side = role === "client" ? 0 : 1;
    this.closed = new Promise((resolve) => (this.#settle = resolve));
    this.established = new Promise((resolve, reject) => {
      this.#establish = resolve;
      this.#fail = reject;
    });
    this.established.catch(() => {});
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
    if (this.#isOver) {
      return Promise.reject(
        new TransportError("closed", `the connection to ${this.remoteAddress} is closed`),
      );
    }
    const which = kind === "unidirectional" ? 1 : 0;
    const left = which === 1 ? this.handle.peerStreamsLeftUni() : this.handle.peerStreamsLeftBidi();
    // quiche counts a stream, and all below it, when it is first written to.
    const opened = this.#opened[which] as number;
    if (left - (opened - (this.#counted[which] as number)) <= 0) {
      return Promise.reject(
        new TransportError("pipe_limit", `${this.remoteAddress} allows no further pipes`),
      );
    }
    this.#opened[which] = opened + 1;
    const pipe = new QuichePipe(opened * 4 + which * 2 + this.#side, true, this);
    this.#pipes.set(pipe.id, pipe);
    return Promise.resolve(pipe);
  }

  close(code: number, reason: string): void {
    if (this.#isOver) return;
    try {
      this.handle.close(true, code, new TextEncoder().encode(reason).subarray(0, 255));
    } catch {
      // It is closing already.
    }
    this.#end({ code, reason, by: "local" });
    this.markDirty();
  }

  stats(): ConnectionStats {
    const [path] = this.handle.pathStats();
    if (path === undefined) return {};
    return {
      rttMs: path.rtt,
      congestionWindow: path.cwnd,
      bytesSent: path.sentBytes,
      bytesReceived: path.recvBytes,
      packetsLost: path.lost,
    };
  }

  markDirty(): void {
    if (!this.isDirty && !this.#isGone) this.#home.schedule(this);
  }

  touched(id: number): void {
    const which = (id >> 1) & 1;
    this.#counted[which] = Math.max(this.#counted[which] as number, (id >> 2) + 1);
  }

  forget(id: number): void {
    this.#pipes.delete(id);
  }

  /** One packet of the peer; garbage is dropped. */
  receive(data: Uint8Array, from: HostPort): void {
    try {
      this.handle.recv(data, { from, to: this.#home.socket.local });
      this.hasInput = true;
    } catch {
      // Not authentic, or the connection is closing: QUIC says to drop it.
    }
    this.markDirty();
  }

  /** Looks at what the packets brought: establishment, stream data, room to write, the end. */
  read(): void {
    this.hasInput = false;
    if (!this.#isEstablished && this.handle.isEstablished()) {
      this.#isEstablished = true;
      this.#startKeepAlive();
      this.#establish();
    }
    if (this.#isEstablished && !this.#isOver) {
      for (const id of this.handle.readable()) this.#pipeOf(id)?.read(scratch);
      for (const id of this.handle.writable()) this.#pipes.get(id)?.flush();
    }
    if (!this.#isOver && this.handle.isDraining()) this.#end(this.#endInfo());
  }

  /** Sends what is due and sets the timer. */
  send(): void {
    const { socket } = this.#home;
    try {
      for (;;) {
        const packet = this.handle.send(socket.buffer);
        if (packet === null) break;
        socket.send(packet[0], packet[1].to);
      }
    } catch {
      // quiche cannot go on with this connection; its timer or `isClosed` ends it.
    }
    if (this.handle.isClosed()) this.#leave();
    else this.#setTimer();
  }

  /** Ends it without a word: the port is closing. */
  drop(): void {
    this.#end({ code: 0, reason: "the port was closed", by: "local" });
    this.#leave();
  }

  #pipeOf(id: number): QuichePipe | undefined {
    const known = this.#pipes.get(id);
    if (known !== undefined) return known;
    if ((id & 1) === this.#side) return undefined;
    const pipe = new QuichePipe(id, false, this);
    this.#pipes.set(id, pipe);
    if (this.#onPipe) this.#onPipe(pipe);
    else this.#early.push(pipe);
    return pipe;
  }

  #setTimer(): void {
    const ms = this.handle.timeout();
    if (ms === null) return;
    const { clock } = this.#options;
    const at = clock.now() + ms;
    // A timer that fires early looks again: cheaper than a new one for each packet.
    if (at >= this.#timerAt) return;
    this.#timer?.cancel();
    this.#timerAt = at;
    this.#timer = clock.after(Math.max(1, ms), () => this.#tick());
  }

  #tick(): void {
    this.#timerAt = Infinity;
    const ms = this.handle.timeout();
    if (ms !== null && ms <= 1) this.handle.onTimeout();
    if (this.handle.isClosed()) return this.#leave();
    this.markDirty();
  }

  #startKeepAlive(): void {
    const { clock, keepAliveMs } = this.#options;
    if (keepAliveMs === 0) return;
    this.#keepAlive = clock.after(keepAliveMs, () => {
      if (this.#isOver) return;
      try {
        this.handle.sendAckEliciting();
      } catch {
        // It is closing.
      }
      this.markDirty();
      this.#startKeepAlive();
    });
  }

  #endInfo(): CloseInfo {
    const error = this.handle.peerError();
    if (error === null) {
      const reason = this.handle.isTimedOut() ? "idle timeout" : "connection error";
      return { code: 0, reason, by: "lost" };
    }
    const reason = new TextDecoder().decode(error.reason);
    return error.isApp
      ? { code: error.errorCode, reason, by: "peer" }
      : { code: 0, reason: reason || `transport error ${error.errorCode}`, by: "lost" };
  }

  #end(info: CloseInfo): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#keepAlive?.cancel();
    for (const pipe of [...this.#pipes.values()]) pipe.lost();
    this.#pipes.clear();
    this.#fail(new TransportError(info.by === "lost" ? "unreachable" : "refused", info.reason));
    this.#settle(info);
  }

  #leave(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#timer?.cancel();
    this.#end(this.#endInfo());
    this.#home.gone(this);
  }
}
