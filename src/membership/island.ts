/**
 * Tells islands apart: two connected components of the overlay that do not know it, each node with
 * a full view of its own side. Nothing in the paper merges them.
 *
 * Each component has one root, the node that has been a root longest (ties: the lower hash). It
 * counts beats, which neighbours pass on along the active view: one small message per edge and
 * beat, whatever the cluster's size. Two nodes whose marks name different roots, or beats far
 * apart, live on different islands.
 */

/** Milliseconds between two beats of a root. */
export const BEAT_MS: number = 20_000;
/** A root that is silent for this long is gone, or on another island. */
const SILENCE_MS = 3 * BEAT_MS + 5_000;
/** Beats by which two nodes of one island may differ. */
const BEAT_SLACK = 2;
/** After the root has fallen silent, nodes notice at different times; until then nobody judges. */
const SETTLE_MS = BEAT_MS;
/** No root counts that far; a liar does. */
const MAX_BEAT = 2 ** 48;
/** Roots that were given up, remembered so that their last beat does not bring them back. */
const MAX_RETIRED = 8;

/** Which island a node lives on, as far as it knows. */
export interface IslandMark {
  /** 53-bit hash of the root's name and epoch. */
  readonly root: number;
  /** How often the root has counted. */
  readonly beat: number;
}

/** One node's view of its island. Pure: time comes in. */
export class Island {
  readonly #own: number;
  #root: number;
  #beat = 0;
  /** Where our own counting goes on when we become a root again: beats are never told twice. */
  #ownBeat = 0;
  #heardAt: number;
  #settledAt: number;
  readonly #retired = new Map<number, number>();

  /** `own` tells this life of this node from all others: see {@link rootOf}. */
  constructor(own: number, now: number) {
    this.#own = own;
    this.#root = own;
    this.#heardAt = now;
    this.#settledAt = now;
  }

  /** What we tell others. */
  get mark(): IslandMark {
    return { root: this.#root, beat: this.#beat };
  }

  /** To be called every {@link BEAT_MS}; whether the mark has changed and neighbours should hear it. */
  beat(now: number): boolean {
    if (this.#root === this.#own) {
      this.#beat = ++this.#ownBeat;
      this.#heardAt = now;
      return true;
    }
    if (now - this.#heardAt < SILENCE_MS) return false;
    this.#retire(this.#root, this.#beat);
    this.#root = this.#own;
    this.#beat = ++this.#ownBeat;
    this.#heardAt = now;
    this.#settledAt = now + SETTLE_MS;
    return true;
  }

  /**
   * Takes a neighbour's mark. `newer`: pass ours on; `merged`: pass it on, we have changed islands;
   * `behind`: the neighbour should hear ours; `same`: nothing to do.
   */
  hear(mark: IslandMark, now: number): "newer" | "merged" | "behind" | "same" {
    if (mark.beat > MAX_BEAT) return "same";
    if (mark.root === this.#root) {
      if (mark.beat <= this.#beat) return mark.beat === this.#beat ? "same" : "behind";
      // We missed several beats: we lived on an island and did not notice.
      const missed = mark.beat - this.#beat > BEAT_SLACK;
      this.#follow(mark, now);
      return missed ? "merged" : "newer";
    }
    const retired = this.#retired.get(mark.root);
    if (retired !== undefined && mark.beat <= retired) return "same";
    if (!outranks(mark, this.mark)) return "behind";
    this.#follow(mark, now);
    return "merged";
  }

  /** Whether a node with `mark` lives on another island. False while there is doubt. */
  isForeign(mark: IslandMark, now: number): boolean {
    if (mark.root === this.#root) return Math.abs(mark.beat - this.#beat) > BEAT_SLACK;
    if (now < this.#settledAt) return false;
    const retired = this.#retired.get(mark.root);
    return retired === undefined || mark.beat > retired + BEAT_SLACK;
  }

  #follow(mark: IslandMark, now: number): void {
    this.#root = mark.root;
    this.#beat = mark.beat;
    this.#heardAt = now;
    if (mark.root === this.#own) this.#ownBeat = mark.beat;
  }

  #retire(root: number, beat: number): void {
    this.#retired.delete(root);
    this.#retired.set(root, beat);
    if (this.#retired.size <= MAX_RETIRED) return;
    const oldest = this.#retired.keys().next().value;
    if (oldest !== undefined) this.#retired.delete(oldest);
  }
}

// The root that has counted longer wins, so that a newcomer never becomes the root of those it joins.
function outranks(mark: IslandMark, over: IslandMark): boolean {
  const lead = mark.beat - over.beat;
  return Math.abs(lead) >= 2 ? lead > 0 : mark.root < over.root;
}

/** The 53-bit hash that names a root (cyrb53; a collision only delays the merge of two islands). */
export function rootOf(name: string, epoch: number): number {
  const text = `${name}#${epoch}`;
  let high = 0xdeadbeef, low = 0x41c6ce57;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    high = Math.imul(high ^ code, 2654435761);
    low = Math.imul(low ^ code, 1597334677);
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909);
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909);
  return 4294967296 * (2097151 & low) + (high >>> 0);
}
