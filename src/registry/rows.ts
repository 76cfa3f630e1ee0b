/**
 * The rows of the registry's store. Key: the process's number and the name, `42:worker_pool`; the
 * node is the row's author. Value: what became of it, and its metadata or the reason.
 *
 * An entry that ends stays for a while as a row that says why, so that every node tells the same
 * event with the same reason; then the row goes.
 */
import { concat, utf8Length } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { BarrelError, EncodeError, messageOf } from "../base/errors.ts";
import { decodeMessage } from "../wire/decoder.ts";
import type { DecodeContext } from "../wire/decoder.ts";
import { MessageEncoder } from "../wire/encoder.ts";
import { MAX_NAME_BYTES } from "../wire/limits.ts";
import { Life } from "../wire/pid.ts";
import type { PidSender } from "../wire/pid.ts";

/** Metadata of one entry, encoded, in bytes. */
const MAX_META_BYTES = 4096;
/** A reason that takes more, encoded, is told in words. */
const MAX_REASON_BYTES = 1024;

/** What a row says. */
export type RowState =
  | { readonly type: "live"; readonly meta: unknown }
  | { readonly type: "unregistered" }
  | { readonly type: "down"; readonly reason: unknown };

const Kind = { LIVE: 0, UNREGISTERED: 1, DOWN: 2 } as const;
const KEY = /^([1-9][0-9]{0,15}):([^]+)$/;

const encoder = new MessageEncoder(64 * 1024);

/** Whether a service may have this name: 1 to 255 bytes of UTF-8. */
function isServiceName(name: unknown): name is string {
  return typeof name === "string" && name.length > 0 && name.isWellFormed() &&
    utf8Length(name) <= MAX_NAME_BYTES;
}

/** Checks a name that a user gave. @throws BarrelError `bad_name` */
export function checkName(name: unknown): asserts name is string {
  if (isServiceName(name)) return;
  throw new BarrelError("bad_name", `a service's name has 1 to ${MAX_NAME_BYTES} bytes of UTF-8`);
}

/** The key of a process under a name. */
export function rowKey(name: string, id: number): string {
  return `${id}:${name}`;
}

/** Reads {@link rowKey}; undefined when it is none. */
export function parseKey(key: string): { name: string; id: number } | undefined {
  const match = KEY.exec(key);
  const id = Number(match?.[1]);
  const name = match?.[2];
  return isServiceName(name) && Number.isSafeInteger(id) ? { name, id } : undefined;
}

/** Packs the state of an entry. @throws EncodeError when the metadata cannot travel or is too large */
export function encodeState(state: RowState): Bytes {
  switch (state.type) {
    case "live": {
      if (state.meta === undefined) return new Uint8Array([Kind.LIVE]);
      const meta = encoder.encode(state.meta);
      if (meta.length > MAX_META_BYTES) {
        throw new EncodeError(
          "$",
          `metadata of ${meta.length} bytes; the most is ${MAX_META_BYTES}`,
        );
      }
      return concat([new Uint8Array([Kind.LIVE]), meta]);
    }
    case "unregistered":
      return new Uint8Array([Kind.UNREGISTERED]);
    case "down":
      return concat([new Uint8Array([Kind.DOWN]), encodeReason(state.reason)]);
  }
}

function encodeReason(reason: unknown): Uint8Array {
  try {
    const encoded = encoder.encode(reason);
    if (encoded.length <= MAX_REASON_BYTES) return encoded;
  } catch (error) {
    if (!(error instanceof EncodeError)) throw error;
  }
  const words = reason instanceof Error ? `${reason.name}: ${messageOf(reason)}` : String(reason);
  return encoder.encode(words.slice(0, 200).toWellFormed());
}

/** Reads {@link encodeState}. @throws ProtocolError `bad_message` */
export function decodeState(value: Bytes, context: DecodeContext): RowState | undefined {
  const body = value.subarray(1);
  switch (value[0]) {
    case Kind.LIVE:
      if (body.length > MAX_META_BYTES) return undefined;
      return { type: "live", meta: body.length === 0 ? undefined : decodeMessage(body, context) };
    case Kind.UNREGISTERED:
      return body.length === 0 ? { type: "unregistered" } : undefined;
    case Kind.DOWN:
      return { type: "down", reason: decodeMessage(body, context) };
    default:
      return undefined;
  }
}

const NOBODY: PidSender = { send() {} };
const ANY_LIFE = new Life("any@host", 0, NOBODY);
const CHECKING: DecodeContext = { own: ANY_LIFE, peer: ANY_LIFE };

/** The validator of the store: rows that it refuses are not shown, so that readers need not check. */
export function validateRow(key: string, value: Bytes): string | undefined {
  if (parseKey(key) === undefined) return "bad_key";
  try {
    return decodeState(value, CHECKING) === undefined ? "bad_state" : undefined;
  } catch {
    return "bad_state";
  }
}
