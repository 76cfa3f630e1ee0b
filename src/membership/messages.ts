import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { ByteReader } from "../wire/varint.ts";
import type { IslandMark } from "./island.ts";
import { readEntry, readRecord, writeEntry } from "./peer_entry.ts";
import type { PeerEntry } from "./peer_entry.ts";

/** Entries in one shuffle or its reply; more are refused. */
export const MAX_SHUFFLE_ENTRIES: number = 16;

/**
 * How much a NEIGHBOR request weighs. `low`: only a free slot will do. `high`: the asker lacks two
 * neighbours or more, so a full view drops one peer for it, which the asker takes too. `merge`:
 * the asker comes from another island.
 */
export type Priority = "low" | "high" | "merge";

/** What HyParView machines say to each other. Names are the paper's where it has one. */
export type Message =
  /**
   * A newcomer asks its contact to be spread by random walks, and for a slot if there is a free one;
   * `urgent`: it did so before and is still alone.
   */
  | {
    readonly type: "join";
    readonly request: number;
    readonly urgent: boolean;
    readonly record: Bytes;
  }
  /** A random walk that spreads a newcomer. */
  | { readonly type: "forwardJoin"; readonly peer: PeerEntry; readonly ttl: number }
  /** Asks for a slot. `offer` is a peer that the asker, being full, drops if it is accepted. */
  | {
    readonly type: "neighbour";
    readonly request: number;
    readonly priority: Priority;
    readonly record: Bytes;
    readonly offer: PeerEntry | undefined;
  }
  /** The slot is taken. `other` is whom the dropped or offered peer should turn to. */
  | {
    readonly type: "accept";
    readonly request: number;
    readonly record: Bytes;
    readonly other: PeerEntry | undefined;
  }
  /** No. `hint` is a peer that was looking for a slot as well. */
  | { readonly type: "reject"; readonly request: number; readonly hint: PeerEntry | undefined }
  /** The sender has dropped the receiver from its view. `final`: it leaves the cluster. */
  | {
    readonly type: "disconnect";
    readonly final: boolean;
    readonly replacement: PeerEntry | undefined;
  }
  /** The receiver of DISCONNECT has dropped the sender as well: nothing more follows. */
  | { readonly type: "disconnectAck" }
  /** A random walk that exchanges samples of two views. `hungry`: the origin has a free slot. */
  | {
    readonly type: "shuffle";
    readonly request: number;
    readonly ttl: number;
    readonly hungry: boolean;
    readonly origin: PeerEntry;
    readonly entries: readonly PeerEntry[];
  }
  /** The end of the walk answers the origin itself. */
  | {
    readonly type: "shuffleReply";
    readonly request: number;
    readonly entries: readonly PeerEntry[];
  }
  /** Neighbours only: we are neighbours still, and this is my island. */
  | { readonly type: "keep"; readonly mark: IslandMark }
  /** To a stranger: this is my island; which is yours? */
  | {
    readonly type: "probe";
    readonly request: number;
    readonly mark: IslandMark;
    readonly record: Bytes;
  }
  /** `foreign`: the answering node, too, holds the two islands for different ones. */
  | {
    readonly type: "probeReply";
    readonly request: number;
    readonly mark: IslandMark;
    readonly foreign: boolean;
    readonly record: Bytes;
    readonly entries: readonly PeerEntry[];
  };

// Part of the protocol: never reuse a number.
const JOIN = 1, FORWARD_JOIN = 2, NEIGHBOUR = 3, ACCEPT = 4, REJECT = 5, DISCONNECT = 6;
const DISCONNECT_ACK = 7, SHUFFLE = 8, SHUFFLE_REPLY = 9, KEEP = 10, PROBE = 11, PROBE_REPLY = 12;
const PRIORITIES: readonly Priority[] = ["low", "high", "merge"];

/** A message as the body of a HYPARVIEW frame. */
export function encodeMessage(message: Message): Bytes {
  const out = new ByteWriter(message.type === "shuffle" ? 768 : 128);
  switch (message.type) {
    case "join":
      out.byte(JOIN);
      out.varint(message.request);
      out.byte(message.urgent ? 1 : 0);
      out.block(message.record);
      break;
    case "forwardJoin":
      out.byte(FORWARD_JOIN);
      out.byte(message.ttl);
      writeEntry(out, message.peer);
      break;
    case "neighbour":
      out.byte(NEIGHBOUR);
      out.varint(message.request);
      out.byte(PRIORITIES.indexOf(message.priority));
      out.block(message.record);
      writeOptional(out, message.offer);
      break;
    case "accept":
      out.byte(ACCEPT);
      out.varint(message.request);
      out.block(message.record);
      writeOptional(out, message.other);
      break;
    case "reject":
      out.byte(REJECT);
      out.varint(message.request);
      writeOptional(out, message.hint);
      break;
    case "disconnect":
      out.byte(DISCONNECT);
      out.byte(message.final ? 1 : 0);
      writeOptional(out, message.replacement);
      break;
    case "disconnectAck":
      out.byte(DISCONNECT_ACK);
      break;
    case "shuffle":
      out.byte(SHUFFLE);
      out.varint(message.request);
      out.byte(message.ttl);
      out.byte(message.hungry ? 1 : 0);
      writeEntry(out, message.origin);
      writeEntries(out, message.entries);
      break;
    case "shuffleReply":
      out.byte(SHUFFLE_REPLY);
      out.varint(message.request);
      writeEntries(out, message.entries);
      break;
    case "keep":
      out.byte(KEEP);
      writeMark(out, message.mark);
      break;
    case "probe":
      out.byte(PROBE);
      out.varint(message.request);
      writeMark(out, message.mark);
      out.block(message.record);
      break;
    case "probeReply":
      out.byte(PROBE_REPLY);
      out.varint(message.request);
      writeMark(out, message.mark);
      out.byte(message.foreign ? 1 : 0);
      out.block(message.record);
      writeEntries(out, message.entries);
      break;
  }
  return out.finish();
}

/**
 * The message in the body of a HYPARVIEW frame.
 *
 * @throws ProtocolError naming the rule that the bytes break.
 */
export function decodeMessage(body: Bytes): Message {
  const from = new ByteReader(body);
  const message = read(from);
  if (from.remaining > 0) throw new ProtocolError("trailing_bytes", "bytes behind a message");
  return message;
}

function read(from: ByteReader): Message {
  const type = from.byte();
  switch (type) {
    case JOIN:
      return {
        type: "join",
        request: from.varint(),
        urgent: readFlag(from),
        record: readRecord(from),
      };
    case FORWARD_JOIN:
      return { type: "forwardJoin", ttl: from.byte(), peer: readEntry(from) };
    case NEIGHBOUR:
      return {
        type: "neighbour",
        request: from.varint(),
        priority: readPriority(from),
        record: readRecord(from),
        offer: readOptional(from),
      };
    case ACCEPT:
      return {
        type: "accept",
        request: from.varint(),
        record: readRecord(from),
        other: readOptional(from),
      };
    case REJECT:
      return { type: "reject", request: from.varint(), hint: readOptional(from) };
    case DISCONNECT:
      return { type: "disconnect", final: readFlag(from), replacement: readOptional(from) };
    case DISCONNECT_ACK:
      return { type: "disconnectAck" };
    case SHUFFLE:
      return {
        type: "shuffle",
        request: from.varint(),
        ttl: from.byte(),
        hungry: readFlag(from),
        origin: readEntry(from),
        entries: readEntries(from),
      };
    case SHUFFLE_REPLY:
      return { type: "shuffleReply", request: from.varint(), entries: readEntries(from) };
    case KEEP:
      return { type: "keep", mark: readMark(from) };
    case PROBE:
      return {
        type: "probe",
        request: from.varint(),
        mark: readMark(from),
        record: readRecord(from),
      };
    case PROBE_REPLY:
      return {
        type: "probeReply",
        request: from.varint(),
        mark: readMark(from),
        foreign: readFlag(from),
        record: readRecord(from),
        entries: readEntries(from),
      };
    default:
      throw new ProtocolError("bad_message", `HyParView has no message ${type}`);
  }
}

function writeOptional(out: ByteWriter, entry: PeerEntry | undefined): void {
  out.byte(entry === undefined ? 0 : 1);
  if (entry !== undefined) writeEntry(out, entry);
}

function readOptional(from: ByteReader): PeerEntry | undefined {
  return readFlag(from) ? readEntry(from) : undefined;
}

function writeEntries(out: ByteWriter, entries: readonly PeerEntry[]): void {
  out.byte(entries.length);
  for (const entry of entries) writeEntry(out, entry);
}

function readEntries(from: ByteReader): PeerEntry[] {
  const count = from.byte();
  if (count > MAX_SHUFFLE_ENTRIES) throw new ProtocolError("too_long", `${count} entries`);
  const entries: PeerEntry[] = [];
  for (let i = 0; i < count; i++) entries.push(readEntry(from));
  return entries;
}

function writeMark(out: ByteWriter, mark: IslandMark): void {
  out.varint(mark.root);
  out.varint(mark.beat);
}

function readMark(from: ByteReader): IslandMark {
  return { root: from.varint(), beat: from.varint() };
}

function readFlag(from: ByteReader): boolean {
  const byte = from.byte();
  if (byte > 1) throw new ProtocolError("bad_flag", `a flag of ${byte}`);
  return byte === 1;
}

function readPriority(from: ByteReader): Priority {
  const priority = PRIORITIES[from.byte()];
  if (priority === undefined) throw new ProtocolError("bad_flag", "an unknown priority");
  return priority;
}
