/**
 * What routers say to each other (ROUTER frames), packed by hand.
 *
 * ```
 * QUERY   id 8, ttl, name      "who has this service?", flooded ttl hops far
 * FOUND   id 8, node           "that node", back the way the query came
 * ASK     request, name        to that node itself: only its own word counts
 * ANSWER  request, process     the number of the process; 0 = none
 * ```
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { MAX_NAME_BYTES, MAX_NODE_NAME_BYTES } from "../wire/limits.ts";
import { nodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import { ByteReader } from "../wire/varint.ts";

/** One router message. */
export type RouterMessage =
  | { readonly type: "query"; readonly id: Bytes; readonly ttl: number; readonly name: string }
  | { readonly type: "found"; readonly id: Bytes; readonly node: NodeName }
  | { readonly type: "ask"; readonly request: number; readonly name: string }
  | { readonly type: "answer"; readonly request: number; readonly process: number };

/** The length of a query's id. */
export const QUERY_ID_BYTES = 8;
/** The furthest that a query goes, in hops. */
export const MAX_TTL = 8;

const Kind = { QUERY: 1, FOUND: 2, ASK: 3, ANSWER: 4 } as const;

/** Packs a message. */
export function encodeRouter(message: RouterMessage): Bytes {
  const writer = new ByteWriter();
  switch (message.type) {
    case "query":
      writer.byte(Kind.QUERY);
      writer.raw(message.id);
      writer.byte(message.ttl);
      writer.block(utf8(message.name));
      break;
    case "found":
      writer.byte(Kind.FOUND);
      writer.raw(message.id);
      writer.block(utf8(message.node));
      break;
    case "ask":
      writer.byte(Kind.ASK);
      writer.varint(message.request);
      writer.block(utf8(message.name));
      break;
    case "answer":
      writer.byte(Kind.ANSWER);
      writer.varint(message.request);
      writer.varint(message.process);
      break;
  }
  return writer.finish();
}

/** Reads a message. @throws ProtocolError `truncated`, `too_long`, `bad_router_message`, … */
export function decodeRouter(body: Bytes): RouterMessage {
  const reader = new ByteReader(body);
  const message = read(reader);
  if (reader.remaining > 0) bad("bytes behind the end");
  return message;
}

function read(reader: ByteReader): RouterMessage {
  const kind = reader.byte();
  switch (kind) {
    case Kind.QUERY: {
      const id = reader.take(QUERY_ID_BYTES);
      const ttl = reader.byte();
      if (ttl < 1 || ttl > MAX_TTL) bad(`a query that goes ${ttl} hops`);
      return { type: "query", id, ttl, name: serviceName(reader) };
    }
    case Kind.FOUND: {
      const id = reader.take(QUERY_ID_BYTES);
      return { type: "found", id, node: nodeName(text(reader.block(MAX_NODE_NAME_BYTES))) };
    }
    case Kind.ASK:
      return { type: "ask", request: reader.varint(), name: serviceName(reader) };
    case Kind.ANSWER:
      return { type: "answer", request: reader.varint(), process: reader.varint() };
    default:
      return bad(`no message has kind ${kind}`);
  }
}

function serviceName(reader: ByteReader): string {
  const name = text(reader.block(MAX_NAME_BYTES));
  return name.length > 0 ? name : bad("a service without a name");
}

function text(bytes: Bytes): string {
  try {
    return fromUtf8(bytes);
  } catch {
    return bad("text that is not UTF-8");
  }
}

function bad(what: string): never {
  throw new ProtocolError("bad_router_message", what);
}
