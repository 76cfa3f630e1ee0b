import { fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { MAX_NAME_BYTES } from "../wire/limits.ts";
import { ByteReader, varintLength, writeVarint } from "../wire/varint.ts";

/** Trees that all messages share: the origin's number says which. The same on every node. */
export const TREES: number = 4;
/** A mask with one bit for each tree. */
export const ALL_TREES: number = 2 ** TREES - 1;
/** Ids in one IHAVE or GRAFT; more are refused. */
export const MAX_IDS: number = 1024;
/** Hops are counted up to here. */
export const MAX_HOPS: number = 127;

/** The tree of a message: by its sender, so that one sender's messages keep to one tree. */
export function treeOf(origin: number): number {
  return origin % TREES;
}

/** What names a message: unique per sender and life, never taken from the content. */
export interface MessageId {
  /** 48-bit number of one life of the sender: see `originOf`. */
  readonly origin: number;
  /** Counts the sender's messages from 1. */
  readonly seq: number;
}

/** A message with its payload, as it travels along a tree. */
export interface Gossip extends MessageId {
  /** Hops from the sender to whoever sends this frame. */
  readonly hops: number;
  /** Whether the tree may take its shape from the way this message goes. */
  readonly shaping: boolean;
  readonly topic: string;
  readonly payload: Bytes;
}

/** One announced message. */
export interface Announcement extends MessageId {
  /** Hops from the sender to the announcer. */
  readonly hops: number;
}

/** Everything but payloads. `trees` are masks: bit n stands for tree n. */
export type Control =
  /** The sender has these messages and does not push them to the receiver. */
  | { readonly type: "ihave"; readonly entries: readonly Announcement[] }
  /** Push these trees' messages to me from now on, and these messages now. */
  | { readonly type: "graft"; readonly trees: number; readonly ids: readonly MessageId[] }
  /** Announce these trees' messages to me from now on, do not push. */
  | { readonly type: "prune"; readonly trees: number }
  /**
   * First words between two neighbours. `wanted`: trees in which the sender has no other neighbour
   * to get messages from. `unused`: trees of which it has not seen a message yet.
   */
  | { readonly type: "meet"; readonly wanted: number; readonly unused: number };

// Part of the protocol: never reuse a number.
const IHAVE = 1, GRAFT = 2, PRUNE = 3, MEET = 4;

/** The bit beside the hops. */
const SHAPING = 0x80;
/** Bytes of an origin. */
const ORIGIN_BYTES = 6;

/**
 * The number of one life of a node: the first 48 bits of `hash`, over its public key and epoch, and
 * over `restarts` where its broadcast began anew within that life, counting from 1 again.
 */
export function originOf(
  publicKey: Uint8Array,
  epoch: number,
  hash: (data: Uint8Array) => Uint8Array,
  restarts = 0,
): number {
  const out = new ByteWriter(64);
  out.raw(utf8("barrel/1 origin"));
  out.raw(publicKey);
  out.varint(epoch);
  if (restarts > 0) out.varint(restarts);
  return readOrigin(hash(out.finish()), 0);
}

/** A message as the body of a PLUMTREE_GOSSIP frame: `shaping and hops | origin | seq | topic | payload`. */
export function encodeGossip(gossip: Gossip): Bytes {
  const topic = utf8(gossip.topic);
  const head = 1 + ORIGIN_BYTES + varintLength(gossip.seq) + varintLength(topic.length);
  const body = new Uint8Array(head + topic.length + gossip.payload.length);
  body[0] = gossip.hops | (gossip.shaping ? SHAPING : 0);
  writeOrigin(body, 1, gossip.origin);
  let at = writeVarint(body, 1 + ORIGIN_BYTES, gossip.seq);
  at = writeVarint(body, at, topic.length);
  body.set(topic, at);
  body.set(gossip.payload, at + topic.length);
  return body;
}

/**
 * The message in the body of a PLUMTREE_GOSSIP frame; its payload is a view of `body`.
 *
 * @throws ProtocolError naming the rule that the bytes break.
 */
export function decodeGossip(body: Bytes, maxPayloadBytes: number): Gossip {
  const from = new ByteReader(body);
  const first = from.byte();
  const origin = readOrigin(from.take(ORIGIN_BYTES), 0);
  const seq = readSeq(from);
  let topic: string;
  try {
    topic = fromUtf8(from.block(MAX_NAME_BYTES));
  } catch (error) {
    if (error instanceof ProtocolError) throw error;
    throw new ProtocolError("bad_text", "a topic is not valid UTF-8");
  }
  if (from.remaining > maxPayloadBytes) {
    throw new ProtocolError("too_long", `a payload of ${from.remaining} bytes`);
  }
  const shaping = (first & SHAPING) !== 0;
  return { origin, seq, hops: first & MAX_HOPS, shaping, topic, payload: from.rest() };
}

/** A message as the body of a PLUMTREE_CONTROL frame. */
export function encodeControl(message: Control): Bytes {
  switch (message.type) {
    case "ihave": {
      const out = new ByteWriter(2 + 10 * message.entries.length);
      out.byte(IHAVE);
      for (const entry of message.entries) {
        writeId(out, entry);
        out.byte(entry.hops);
      }
      return out.finish();
    }
    case "graft": {
      const out = new ByteWriter(2 + 9 * message.ids.length);
      out.byte(GRAFT);
      out.byte(message.trees);
      for (const id of message.ids) writeId(out, id);
      return out.finish();
    }
    case "prune":
      return new Uint8Array([PRUNE, message.trees]);
    case "meet":
      return new Uint8Array([MEET, message.wanted, message.unused]);
  }
}

/**
 * The message in the body of a PLUMTREE_CONTROL frame.
 *
 * @throws ProtocolError naming the rule that the bytes break.
 */
export function decodeControl(body: Bytes): Control {
  const from = new ByteReader(body);
  const type = from.byte();
  switch (type) {
    case IHAVE: {
      const entries: Announcement[] = [];
      while (from.remaining > 0) {
        checkCount(entries.length);
        const { origin, seq } = readId(from);
        entries.push({ origin, seq, hops: from.byte() });
      }
      return { type: "ihave", entries };
    }
    case GRAFT: {
      const trees = readTrees(from);
      const ids: MessageId[] = [];
      while (from.remaining > 0) {
        checkCount(ids.length);
        ids.push(readId(from));
      }
      return { type: "graft", trees, ids };
    }
    case PRUNE:
      return ended(from, { type: "prune", trees: readTrees(from) });
    case MEET:
      return ended(from, { type: "meet", wanted: readTrees(from), unused: readTrees(from) });
    default:
      throw new ProtocolError("bad_message", `Plumtree has no message ${type}`);
  }
}

function writeId(out: ByteWriter, id: MessageId): void {
  const origin = new Uint8Array(ORIGIN_BYTES);
  writeOrigin(origin, 0, id.origin);
  out.raw(origin);
  out.varint(id.seq);
}

function readId(from: ByteReader): MessageId {
  return { origin: readOrigin(from.take(ORIGIN_BYTES), 0), seq: readSeq(from) };
}

function readSeq(from: ByteReader): number {
  const seq = from.varint();
  if (seq === 0) throw new ProtocolError("bad_seq", "messages are counted from 1");
  return seq;
}

function readTrees(from: ByteReader): number {
  const trees = from.byte();
  if (trees > ALL_TREES) throw new ProtocolError("bad_tree", `a mask of ${trees}`);
  return trees;
}

function checkCount(count: number): void {
  if (count >= MAX_IDS) throw new ProtocolError("too_long", `more than ${MAX_IDS} ids`);
}

function ended(from: ByteReader, message: Control): Control {
  if (from.remaining > 0) throw new ProtocolError("trailing_bytes", "bytes behind a message");
  return message;
}

function writeOrigin(into: Uint8Array, at: number, origin: number): void {
  let rest = origin;
  for (let i = ORIGIN_BYTES - 1; i >= 0; i--) {
    into[at + i] = rest % 256;
    rest = Math.floor(rest / 256);
  }
}

function readOrigin(bytes: Uint8Array, at: number): number {
  let origin = 0;
  for (let i = 0; i < ORIGIN_BYTES; i++) origin = origin * 256 + (bytes[at + i] as number);
  return origin;
}
