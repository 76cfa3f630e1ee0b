/**
 * What a replica says of values that its memory alone hides.
 *
 * A deletion goes once its writer heard that all it replaced is gone. Whoever heard the deletion
 * and its end, but not yet that the value is gone, hides the value by memory. Should all who know
 * better die then, the others show the value, and every copy of the rows is equal: nothing would
 * ever tell them. So who remembers says it once more, in a row of its own. That goes as any deletion
 * does, or is the write it had under the key, which now replaces more.
 *
 * Words that overtake each other are set right within seconds; so nobody says anything for a minute.
 * Replicas wait for different times, and the first one's row makes the others' needless.
 */
import type { OriginId } from "../replica/head.ts";
import { MAX_OVER } from "./entry.ts";
import type { Entry, Over } from "./entry.ts";

/** How long the most patient replica waits before it says anything, and half of it the least, ms. */
export const TESTIMONY_MS: number = 120_000;
/** With more removals of its own than this a replica says nothing more, whatever others write. */
export const MAX_REMOVALS: number = 1_024;

/** How long a replica waits, in milliseconds: spread by its name, which is a hash. */
export function patienceOf(origin: OriginId): number {
  return TESTIMONY_MS / 2 * (1 + origin.charCodeAt(0) / 256);
}

/**
 * What to write over `own`, which was born with the dot `born`, so that it replaces `unsaid`, too;
 * `isFull` when not all of that fits. Without an entry there is nothing to add.
 */
export function testify(
  own: Entry | undefined,
  born: number,
  unsaid: Over,
): { readonly entry: Entry | undefined; readonly isFull: boolean } {
  const over = new Map(own?.over);
  let isFull = false;
  let isMore = false;
  for (const [origin, seq] of unsaid) {
    const said = over.get(origin);
    if (said === undefined && over.size >= MAX_OVER) isFull = true;
    else if (said === undefined || said < seq) {
      over.set(origin, seq);
      isMore = true;
    }
  }
  if (!isMore) return { entry: undefined, isFull };
  const entry: Entry = own?.type === "put" ? { ...own, over, born } : { type: "removed", over };
  return { entry, isFull };
}
