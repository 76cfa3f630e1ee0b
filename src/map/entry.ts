/**
 * The rows of a map's store. A row is what one replica has to say about a key: a value, or that
 * there is none, and in both cases which dots of other replicas it knew and replaces (`over`). One
 * sequence number an origin is enough: an origin has one row a key, and a later one replaces it.
 */
import type { Bytes } from "../base/bytes.ts";
import { stampFromBytes, stampToBytes } from "../crdt/hlc.ts";
import type { Stamp } from "../crdt/hlc.ts";
import { ORIGIN_BYTES, originBytes, toOrigin } from "../replica/head.ts";
import type { OriginId } from "../replica/head.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { ByteReader } from "../wire/varint.ts";

/** A value of a map, encoded, in bytes. */
export const MAX_MAP_VALUE_BYTES: number = 4096;
/** A key of a map, in UTF-8 bytes. */
export const MAX_MAP_KEY_BYTES: number = 255;
/** Origins that one row replaces rows of. With a value and all of these a row fits a store. */
export const MAX_OVER: number = 160;

/** The last dot of each origin that a row knew and replaces. */
export type Over = ReadonlyMap<OriginId, number>;

/** What a row says. */
export type Entry =
  | {
    readonly type: "put";
    readonly over: Over;
    readonly stamp: Stamp;
    readonly value: Bytes;
    /**
     * Of a write that is written again, since it replaces more: the dot that it had first. Who
     * replaced that has replaced this row, too. From 1 on.
     */
    readonly born?: number;
  }
  | { readonly type: "removed"; readonly over: Over };

const Kind = { PUT: 0, REMOVED: 1, PUT_AGAIN: 2 } as const;

/** Packs an entry. */
export function encodeEntry(entry: Entry): Bytes {
  const writer = new ByteWriter();
  const born = entry.type === "put" ? entry.born : undefined;
  writer.byte(
    entry.type === "removed" ? Kind.REMOVED : born === undefined ? Kind.PUT : Kind.PUT_AGAIN,
  );
  writer.varint(entry.over.size);
  for (const [origin, seq] of entry.over) {
    writer.raw(originBytes(origin));
    writer.varint(seq);
  }
  if (born !== undefined) writer.varint(born);
  if (entry.type === "put") {
    writer.raw(stampToBytes(entry.stamp));
    writer.raw(entry.value);
  }
  return writer.finish();
}

/** Reads {@link encodeEntry}; undefined when it is none. */
export function decodeEntry(bytes: Bytes): Entry | undefined {
  try {
    const reader = new ByteReader(bytes);
    const kind = reader.byte();
    const count = reader.varint();
    if (count > MAX_OVER) return undefined;
    const over = new Map<OriginId, number>();
    for (let i = 0; i < count; i++) over.set(toOrigin(reader.take(ORIGIN_BYTES)), reader.varint());
    if (kind === Kind.REMOVED) {
      return reader.remaining === 0 ? { type: "removed", over } : undefined;
    }
    if (kind !== Kind.PUT && kind !== Kind.PUT_AGAIN) return undefined;
    const born = kind === Kind.PUT_AGAIN ? reader.varint() : undefined;
    // Everything has replaced dot 0.
    if (born === 0) return undefined;
    const stamp = stampFromBytes(reader.take(8));
    const value = reader.rest();
    if (value.length > MAX_MAP_VALUE_BYTES) return undefined;
    const put = { type: "put", over, stamp, value } as const;
    return born === undefined ? put : { ...put, born };
  } catch {
    return undefined;
  }
}
