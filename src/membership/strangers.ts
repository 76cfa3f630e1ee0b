import type { NodeName } from "../wire/node_name.ts";
import { backoffMs } from "./backoff.ts";
import type { PeerEntry } from "./peer_entry.ts";

/** Strangers remembered; the oldest goes first. */
const MAX_STRANGERS = 64;
/** Probes in vain after which a stranger is forgotten: about an hour of them. */
const MAX_PROBES = 16;

interface Stranger {
  readonly entry: PeerEntry;
  probes: number;
  retryAt: number;
}

/**
 * Nodes that we once knew, or were told of, and lost sight of: neighbours whose link broke, peers
 * given up after failures or declared down, and those known to the roster only. One is probed now and then, since after a long
 * partition they are the only ones left who know the other side.
 */
export class Strangers {
  readonly #byName = new Map<NodeName, Stranger>();

  /** The entry of one stranger. */
  get(name: NodeName): PeerEntry | undefined {
    return this.#byName.get(name)?.entry;
  }

  /** Adds a stranger, or a newer life of one. */
  add(entry: PeerEntry, now: number): void {
    const known = this.#byName.get(entry.name);
    if (known !== undefined && known.entry.epoch >= entry.epoch) return;
    this.#byName.delete(entry.name);
    if (this.#byName.size >= MAX_STRANGERS) {
      const oldest = this.#byName.keys().next().value;
      if (oldest !== undefined) this.#byName.delete(oldest);
    }
    this.#byName.set(entry.name, { entry, probes: 0, retryAt: now });
  }

  /** It is known again, or shall be forgotten. */
  remove(name: NodeName): void {
    this.#byName.delete(name);
  }

  /** The next stranger to probe, if one is due; it goes to the end of the line. */
  take(now: number): PeerEntry | undefined {
    for (const [name, stranger] of this.#byName) {
      if (stranger.retryAt > now) continue;
      this.#byName.delete(name);
      stranger.probes++;
      stranger.retryAt = now + backoffMs(stranger.probes);
      if (stranger.probes < MAX_PROBES) this.#byName.set(name, stranger);
      return stranger.entry;
    }
    return undefined;
  }

  /** All may be probed again at once. */
  pardon(): void {
    for (const stranger of this.#byName.values()) {
      stranger.probes = 0;
      stranger.retryAt = 0;
    }
  }

  /** Forgets everybody. */
  clear(): void {
    this.#byName.clear();
  }
}
