/**
 * What the processes here have to do with those of other nodes: which monitors and links cross to
 * which node, and the signals that go there. A link of the lower kind is kept for as long as
 * anything crosses it, on both its ends.
 */
import { messageOf, ProtocolError } from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { LinkEvent, PeerIdentity } from "../link/ports.ts";
import type { DecodeContext } from "../wire/decoder.ts";
import type { MessageEncoder } from "../wire/encoder.ts";
import type { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Life, Pid } from "../wire/pid.ts";
import { told } from "./errors.ts";
import type { ExitReason } from "./messages.ts";
import type { Process } from "./process.ts";
import type { ActorSystemOptions } from "./system.ts";

/** Monitors and links that one peer may have on processes here. */
const MAX_WATCHES_PER_PEER = 1_000_000;

/** What crosses to one node. */
export interface Peer {
  readonly node: NodeName;
  /** Monitors of ours on its processes, by reference: who watches. */
  readonly monitors: Map<number, Process>;
  /** Monitors of its processes on ours, by its reference: who is watched. */
  readonly watches: Map<number, Process>;
  /** Links, whoever made them, by both pids. */
  readonly links: Map<string, { readonly process: Process; readonly other: Pid }>;
}

interface Entry extends Peer {
  isHeld: boolean;
}

/** The other nodes, as the actors of this one see them. */
export class Peers {
  readonly #options: ActorSystemOptions;
  readonly #encoder: MessageEncoder;
  readonly #own: Life;
  readonly #entries = new Map<NodeName, Entry>();
  readonly #contexts = new Map<NodeName, DecodeContext>();
  /** The life that was linked with last. */
  readonly #epochs = new Map<NodeName, number>();
  readonly #once: ReturnType<typeof logOnce>;

  constructor(options: ActorSystemOptions, encoder: MessageEncoder, own: Life) {
    this.#options = options;
    this.#encoder = encoder;
    this.#own = own;
    this.#once = logOnce(options.logger, 1_024);
  }

  // ---- what crosses ----------------------------------------------------------------------

  /** What crosses to a node now, if anything does. */
  peek(node: NodeName): Peer | undefined {
    return this.#entries.get(node);
  }

  /** What crosses to a node; call {@link changed} after a change. */
  of(node: NodeName): Peer {
    let entry = this.#entries.get(node);
    if (entry === undefined) {
      entry = { node, monitors: new Map(), watches: new Map(), links: new Map(), isHeld: false };
      this.#entries.set(node, entry);
    }
    return entry;
  }

  /** Holds the link to the node, or lets it go. */
  changed(peer: Peer): void {
    const entry = peer as Entry;
    const isUsed = entry.monitors.size + entry.watches.size + entry.links.size > 0;
    if (isUsed === entry.isHeld) return;
    entry.isHeld = isUsed;
    if (isUsed) return this.#options.port.hold(entry.node);
    if (this.#entries.get(entry.node) === entry) this.#entries.delete(entry.node);
    this.#options.port.release(entry.node);
  }

  /** Whether a peer may watch or link one process more. @throws ProtocolError */
  checkRoom(peer: Peer): void {
    if (peer.watches.size + peer.links.size < MAX_WATCHES_PER_PEER) return;
    throw new ProtocolError("too_many_monitors", `${peer.node} watches too many processes`);
  }

  // ---- lives -----------------------------------------------------------------------------

  /** A link came or went. */
  onLink({ type, peer }: LinkEvent): void {
    // A new life or a new connection: pids of the peer are read anew.
    this.#contexts.delete(peer.name);
    if (type === "linkUp") this.#epochs.set(peer.name, peer.epoch);
    else this.#epochs.delete(peer.name);
  }

  /** Whether a life of a node is over, because a later one is linked with us. */
  isOver(node: NodeName, epoch: number): boolean {
    const now = this.#epochs.get(node);
    return now === undefined || epoch < now;
  }

  /** How to read what a peer wrote. */
  contextOf(from: PeerIdentity): DecodeContext {
    let context = this.#contexts.get(from.name);
    if (context === undefined || context.peer.epoch !== from.epoch) {
      context = { own: this.#own, peer: this.#own.other(from.name, from.epoch) };
      this.#contexts.set(from.name, context);
    }
    return context;
  }

  // ---- signals ---------------------------------------------------------------------------

  /** Sends a signal of the system itself: nobody is there to await room for it. */
  signal(
    to: { readonly node: NodeName; readonly epoch: number },
    key: number,
    type: FrameType,
    head: Uint8Array,
    payload: Uint8Array,
  ): void {
    try {
      void this.#options.port.send(to.node, to.epoch, key, type, head, payload);
    } catch (error) {
      this.#options.meter.count("barrel_signals_dropped_total");
      this.warnOnce(`signal ${to.node}`, error);
    }
  }

  /** Sends a signal with a reason; one that cannot travel is told in words. */
  tell(
    to: { readonly node: NodeName; readonly epoch: number },
    key: number,
    type: FrameType,
    head: Uint8Array,
    reason: ExitReason,
  ): void {
    const ends = { own: this.#options, peer: to };
    let payload: Uint8Array;
    try {
      payload = this.#encoder.encode(reason, ends);
    } catch {
      payload = this.#encoder.encode(told(reason), ends);
    }
    this.signal(to, key, type, head, payload);
  }

  /** Tells once that something of a peer or of a user went wrong. */
  warnOnce(key: string, error: unknown): void {
    this.#once(key, "warn", messageOf(error));
  }

  /** Tells once that nothing reaches a node. */
  unreachable(node: NodeName, reason: string): void {
    this.#once(`undelivered ${node}`, "info", `nothing reaches ${node}: ${reason}`, { node });
  }
}
