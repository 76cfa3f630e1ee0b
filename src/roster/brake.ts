import type { MemberState, MemberTable } from "./member_table.ts";

/** From this size on a cluster may hold a verdict back, as it may be cut in two. */
const BRAKE_FROM = 8;
/** What others say of those who fall silent is known everywhere within so long, milliseconds. */
const OTHERS_WITHIN_MS = 2_000;
/** What was said on the other side of a cut is answered within so long of its healing, milliseconds. */
const HEALED_WITHIN_MS = 15_000;
/** Verdicts of this age still count as silence at the same time, milliseconds. */
const WINDOW_MS = 60_000;

/**
 * Holds verdicts back. Many silent at once look like a cut between two halves: only the larger half
 * goes on, later. Some have been silent for longer than others when a cut comes, so those who are
 * only suspected count, and a verdict waits a little for what is on its way.
 */
export class Brake {
  readonly #partitionHoldMs: number;
  #standing = 0;
  #reachable = 0;
  #heldSince: number | undefined;
  // When one of those beyond a cut was last heard of again.
  #answeredAt = -Infinity;

  constructor(partitionHoldMs: number) {
    this.#partitionHoldMs = partitionHoldMs;
  }

  /** How many members count, the silent among them and ourselves. */
  get standing(): number {
    return this.#standing;
  }

  /** Whether so many are silent that the cluster may be cut in two. */
  get seesCut(): boolean {
    return this.#heldSince !== undefined;
  }

  /** Counts anew, before verdicts are drawn; `suspected`: of those who count as alive. */
  count(members: MemberTable, suspected: number, now: number): void {
    this.#reachable = 1 + members.alive - suspected;
    let silent = suspected;
    for (const { status, since, downReason } of members.notAlive) {
      const isLate = status === "down" && downReason === "unreachable" && now - since < WINDOW_MS;
      if (status === "unreachable" || isLate) silent++;
    }
    this.#standing = this.#reachable + silent;
    const isCut = this.#standing >= BRAKE_FROM && silent > Math.max(3, this.#standing / 4);
    this.#heldSince = isCut ? this.#heldSince ?? now : undefined;
  }

  /** One of the silent answers: the cut may be healing, and the others have their time again. */
  answered(now: number): void {
    if (this.#heldSince !== undefined) this.#heldSince = now;
    if (this.seesCut || this.#isHealing(now)) this.#answeredAt = now;
  }

  #isHealing(now: number): boolean {
    return now - this.#answeredAt < HEALED_WITHIN_MS;
  }

  /** Whether a cluster of so many members may be held: verdicts are drawn after {@link count} only. */
  concerns(members: MemberTable): boolean {
    return 1 + members.size >= BRAKE_FROM;
  }

  /** Whether to wait with the verdict on a member. */
  holds(member: MemberState, now: number): boolean {
    if (this.#standing < BRAKE_FROM) return false;
    if (now - member.since < OTHERS_WITHIN_MS || this.#isHealing(now)) return true;
    if (this.#heldSince === undefined) return false;
    const isSmallerHalf = this.#reachable <= this.#standing / 2;
    return isSmallerHalf || now - this.#heldSince < this.#partitionHoldMs;
  }
}
