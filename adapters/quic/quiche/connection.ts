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
import { endInfo, failureOf, reasonBytes } from "./close_info.ts";
import { isLoopback, packetBytes } from "./config.ts";
import { ID_BYTES, isLong, keyAt, SHORT_ID_AT } from "./connection_id.ts";
import { Migration } from "./migration.ts";
import { LocalPaths } from "./paths.ts";
import type { LocalPath } from "./paths.ts";
import { QuichePipe } from "./pipe.ts";
import type { PipeOwner } from "./pipe.ts";
import type { UdpSocket } from "./socket.ts";
import { TimeMarks } from "./time_marks.ts";

/** Packets that one connection sends in one turn of the event loop: others want to live, too. */
const PACKETS_A_TURN = 64;
/** Up to so many pipes are asked one by one for data: quiche's list of them costs 10 to 50 µs. */
const FEW_PIPES = 16;
/** A closed connection answers late packets of its peer for so long at most, milliseconds. */
const DRAIN_MS = 1_000;
const MAX_CODE = 2 ** 30;

/** What a connection needs of the port it lives on. */
export interface ConnectionHome {
  readonly socket: UdpSocket;
  /** Asks for a turn: `read`, then `send`. */
  schedule(connection: QuicheConnection): void;
  /** Forgets the connection ids that the peer gave back. */
  forgetIds(connection: QuicheConnection): void;
  /** The same, and gives the peer the ids that it may have. */
  provideIds(connection: QuicheConnection): void;
  /** The connection sends from a port of its own from now on. */
  left(): void;
  /** The connection is over: forget its ids. */
  gone(connection: QuicheConnection): void;
}

/** One QUIC connection driven by quiche. */
export class QuicheConnection implements Connection, PipeOwner {
  readonly role: "client" | "server";
  readonly mode = "direct";
  readonly handle: QuicheHandle;
  readonly closed: Promise<CloseInfo>;
  readonly established: Promise<void>;
  channelBinding: Bytes | undefined;
  /** The keys of our ids by which packets find it. */
  readonly keys: Set<number> = new Set();
  /** How often it has moved: a quiche at the other end keeps an id of ours for each old path. */
  moves = 0;
  /** The id that the client made up for us. */
  clientId: string | undefined;

  readonly #home: ConnectionHome;
  readonly #options: ConnectionOptions;
  readonly #marks: TimeMarks;
  readonly #remote: HostPort;
  readonly #paths: LocalPaths;
  readonly #birthPath: LocalPath;
  #migration: Migration | undefined;
  readonly #pipes = new Map<number, QuichePipe>();
  // Pipes opened here, bidirectional and unidirectional, and how many of them quiche has counted.
  readonly #opened = [0, 0];
  readonly #counted = [0, 0];
  readonly #side: 0 | 1;
  // Pipes with something new to send, and those that quiche had no room for.
  #written: QuichePipe[] = [];
  #blocked: QuichePipe[] = [];
  #early: Pipe[] = [];
  #onPipe: ((pipe: Pipe) => void) | undefined;
  #path: { from: HostPort; to: HostPort };
  // The id of ours that the peer's last packet went to.
  #lastKey = -1;
  #isDirty = false;
  #hasMoved = false;
  #hasNews = false;
  #timer: Timer | undefined;
  #timerAt = Infinity;
  #keepAlive: Timer | undefined;
  #drain: Timer | undefined;
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
    this.#remote = remote;
    this.#home = home;
    this.#options = options;
    this.#paths = new LocalPaths(handle, options.clock, home.socket);
    this.#birthPath = this.#paths.current;
    this.#path = { from: remote, to: home.socket.local };
    this.#marks = new TimeMarks(home.socket.packetBytes ?? packetBytes(isLoopback(remote.host)));
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

  /** Where the peer is now: a client may have moved. */
  get remoteAddress(): string {
    const { host, port } = this.role === "client"
      ? this.#remote
      : this.handle.pathStats().find((path) => path.active)?.peerHost ?? this.#remote;
    return formatAddress(host, port);
  }

  openPipe(kind: "bidirectional" | "unidirectional"): Promise<Pipe> {
    if (this.#isOver) return Promise.reject(this.#closedError());
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
    // quiche would take a negative code for a huge one.
    if (!Number.isInteger(code) || code < 1 || code > MAX_CODE) {
      throw new RangeError(`a close code is an integer from 1 to 2^30, not ${code}`);
    }
    if (this.#isOver) return;
    try {
      this.handle.close(true, code, reasonBytes(reason));
    } catch {
      // It is closing already.
    }
    this.#end({ code, reason, by: "local" });
    this.markDirty();
  }

  stats(): ConnectionStats {
    const paths = this.handle.pathStats();
    const path = paths.find((one) => one.active) ?? paths[0];
    if (path === undefined) return {};
    return {
      rttMs: path.rtt,
      congestionWindow: path.cwnd,
      bytesSent: path.sentBytes,
      bytesReceived: path.recvBytes,
      packetsLost: path.lost,
    };
  }

  /**
   * Moves to another local port (RFC 9000 §9), of any local address; all pipes go on meanwhile.
   * The port is the connection's own from then on.
   *
   * @throws TransportError `migration_disabled` where the peer forbids it, `migration_impossible`
   *   where this connection cannot (its role, a carrier, no id of the peer's is left): dial anew in
   *   both cases; `timeout` when the peer does not answer on the new path; `closed`; `unreachable`.
   *   The connection stays where it was.
   */
  migrate(timeoutMs: number): Promise<void> {
    if (this.#isOver) return Promise.reject(this.#closedError());
    const impossible = this.role === "server"
      ? "only the end that dialled can move the connection"
      : this.#home.socket.packetBytes !== undefined
      ? "a connection that a datagram transport carries has no port to move from"
      : undefined;
    if (impossible !== undefined) {
      return Promise.reject(new TransportError("migration_impossible", impossible));
    }
    if (this.handle.stats().peerDisableActiveMigration) {
      const text = `${this.remoteAddress} does not let connections move`;
      return Promise.reject(new TransportError("migration_disabled", text));
    }
    this.#migration ??= this.#startMigration(timeoutMs);
    return this.#migration.done;
  }

  markDirty(): void {
    if (this.#isDirty || this.#isGone) return;
    this.#isDirty = true;
    this.#home.schedule(this);
  }

  wrote(pipe: QuichePipe): void {
    this.#written.push(pipe);
    this.markDirty();
  }

  blocked(pipe: QuichePipe): void {
    this.#blocked.push(pipe);
  }

  arrived(): void {
    this.#hasNews = true;
    this.markDirty();
  }

  touched(id: number): void {
    const which = (id >> 1) & 1;
    this.#counted[which] = Math.max(this.#counted[which] as number, (id >> 2) + 1);
  }

  forget(id: number): void {
    this.#pipes.delete(id);
  }

  /** One packet with a short header; see `receive`. */
  receiveShort(packet: Uint8Array, host: string, port: number, at?: LocalPath): void {
    const key = keyAt(packet, SHORT_ID_AT);
    if (key !== this.#lastKey) {
      // Late packets to an id that the peer gave back a moment ago: quiche 0.18 would take them for
      // a violation of the protocol, and close. Who gives an id back uses another from then on.
      this.#home.forgetIds(this);
      if (!this.keys.has(key)) return;
      this.#lastKey = key;
    }
    this.receive(packet, host, port, at);
  }

  /** One packet of the peer; garbage is dropped. */
  receive(packet: Uint8Array, host: string, port: number, at: LocalPath = this.#birthPath): void {
    const { from, to } = this.#path;
    if (from.port !== port || from.host !== host || to !== at.name) {
      if (this.role === "server" && this.#isEstablished) this.#peerMoves();
      this.#path = { from: { host, port }, to: at.name };
    }
    try {
      this.handle.recv(packet, this.#path);
    } catch {
      // Not authentic, or the connection is closing: QUIC says to drop it.
    }
    this.arrived();
  }

  /** Looks at what packets and time have brought: establishment, data, room to write, the end. */
  read(): void {
    if (!this.#hasNews) return;
    this.#hasNews = false;
    if (!this.#isEstablished && this.handle.isEstablished()) {
      this.#isEstablished = true;
      this.#paths.limit(this.handle.maxSendUdpPayloadSize());
      this.#startKeepAlive();
      this.#establish();
    }
    if (this.#isEstablished && !this.#isOver) {
      this.#home.provideIds(this);
      this.#migration?.look();
      if (this.handle.isReadable()) this.#readPipes();
      this.#unblock();
    }
    if (!this.#isOver && this.handle.isDraining()) this.#end(endInfo(this.handle));
  }

  /** Sends what is due and sets the timer. */
  send(): void {
    this.#isDirty = false;
    if (this.#isGone) return;
    const written = this.#written;
    if (written.length > 0) {
      this.#written = [];
      for (const pipe of written) pipe.flush();
    }
    this.#sendPackets();
    if (this.handle.isClosed()) this.#leave();
    else this.#setTimer();
  }

  /** Ends it without a word to the peer. */
  drop(reason: string): void {
    this.#end({ code: 0, reason, by: "local" });
    this.#leave();
  }

  #startMigration(timeoutMs: number): Migration {
    const migration = new Migration({
      handle: this.handle,
      paths: this.#paths,
      clock: this.#options.clock,
      remote: this.#remote,
      closed: this.closed,
      receivedOn: (path, packet, host, port) => {
        if (packet.length < SHORT_ID_AT + ID_BYTES || isLong(packet)) return;
        this.receiveShort(packet, host, port, path);
      },
      markDirty: () => this.markDirty(),
      leaveHome: () => this.#home.left(),
    }, timeoutMs);
    const over = () => (this.#migration = undefined);
    migration.done.then(() => {
      over();
      this.moves++;
      this.arrived();
    }, over);
    return migration;
  }

  #closedError(): TransportError {
    return new TransportError("closed", `the connection to ${this.remoteAddress} is closed`);
  }

  #readPipes(): void {
    if (this.#pipes.size <= FEW_PIPES) {
      for (const pipe of this.#pipes.values()) {
        if (this.handle.streamReadable(pipe.id)) pipe.read();
      }
      if (this.#isOver || !this.handle.isReadable()) return;
    }
    for (const id of this.handle.readable()) {
      if (this.#isOver) return;
      this.#pipeOf(id)?.read();
    }
  }

  #unblock(): void {
    if (this.#blocked.length === 0) return;
    const blocked = this.#blocked;
    this.#blocked = [];
    for (const pipe of blocked) pipe.flush();
    this.markDirty();
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

  #sendPackets(): void {
    try {
      let sent = 0;
      while (sent < PACKETS_A_TURN && this.#paths.sendNext()) sent++;
      if (sent === PACKETS_A_TURN) this.markDirty();
      else if (sent > 0 && this.#isEstablished) this.#markTime();
    } catch {
      // quiche cannot go on with this connection; its timer or `isClosed` ends it.
    }
  }

  #markTime(): void {
    if (!this.#marks.isDue(this.handle, this.#options.clock.now())) return;
    this.handle.sendAckEliciting();
    this.#paths.sendNext();
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
    this.#migration?.look();
    if (this.#hasMoved) this.#sendToLeft();
    // Nobody reads these, and a peer that keeps changing its address must not fill the memory.
    while (this.handle.pathEventNext() !== null);
    if (this.handle.isClosed()) return this.#leave();
    this.arrived();
  }

  // Perhaps: packets come from another address.
  #peerMoves(): void {
    this.#hasMoved = true;
    this.#paths.notePeer();
  }

  #sendToLeft(): void {
    if (this.#isOver) return;
    this.#paths.notePeer();
    try {
      this.#paths.sendToLeft();
    } catch {
      // The path takes nothing: what was lost on it waits for the next turn.
    }
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

  #end(info: CloseInfo): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#keepAlive?.cancel();
    this.#drain = this.#options.clock.after(DRAIN_MS, () => this.#leave());
    this.#written = [];
    this.#blocked = [];
    for (const pipe of [...this.#pipes.values()]) pipe.lost();
    this.#pipes.clear();
    this.#fail(failureOf(this.handle, info, this.remoteAddress));
    this.#settle(info);
  }

  #leave(): void {
    if (this.#isGone) return;
    this.#isGone = true;
    this.#timer?.cancel();
    this.#end(endInfo(this.handle));
    this.#drain?.cancel();
    this.#paths.close();
    this.#home.gone(this);
  }
}
