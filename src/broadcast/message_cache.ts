import type { NodeName } from "../wire/node_name.ts";
import type { Gossip, MessageId } from "./messages.ts";

/** Messages kept for those who missed them. */
export const MAX_CACHED: number = 4096;
/** Bytes of payload kept for those who missed them. */
export const MAX_CACHED_BYTES: number = 16 * 1024 * 1024;

/** A message that was delivered here and can still be asked for. */
export interface Cached {
  /** With the hops from its sender to us. */
  readonly gossip: Gossip;
  /** Who pushed it to us first; `undefined` for our own. */
  readonly from: NodeName | undefined;
  /** Whether it came on request, and the tree may still bring it. */
  isRescued: boolean;
  readonly at: number;
  /** How often it was sent again on request. */
  grafts: number;
}

/** The key of a message in maps. */
export function keyOf(id: MessageId): string {
  return `${id.origin}/${id.seq}`;
}

/** The latest messages, bounded by count and bytes; the oldest go first. */
export class MessageCache {
  readonly #byKey = new Map<string, Cached>();
  #bytes = 0;

  /** How many messages there are. */
  get size(): number {
    return this.#byKey.size;
  }

  /** Their payloads' bytes. */
  get bytes(): number {
    return this.#bytes;
  }

  /** One message. */
  get(key: string): Cached | undefined {
    return this.#byKey.get(key);
  }

  /** Adds a message that is not there. */
  add(key: string, cached: Cached): void {
    this.#byKey.set(key, cached);
    this.#bytes += cached.gossip.payload.length;
    for (const [oldest, { gossip }] of this.#byKey) {
      if (this.#byKey.size <= MAX_CACHED && this.#bytes <= MAX_CACHED_BYTES) break;
      this.#byKey.delete(oldest);
      this.#bytes -= gossip.payload.length;
    }
  }

  /** The latest messages since `since`, at most `count`, oldest first. */
  recent(since: number, count: number): Cached[] {
    const skip = this.#byKey.size - count;
    const recent: Cached[] = [];
    let index = 0;
    for (const cached of this.#byKey.values()) {
      if (index++ >= skip && cached.at >= since) recent.push(cached);
    }
    return recent;
  }
}
