import { randomBelow, sample } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { NodeName } from "../wire/node_name.ts";
import { backoffMs } from "./backoff.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";

/** Failures in a row after which a peer is dropped. */
const MAX_FAILURES: number = 5;
/** An entry that we have not heard from for this long goes first. */
const STALE_MS = 300_000;
/** How long hearsay about a peer that we found dead is not believed. */
const BANISH_MS = 3_600_000;
/** Peers whose failures are remembered though they left the view. */
const MAX_TROUBLED = 256;

interface Slot {
  entry: PeerEntry;
  /** When we ourselves heard from it, or first of it. */
  seenAt: number;
}

interface Trouble {
  /** Attempts in a row that did not reach it. */
  failures: number;
  /** Requests in a row that it refused. */
  refusals: number;
  retryAt: number;
  readonly epoch: number;
}

/**
 * The passive view: peers to turn to when a neighbour is lost. Bounded; knows which were tried in
 * vain and when to try them again.
 */
export class PassiveView {
  readonly #limit: number;
  readonly #random: Random;
  readonly #slots = new Map<NodeName, Slot>();
  readonly #trouble = new Map<NodeName, Trouble>();

  constructor(limit: number, random: Random) {
    this.#limit = limit;
    this.#random = random;
  }

  /** How many peers it holds. */
  get size(): number {
    return this.#slots.size;
  }

  /** The peers' names. */
  names(): NodeName[] {
    return [...this.#slots.keys()];
  }

  /** The entry of one peer. */
  get(name: NodeName): PeerEntry | undefined {
    return this.#slots.get(name)?.entry;
  }

  /** Up to `count` entries at random, never that of `except`. */
  sample(count: number, except: NodeName): PeerEntry[] {
    const chosen = sample(this.#random, this.#slots.values(), count + 1);
    return chosen.map((slot) => slot.entry).filter((entry) => entry.name !== except).slice(
      0,
      count,
    );
  }

  /**
   * Adds hearsay, or refreshes it; whether the peer is new here. Makes room by dropping, in this
   * order, a peer of `sent` (the other side has it now), one in trouble, a stale one, any.
   */
  add(entry: PeerEntry, now: number, sent: NodeName[] = []): boolean {
    if (this.#limit === 0) return false;
    const slot = this.#slots.get(entry.name);
    if (slot !== undefined) {
      // That others still name it is no sign of life: `seenAt` is ours alone.
      if (entry.epoch > slot.entry.epoch) slot.entry = entry;
      return false;
    }
    const trouble = this.#trouble.get(entry.name);
    if (trouble !== undefined) {
      // Others still spread what we found dead, and would infect us for ever with the same life.
      const dropped = trouble.failures >= MAX_FAILURES && now < trouble.retryAt;
      if (dropped && entry.epoch <= trouble.epoch) return false;
      if (entry.epoch > trouble.epoch) this.#trouble.delete(entry.name);
    }
    if (this.#slots.size >= this.#limit) this.#dropOne(now, sent);
    this.#slots.set(entry.name, { entry, seenAt: now });
    return true;
  }

  /** A link has proved that the peer lives: what was held against it is forgotten. */
  heard(peer: Peer, entry: PeerEntry, now: number): void {
    this.#trouble.delete(peer.name);
    const slot = this.#slots.get(peer.name);
    if (slot === undefined) return;
    slot.entry = entry;
    slot.seenAt = now;
  }

  /** Takes a peer out; what is held against it stays known. */
  remove(name: NodeName): void {
    this.#slots.delete(name);
  }

  /**
   * An attempt did not reach the peer. Returns its entry when that was one failure too many and it
   * has been dropped.
   */
  failed(peer: PeerEntry, now: number): PeerEntry | undefined {
    const trouble = this.#troubleOf(peer);
    // Several messages lost at once are one failure.
    if (trouble.failures > 0 && now < trouble.retryAt) return undefined;
    trouble.failures++;
    trouble.retryAt = now + backoffMs(trouble.failures);
    if (trouble.failures < MAX_FAILURES) return undefined;
    return this.banish(peer, now);
  }

  /** The peer answered and refused: a wait that grows, and no failure. */
  refused(peer: PeerEntry, now: number): void {
    const trouble = this.#troubleOf(peer);
    trouble.failures = 0;
    trouble.refusals++;
    trouble.retryAt = now + backoffMs(trouble.refusals + 1);
  }

  /** Forgets all failures and refusals. */
  pardon(): void {
    this.#trouble.clear();
  }

  /** Drops the peer and does not believe others who still name this life of it, for a while. */
  banish(peer: PeerEntry, now: number): PeerEntry {
    const trouble = this.#troubleOf(peer);
    trouble.failures = Math.max(trouble.failures, MAX_FAILURES);
    trouble.retryAt = now + BANISH_MS;
    this.#slots.delete(peer.name);
    return peer;
  }

  /** A peer worth asking now, at random: first those that nothing is known against. */
  candidate(now: number, taken: (name: NodeName) => boolean): PeerEntry | undefined {
    let best: PeerEntry | undefined;
    let bestFailures = Infinity;
    let equals = 0;
    for (const [name, slot] of this.#slots) {
      const trouble = this.#trouble.get(name);
      if ((trouble !== undefined && trouble.retryAt > now) || taken(name)) continue;
      const failures = trouble?.failures ?? 0;
      if (failures > bestFailures) continue;
      equals = failures < bestFailures ? 1 : equals + 1;
      bestFailures = failures;
      // Reservoir of one: each of the equals is as likely.
      if (randomBelow(this.#random, equals) === 0) best = slot.entry;
    }
    return best;
  }

  /** Whether it holds nobody but those who could not be reached when last tried. */
  get isExhausted(): boolean {
    for (const name of this.#slots.keys()) {
      if ((this.#trouble.get(name)?.failures ?? 0) === 0) return false;
    }
    return true;
  }

  /** The earliest time at which a peer that must wait may be asked again; `Infinity` when none waits. */
  nextRetryAt(now: number): number {
    let next = Infinity;
    for (const name of this.#slots.keys()) {
      const retryAt = this.#trouble.get(name)?.retryAt;
      if (retryAt !== undefined && retryAt > now && retryAt < next) next = retryAt;
    }
    return next;
  }

  /** The peer that was not heard of for longest. */
  stalest(): PeerEntry | undefined {
    let stalest: Slot | undefined;
    for (const slot of this.#slots.values()) {
      if (stalest === undefined || slot.seenAt < stalest.seenAt) stalest = slot;
    }
    return stalest?.entry;
  }

  /** Forgets everything. */
  clear(): void {
    this.#slots.clear();
    this.#trouble.clear();
  }

  #dropOne(now: number, sent: NodeName[]): void {
    // Those just sent go first (paper §4.4): taken from the end, each once.
    for (let name = sent.pop(); name !== undefined; name = sent.pop()) {
      if (this.#slots.delete(name)) return;
    }
    let victim: NodeName | undefined;
    let equals = 0;
    let worst = 0;
    for (const [name, slot] of this.#slots) {
      const troubled = (this.#trouble.get(name)?.failures ?? 0) > 0;
      const badness = troubled ? 2 : now - slot.seenAt > STALE_MS ? 1 : 0;
      if (badness < worst) continue;
      equals = badness > worst ? 1 : equals + 1;
      worst = badness;
      if (randomBelow(this.#random, equals) === 0) victim = name;
    }
    if (victim !== undefined) this.#slots.delete(victim);
  }

  #troubleOf(peer: PeerEntry): Trouble {
    const known = this.#trouble.get(peer.name);
    if (known !== undefined && known.epoch >= peer.epoch) return known;
    const trouble: Trouble = { failures: 0, refusals: 0, retryAt: 0, epoch: peer.epoch };
    this.#trouble.delete(peer.name);
    this.#trouble.set(peer.name, trouble);
    if (this.#trouble.size > MAX_TROUBLED) {
      const oldest = this.#trouble.keys().next().value;
      if (oldest !== undefined) this.#trouble.delete(oldest);
    }
    return trouble;
  }
}
