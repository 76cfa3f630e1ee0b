/** Monitors, local and remote: each fires once, with why the process ended or cannot be reached. */
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Pid } from "../wire/pid.ts";
import { Ref } from "../wire/ref.ts";
import type { ByteReader } from "../wire/varint.ts";
import type { PeerIdentity } from "../link/ports.ts";
import { Down } from "./messages.ts";
import type { ExitReason } from "./messages.ts";
import type { Peer, Peers } from "./peers.ts";
import type { Monitor, Process, Watcher } from "./process.ts";
import { packNumbers } from "./signals.ts";
import type { ActorSystem } from "./system.ts";

const NOTHING = new Uint8Array(0);

/** The monitors of one node's processes. */
export class Monitors {
  readonly #system: ActorSystem;
  readonly #peers: Peers;
  readonly #node: NodeName;
  readonly #epoch: number;
  #nextRef = 1;

  constructor(system: ActorSystem, peers: Peers) {
    this.#system = system;
    this.#peers = peers;
    this.#node = system.options.node;
    this.#epoch = system.options.epoch;
  }

  /** Monitors a process on behalf of one of ours. */
  start(process: Process, target: Pid | string): Ref {
    if (typeof target !== "string" && !(target instanceof Pid)) {
      throw new TypeError(`monitor takes a pid or a name, not ${typeof target}`);
    }
    const ref = new Ref(this.#node, this.#epoch, this.#nextRef++);
    if (target instanceof Pid) this.#watch(process, ref, target, target);
    else {
      const local = this.#system.find(target);
      if (local !== undefined) this.#watch(process, ref, target, local.pid);
      else void this.#byName(process, ref, target);
    }
    return ref;
  }

  async #byName(process: Process, ref: Ref, name: string): Promise<void> {
    const placeholder: Monitor = { ref, target: name, node: "", epoch: 0, id: 0 };
    const monitors = process.monitors ??= new Map();
    monitors.set(ref.id, placeholder);
    const pid = await this.#system.options.resolveName(name).catch(() => undefined);
    // It was taken back, or its owner has ended.
    if (monitors.get(ref.id) !== placeholder || !process.isAlive) return;
    monitors.delete(ref.id);
    if (pid === undefined) process.mailbox.push(new Down(ref, name, "noproc"));
    else this.#watch(process, ref, name, pid);
  }

  #watch(process: Process, ref: Ref, target: Pid | string, pid: Pid): void {
    const { node, epoch, id } = pid;
    if (node === this.#node) {
      const watched = this.#system.find(pid);
      if (watched === undefined) return process.mailbox.push(new Down(ref, target, "noproc"));
      const watcher: Watcher = { local: process, node, epoch, ref: ref.id, id: process.pid.id };
      (watched.watchers ??= new Map()).set(watcherKey(node, ref.id), watcher);
    } else {
      const peer = this.#peers.of(node);
      peer.monitors.set(ref.id, process);
      this.#peers.changed(peer);
    }
    (process.monitors ??= new Map()).set(ref.id, { ref, target, node, epoch, id });
    // Sent last: it may turn out at once that nothing reaches that life of the node.
    if (node !== this.#node) {
      const head = packNumbers(id, ref.id, process.pid.id);
      this.#peers.signal(pid, id, FrameType.MONITOR, head, NOTHING);
    }
  }

  /** Ends a monitor; `flush` also removes its `Down` from the mailbox. */
  stop(process: Process, ref: Ref, flush: boolean): void {
    const monitor = process.monitors?.get(ref.id);
    if (monitor?.ref.equals(ref)) {
      process.monitors?.delete(ref.id);
      this.#unwatch(monitor);
    }
    if (flush) {
      process.mailbox.remove((message) => message instanceof Down && message.ref.equals(ref));
    }
  }

  #unwatch({ ref, node, epoch, id }: Monitor): void {
    if (node === this.#node) {
      const watched = this.#system.findById(id);
      watched?.watchers?.delete(watcherKey(node, ref.id));
      return;
    }
    const peer = this.#peers.peek(node);
    if (peer?.monitors.delete(ref.id) !== true) return;
    const head = packNumbers(id, ref.id);
    this.#peers.signal({ node, epoch }, id, FrameType.DEMONITOR, head, NOTHING);
    this.#peers.changed(peer);
  }

  /** A process ends: its monitors do, and those who watch it are told. */
  ended(process: Process, reason: ExitReason): void {
    const { monitors, watchers } = process;
    if (monitors !== undefined) process.monitors = undefined;
    if (watchers !== undefined) process.watchers = undefined;
    for (const monitor of monitors?.values() ?? []) this.#unwatch(monitor);
    for (const watcher of watchers?.values() ?? []) this.#tell(watcher, reason);
  }

  #tell(watcher: Watcher, reason: ExitReason): void {
    const { local, node, ref, id } = watcher;
    if (local !== undefined) return this.#fire(local, ref, reason);
    const peer = this.#peers.peek(node);
    if (peer?.watches.delete(ref) !== true) return;
    // On the pipe of who watches, behind what the process sent it before.
    this.#peers.tell(watcher, id, FrameType.DOWN, packNumbers(ref), reason);
    this.#peers.changed(peer);
  }

  #fire(process: Process, ref: number, reason: ExitReason): void {
    const monitor = process.monitors?.get(ref);
    if (monitor === undefined) return;
    process.monitors?.delete(ref);
    process.mailbox.push(new Down(monitor.ref, monitor.target, reason));
  }

  // ---- from other nodes ------------------------------------------------------------------

  /** A process of a peer wants to watch one of ours. @throws ProtocolError */
  onMonitor(reader: ByteReader, from: PeerIdentity): void {
    const process = this.#system.findById(reader.varint());
    const ref = reader.varint();
    const id = reader.varint();
    const { name: node, epoch } = from;
    if (process === undefined) {
      const head = packNumbers(ref);
      return this.#peers.tell({ node, epoch }, id, FrameType.DOWN, head, "noproc");
    }
    const peer = this.#peers.of(node);
    this.#peers.checkRoom(peer);
    // A number used twice is the peer's mistake: the last one counts.
    peer.watches.get(ref)?.watchers?.delete(watcherKey(node, ref));
    peer.watches.set(ref, process);
    this.#peers.changed(peer);
    const watcher: Watcher = { local: undefined, node, epoch, ref, id };
    (process.watchers ??= new Map()).set(watcherKey(node, ref), watcher);
  }

  /** It does not want to any more. */
  onDemonitor(reader: ByteReader, from: PeerIdentity): void {
    reader.varint();
    const ref = reader.varint();
    const peer = this.#peers.peek(from.name);
    const process = peer?.watches.get(ref);
    if (peer === undefined || process === undefined) return;
    peer.watches.delete(ref);
    process.watchers?.delete(watcherKey(from.name, ref));
    this.#peers.changed(peer);
  }

  /** A process that one of ours watches has ended. */
  onDown(ref: number, reason: ExitReason, from: PeerIdentity): void {
    // Only the node that was asked may answer.
    const peer = this.#peers.peek(from.name);
    const process = peer?.monitors.get(ref);
    if (peer === undefined || process === undefined) return;
    peer.monitors.delete(ref);
    this.#fire(process, ref, reason);
    this.#peers.changed(peer);
  }

  /** Nothing comes from a node any more; with an epoch, from that life of it. */
  lost(peer: Peer, reason: ExitReason, epoch?: number): void {
    for (const [ref, process] of [...peer.monitors]) {
      if (epoch !== undefined && process.monitors?.get(ref)?.epoch !== epoch) continue;
      peer.monitors.delete(ref);
      this.#fire(process, ref, reason);
    }
    if (epoch !== undefined) return;
    for (const [ref, process] of peer.watches) {
      process.watchers?.delete(watcherKey(peer.node, ref));
    }
    peer.watches.clear();
  }
}

function watcherKey(node: NodeName, ref: number): string {
  return `${node} ${ref}`;
}
