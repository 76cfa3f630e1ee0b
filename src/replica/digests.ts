/**
 * Digests of how far a store knows its origins: one root, and one for each bucket of origins, so
 * that two peers that agree say so in 16 bytes, and two that differ find where without telling
 * each other everything. Only buckets that changed are hashed again.
 */
import { concat } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { originBytes } from "./head.ts";
import type { Head, OriginId } from "./head.ts";
import { BUCKETS } from "./limits.ts";
import type { Sha256 } from "./set_hash.ts";

/** Bytes of a digest. */
export const DIGEST_BYTES = 16;

/** The digests of one store. */
export class Digests {
  readonly #sha256: Sha256;
  readonly #buckets: Map<OriginId, Head>[] = Array.from({ length: BUCKETS }, () => new Map());
  readonly #cached: (Bytes | undefined)[] = new Array(BUCKETS);
  #root: Bytes | undefined;

  constructor(sha256: Sha256) {
    this.#sha256 = sha256;
  }

  /** Says how far an origin is known; `undefined` leaves it out. */
  set(origin: OriginId, head: Head | undefined): void {
    const bucket = bucketOf(origin);
    const members = this.members(bucket);
    if (head !== undefined) members.set(origin, head);
    else if (!members.delete(origin)) return;
    this.#cached[bucket] = undefined;
    this.#root = undefined;
  }

  /** The origins of a bucket. */
  members(bucket: number): Map<OriginId, Head> {
    return this.#buckets[bucket] as Map<OriginId, Head>;
  }

  /** The digest of a bucket. */
  bucket(bucket: number): Bytes {
    return this.#cached[bucket] ??= this.#hash(this.members(bucket));
  }

  /** The digest of all buckets. */
  root(): Bytes {
    return this.#root ??= this.#sha256(
      concat(this.#buckets.map((_, bucket) => this.bucket(bucket))),
    ).subarray(0, DIGEST_BYTES);
  }

  #hash(members: Map<OriginId, Head>): Bytes {
    const parts: Uint8Array[] = [];
    for (const origin of [...members.keys()].sort()) {
      const head = members.get(origin) as Head;
      const numbers = new DataView(new ArrayBuffer(16));
      numbers.setBigUint64(0, BigInt(head.epoch));
      numbers.setBigUint64(8, BigInt(head.seq));
      parts.push(originBytes(origin), new Uint8Array(numbers.buffer), head.hash);
    }
    return this.#sha256(concat(parts)).subarray(0, DIGEST_BYTES);
  }
}

/** The bucket of an origin. */
export function bucketOf(origin: OriginId): number {
  return origin.charCodeAt(0) % BUCKETS;
}
