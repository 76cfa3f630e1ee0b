import type { Bytes } from "../base/bytes.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Control, Gossip } from "./messages.ts";
import type { TreeCount } from "./spanning_tree.ts";

/** What happens to the machine. */
export type PlumtreeEvent =
  /** Send a message to all. It is not delivered here. */
  | { readonly type: "publish"; readonly topic: string; readonly payload: Bytes }
  | { readonly type: "gossip"; readonly from: NodeName; readonly gossip: Gossip }
  | { readonly type: "control"; readonly from: NodeName; readonly message: Control }
  | { readonly type: "neighbourUp"; readonly peer: NodeName }
  | { readonly type: "neighbourDown"; readonly peer: NodeName }
  /** A frame could not be handed to a link. */
  | { readonly type: "undelivered"; readonly peer: NodeName }
  /** `wakeAt` has come. */
  | { readonly type: "tick" };

/** What the driver is to do. */
export type PlumtreeEffect =
  /** One message, the same for each of `peers`. */
  | { readonly type: "push"; readonly peers: readonly NodeName[]; readonly gossip: Gossip }
  | { readonly type: "send"; readonly peer: NodeName; readonly message: Control }
  /** A message that was not seen before. */
  | { readonly type: "deliver"; readonly gossip: Gossip; readonly from: NodeName }
  /** Something was given up, or refused, for a reason worth counting. */
  | { readonly type: "count"; readonly what: PlumtreeCount };

/** What a driver counts. */
export type PlumtreeCount =
  | TreeCount
  /** A payload came again. */
  | "duplicate"
  /** The tree did not bring a message, an announcer did on request. */
  | "rescued"
  /** The tree brought it after all. */
  | "impatient"
  /** Nobody who announced a message has sent it. */
  | "missed"
  /** An announcement found no room. */
  | "announcement_refused"
  /** A message that was asked for is not kept any more. */
  | "graft_unserved";
