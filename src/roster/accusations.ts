import type { NodeName } from "../wire/node_name.ts";
import type { Accusation } from "./messages.ts";

/** What stands against one life of a member. */
export interface Tally {
  /** How many believe it to be over. */
  readonly accusers: number;
  /** Whether one of them was told so by its host. */
  readonly isRefused: boolean;
  /** Whether one of them was told so by an operator. */
  readonly isForgotten: boolean;
  /** Whether somebody has not heard of it for a while. */
  readonly isSuspected: boolean;
}

/** Accused names remembered at most: nobody may fill memory with made-up ones. */
const MAX_ACCUSED = 100_000;

/** Who accuses whom: by the accused one's name, then by the accuser's key in hexadecimal. */
export class Accusations {
  readonly #byTarget = new Map<NodeName, Map<string, Accusation>>();

  /** The names of all of whom something is said. */
  targets(): NodeName[] {
    return [...this.#byTarget.keys()];
  }

  /** Takes one in place of an earlier one; `false` when there are too many accused. */
  put(key: string, accusation: Accusation): boolean {
    const accusers = this.#byTarget.get(accusation.target);
    if (accusers !== undefined) accusers.set(key, accusation);
    else if (this.#byTarget.size >= MAX_ACCUSED) return false;
    else this.#byTarget.set(accusation.target, new Map([[key, accusation]]));
    return true;
  }

  /** Its author takes one back. */
  remove(target: NodeName, key: string): void {
    const accusers = this.#byTarget.get(target);
    if (accusers?.delete(key) && accusers.size === 0) this.#byTarget.delete(target);
  }

  /** Forgets what was said of a name. */
  forget(target: NodeName): void {
    this.#byTarget.delete(target);
  }

  /** Forgets what others than `key` have said: it is heard again. */
  keepOnly(key: string): void {
    for (const [target, accusers] of this.#byTarget) {
      for (const other of accusers.keys()) if (other !== key) this.remove(target, other);
    }
  }

  /** An accuser has another key. */
  rename(from: string, to: string): void {
    for (const accusers of this.#byTarget.values()) {
      const accusation = accusers.get(from);
      if (accusation === undefined) continue;
      accusers.delete(from);
      accusers.set(to, accusation);
    }
  }

  /** What voters say of this life and incarnation. */
  tally(
    { name, epoch, incarnation }: { name: NodeName; epoch: number; incarnation: number },
    isVoter: (key: string) => boolean,
  ): Tally {
    let accusers = 0;
    let isRefused = false;
    let isForgotten = false;
    let isSuspected = false;
    for (const [key, accusation] of this.#byTarget.get(name) ?? []) {
      const isCurrent = accusation.epoch === epoch && accusation.incarnation === incarnation;
      if (!isCurrent || !isVoter(key)) continue;
      if (accusation.evidence === "suspected") isSuspected = true;
      else accusers++;
      isRefused ||= accusation.evidence === "refused";
      isForgotten ||= accusation.evidence === "forgotten";
    }
    return { accusers, isRefused, isForgotten, isSuspected };
  }
}
