/**
 * What replicas say to each other, packed by hand. Control messages (REPLICA_CONTROL) compare
 * states; data messages (REPLICA_DATA) carry rows; a broadcast carries one DELTA.
 *
 * ```
 * ROOT     digest 16                                  "all my stores hash to this"
 * STORES   (name, root 16)*                           "not mine; here is each"
 * BUCKETS  store, 64 × digest 8                       "this one differs; where?"
 * VECTOR   store, mask 8, (origin, epoch, seq, tag)*  "in these buckets I know this much"
 * PULL     store, request, (origin, epoch, seq)*      "I have this; send what follows"
 * DELTA    store, head, from, earlier, puts           one origin's way to its head
 * MORE     store, author, epoch, to, index, puts      the next part of a large DELTA
 * DONE     store, request                             the PULL is answered
 * ```
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import type { Version } from "../crdt/version_vector.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { MAX_CONTROL_FRAME_BYTES } from "../wire/limits.ts";
import { ByteReader } from "../wire/varint.ts";
import { DIGEST_BYTES } from "./digests.ts";
import { ORIGIN_BYTES, originBytes, toOrigin } from "./head.ts";
import type { Head, OriginId } from "./head.ts";
import {
  BUCKETS,
  MAX_BATCH_BYTES,
  MAX_KEY_BYTES,
  MAX_MESSAGE_BYTES,
  MAX_OPS,
  MAX_PULL,
  MAX_STORE_NAME_BYTES,
  MAX_STORES,
  MAX_VALUE_BYTES,
  MAX_VECTOR,
} from "./limits.ts";
import { rowBytes } from "./origin_rows.ts";
import type { Delta, Earlier, Put, Run } from "./origin_rows.ts";

/** How far the sender knows an origin; `tag` is the start of its head's hash. */
export interface VectorEntry {
  readonly origin: OriginId;
  readonly version: Version;
  readonly tag: number;
}

/** One origin of a PULL and what the puller has of it. */
export interface PullItem {
  readonly origin: OriginId;
  readonly version: Version;
}

/** The messages that compare states. */
export type ControlMessage =
  | { readonly type: "root"; readonly digest: Bytes }
  | {
    readonly type: "stores";
    readonly stores: readonly { readonly name: string; readonly root: Bytes }[];
  }
  | { readonly type: "buckets"; readonly store: string; readonly digests: Bytes }
  | {
    readonly type: "vector";
    readonly store: string;
    /** One bit a bucket: the entries are all that the sender knows there. Zero: just so you know. */
    readonly mask: Bytes;
    readonly entries: readonly VectorEntry[];
  }
  | {
    readonly type: "pull";
    readonly store: string;
    readonly request: number;
    readonly items: readonly PullItem[];
  };

/** A DELTA; when `hasMore`, further rows follow in MORE messages. */
export interface DeltaMessage {
  readonly type: "delta";
  readonly store: string;
  readonly delta: Delta;
  readonly hasMore: boolean;
}

/** The next part of the DELTA of `author` towards `to`. */
export interface MoreMessage {
  readonly type: "more";
  readonly store: string;
  readonly author: Bytes;
  readonly to: Version;
  /** 1 for the first MORE, and so on. */
  readonly index: number;
  readonly puts: readonly Put[];
  readonly hasMore: boolean;
}

/** The messages that carry rows. */
export type DataMessage = DeltaMessage | MoreMessage | {
  readonly type: "done";
  readonly store: string;
  readonly request: number;
  /** Whether origins are left that the sender would answer when asked again. */
  readonly isPartial: boolean;
};

const Kind = {
  ROOT: 1,
  STORES: 2,
  BUCKETS: 3,
  VECTOR: 4,
  PULL: 5,
  DELTA: 16,
  MORE: 17,
  DONE: 18,
} as const;

/** The length of one bucket's digest in BUCKETS. */
export const BUCKET_BYTES = 8;
/** The length of a bucket mask. */
export const MASK_BYTES: number = BUCKETS / 8;

const HAS_MORE = 1;
const IS_KEPT = 2;

/** Packs a control message. */
export function encodeControl(message: ControlMessage): Bytes {
  const writer = new ByteWriter();
  switch (message.type) {
    case "root":
      writer.byte(Kind.ROOT);
      writer.raw(message.digest);
      break;
    case "stores":
      writer.byte(Kind.STORES);
      writer.varint(message.stores.length);
      for (const { name, root } of message.stores) {
        writer.block(utf8(name));
        writer.raw(root);
      }
      break;
    case "buckets":
      writer.byte(Kind.BUCKETS);
      writer.block(utf8(message.store));
      writer.raw(message.digests);
      break;
    case "vector":
      writer.byte(Kind.VECTOR);
      writer.block(utf8(message.store));
      writer.raw(message.mask);
      writer.varint(message.entries.length);
      for (const { origin, version, tag } of message.entries) {
        writeVersion(writer, origin, version);
        for (const shift of [24, 16, 8, 0]) writer.byte((tag >>> shift) & 0xff);
      }
      break;
    case "pull":
      writer.byte(Kind.PULL);
      writer.block(utf8(message.store));
      writer.varint(message.request);
      writer.varint(message.items.length);
      for (const { origin, version } of message.items) writeVersion(writer, origin, version);
      break;
  }
  return writer.finish();
}

function writeVersion(writer: ByteWriter, origin: OriginId, version: Version): void {
  writer.raw(originBytes(origin));
  writer.varint(version.epoch);
  writer.varint(version.seq);
}

/** Reads a control message. @throws ProtocolError `truncated`, `bad_replica_message`, … */
export function decodeControl(body: Bytes): ControlMessage {
  if (body.length > MAX_CONTROL_FRAME_BYTES) bad(`${body.length} bytes`);
  const reader = new ByteReader(body);
  const message = readControl(reader);
  end(reader);
  return message;
}

function readControl(reader: ByteReader): ControlMessage {
  const kind = reader.byte();
  switch (kind) {
    case Kind.ROOT:
      return { type: "root", digest: reader.take(DIGEST_BYTES) };
    case Kind.STORES:
      return {
        type: "stores",
        stores: list(reader, MAX_STORES, () => ({
          name: storeName(reader),
          root: reader.take(DIGEST_BYTES),
        })),
      };
    case Kind.BUCKETS:
      return {
        type: "buckets",
        store: storeName(reader),
        digests: reader.take(BUCKETS * BUCKET_BYTES),
      };
    case Kind.VECTOR:
      return {
        type: "vector",
        store: storeName(reader),
        mask: reader.take(MASK_BYTES),
        entries: list(reader, MAX_VECTOR, () => ({
          origin: toOrigin(reader.take(ORIGIN_BYTES)),
          version: { epoch: reader.varint(), seq: reader.varint() },
          tag: uint32(reader.take(4)),
        })),
      };
    case Kind.PULL:
      return {
        type: "pull",
        store: storeName(reader),
        request: reader.varint(),
        items: list(reader, MAX_PULL, () => ({
          origin: toOrigin(reader.take(ORIGIN_BYTES)),
          version: { epoch: reader.varint(), seq: reader.varint() },
        })),
      };
    default:
      throw new ProtocolError("bad_replica_message", `no control message has kind ${kind}`);
  }
}

/** Packs a delta: one message, or a DELTA and as many MORE as its rows need. */
export function encodeDelta(store: string, delta: Delta): Bytes[] {
  const { head, from, earlier } = delta;
  const parts = split(delta.puts);
  let base = from;
  return parts.map((puts, index) => {
    const writer = new ByteWriter(512);
    writer.byte(index === 0 ? Kind.DELTA : Kind.MORE);
    const more = index < parts.length - 1 ? HAS_MORE : 0;
    writer.byte(more | (index === 0 && earlier.type === "kept" ? IS_KEPT : 0));
    writer.block(utf8(store));
    writer.raw(head.author);
    writer.varint(head.epoch);
    writer.varint(head.seq);
    if (index === 0) {
      writer.raw(head.hash);
      writer.raw(head.signature);
      writer.varint(from);
      writeEarlier(writer, earlier);
    } else {
      writer.varint(index);
      writer.varint(base);
    }
    base = writePuts(writer, base, puts);
    return writer.finish();
  });
}

/** Packs the end of an answer. */
export function encodeDone(store: string, request: number, isPartial: boolean): Bytes {
  const writer = new ByteWriter();
  writer.byte(Kind.DONE);
  writer.block(utf8(store));
  writer.varint(request);
  writer.byte(isPartial ? 1 : 0);
  return writer.finish();
}

/** Reads a data message. @throws ProtocolError `truncated`, `bad_replica_message`, … */
export function decodeData(body: Bytes): DataMessage {
  if (body.length > MAX_MESSAGE_BYTES) bad(`${body.length} bytes`);
  const reader = new ByteReader(body);
  const message = readData(reader);
  end(reader);
  return message;
}

function readData(reader: ByteReader): DataMessage {
  const kind = reader.byte();
  switch (kind) {
    case Kind.DELTA: {
      const flags = reader.byte();
      if (flags > (HAS_MORE | IS_KEPT)) bad("unknown flags");
      const store = storeName(reader);
      // Copies: a head outlives the frame it came in.
      const author = reader.take(32).slice();
      const epoch = reader.varint();
      const seq = reader.varint();
      const hash = reader.take(32).slice();
      const head: Head = { author, epoch, seq, hash, signature: reader.take(64).slice() };
      const from = reader.varint();
      if (from > seq) bad("a delta that goes back");
      const earlier = readEarlier(reader, (flags & IS_KEPT) !== 0, from);
      const puts = readPuts(reader, from, seq);
      const hasMore = (flags & HAS_MORE) !== 0;
      return { type: "delta", store, delta: { head, from, earlier, puts }, hasMore };
    }
    case Kind.MORE: {
      const flags = reader.byte();
      if (flags > HAS_MORE) bad("unknown flags");
      const store = storeName(reader);
      const author = reader.take(32);
      const to: Version = { epoch: reader.varint(), seq: reader.varint() };
      const index = reader.varint();
      const puts = readPuts(reader, reader.varint(), to.seq);
      // Without rows it would only keep us waiting.
      if (puts.length === 0) bad("a part without rows");
      return { type: "more", store, author, to, index, puts, hasMore: flags === HAS_MORE };
    }
    case Kind.DONE: {
      const store = storeName(reader);
      const request = reader.varint();
      const partial = reader.byte();
      if (partial > 1) bad("unknown flags");
      return { type: "done", store, request, isPartial: partial === 1 };
    }
    default:
      return bad(`no data message has kind ${kind}`);
  }
}

// Cuts rows into parts that each fit a message; there is always one part.
function split(puts: readonly Put[]): Put[][] {
  let part: Put[] = [];
  const parts = [part];
  let bytes = 0;
  for (const put of puts) {
    const size = rowBytes(put.key, put.value);
    if (part.length > 0 && (bytes + size > MAX_BATCH_BYTES || part.length === MAX_OPS)) {
      parts.push(part = []);
      bytes = 0;
    }
    part.push(put);
    bytes += size;
  }
  return parts;
}

function writeEarlier(writer: ByteWriter, earlier: Earlier): void {
  let last = 0;
  if (earlier.type === "removed") {
    writer.varint(earlier.dots.length);
    for (const dot of earlier.dots) {
      writer.varint(dot - last);
      last = dot;
    }
    return;
  }
  writer.varint(earlier.runs.length);
  for (const run of earlier.runs) {
    writer.varint(run.first - last);
    writer.varint(run.last - run.first);
    last = run.last;
  }
}

function readEarlier(reader: ByteReader, isKept: boolean, from: number): Earlier {
  let last = 0;
  const step = (least: number): number => {
    const by = reader.varint();
    if (by < least || by > from - last) bad("dots out of order or range");
    return last += by;
  };
  if (isKept) {
    const runs = list(reader, MAX_OPS, (): Run => ({ first: step(1), last: step(0) }));
    return { type: "kept", runs };
  }
  return { type: "removed", dots: list(reader, MAX_OPS, () => step(1)) };
}

function writePuts(writer: ByteWriter, base: number, puts: readonly Put[]): number {
  writer.varint(puts.length);
  for (const { seq, key, value } of puts) {
    writer.varint(seq - base);
    writer.block(utf8(key));
    writer.block(value);
    base = seq;
  }
  return base;
}

function readPuts(reader: ByteReader, base: number, to: number): Put[] {
  if (base > to) bad("rows out of range");
  return list(reader, MAX_OPS, () => {
    const by = reader.varint();
    if (by < 1 || by > to - base) bad("rows out of order or range");
    base += by;
    const key = text(reader.block(MAX_KEY_BYTES));
    return { seq: base, key, value: reader.block(MAX_VALUE_BYTES) };
  });
}

// The count is a claim: nothing is allocated for it, and each item takes at least a byte.
function list<T>(reader: ByteReader, max: number, read: () => T): T[] {
  const count = reader.varint();
  if (count > max) bad(`${count} items where ${max} are allowed`);
  const items: T[] = [];
  for (let i = 0; i < count; i++) items.push(read());
  return items;
}

function storeName(reader: ByteReader): string {
  return text(reader.block(MAX_STORE_NAME_BYTES));
}

function text(bytes: Bytes): string {
  try {
    return fromUtf8(bytes);
  } catch {
    return bad("text that is not UTF-8");
  }
}

function uint32(bytes: Bytes): number {
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0);
}

function end(reader: ByteReader): void {
  if (reader.remaining > 0) bad("bytes behind the end");
}

function bad(what: string): never {
  throw new ProtocolError("bad_replica_message", what);
}
