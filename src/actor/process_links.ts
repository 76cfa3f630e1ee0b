/**
 * Links between processes, and exit signals. A link is known on both sides; taking one back is
 * acknowledged, as in OTP since 23, so that both sides agree however their signals cross: until the
 * acknowledgement has come, the other side's exit signal and its own word of the link mean nothing.
 */
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Pid } from "../wire/pid.ts";
import type { ByteReader } from "../wire/varint.ts";
import type { PeerIdentity } from "../link/ports.ts";
import { Exit } from "./messages.ts";
import type { ExitReason } from "./messages.ts";
import type { Peer, Peers } from "./peers.ts";
import { SERVICE_PREFIX } from "./process.ts";
import type { Process } from "./process.ts";
import { packNumbers } from "./signals.ts";
import type { ActorSystem } from "./system.ts";

const NOTHING = new Uint8Array(0);

/** The links of one node's processes. */
export class ProcessLinks {
  readonly #system: ActorSystem;
  readonly #peers: Peers;
  readonly #node: NodeName;
  #lastUnlink = 0;

  constructor(system: ActorSystem, peers: Peers) {
    this.#system = system;
    this.#peers = peers;
    this.#node = system.options.node;
  }

  /** Links one of our processes with another. */
  link(process: Process, other: Pid): void {
    checkPid("link", other);
    if (other.equals(process.pid)) return;
    const key = keyOf(other);
    const known = process.links?.get(key);
    if (known?.unlinking === 0) return;
    const links = process.links ??= new Map();
    if (other.node === this.#node) {
      const target = this.#system.find(other);
      // As in OTP: linking to nobody brings the exit signal of nobody.
      if (target === undefined) return this.deliver(process, other, "noproc", true);
      links.set(key, { pid: other, unlinking: 0 });
      (target.links ??= new Map()).set(keyOf(process.pid), { pid: process.pid, unlinking: 0 });
      return;
    }
    if (known !== undefined) known.unlinking = 0;
    else this.#enter(process, other);
    const head = packNumbers(other.id, process.pid.id);
    this.#peers.signal(other, other.id, FrameType.LINK, head, NOTHING);
  }

  /** Takes a link back: no exit signal of it is seen from now on, not even one on its way. */
  unlink(process: Process, other: Pid): void {
    checkPid("unlink", other);
    const link = process.links?.get(keyOf(other));
    if (link === undefined || link.unlinking !== 0) return;
    if (other.node === this.#node) {
      process.links?.delete(keyOf(other));
      this.#system.find(other)?.links?.delete(keyOf(process.pid));
      return;
    }
    link.unlinking = ++this.#lastUnlink;
    const head = packNumbers(other.id, process.pid.id, link.unlinking);
    this.#peers.signal(other, other.id, FrameType.UNLINK, head, NOTHING);
  }

  /** A process ends: those who are linked with it get its exit signal. */
  ended(process: Process, reason: ExitReason): void {
    const { links, pid } = process;
    if (links === undefined) return;
    process.links = undefined;
    for (const { pid: other, unlinking } of links.values()) {
      if (other.node === this.#node) {
        const target = this.#system.find(other);
        if (target?.links?.delete(keyOf(pid))) this.deliver(target, pid, reason, true);
        continue;
      }
      const peer = this.#peers.peek(other.node);
      if (peer?.links.delete(bothKeys(process, other)) !== true) continue;
      if (unlinking === 0) {
        const head = packNumbers(other.id, pid.id, 1);
        this.#peers.tell(other, other.id, FrameType.EXIT, head, reason);
      }
      this.#peers.changed(peer);
    }
  }

  /** Sends an exit signal that no link carries. */
  exit(target: Pid, reason: ExitReason, from: Pid): void {
    if (target.node === this.#node) {
      const process = this.#system.find(target);
      if (process !== undefined) this.deliver(process, from, reason, false);
      return;
    }
    const head = packNumbers(target.id, from.id, 0);
    this.#peers.signal(
      target,
      target.id,
      FrameType.EXIT,
      head,
      this.#system.encode(reason, target.node, target.epoch),
    );
  }

  /** An exit signal arrives: from a linked process that ended, or from somebody's `exit`. */
  deliver(process: Process, from: Pid, reason: ExitReason, isLink: boolean): void {
    if (!process.isAlive) return;
    if (!isLink && reason === "kill") return this.#system.terminate(process, "killed");
    if (process.trapExit) return process.mailbox.push(new Exit(from, reason));
    // "normal" from another process is ignored; to oneself it ends.
    const isOwn = !isLink && from.equals(process.pid);
    if (reason !== "normal" || isOwn) this.#system.terminate(process, reason);
  }

  #enter(process: Process, other: Pid): void {
    const peer = this.#peers.of(other.node);
    peer.links.set(bothKeys(process, other), { process, other });
    (process.links ??= new Map()).set(keyOf(other), { pid: other, unlinking: 0 });
    this.#peers.changed(peer);
  }

  #leave(process: Process, other: Pid): void {
    process.links?.delete(keyOf(other));
    const peer = this.#peers.peek(other.node);
    if (peer?.links.delete(bothKeys(process, other))) this.#peers.changed(peer);
  }

  // ---- from other nodes ------------------------------------------------------------------

  /** A process of a peer links itself with one of ours. @throws ProtocolError */
  onLink(reader: ByteReader, from: PeerIdentity): void {
    const id = reader.varint();
    const other = this.#other(reader, from);
    const process = this.#system.findById(id);
    if (process === undefined) {
      const head = packNumbers(other.id, id, 1);
      return this.#peers.tell(other, other.id, FrameType.EXIT, head, "noproc");
    }
    if (this.#isOurs(process)) return;
    // Known already; or sent before the peer heard that we took it back, which ends it there, too.
    if (process.links?.has(keyOf(other))) return;
    this.#peers.checkRoom(this.#peers.of(from.name));
    this.#enter(process, other);
  }

  /** It takes the link back. */
  onUnlink(reader: ByteReader, from: PeerIdentity): void {
    const id = reader.varint();
    const other = this.#other(reader, from);
    const number = reader.varint();
    const process = this.#system.findById(id);
    if (process?.links?.get(keyOf(other))?.unlinking === 0) this.#leave(process, other);
    const head = packNumbers(other.id, id, number);
    this.#peers.signal(other, other.id, FrameType.UNLINK_ACK, head, NOTHING);
  }

  /** It knows that we took the link back. */
  onUnlinkAck(reader: ByteReader, from: PeerIdentity): void {
    const process = this.#system.findById(reader.varint());
    const other = this.#other(reader, from);
    const number = reader.varint();
    const link = process?.links?.get(keyOf(other));
    if (process !== undefined && number > 0 && link?.unlinking === number) {
      this.#leave(process, other);
    }
  }

  /** An exit signal of a peer's process. */
  onExit(reader: ByteReader, from: PeerIdentity, decode: (reader: ByteReader) => unknown): void {
    const process = this.#system.findById(reader.varint());
    const other = this.#other(reader, from);
    const isLink = reader.varint() === 1;
    const reason = decode(reader);
    if (process === undefined) return;
    if (!isLink) {
      if (!this.#isOurs(process)) this.deliver(process, other, reason, false);
      return;
    }
    const link = process.links?.get(keyOf(other));
    if (link === undefined) return;
    this.#leave(process, other);
    if (link.unlinking === 0) this.deliver(process, other, reason, true);
  }

  /** Nothing comes from a node any more; with an epoch, from that life of it. */
  lost(peer: Peer, reason: ExitReason, epoch?: number): void {
    for (const [key, { process, other }] of [...peer.links]) {
      if (epoch !== undefined && other.epoch !== epoch) continue;
      // A signal that went before may have ended it.
      if (!peer.links.delete(key)) continue;
      const link = process.links?.get(keyOf(other));
      process.links?.delete(keyOf(other));
      if (link?.unlinking === 0) this.deliver(process, other, reason, true);
    }
  }

  /** The services of a node are its own affair: other nodes can neither end them nor bind to them. */
  #isOurs(process: Process): boolean {
    if (process.name?.startsWith(SERVICE_PREFIX) !== true) return false;
    this.#system.options.meter.count("barrel_signals_dropped_total");
    return true;
  }

  #other(reader: ByteReader, from: PeerIdentity): Pid {
    return new Pid(this.#peers.contextOf(from).peer, reader.varint());
  }
}

function checkPid(what: string, other: unknown): void {
  if (!(other instanceof Pid)) throw new TypeError(`${what} takes a pid, not ${typeof other}`);
}

function keyOf(pid: Pid): string {
  return `${pid.node} ${pid.epoch} ${pid.id}`;
}

function bothKeys(process: Process, other: Pid): string {
  return `${process.pid.id} ${other.epoch} ${other.id}`;
}
