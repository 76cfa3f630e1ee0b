/**
 * What travels between the two ends of a remote procedure call. The caller chooses the number and
 * grants credit; the answer is a value, an error, or items within the credit and then an end.
 */
import { fromUtf8, utf8 } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { MAX_NAME_BYTES } from "../wire/limits.ts";
import { writeVarint } from "../wire/varint.ts";
import type { ByteReader } from "../wire/varint.ts";

/** How a call goes on, in an RPC_ANSWER. */
export const Answer = {
  /** The payload is the result. */
  VALUE: 0,
  /** The payload is what the procedure threw, also in the middle of its items. */
  THREW: 1,
  /** Nothing is exposed under this name. */
  NO_PROCEDURE: 2,
  /** The peer runs too many calls of ours already. */
  BUSY: 3,
  /** Items follow. */
  STREAM: 4,
  /** All items have come. */
  END: 5,
  /** The payload is the reason for which the call's process ended. */
  ENDED: 6,
} as const;

/** One of the {@link Answer} numbers. */
export type Answer = (typeof Answer)[keyof typeof Answer];

/** What the called side says; `value` is decoded. */
export type Reply =
  | {
    readonly type: "answer";
    readonly id: number;
    readonly status: Answer;
    readonly value: unknown;
  }
  | { readonly type: "item"; readonly id: number; readonly value: unknown };

/** What the calling side says. */
export type Request =
  | {
    readonly type: "call";
    readonly id: number;
    /** Items that may come before more credit. */
    readonly credit: number;
    readonly service: string;
    readonly procedure: string;
    readonly args: unknown[];
  }
  | { readonly type: "credit"; readonly id: number; readonly items: number }
  | { readonly type: "cancel"; readonly id: number };

/** The most items that may be on their way. */
export const MAX_CREDIT = 1_024;

const scratch = new Uint8Array(2 * (MAX_NAME_BYTES + 8) + 16);

/** The head of a call; valid until the next. */
export function packCall(call: Request & { type: "call" }): Uint8Array {
  let offset = writeVarint(scratch, 0, call.id);
  offset = writeVarint(scratch, offset, call.credit);
  for (const name of [call.service, call.procedure]) {
    const bytes = utf8(name);
    offset = writeVarint(scratch, offset, bytes.length);
    scratch.set(bytes, offset);
    offset += bytes.length;
  }
  return scratch.subarray(0, offset);
}

/** Reads the head of a call. @throws ProtocolError */
export function readCall(reader: ByteReader): Omit<Request & { type: "call" }, "args" | "type"> {
  const id = reader.varint();
  const credit = readCredit(reader);
  return { id, credit, service: readText(reader), procedure: readText(reader) };
}

/** Reads a number of items. @throws ProtocolError `bad_rpc` */
export function readCredit(reader: ByteReader): number {
  const items = reader.varint();
  if (items < 1 || items > MAX_CREDIT) throw new ProtocolError("bad_rpc", `credit of ${items}`);
  return items;
}

function readText(reader: ByteReader): string {
  try {
    return fromUtf8(reader.block(MAX_NAME_BYTES));
  } catch (error) {
    throw new ProtocolError("bad_rpc", "a name that is too long or no text", { cause: error });
  }
}
