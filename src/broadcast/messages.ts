import { fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { MAX_NAME_BYTES } from "../wire/limits.ts";
import { ByteReader, varintLength, writeVarint } from "../wire/varint.ts";

/** Trees that all messages share: the sender says which. The same on every node. */
export const TREES: number = 4;
/** A mask with one bit for each tree. */
export const ALL_TREES: number = 2 ** TREES - 1;
/** Ids in one IHAVE or GRAFT; more are refused. */
export const MAX_IDS: number = 1024;
/** Hops are counted up to here. */
export const MAX_HOPS: number = 127;
/** Terms and waves are counted up to here. */
export const MAX_NUMBER: number = 2 ** 32 - 1;

/** The tree that a sender may be the root of. */
export function homeTreeOf(origin: number): number {
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
  /** The tree that it takes. */
  readonly tree: number;
  readonly topic: string;
  readonly payload: Bytes;
}

/** One announced message. */
export interface Announcement extends MessageId {
  /** The tree that the message takes. */
  readonly tree: number;
}

/** What a node tells neighbours of its place in a tree. */
export interface Shape {
  readonly tree: number;
  /** Grows each time that a node makes itself the root. */
  readonly term: number;
  /** The root: its number as a sender. */
  readonly root: number;
  /** Counts the waves of this root in this term. */
  readonly wave: number;
  /** Hops from the root to whoever sends this; {@link MAX_HOPS} when it has no way. */
  readonly hops: number;
}

/** Everything but payloads. `trees` are masks: bit n stands for tree n. */
export type Control =
  /** The sender has these messages and does not push them to the receiver. */
  | { readonly type: "ihave"; readonly entries: readonly Announcement[] }
  /** You are my parent in these trees; and push these messages to me now, and others of their trees. */
  | { readonly type: "graft"; readonly trees: number; readonly ids: readonly MessageId[] }
  /** Announce these trees' messages to me from now on, do not push. */
  | { readonly type: "prune"; readonly trees: number }
  /** The sender's places in trees, one a tree at most. */
  | { readonly type: "shape"; readonly shapes: readonly Shape[] }
  /** Let the roots of these trees start a wave. */
  | { readonly type: "reshape"; readonly trees: number }
  /** First word to a neighbour: the sender's number. A new one means that it has forgotten all. */
  | { readonly type: "hello"; readonly origin: number };

// Part of the protocol: never reuse a number.
const IHAVE = 1, GRAFT = 2, PRUNE = 3, SHAPE = 5, RESHAPE = 6, HELLO = 7;

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

/** A message as the body of a PLUMTREE_GOSSIP frame: `tree | hops | origin | seq | topic | payload`. */
export function encodeGossip(gossip: Gossip): Bytes {
  const topic = utf8(gossip.topic);
  const head = 2 + ORIGIN_BYTES + varintLength(gossip.seq) + varintLength(topic.length);
  const body = new Uint8Array(head + topic.length + gossip.payload.length);
  body[0] = gossip.tree;
  body[1] = gossip.hops;
  writeOrigin(body, 2, gossip.origin);
  let at = writeVarint(body, 2 + ORIGIN_BYTES, gossip.seq);
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
  const tree = readTree(from);
  const hops = readHops(from);
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
  return { origin, seq, hops, tree, topic, payload: from.rest() };
}

/** A message as the body of a PLUMTREE_CONTROL frame. */
export function encodeControl(message: Control): Bytes {
  switch (message.type) {
    case "ihave": {
      const out = new ByteWriter(2 + 10 * message.entries.length);
      out.byte(IHAVE);
      for (const entry of message.entries) {
        writeId(out, entry);
        out.byte(entry.tree);
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
    case "shape": {
      const out = new ByteWriter(1 + 12 * message.shapes.length);
      out.byte(SHAPE);
      for (const { tree, term, root, wave, hops } of message.shapes) {
        out.byte(tree);
        out.varint(term);
        writeNumber(out, root);
        out.varint(wave);
        out.byte(hops);
      }
      return out.finish();
    }
    case "reshape":
      return new Uint8Array([RESHAPE, message.trees]);
    case "hello": {
      const out = new Uint8Array(1 + ORIGIN_BYTES);
      out[0] = HELLO;
      writeOrigin(out, 1, message.origin);
      return out;
    }
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
        entries.push({ origin, seq, tree: readTree(from) });
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
    case SHAPE: {
      const shapes: Shape[] = [];
      while (from.remaining > 0) {
        if (shapes.length >= TREES) throw new ProtocolError("too_long", "more shapes than trees");
        const tree = readTree(from);
        const term = readNumber(from);
        const root = readOrigin(from.take(ORIGIN_BYTES), 0);
        shapes.push({ tree, term, root, wave: readNumber(from), hops: readHops(from) });
      }
      return { type: "shape", shapes };
    }
    case RESHAPE:
      return ended(from, { type: "reshape", trees: readTrees(from) });
    case HELLO:
      return ended(from, { type: "hello", origin: readOrigin(from.take(ORIGIN_BYTES), 0) });
    default:
      throw new ProtocolError("bad_message", `Plumtree has no message ${type}`);
  }
}

function writeId(out: ByteWriter, id: MessageId): void {
  writeNumber(out, id.origin);
  out.varint(id.seq);
}

function writeNumber(out: ByteWriter, origin: number): void {
  const bytes = new Uint8Array(ORIGIN_BYTES);
  writeOrigin(bytes, 0, origin);
  out.raw(bytes);
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

function readTree(from: ByteReader): number {
  const tree = from.byte();
  if (tree >= TREES) throw new ProtocolError("bad_tree", `a tree of the number ${tree}`);
  return tree;
}

function readHops(from: ByteReader): number {
  const hops = from.byte();
  if (hops > MAX_HOPS) throw new ProtocolError("bad_hops", `${hops} hops`);
  return hops;
}

/** A term or the number of a wave. */
function readNumber(from: ByteReader): number {
  const number = from.varint();
  if (number > MAX_NUMBER) throw new ProtocolError("bad_number", `a term or wave of ${number}`);
  return number;
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
