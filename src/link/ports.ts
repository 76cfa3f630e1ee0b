import type { Bytes } from "../base/bytes.ts";
import type { ProtocolError } from "../base/errors.ts";
import type { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { FramedPipe } from "./framed_pipe.ts";

/** One life of a node: its name, its key and the epoch that tells this life from earlier ones. */
export interface PeerIdentity {
  readonly name: NodeName;
  readonly publicKey: Bytes;
  readonly epoch: number;
  /** Where it says it can be reached, URLs, best first; empty when it only dials. */
  readonly addresses: readonly string[];
}

/**
 * Why a link ended. `left`: the node is leaving the cluster. `goodbye`: orderly, for another
 * reason. `lost` says nothing about the node's life.
 */
export type LinkDownReason =
  | "left"
  | "goodbye"
  | "lost"
  | "replaced"
  | "idle"
  | "protocol"
  | "overloaded";

/** What rooms above learn of links. */
export type LinkEvent =
  | { readonly type: "linkUp"; readonly peer: PeerIdentity }
  | { readonly type: "linkDown"; readonly peer: PeerIdentity; readonly reason: LinkDownReason };

/**
 * One room's share of the links: frames of one type. Control types ride the control pipe, others
 * a data pipe. Frames to one peer over one channel arrive in order, at most once.
 */
export interface Channel {
  /**
   * Sends `body` to `peer`, dialling when there is no link. The channel owns `body` from then on.
   * When it cannot be delivered to a link (no address, dial failed, too much queued), `onUndelivered` is
   * called, later and once; nothing is said about frames lost with a link that breaks afterwards.
   */
  send(peer: NodeName, body: Bytes): void;
  /** Nothing while the link to `peer` takes more freely; a promise to await above the high-water mark. */
  room(peer: NodeName): void | Promise<void>;
  /** Called with each frame of this channel's type. A ProtocolError thrown here closes the link. */
  onFrame: ((body: Bytes, from: PeerIdentity) => void) | undefined;
  /** Called when a frame could not be handed to a link. */
  onUndelivered: ((peer: NodeName, reason: string) => void) | undefined;
}

/** What the rooms above see of the table of links. */
export interface Links {
  /** This node. */
  readonly self: PeerIdentity;
  /** The channel of one frame type; each type has one owner. */
  channel(type: FrameType): Channel;
  /** The live links, by peer name. */
  peers(): readonly PeerIdentity[];
  /** The peer behind a live link. */
  peer(name: NodeName): PeerIdentity | undefined;
  /** Opens a link by name, or returns the one there is. @throws TransportError, HandshakeError */
  connect(name: NodeName): Promise<PeerIdentity>;
  /** Opens a link to whoever answers at `address`. @throws TransportError, HandshakeError */
  connectAddress(address: string): Promise<PeerIdentity>;
  /** Says goodbye and closes; nothing happens without a link. */
  disconnect(name: NodeName): Promise<void>;
  /** Link events, in order. */
  on(listener: (event: LinkEvent) => void): () => void;
}

/**
 * The actors' share of the links: signals ride the data pipes, and all signals with one
 * `streamKey` towards one peer stay in order. Nothing here dials a peer for the sake of a reply.
 */
export interface SignalPort {
  /**
   * Sends one signal: the link copies `head` and `payload` before it returns, so both may be scratch
   * buffers. Dials when there is no link. `epoch` is the life of the peer it is meant for, 0 for
   * whichever lives; a link to another life drops it through `onUndelivered`.
   *
   * Returns nothing below the high-water mark and a promise to await above it.
   *
   * @throws OverloadedError when `maxBufferedBytes` wait towards this peer already.
   */
  send(
    peer: NodeName,
    epoch: number,
    streamKey: number,
    type: FrameType,
    head: Uint8Array,
    payload: Uint8Array,
  ): void | Promise<void>;
  /** Called with each signal that arrives, in order per stream; `body` belongs to the callee. */
  onSignal: ((type: FrameType, body: Bytes, from: PeerIdentity) => void) | undefined;
  /** Called when signals queued for `peer` could not be handed to a link: `noconnection`. */
  onUndelivered: ((peer: NodeName, epoch: number, reason: string) => void) | undefined;
  /** Whether a link to `peer` is live. */
  connected(peer: NodeName): boolean;
  /** Keeps the link to `peer` from being reaped while a monitor or process link crosses it. */
  hold(peer: NodeName): void;
  release(peer: NodeName): void;
  /** Link events, in order, after the frames that came before them. */
  onLink(listener: (event: LinkEvent) => void): () => void;
}

/** The pipe of one tagged stream, behind its PREAMBLE. */
export interface StreamPipe {
  readonly peer: PeerIdentity;
  /** Set its handler; of a stream that was opened it is paused until then. */
  readonly framed: FramedPipe;
  /** Why the link has ended, when it has. */
  readonly lost: LinkDownReason | undefined;
  /** Called once when the link has ended and `done` was not called before. */
  onLost: (reason: LinkDownReason) => void;
  /** The peer has accepted: another stream may be asked for. Idempotent. */
  answered(): void;
  /** Ends the link: the peer broke the protocol. */
  fail(error: ProtocolError): void;
  /** The stream is over: it keeps the link no longer. Idempotent. */
  done(): void;
}

/** The tagged streams' share of the links. */
export interface StreamPort {
  /**
   * Opens a pipe for a stream with this tag, dialling when there is no link.
   *
   * @throws TransportError, HandshakeError, OverloadedError
   */
  open(peer: NodeName, tag: Bytes): Promise<StreamPipe>;
  /** Called with each stream that a peer asks for. */
  onStream: (pipe: StreamPipe, tag: string) => void;
}
