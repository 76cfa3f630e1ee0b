/**
 * Finds out where two neighbours differ, at the price of what differs: root, stores, buckets,
 * vectors, and then each pulls what it lacks. One exchange runs at a time, so that a node that
 * joins learns everything from one peer, and asks the others when little is left to ask for.
 *
 * ```
 * A: ROOT ──────────────▶ B   equal: silence
 * A ◀────────────── STORES B
 * A: BUCKETS or VECTOR ──▶ B  for each store that differs
 * A ◀────────────── VECTOR B  the buckets that differ (when A sent BUCKETS)
 * each to the other: a VECTOR without mask with what the other lacks; each pulls
 * ```
 */
import { concat, equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { pick, randomFraction } from "../base/random.ts";
import { compareVersions } from "../crdt/version_vector.ts";
import type { NodeName } from "../wire/node_name.ts";
import { bucketOf, DIGEST_BYTES } from "./digests.ts";
import type { Head, OriginId } from "./head.ts";
import { BUCKETS, MAX_VECTOR } from "./limits.ts";
import { BUCKET_BYTES, MASK_BYTES } from "./messages.ts";
import type { ControlMessage, VectorEntry } from "./messages.ts";
import type { Puller } from "./puller.ts";
import type { Sha256 } from "./set_hash.ts";
import type { StoreState } from "./store_state.ts";
import type { SyncContext } from "./sync_context.ts";

/** An exchange with a peer that says nothing more ends after this many milliseconds. */
const EXCHANGE_MS = 2_000;
/** News learned from one neighbour are offered to the others after about this many milliseconds. */
const SPREAD_MS = 100;
/** A peer that left a pull unanswered is left alone for this long, in milliseconds. */
const SHUN_MS = 60_000;
/** A store with no more origins than this is compared by its vector at once: it is shorter. */
const SMALL_STORE = 16;

interface Exchange {
  readonly peer: NodeName;
  deadline: number;
  /** Whether the last vector was exchanged, so that only pulls may be left. */
  isCompared: boolean;
}

/** The comparing side of replication. */
export class AntiEntropy {
  readonly #context: SyncContext;
  readonly #puller: Puller;
  readonly #sha256: Sha256;
  readonly #intervalMs: number;
  /** Neighbours to send our root to, and when. */
  readonly #due = new Map<NodeName, number>();
  /** Peers that left us waiting, and until when we compare nothing with them. */
  readonly #shunned = new Map<NodeName, number>();
  #nextRoundAt: number;
  #exchange: Exchange | undefined;

  /** `intervalMs`: mean time between rounds with a random neighbour. */
  constructor(
    context: SyncContext,
    puller: Puller,
    sha256: Sha256,
    intervalMs: number,
    now: number,
  ) {
    this.#context = context;
    this.#puller = puller;
    this.#sha256 = sha256;
    this.#intervalMs = intervalMs;
    this.#nextRoundAt = now + this.#jittered(intervalMs);
  }

  /** A new neighbour: one of the two ends begins. */
  neighbourUp(peer: NodeName, now: number): void {
    if (this.#context.self < peer) this.#due.set(peer, now);
  }

  /** A peer that is gone. */
  peerGone(peer: NodeName): void {
    this.#due.delete(peer);
    if (this.#exchange?.peer === peer) this.#exchange = undefined;
  }

  /** A peer did not answer what it claimed to have. */
  shun(peer: NodeName, now: number): void {
    this.peerGone(peer);
    this.#shunned.set(peer, now + SHUN_MS);
    // Who else is there may have it.
    this.learned(peer, now);
  }

  /** We learned from `from` what no broadcast told: the other neighbours may lack it too. */
  learned(from: NodeName, now: number): void {
    for (const peer of this.#context.neighbours) {
      if (peer !== from && !this.#due.has(peer)) {
        this.#due.set(peer, now + this.#jittered(SPREAD_MS));
      }
    }
  }

  /** When `tick` has something to do. */
  wakeAt(): number {
    if (this.#exchange !== undefined) return this.#exchange.deadline;
    let at = this.#nextRoundAt;
    for (const dueAt of this.#due.values()) at = Math.min(at, dueAt);
    return at;
  }

  /** Ends what is over and begins what is due. */
  tick(now: number): void {
    this.#settle(now);
    if (now >= this.#nextRoundAt) {
      for (const [peer, until] of this.#shunned) if (until <= now) this.#shunned.delete(peer);
      this.#nextRoundAt = now + this.#jittered(this.#intervalMs);
      const peer = pick(this.#context.random, [...this.#context.neighbours]);
      if (peer !== undefined) this.#due.set(peer, now);
    }
    if (this.#exchange !== undefined || this.#due.size === 0) return;
    let root: Bytes | undefined;
    for (const [peer, at] of [...this.#due]) {
      if (at > now) continue;
      this.#due.delete(peer);
      if (!this.#context.neighbours.has(peer)) continue;
      root ??= this.#root();
      this.#context.sendControl(peer, { type: "root", digest: root });
    }
  }

  /** A message that compares. */
  onMessage(from: NodeName, message: ControlMessage, now: number): void {
    if ((this.#shunned.get(from) ?? 0) > now) return;
    switch (message.type) {
      case "root":
        return this.#onRoot(from, message.digest, now);
      case "stores":
        return this.#onStores(from, message.stores, now);
      case "buckets": {
        const store = this.#context.stores.get(message.store);
        if (store !== undefined) this.#sendVector(from, store, differing(store, message.digests));
        return;
      }
      case "vector": {
        const store = this.#context.stores.get(message.store);
        if (store !== undefined) this.#onVector(from, store, message.mask, message.entries, now);
        return;
      }
      case "pull":
        throw new Error("a pull is for the pull server");
    }
  }

  #onRoot(from: NodeName, digest: Bytes, now: number): void {
    this.#settle(now);
    this.#due.delete(from);
    if (equalBytes(digest, this.#root())) return;
    if (!this.#begin(from, now)) return;
    const stores = [...this.#context.stores.values()]
      .map((store) => ({ name: store.name, root: store.digests.root() }));
    this.#context.sendControl(from, { type: "stores", stores });
  }

  #onStores(
    from: NodeName,
    stores: readonly { readonly name: string; readonly root: Bytes }[],
    now: number,
  ): void {
    this.#settle(now);
    if (!this.#begin(from, now)) return;
    let differs = false;
    for (const { name, root } of stores) {
      const store = this.#context.relay(name);
      if (store === undefined || equalBytes(store.digests.root(), root)) continue;
      differs = true;
      if (store.originCount <= SMALL_STORE) {
        this.#sendVector(from, store, new Uint8Array(MASK_BYTES).fill(0xff));
      } else {
        const digests = concat(
          range(BUCKETS).map((bucket) => store.digests.bucket(bucket).subarray(0, BUCKET_BYTES)),
        );
        this.#context.sendControl(from, { type: "buckets", store: name, digests });
      }
    }
    if (!differs) this.#exchange = undefined;
  }

  #onVector(
    from: NodeName,
    store: StoreState,
    mask: Bytes,
    entries: readonly VectorEntry[],
    now: number,
  ): void {
    const told = new Set<OriginId>();
    const ahead: [OriginId, Head][] = [];
    for (const { origin, version, tag } of entries) {
      told.add(origin);
      const head = store.headOf(origin);
      const order = compareVersions(version, store.version(origin)) ||
        (head === undefined ? 1 : tag - tagOf(head));
      if (order > 0) {
        if (store.isClosed(origin, version)) continue;
        // Equal versions with different rows: only all of them tell.
        const isFull = head !== undefined && compareVersions(version, head) === 0;
        this.#puller.want(store.name, origin, { peer: from, isFull }, now);
      } else if (order < 0 && head !== undefined) {
        ahead.push([origin, head]);
      }
    }
    const buckets = range(BUCKETS).filter((bucket) => isSet(mask, bucket));
    for (const bucket of buckets) {
      for (const member of store.digests.members(bucket)) {
        if (!told.has(member[0])) ahead.push(member);
      }
    }
    if (buckets.length > 0) this.#sendEntries(from, store, new Uint8Array(MASK_BYTES), ahead);
    const exchange = this.#exchange;
    if (exchange?.peer === from) exchange.isCompared = true;
  }

  // Whether an exchange with `peer` may go on or begin; otherwise it is due later.
  #begin(peer: NodeName, now: number): boolean {
    if (this.#exchange !== undefined && this.#exchange.peer !== peer) {
      this.#due.set(peer, now + SPREAD_MS);
      return false;
    }
    const deadline = this.#exchange?.deadline ?? now + EXCHANGE_MS;
    this.#exchange = { peer, deadline, isCompared: false };
    return true;
  }

  #settle(now: number): void {
    const exchange = this.#exchange;
    if (exchange === undefined) return;
    if (!this.#puller.isIdle(exchange.peer)) exchange.deadline = now + EXCHANGE_MS;
    else if (exchange.isCompared || exchange.deadline <= now) this.#exchange = undefined;
  }

  #sendVector(to: NodeName, store: StoreState, mask: Bytes): void {
    const members: [OriginId, Head][] = [];
    for (const bucket of range(BUCKETS)) {
      if (isSet(mask, bucket)) members.push(...store.digests.members(bucket));
    }
    this.#sendEntries(to, store, mask, members);
  }

  // Large vectors go in parts, each with the buckets of its entries; where one bucket fills two
  // parts, the peer tells us of some origins in vain.
  #sendEntries(
    to: NodeName,
    store: StoreState,
    mask: Bytes,
    members: readonly [OriginId, Head][],
  ): void {
    const isHint = mask.every((byte) => byte === 0);
    for (let i = 0; i === 0 || i < members.length; i += MAX_VECTOR) {
      const part = members.slice(i, i + MAX_VECTOR);
      let buckets = part.map(([origin]) => bucketOf(origin));
      if (i === 0) {
        // Buckets without a single entry belong to the first part.
        const later = new Set(members.slice(MAX_VECTOR).map(([origin]) => bucketOf(origin)));
        buckets = range(BUCKETS).filter((bucket) => isSet(mask, bucket) && !later.has(bucket));
      }
      this.#context.sendControl(to, {
        type: "vector",
        store: store.name,
        mask: isHint ? mask : maskOf(buckets),
        entries: part.map(([origin, head]) => ({
          origin,
          version: { epoch: head.epoch, seq: head.seq },
          tag: tagOf(head),
        })),
      });
    }
  }

  #root(): Bytes {
    const stores = [...this.#context.stores.values()].sort((a, b) => a.name < b.name ? -1 : 1);
    return this.#sha256(concat(stores.map((store) => store.digests.root())))
      .subarray(0, DIGEST_BYTES);
  }

  #jittered(ms: number): number {
    return ms * (0.5 + randomFraction(this.#context.random));
  }
}

function differing(store: StoreState, digests: Bytes): Bytes {
  const buckets = range(BUCKETS).filter((bucket) => {
    const theirs = digests.subarray(bucket * BUCKET_BYTES, (bucket + 1) * BUCKET_BYTES);
    return !equalBytes(theirs, store.digests.bucket(bucket).subarray(0, BUCKET_BYTES));
  });
  return maskOf(buckets);
}

function maskOf(buckets: readonly number[]): Bytes {
  const mask = new Uint8Array(MASK_BYTES);
  for (const bucket of buckets) {
    mask[bucket >> 3] = (mask[bucket >> 3] as number) | 1 << (bucket & 7);
  }
  return mask;
}

function isSet(mask: Bytes, bucket: number): boolean {
  return ((mask[bucket >> 3] as number) >> (bucket & 7) & 1) === 1;
}

function tagOf(head: Head): number {
  return new DataView(head.hash.buffer, head.hash.byteOffset, 4).getUint32(0);
}

function range(length: number): number[] {
  return Array.from({ length }, (_, i) => i);
}
