/**
 * An incremental hash of a set of rows: equal for equal sets whatever the order in which they were
 * built, updated in O(1) for each row that comes or goes. The author signs it; who holds exactly
 * these rows, and no one else, can show the same value.
 *
 * Each row's SHA-256 is expanded to 2,048 bits and the expansions are added up (AdHash: Bellare and
 * Micciancio, EUROCRYPT 1997). The width matters: a relay that may choose its forged rows finds
 * a set with a given sum by Wagner's k-list algorithm (CRYPTO 2002) in about
 * k · 2^(bits / (1 + log2 k)), which for 256 bits and 4,096 rows is a mere 2^32. With 2,048 bits
 * and at most 65,536 rows it is 2^136.
 */
import type { Bytes } from "../base/bytes.ts";
import type { Crypto } from "../base/crypto.ts";
import { utf8 } from "../base/bytes.ts";
import { varintLength, writeVarint } from "../wire/varint.ts";

/** The one hash that the replica needs. */
export type Sha256 = Crypto["sha256"];

const LANES = 64;
const LANES_PER_DIGEST = 8;

/** The sum over a set of rows. */
export class SetHash {
  readonly #sha256: Sha256;
  readonly #lanes: Uint32Array;

  /** The hash of the empty set, or a copy of `from`. */
  constructor(sha256: Sha256, from?: SetHash) {
    this.#sha256 = sha256;
    this.#lanes = from === undefined ? new Uint32Array(LANES) : from.#lanes.slice();
  }

  /** Adds a row that is not in the set. */
  add(seq: number, key: string, value: Uint8Array): void {
    this.#fold(seq, key, value, 1);
  }

  /** Takes a row of the set out. */
  remove(seq: number, key: string, value: Uint8Array): void {
    this.#fold(seq, key, value, -1);
  }

  /** The 32 bytes that stand for the set. */
  digest(): Bytes {
    const bytes = new Uint8Array(LANES * 4);
    const view = new DataView(bytes.buffer);
    for (let i = 0; i < LANES; i++) view.setUint32(i * 4, this.#lanes[i] as number);
    return this.#sha256(bytes);
  }

  #fold(seq: number, key: string, value: Uint8Array, sign: 1 | -1): void {
    const seed = new Uint8Array(33);
    seed.set(this.#sha256(rowBytes(seq, key, value)));
    for (let block = 0; block < LANES / LANES_PER_DIGEST; block++) {
      seed[32] = block;
      const digest = this.#sha256(seed);
      for (let i = 0; i < LANES_PER_DIGEST; i++) {
        const lane = block * LANES_PER_DIGEST + i;
        this.#lanes[lane] = (this.#lanes[lane] as number) + sign * uint32(digest, i * 4);
      }
    }
  }
}

function rowBytes(seq: number, key: string, value: Uint8Array): Bytes {
  const keyBytes = utf8(key);
  const { length } = keyBytes;
  const headLength = varintLength(seq) + varintLength(length);
  const bytes = new Uint8Array(headLength + length + value.length);
  writeVarint(bytes, writeVarint(bytes, 0, seq), length);
  bytes.set(keyBytes, headLength);
  bytes.set(value, headLength + length);
  return bytes;
}

// Without a DataView, which costs more than the four reads.
function uint32(bytes: Uint8Array, at: number): number {
  return ((bytes[at] as number) << 24 | (bytes[at + 1] as number) << 16 |
    (bytes[at + 2] as number) << 8 | (bytes[at + 3] as number)) >>> 0;
}
