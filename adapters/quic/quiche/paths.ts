import type { Clock, Timer } from "../../../src/base/clock.ts";
import type { HostPort, QuicheHandle } from "./binding.ts";
import type { UdpSocket } from "./socket.ts";

/** A port that was left takes packets that are still under way for so long, milliseconds. */
const LINGER_MS = 1_000;

/** A path as quiche knows it, and the port behind it. */
export interface LocalPath {
  /** Quiche's name of the local end. */
  readonly name: HostPort;
  readonly socket: UdpSocket;
}

/**
 * The local ports of one connection: the one it sends from and, while a migration is under way or
 * just over, the one that is probed or was left.
 *
 * quiche 0.18 never gives a path up, and each keeps an id of the peer: after some moves there is none
 * left.
 */
export class LocalPaths {
  readonly #handle: QuicheHandle;
  readonly #clock: Clock;
  #current: LocalPath;
  #probed: LocalPath | undefined;
  // Each for a while: quiche repeats what is lost on a path that was left too slowly to be of use.
  readonly #left = new Map<LocalPath, Timer>();
  // Ports that are the connection's alone, other than the one it was born on.
  readonly #own = new Set<UdpSocket>();
  // Where the peer is and has been, by name: of the paths that quiche knows, whose number it bounds.
  readonly #peers = new Set<string>();
  // An old path is wedged: see `sendNext`.
  #isWedged = false;
  #largestPacket: number | undefined;
  // Where quiche writes: the current port's buffer, or the part of it that packets may fill.
  #room: { of: Uint8Array; bytes: Uint8Array } | undefined;

  constructor(handle: QuicheHandle, clock: Clock, socket: UdpSocket) {
    this.#handle = handle;
    this.#clock = clock;
    this.#current = { name: socket.local, socket };
  }

  /** The path that the connection sends on. */
  get current(): LocalPath {
    return this.#current;
  }

  /**
   * Says how large packets may be from now on: quiche applies the peer's limit to the first path
   * only, and would send our largest on any other.
   */
  limit(bytes: number): void {
    this.#largestPacket = bytes;
    this.#room = undefined;
  }

  /** Sends one packet that quiche has ready. Returns whether there was one. */
  sendNext(): boolean {
    const { name, socket } = this.#current;
    const { buffer } = socket;
    if (this.#room?.of !== buffer) {
      this.#room = { of: buffer, bytes: buffer.subarray(0, this.#largestPacket) };
    }
    const packet = this.#next(this.#room.bytes);
    if (packet === null) return false;
    const [length, { from, to }] = packet;
    if (from.port === name.port) socket.send(length, to);
    else this.#sendAside(from, buffer.subarray(0, length), to);
    return true;
  }

  // When the peer gives back an id that it used on two paths, quiche 0.18 forgets it on one of them
  // only. If the other is an old path that the peer has challenged, quiche wants to answer there
  // before all else, and cannot: then it is asked for the paths that matter.
  #next(room: Uint8Array): ReturnType<QuicheHandle["send"]> {
    if (!this.#isWedged) {
      try {
        return this.#handle.send(room);
      } catch (error) {
        if (this.#handle.pathStats().length < 2) throw error;
        this.#isWedged = true;
      }
    }
    for (const path of this.#handle.pathStats()) {
      if (!path.active && path.localHost.port !== this.#probed?.name.port) continue;
      const packet = this.#handle.sendOnPath(room, path.localHost, path.peerHost);
      if (packet !== null) return packet;
    }
    return null;
  }

  /** Notes where the peer is: called while it may be moving. */
  notePeer(): void {
    const { port } = this.#current.name;
    const paths = this.#handle.pathStats();
    for (const { active, localHost, peerHost } of paths) {
      if (active && localHost.port === port) this.#peers.add(nameOf(peerHost));
    }
    if (this.#peers.size <= paths.length) return;
    const known = new Set(paths.map(({ peerHost }) => nameOf(peerHost)));
    for (const name of this.#peers) if (!known.has(name)) this.#peers.delete(name);
  }

  /**
   * Sends to where the peer is now what is due to the addresses that it has left. quiche 0.18 takes
   * what was under way to such an address for neither lost nor arrived until something of it is
   * acknowledged, so a stream whose bytes were lost in a rebinding would wait for ever.
   */
  sendToLeft(): void {
    if (this.#peers.size < 2) return;
    const { name, socket } = this.#current;
    const paths = this.#handle.pathStats();
    const now = paths.find(({ active }) => active)?.peerHost;
    // Nothing more than quiche's own challenge to somebody who only says that he is the peer.
    if (now === undefined || !this.#handle.isPathValidated(name, now)) return;
    for (const { active, localHost, peerHost } of paths) {
      if (active || localHost.port !== name.port || !this.#peers.has(nameOf(peerHost))) continue;
      const room = socket.buffer.subarray(0, this.#largestPacket);
      const packet = this.#handle.sendOnPath(room, localHost, peerHost);
      if (packet !== null) socket.send(packet[0], now);
    }
  }

  /** Takes up a port to be probed. */
  probe(socket: UdpSocket): LocalPath {
    this.#own.add(socket);
    this.#probed = { name: socket.local, socket };
    return this.#probed;
  }

  /** Gives up the port that is probed. */
  abandon({ socket }: LocalPath): void {
    this.#probed = undefined;
    if (this.#own.delete(socket)) void socket.close();
  }

  /**
   * Sends on the probed path from now on. The port that was left takes what is still under way to it;
   * then it is closed, by `leaveHome` where the connection was born on it.
   */
  switchTo(path: LocalPath, leaveHome: () => void): void {
    const former = this.#current;
    this.#probed = undefined;
    this.#current = path;
    const leave = () => {
      this.#left.delete(former);
      if (this.#own.delete(former.socket)) void former.socket.close();
      else leaveHome();
    };
    this.#left.set(former, this.#clock.after(LINGER_MS, leave));
  }

  /** The connection is over. */
  close(): void {
    for (const timer of this.#left.values()) timer.cancel();
    this.#left.clear();
    for (const socket of this.#own) void socket.close();
    this.#own.clear();
  }

  #sendAside(from: HostPort, packet: Uint8Array, to: HostPort): void {
    for (const path of [this.#probed, ...this.#left.keys()]) {
      if (path?.name.port !== from.port) continue;
      path.socket.buffer.set(packet);
      return path.socket.send(packet.length, to);
    }
    // A port that is closed by now: for QUIC, a packet like any that is lost.
  }
}

function nameOf({ host, port }: HostPort): string {
  return `${host} ${port}`;
}
