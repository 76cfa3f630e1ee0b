/**
 * Heads: an author's signed word about all its rows in one store. Nothing of an origin advances
 * without one, so whoever relays rows can neither forge, change, hide nor delete any.
 */
import { concat, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { varintLength, writeVarint } from "../wire/varint.ts";
import type { Sha256 } from "./set_hash.ts";
import { kindOf } from "./store_kind.ts";

/** Who wrote: the first 16 bytes of the SHA-256 of the author's public key, one char a byte. */
export type OriginId = string;

/** What an author signs. */
export interface HeadBody {
  /** The author's Ed25519 public key, 32 bytes. */
  readonly author: Bytes;
  /** The author's life. */
  readonly epoch: number;
  /** Its last operation in this store that the head covers. */
  readonly seq: number;
  /** The digest of its live rows after that operation: `SetHash`, 32 bytes. */
  readonly hash: Bytes;
}

/** A {@link HeadBody} and the author's signature over it. */
export interface Head extends HeadBody {
  readonly signature: Bytes;
}

/** A head that nobody signed: what a damaged disk keeps of a life of ours until it is signed anew. */
export function unsignedHead({ author, epoch, seq }: Omit<HeadBody, "hash">): Head {
  return { author, epoch, seq, hash: new Uint8Array(32), signature: new Uint8Array(64) };
}

/** Whether a head is an {@link unsignedHead}. */
export function isUnsigned({ signature }: Head): boolean {
  return signature.every((byte) => byte === 0);
}

/** The bytes of an {@link OriginId}. */
export const ORIGIN_BYTES = 16;

const LABEL = utf8("barrel/1 replica head");
const LIFE_LABEL = utf8("barrel/1 replica life");

/** The origin of a public key. */
export function originOf(publicKey: Uint8Array, sha256: Sha256): OriginId {
  return toOrigin(sha256(publicKey).subarray(0, ORIGIN_BYTES));
}

/**
 * The origin of an author's life in a store. In a store of shared rows each life is an origin of
 * its own, so that a new life replaces nothing that an earlier one wrote.
 */
export function originIn(
  store: string,
  publicKey: Uint8Array,
  epoch: number,
  sha256: Sha256,
): OriginId {
  if (kindOf(store) === "own") return originOf(publicKey, sha256);
  const life = new Uint8Array(varintLength(epoch));
  writeVarint(life, 0, epoch);
  return toOrigin(sha256(concat([LIFE_LABEL, publicKey, life])).subarray(0, ORIGIN_BYTES));
}

/** Sixteen bytes as an {@link OriginId}. */
export function toOrigin(bytes: Uint8Array): OriginId {
  return String.fromCharCode(...bytes);
}

/** The bytes of an origin. */
export function originBytes(origin: OriginId): Bytes {
  const bytes = new Uint8Array(ORIGIN_BYTES);
  for (let i = 0; i < ORIGIN_BYTES; i++) bytes[i] = origin.charCodeAt(i);
  return bytes;
}

/** What the signature of a head covers; the store's name keeps heads of two stores apart. */
export function headMessage(store: string, head: HeadBody): Bytes {
  const name = utf8(store);
  const numbers = new Uint8Array(varintLength(head.epoch) + varintLength(head.seq));
  writeVarint(numbers, writeVarint(numbers, 0, head.epoch), head.seq);
  return concat([LABEL, new Uint8Array([name.length]), name, head.author, numbers, head.hash]);
}
