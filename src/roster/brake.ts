import type { MemberState, MemberTable } from "./member_table.ts";

/** From this size on a cluster may hold a verdict back, as it may be cut in two. */
const BRAKE_FROM = 8;
/** What others say of those who fall silent is known everywhere within so long, milliseconds. */
const OTHERS_WITHIN_MS = 1_500;
/** Verdicts of this age still count as silence at the same time, milliseconds. */
const WINDOW_MS = 60_000;

/**
 * Holds verdicts back. Many silent at once look like a cut between two halves: only the larger half
 * goes on, later. Some have been silent for longer than others when a cut comes, so those who are
 * only suspected count, and a verdict waits a little for what is on its way.
 */
export class Brake {
  readonly #partitionHoldMs: number;
  #heldSince: number | undefined;

  constructor(partitionHoldMs: number) {
    this.#partitionHoldMs = partitionHoldMs;
  }

  /** Whether to wait with the verdict on `member`; `suspected`: of those who count as alive. */
  holds(member: MemberState, members: MemberTable, suspected: number, now: number): boolean {
    // Ourselves among them.
    const reachable = 1 + members.alive - suspected;
    let silent = suspected;
    for (const { status, since, downReason } of members.notAlive) {
      const isLate = status === "down" && downReason === "unreachable" && now - since < WINDOW_MS;
      if (status === "unreachable" || isLate) silent++;
    }
    const standing = reachable + silent;
    if (standing < BRAKE_FROM) return false;
    if (now - member.since < OTHERS_WITHIN_MS) return true;
    if (silent <= Math.max(3, standing / 4)) {
      this.#heldSince = undefined;
      return false;
    }
    this.#heldSince ??= now;
    return reachable <= standing / 2 || now - this.#heldSince < this.#partitionHoldMs;
  }
}
