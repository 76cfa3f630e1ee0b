import { Heap } from "../base/heap.ts";
import type { NodeName } from "../wire/node_name.ts";
import { keyOf } from "./message_cache.ts";
import type { Announcement, MessageId } from "./messages.ts";

/** Messages announced to us and not received, in all. */
export const MAX_MISSING: number = 16_384;
/** Of those, the ones that one peer was the first to announce. */
export const MAX_MISSING_BY_PEER: number = 4_096;
/** Announcers remembered for one message. */
const MAX_ANNOUNCERS = 8;

/** A message that others have and we do not. */
export interface Missing {
  readonly id: MessageId;
  readonly tree: number;
  /** Who has it and was not asked yet, in the order of the announcements. */
  readonly announcers: NodeName[];
  /** The peer that accounts for this entry. */
  readonly first: NodeName;
  readonly announcedAt: number;
  /** When to ask the next announcer. */
  dueAt: number;
  /** Whom we asked last, and when. */
  asked: NodeName | undefined;
  askedAt: number;
  /** Whether it was none of those that push the tree's messages to us. */
  grafted: boolean;
}

/** The queue of announcers of each missing message, with its timer. Bounded, in all and by peer. */
export class MissingTable {
  readonly #byKey = new Map<string, Missing>();
  readonly #byPeer = new Map<NodeName, number>();
  /** Those of each tree that nobody was asked for yet. */
  readonly #unasked = new Map<number, Set<Missing>>();
  // Entries that went or got another time meanwhile stay until their time comes.
  readonly #queue = new Heap<{ at: number; missing: Missing }>((a, b) => a.at < b.at);

  /** How many messages are missing. */
  get size(): number {
    return this.#byKey.size;
  }

  /** When the next timer ends; `Infinity` when none runs. */
  get nextAt(): number {
    return this.#queue.peek()?.at ?? Infinity;
  }

  /** Notes that `peer` has a message; `false` when there is no room for another. */
  announce(
    { origin, seq, tree }: Announcement,
    peer: NodeName,
    now: number,
    dueAt: number,
  ): boolean {
    const id = { origin, seq };
    const key = keyOf(id);
    const known = this.#byKey.get(key);
    if (known !== undefined) {
      const { announcers } = known;
      const again = announcers.includes(peer) || known.asked === peer;
      if (!again && announcers.length < MAX_ANNOUNCERS) announcers.push(peer);
      return true;
    }
    const charged = this.#byPeer.get(peer) ?? 0;
    if (charged >= MAX_MISSING_BY_PEER || this.#byKey.size >= MAX_MISSING) return false;
    const missing: Missing = {
      id,
      tree,
      announcers: [peer],
      first: peer,
      announcedAt: now,
      dueAt,
      asked: undefined,
      askedAt: 0,
      grafted: false,
    };
    this.#byKey.set(key, missing);
    const unasked = this.#unasked.get(tree) ?? new Set();
    this.#unasked.set(tree, unasked.add(missing));
    this.#byPeer.set(peer, charged + 1);
    this.#queue.push({ at: dueAt, missing });
    return true;
  }

  /** Takes a message out: it came, or nobody is left to ask. */
  delete(key: string): Missing | undefined {
    const missing = this.#byKey.get(key);
    if (missing === undefined) return undefined;
    this.#byKey.delete(key);
    this.#unasked.get(missing.tree)?.delete(missing);
    const charged = (this.#byPeer.get(missing.first) ?? 1) - 1;
    if (charged > 0) this.#byPeer.set(missing.first, charged);
    else this.#byPeer.delete(missing.first);
    return missing;
  }

  /** Takes one entry whose time has come; it has no timer until {@link postpone}. */
  takeDue(now: number): Missing | undefined {
    for (let next = this.#queue.peek(); next !== undefined; next = this.#queue.peek()) {
      const { at, missing } = next;
      if (at > now) return undefined;
      this.#queue.pop();
      if (missing.dueAt !== at || this.#byKey.get(keyOf(missing.id)) !== missing) continue;
      this.#unasked.get(missing.tree)?.delete(missing);
      return missing;
    }
    return undefined;
  }

  /** Ends the wait for what a tree was to bring; whoever was asked already has its time. */
  hurry(tree: number, now: number): void {
    const unasked = this.#unasked.get(tree);
    if (unasked === undefined) return;
    for (const missing of unasked) if (missing.dueAt > now) this.postpone(missing, now);
    unasked.clear();
  }

  /** Sets the timer of an entry anew. */
  postpone(missing: Missing, dueAt: number): void {
    missing.dueAt = dueAt;
    this.#queue.push({ at: dueAt, missing });
  }
}
