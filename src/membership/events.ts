import type { LinkDownReason } from "../link/ports.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Message } from "./messages.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";

/** Why a peer left the active view. */
export type PeerDownReason =
  /** The link to it ended, or a frame could not be delivered. */
  | "lost"
  /** We dropped it for another. */
  | "evicted"
  /** It dropped us. */
  | "disconnected"
  /** It left the cluster. */
  | "left"
  /** It came back as a new life, or asked anew as if it did not know the edge. */
  | "restarted"
  /** The cluster declared it down. */
  | "down"
  /** It did not read fast enough. */
  | "slow"
  /** We leave the cluster. */
  | "leaving"
  /** This node's membership crashed, and begins anew. */
  | "crashed";

/** What the world learns. Each change of the active view is told exactly once, in order. */
export type MembershipEvent =
  /** The first neighbour since the start or since `leave`. */
  | { readonly type: "joined" }
  | { readonly type: "left" }
  | { readonly type: "peerUp"; readonly node: NodeName }
  | { readonly type: "peerDown"; readonly node: NodeName; readonly reason: PeerDownReason };

/** What happens to the machine. */
export type HyParViewEvent =
  /** Begins; nothing is accepted before. */
  | { readonly type: "start" }
  /** A contact to join through, an address or a node name; tried for ever. */
  | { readonly type: "join"; readonly contact: string }
  | { readonly type: "contactUp"; readonly address: string; readonly peer: Peer }
  | { readonly type: "contactFailed"; readonly address: string }
  | { readonly type: "message"; readonly from: Peer; readonly message: Message }
  | { readonly type: "linkUp"; readonly peer: Peer }
  | { readonly type: "linkDown"; readonly peer: Peer; readonly reason: LinkDownReason }
  /** A message could not be handed to a link. */
  | { readonly type: "undelivered"; readonly peer: NodeName }
  /** The cluster's verdict on one life of a node. */
  | { readonly type: "nodeDown"; readonly peer: NodeName; readonly epoch: number }
  /** Forget a node altogether, by an operator's word. */
  | { readonly type: "forget"; readonly peer: NodeName }
  /** Members that the roster knows: an answer to `seek`, or where a service that begins anew turns to. */
  | { readonly type: "known"; readonly peers: readonly PeerEntry[] }
  /** A member that others cannot reach has a link with us. `isCut`: it may live on another island. */
  | { readonly type: "returned"; readonly peer: PeerEntry; readonly isCut: boolean }
  | { readonly type: "slowConsumer"; readonly peer: NodeName }
  /** Our own entry has changed. */
  | { readonly type: "self"; readonly entry: PeerEntry }
  | { readonly type: "leave" }
  /** `wakeAt` has come. */
  | { readonly type: "tick" };

/** What the driver is to do. */
export type HyParViewEffect =
  | { readonly type: "send"; readonly peer: NodeName; readonly message: Message }
  /** Open a link to whoever answers there and report `contactUp` or `contactFailed`. */
  | { readonly type: "connectAddress"; readonly address: string }
  /** We know nobody else to turn to: report up to so many members at random by `known`. */
  | { readonly type: "seek"; readonly count: number }
  | { readonly type: "emit"; readonly event: MembershipEvent }
  /** Membership has no further use for a link to this peer. */
  | { readonly type: "disconnect"; readonly peer: NodeName };
