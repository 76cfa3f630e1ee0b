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

/**
 * Fewer events with the same outcome: per node the least that leads from what came before to the
 * present, in the order of the last ones. A life that ended stays told, and that the next one began.
 */
export function coalesce(events: readonly NodeEvent[]): NodeEvent[] {
  const bySubject = new Map<string, number[]>();
  events.forEach((event, index) => {
    const subject = subjectOf(event);
    const indices = bySubject.get(subject);
    if (indices === undefined) bySubject.set(subject, [index]);
    else indices.push(index);
  });
  const kept: number[] = [];
  for (const indices of bySubject.values()) {
    const isMember = (events[indices[0] as number] as NodeEvent).type.startsWith("node");
    kept.push(...isMember ? ofMember(events, indices) : ofTwoStates(events, indices));
  }
  return kept.sort((a, b) => a - b).map((index) => events[index] as NodeEvent);
}

function subjectOf(event: NodeEvent): string {
  if (!("node" in event)) return "self";
  return `${event.type.startsWith("peer") ? "peer" : "node"} ${event.node}`;
}

// Up and down alternate: an even number of changes is none.
function ofTwoStates(events: readonly NodeEvent[], indices: readonly number[]): readonly number[] {
  const [first, last] = [indices[0] as number, indices.at(-1) as number];
  return events[first]?.type === events[last]?.type ? [last] : [];
}

// What it was before is not known: `nodeUp` follows nothing, or `nodeUnreachable`.
function ofMember(events: readonly NodeEvent[], indices: readonly number[]): number[] {
  const typeAt = (index: number | undefined) => events[index ?? -1]?.type;
  const down = indices.findLastIndex((index) => typeAt(index) === "nodeDown");
  const first = indices[0] as number;
  const kept: number[] = [];
  if (down >= 0) {
    if (typeAt(first) === "nodeUp") kept.push(first);
    kept.push(indices[down] as number);
  }
  const rest = indices.slice(down + 1);
  if (rest.length === 0) return kept;
  const last = rest.at(-1) as number;
  if (typeAt(rest[0]) === typeAt(last)) kept.push(last);
  else if (typeAt(last) === "nodeUnreachable") kept.push(rest[0] as number, last);
  return kept;
}
