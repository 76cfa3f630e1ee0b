/** Keys and values of a map: what is allowed, and how they travel. */
import { utf8Length } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { BarrelError, EncodeError } from "../base/errors.ts";
import { decodeMessage } from "../wire/decoder.ts";
import type { DecodeContext } from "../wire/decoder.ts";
import { MessageEncoder } from "../wire/encoder.ts";
import { MAX_MAP_KEY_BYTES } from "./entry.ts";
import { validatorOf } from "./options.ts";
import type { MapOptions } from "./options.ts";

/** The keys and values of one map. */
export interface Values<V> {
  /** @throws EncodeError, BarrelError `invalid_value` */
  encode(key: string, value: V): Bytes;
  /** @throws ProtocolError */
  decode(value: Bytes): V;
  /** Says what is wrong with a value, in a few words; never throws. */
  judge(key: string, value: Bytes): string | undefined;
}

/** Values of at most `maxBytes` for the map that is called `name`. */
export function valuesOf<V>(
  name: string,
  options: Pick<MapOptions<V>, "schema">,
  maxBytes: number,
  context: DecodeContext,
): Values<V> {
  const encoder = new MessageEncoder(
    maxBytes,
    `a value of ${name} takes at most ${maxBytes} bytes`,
  );
  const validate = validatorOf(options.schema);
  const decode = (value: Bytes) => decodeMessage(value, context) as V;
  const judge = (key: string, value: Bytes) => {
    let decoded: V;
    try {
      decoded = decode(value);
    } catch {
      return "unreadable";
    }
    return validate(decoded, key);
  };
  return {
    encode(key, value) {
      const bytes = encoder.encode(value).slice() as Bytes;
      if (bytes.length > maxBytes) {
        throw new EncodeError("$", `${bytes.length} bytes; the most is ${maxBytes}`);
      }
      // What others will read is judged, not what the caller may still change.
      const reason = judge(key, bytes);
      if (reason === undefined) return bytes;
      throw new BarrelError(
        "invalid_value",
        `${name} takes no such value for ${JSON.stringify(key)}: ${reason}`,
      );
    },
    decode,
    judge,
  };
}

/** Checks a key that a user gave. @throws BarrelError `bad_key` */
export function checkKey(key: unknown): asserts key is string {
  if (typeof key === "string" && key.length > 0 && key.isWellFormed()) {
    if (utf8Length(key) <= MAX_MAP_KEY_BYTES) return;
  }
  throw new BarrelError("bad_key", `a key has 1 to ${MAX_MAP_KEY_BYTES} bytes of UTF-8`);
}
