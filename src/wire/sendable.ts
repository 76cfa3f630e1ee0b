/**
 * Whether a value could travel, without writing it: messages inside a node pass by reference and
 * keep to the same rules. What is refused here, or may be too large, is put to the encoder itself,
 * which has the last word and the words.
 */
import { Pid } from "./pid.ts";
import { Ref } from "./ref.ts";
import { MAX_BIGINT_BYTES, MAX_DEPTH, tagOf } from "./tags.ts";

/** What a value takes besides its text and bytes, at most. */
const HEAD = 12;
/** An error's tag, name of its type and length; a pid's or ref's epoch, number and lengths. */
const SEVERAL_HEADS = 40;
/** Bytes of UTF-8 that one unit of a string takes at most. */
const UTF8 = 3;
const SHORT = 24;
/** U+D800 to U+DFFF. */
const SURROGATE = 0xd800;
const SURROGATE_BITS = 0xf800;
const BIGINT_LIMIT = 1n << BigInt(MAX_BIGINT_BYTES * 8);

/**
 * What is left of `room` bytes when `value` has been written, at least; negative when it certainly
 * cannot travel, or might not fit.
 */
export function roomBehind(value: unknown, room: number, depth: number = 0): number {
  switch (typeof value) {
    case "number":
    case "boolean":
    case "undefined":
      return room - HEAD;
    case "string":
      return behindText(value, room);
    case "bigint":
      if (value >= BIGINT_LIMIT || value < -BIGINT_LIMIT) return -1;
      return room - HEAD - MAX_BIGINT_BYTES;
    case "object":
      return value === null ? room - HEAD : behindObject(value, room, depth);
    default:
      return -1;
  }
}

// `isWellFormed` is a call into the engine, which costs more than a look at each unit of a short text.
function behindText(text: string, room: number): number {
  const { length } = text;
  let isPlain = length <= SHORT;
  for (let i = 0; i < length && isPlain; i++) {
    isPlain = (text.charCodeAt(i) & SURROGATE_BITS) !== SURROGATE;
  }
  return isPlain || text.isWellFormed() ? room - HEAD - length * UTF8 : -1;
}

function behindObject(value: object, room: number, depth: number): number {
  if (depth >= MAX_DEPTH) return -1;
  let left = room - HEAD;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length && left >= 0; i++) {
      left = roomBehind(value[i], left, depth + 1);
    }
    return left;
  }
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype === Object.prototype || prototype === null) {
    // What is inherited, by somebody's patch of all objects, does not travel: the encoder knows.
    for (const key in value) {
      left = behindText(key, left);
      if (left >= 0) left = roomBehind((value as Record<string, unknown>)[key], left, depth + 1);
      if (left < 0) return -1;
    }
    return left;
  }
  if (value instanceof Uint8Array) return left - value.length;
  if (value instanceof Pid || value instanceof Ref) {
    return left - SEVERAL_HEADS - value.node.length * UTF8;
  }
  if (value instanceof Map) {
    for (const [key, item] of value) {
      left = roomBehind(item, roomBehind(key, left, depth + 1), depth + 1);
      if (left < 0) return -1;
    }
    return left;
  }
  if (value instanceof Set) {
    for (const item of value) {
      left = roomBehind(item, left, depth + 1);
      if (left < 0) return -1;
    }
    return left;
  }
  if (value instanceof Date) return left;
  if (value instanceof Error) return behindError(value, left - SEVERAL_HEADS, depth);
  return ArrayBuffer.isView(value) && tagOf(value) !== undefined ? left - value.byteLength : -1;
}

function behindError(error: Error, room: number, depth: number): number {
  const { name, message, cause, code, data } = error as Error & { code?: unknown; data?: unknown };
  let left = behindText(String(name), behindText(String(message), room));
  if (typeof code === "string") left = behindText(code, left);
  if (left >= 0 && data !== undefined) left = roomBehind(data, left, depth + 1);
  if (left >= 0 && cause !== undefined) left = roomBehind(cause, left, depth + 1);
  return left;
}
