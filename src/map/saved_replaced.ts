/** What a map remembers to be replaced, as entries on disk: `<origin>/<key>` and the dot. */
import type { Bytes } from "../base/bytes.ts";
import { ORIGIN_BYTES, originBytes, toOrigin } from "../replica/head.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { ByteReader } from "../wire/varint.ts";
import type { Replaced } from "./lww_state.ts";

/** The entry; without a value when nothing is to be remembered. */
export function saveReplaced(
  { key, origin, seq }: Replaced,
): { readonly key: string; readonly value: Bytes | undefined } {
  const writer = new ByteWriter();
  writer.raw(originBytes(origin));
  writer.varint(seq);
  const hex = Array.from(originBytes(origin), (byte) => byte.toString(16).padStart(2, "0"));
  return { key: `${hex.join("")}/${key}`, value: seq === 0 ? undefined : writer.finish() };
}

/** Reads {@link saveReplaced}; undefined when it is none. */
export function readReplaced(key: string, value: Bytes): Replaced | undefined {
  try {
    const reader = new ByteReader(value);
    const origin = toOrigin(reader.take(ORIGIN_BYTES));
    return { key: key.slice(2 * ORIGIN_BYTES + 1), origin, seq: reader.varint() };
  } catch {
    return undefined;
  }
}
