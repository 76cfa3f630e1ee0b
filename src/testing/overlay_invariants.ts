/** What must hold on a node of an {@link OverlaySim} after each of its steps. */
import { MAX_CACHED, MAX_CACHED_BYTES } from "../broadcast/message_cache.ts";
import { MAX_IDS } from "../broadcast/messages.ts";
import { MAX_MISSING } from "../broadcast/missing.ts";
import type { PlumtreeSizes } from "../broadcast/plumtree.ts";
import type { MembershipOptions } from "../membership/options.ts";
import type { SimNode } from "./overlay_node.ts";

// By name, the last look that met it: a set for each look would cost much of a simulation's time.
const metAt = new Map<string, number>();
let looks = 0;

function isMetAgain(name: string): boolean {
  if (metAt.get(name) === looks) return true;
  metAt.set(name, looks);
  return false;
}

/** What is wrong with the views: their bounds, nobody twice, not itself, one event a transition. */
export function flawOfViews(
  { name, view, hyparview }: SimNode,
  { activeSize, passiveSize }: MembershipOptions,
): string | undefined {
  const { activeView, passiveView } = hyparview;
  looks++;
  metAt.set(name, looks);
  const holds = activeView.length <= activeSize && passiveView.length <= passiveSize &&
    !activeView.some(isMetAgain) && !passiveView.some(isMetAgain) &&
    activeView.length === view.size && activeView.every((peer) => view.has(peer));
  return holds ? undefined : `active ${activeView}, passive ${passiveView}, told ${[...view]}`;
}

/** What is wrong with the caches of broadcast: they have room for so much and no more. */
export function flawOfCaches(
  { neighbours, cached, cachedBytes, missing, waiting }: PlumtreeSizes,
): string | undefined {
  const holds = cached <= MAX_CACHED && cachedBytes <= MAX_CACHED_BYTES &&
    missing <= MAX_MISSING && waiting <= neighbours * MAX_IDS;
  if (holds) return undefined;
  return `${cached} messages of ${cachedBytes} bytes kept, ${missing} missing, ${waiting} ` +
    `announcements waiting for ${neighbours} neighbours`;
}
