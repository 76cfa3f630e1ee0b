import { compareBytes, equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { PeerIdentity } from "./ports.ts";

/** What is known of a link when another one to the same peer arrives. */
export interface Contender {
  readonly peer: Pick<PeerIdentity, "epoch" | "publicKey">;
  /** Which end of it we are. */
  readonly role: "client" | "server";
  /** By this both ends name the connection. */
  readonly id: Bytes;
  /** The `id` of the link that its dialler meant it to take over from; empty for none. */
  readonly replaces: Bytes;
}

/**
 * What becomes of a link that arrives while there is one:
 *
 * - `staleLife`: it is of an older life of the peer, and is refused;
 * - `newLife`: the peer has restarted; the old link is dead;
 * - `reconnect`: the end that had dialled the old link dials again, so it has lost the old one;
 * - `takeOver`: the old link drains, and the new one is used after it;
 * - `yield`: the old link stays, if it still lives: both ends dialled at once, or the new one was to
 *   take over from a link that another has taken over from meanwhile.
 */
export type Arrival = "staleLife" | "newLife" | "reconnect" | "takeOver" | "yield";

/** Decides as the peer decides: both see the same two links, with the roles exchanged. */
export function judgeArrival(old: Contender, next: Contender, ownKey: Bytes): Arrival {
  if (next.peer.epoch < old.peer.epoch) return "staleLife";
  if (!isSameLife(old.peer, next.peer)) return "newLife";
  if (next.replaces.length > 0 && equalBytes(next.replaces, old.id)) return "takeOver";
  if (next.role === old.role) return next.replaces.length > 0 ? "yield" : "reconnect";
  // The connection that the smaller key dialled stays.
  const weDialSmaller = compareBytes(ownKey, next.peer.publicKey) < 0;
  return (next.role === "client") === weDialSmaller ? "takeOver" : "yield";
}

/** Whether two links lead to one life of one node. */
export function isSameLife(a: Contender["peer"], b: Contender["peer"]): boolean {
  return a.epoch === b.epoch && equalBytes(a.publicKey, b.publicKey);
}
