import type { PeerDownReason } from "../membership/events.ts";
import type { DownReason } from "../roster/roster.ts";
import type { NodeName } from "../wire/node_name.ts";

/** What `node.membership.events()` gives: the overlay's and the roster's transitions, each once. */
export type NodeEvent =
  | { readonly type: "joined" }
  | { readonly type: "left" }
  | { readonly type: "peerUp"; readonly node: NodeName }
  | { readonly type: "peerDown"; readonly node: NodeName; readonly reason: PeerDownReason }
  | { readonly type: "nodeUp"; readonly node: NodeName }
  | { readonly type: "nodeUnreachable"; readonly node: NodeName }
  | { readonly type: "nodeDown"; readonly node: NodeName; readonly reason: DownReason };
