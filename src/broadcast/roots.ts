import { treeOf, TREES } from "./messages.ts";
import type { Gossip, MessageId } from "./messages.ts";

/** A root shapes its tree once in this time at most: until then its last message has arrived. */
const SHAPING_MS = 1_000;
/** A message shapes its tree if no other went along it for this long, milliseconds. */
const QUIET_MS = 2_000;
/** A root that sends nothing for this long gives way to another sender, milliseconds. */
const SILENCE_MS = 180_000;
/** Once others use its tree, a root shapes it so many times in a row, so often, milliseconds… */
const ROUNDS = 12;
const ROUND_MS = 2_000;
/** …and later once in this time, or sooner after so many messages, while others use it. */
const PAUSE_MS = 60_000;
const BUSY_PAUSE_MS = 5_000;
const BUSY_MESSAGES = 32;

interface Root {
  readonly origin: number;
  /** When it sent last. */
  at: number;
  /** Its latest message that shapes the tree. */
  shape: number;
}

/**
 * Who may shape which tree. Departure from the paper, where every message does: with many messages
 * under way, two of them cut one cycle in two places and the tree falls apart; and senders that all
 * pull one tree towards themselves make it longer for everybody. Here the tree takes its shape from
 * messages that are marked for it: those of the tree's root, the sender with the lowest number
 * among those who still send, and those that travel alone.
 */
export class Roots {
  readonly #own: number;
  readonly #ownTree: number;
  readonly #roots: (Root | undefined)[] = new Array(TREES).fill(undefined);
  /** When our own tree was last used. */
  #usedAt = -Infinity;
  #shapedAt = -Infinity;
  #rounds = 0;
  /** Messages of others since we shaped our tree as its root. */
  #foreign = 0;
  #dueAt = Infinity;

  /** `own` is our own number as a sender. */
  constructor(own: number) {
    this.#own = own;
    this.#ownTree = treeOf(own);
  }

  /** When {@link takeDue} should be asked; `Infinity` when never. */
  get wakeAt(): number {
    return this.#dueAt;
  }

  /** Whether the message that we are about to send may shape its tree; if so, it counts as sent. */
  mayShape(now: number): boolean {
    const isAlone = now - this.#usedAt >= QUIET_MS;
    const may = isAlone || (this.#isOurs(now) && now - this.#shapedAt >= SHAPING_MS);
    if (may) this.#shapedAt = now;
    return may;
  }

  /** A new message went along its tree. */
  saw({ origin, seq, shaping }: Gossip, now: number): void {
    const tree = treeOf(origin);
    if (tree === this.#ownTree) this.#usedAt = now;
    const root = this.#roots[tree];
    if (root === undefined || origin < root.origin || now - root.at > SILENCE_MS) {
      if (tree === this.#ownTree && root?.origin !== origin) this.#rounds = 0;
      this.#roots[tree] = { origin, at: now, shape: shaping ? seq : 0 };
    } else if (origin === root.origin) {
      root.at = now;
      if (shaping) root.shape = Math.max(root.shape, seq);
    } else if (root.origin === this.#own) this.#plan(1, now);
  }

  /** Whether this is the message that the tree takes its shape from now. */
  isLatestShape(id: MessageId): boolean {
    const root = this.#roots[treeOf(id.origin)];
    return root !== undefined && root.origin === id.origin && root.shape === id.seq;
  }

  /** Whether we are to send an empty message now, as the root of a tree that others use. */
  takeDue(now: number): boolean {
    if (this.#dueAt > now) return false;
    this.#dueAt = Infinity;
    if (!this.#isOurs(now)) return false;
    this.#rounds++;
    this.#foreign = 0;
    // The message itself is about to be sent; the next one is planned from now.
    this.#plan(0, now, now);
    return true;
  }

  #plan(foreign: number, now: number, shapedAt: number = this.#shapedAt): void {
    this.#foreign += foreign;
    if (this.#foreign === 0 && this.#rounds >= ROUNDS) return;
    const pause = this.#rounds < ROUNDS
      ? ROUND_MS
      : this.#foreign < BUSY_MESSAGES
      ? PAUSE_MS
      : BUSY_PAUSE_MS;
    this.#dueAt = Math.min(this.#dueAt, Math.max(now, shapedAt + pause));
  }

  #isOurs(now: number): boolean {
    const root = this.#roots[this.#ownTree];
    return root === undefined || this.#own <= root.origin || now - root.at > SILENCE_MS;
  }
}
