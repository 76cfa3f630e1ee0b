/**
 * Messages to CBOR (RFC 8949), written straight into a buffer. Values keep their JavaScript type:
 * numbers that are not safe integers travel as float64, bigints as bignums, objects keep the
 * order of their keys. `cborg` reads what this writes.
 */
import { EncodeError } from "../base/errors.ts";
import type { NodeName } from "./node_name.ts";
import { Pid } from "./pid.ts";
import { Ref } from "./ref.ts";
import { roomBehind } from "./sendable.ts";
import { MAX_BIGINT_BYTES, MAX_DEPTH, Tag, tagOf } from "./tags.ts";

/** Whose pids are written short: those of the two nodes of a link. */
export interface Ends {
  readonly own: { readonly node: NodeName; readonly epoch: number };
  readonly peer: { readonly node: NodeName; readonly epoch: number };
}

/** In place of a node in a pid: the writer's, the reader's. */
export const OWN_NODE = 0;
export const PEER_NODE = 1;

const UINT = 0x00;
const NEGATIVE = 0x20;
const BYTES = 0x40;
const TEXT = 0x60;
const ARRAY = 0x80;
const MAP = 0xa0;
const TAG = 0xc0;

/** Of a path that is too deep so many steps are told: enough to find a cycle by. */
const SHOWN_OF_DEEP = 8;
/** Views of results up to this size are used again, bytes. */
const LONGEST_KEPT = 255;

const utf8 = new TextEncoder();

/** Writes messages, one after the other, into one buffer that grows to the largest. */
export class MessageEncoder {
  readonly #maxBytes: number;
  readonly #tooLargeText: string;
  #buffer = new Uint8Array(1024);
  #view = new DataView(this.#buffer.buffer);
  // Beginnings of the buffer, by their length: a view costs as much as a small message.
  #views: Uint8Array[] = [];
  #length = 0;
  #ends: Ends | undefined;
  readonly #path: (string | number)[] = [];

  /** `maxBytes`: the largest message; `tooLarge` says so to who has one that is larger. */
  constructor(
    maxBytes: number,
    tooLarge: string = `the message is larger than ${maxBytes} bytes (limits.maxMessageBytes)`,
  ) {
    this.#maxBytes = maxBytes;
    this.#tooLargeText = tooLarge;
  }

  /**
   * Writes `value`; the result is valid until the next call.
   *
   * @throws EncodeError with the path of what cannot travel
   */
  encode(value: unknown, ends?: Ends): Uint8Array {
    this.#length = 0;
    this.#path.length = 0;
    this.#ends = ends;
    this.#write(value, 0);
    if (this.#length > this.#maxBytes) throw this.#tooLarge();
    return this.#written(this.#length);
  }

  /**
   * Refuses what `encode` would, without writing it: for messages that stay here. Costs a look at
   * each value in it, and a copy of those that come near the largest size.
   *
   * @throws EncodeError with the path of what could not travel
   */
  check(value: unknown): void {
    if (roomBehind(value, this.#maxBytes) < 0) this.encode(value);
  }

  #written(length: number): Uint8Array {
    if (length > LONGEST_KEPT) return this.#buffer.subarray(0, length);
    return this.#views[length] ??= this.#buffer.subarray(0, length);
  }

  #write(value: unknown, depth: number): void {
    switch (typeof value) {
      case "string":
        return this.#text(value);
      case "number":
        return this.#number(value);
      case "boolean":
        return this.#byte(value ? 0xf5 : 0xf4);
      case "undefined":
        return this.#byte(0xf7);
      case "bigint":
        return this.#bigint(value);
      case "object":
        if (value === null) return this.#byte(0xf6);
        return this.#object(value, depth);
      default:
        throw this.#error(`a ${typeof value} cannot be sent`);
    }
  }

  #object(value: object, depth: number): void {
    if (depth >= MAX_DEPTH) {
      throw this.#error(`deeper than ${MAX_DEPTH} levels, or a cycle`, SHOWN_OF_DEEP);
    }
    if (Array.isArray(value)) return this.#array(value, depth);
    const prototype = Object.getPrototypeOf(value);
    if (prototype === Object.prototype || prototype === null) {
      return this.#record(value as Record<string, unknown>, depth);
    }
    if (value instanceof Uint8Array) return this.#bytes(value);
    if (value instanceof Pid) return this.#name(Tag.PID, value);
    if (value instanceof Ref) return this.#name(Tag.REF, value);
    if (value instanceof Map) return this.#map(value, depth);
    if (value instanceof Set) {
      this.#head(TAG, Tag.SET);
      return this.#array([...value], depth);
    }
    if (value instanceof Date) {
      this.#head(TAG, Tag.EPOCH_TIME);
      return this.#float(value.getTime() / 1000);
    }
    if (value instanceof Error) return this.#problem(value, depth);
    if (ArrayBuffer.isView(value)) {
      const tag = tagOf(value);
      if (tag !== undefined) {
        this.#head(TAG, tag);
        // Of a detached buffer nothing is left, not even a view can be made.
        if (value.byteLength === 0) return this.#bytes(new Uint8Array(0));
        return this.#bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
      }
    }
    const name = (value.constructor as { name?: string } | undefined)?.name ?? "an unknown class";
    throw this.#error(`an instance of ${name} cannot be sent; send its data`);
  }

  #array(items: readonly unknown[], depth: number): void {
    this.#head(ARRAY, items.length);
    for (let i = 0; i < items.length; i++) this.#child(i, items[i], depth);
  }

  #record(record: Record<string, unknown>, depth: number): void {
    const keys = Object.keys(record);
    this.#head(MAP, keys.length);
    for (let i = 0; i < keys.length; i++) {
      const key = keys[i] as string;
      this.#text(key);
      this.#child(key, record[key], depth);
    }
  }

  #map(map: ReadonlyMap<unknown, unknown>, depth: number): void {
    this.#head(TAG, Tag.MAP);
    this.#head(MAP, map.size);
    let index = 0;
    for (const [key, value] of map) {
      this.#child(`key ${index}`, key, depth);
      this.#child(`value ${index++}`, value, depth);
    }
  }

  #problem(error: Error, depth: number): void {
    const { cause, code, data } = error as { cause?: unknown; code?: unknown; data?: unknown };
    this.#head(TAG, Tag.OBJECT);
    this.#head(ARRAY, 6);
    this.#text("Error");
    this.#text(String(error.name));
    this.#text(String(error.message));
    this.#write(typeof code === "string" ? code : undefined, depth + 1);
    this.#child("data", data, depth);
    this.#child("cause", cause, depth);
  }

  #child(step: string | number, value: unknown, depth: number): void {
    // Most children are plain: the path is only kept for those that can fail within.
    if (typeof value === "number") return this.#number(value);
    this.#path.push(step);
    this.#write(value, depth + 1);
    this.#path.pop();
  }

  #name(tag: number, value: Pid | Ref): void {
    const { node, epoch, id } = value;
    const isOf = (end: { node: NodeName; epoch: number } | undefined) =>
      end !== undefined && end.node === node && end.epoch === epoch;
    this.#head(TAG, tag);
    if (isOf(this.#ends?.own)) {
      this.#head(ARRAY, 2);
      this.#head(UINT, OWN_NODE);
    } else if (isOf(this.#ends?.peer)) {
      this.#head(ARRAY, 2);
      this.#head(UINT, PEER_NODE);
    } else {
      this.#head(ARRAY, 3);
      this.#text(node);
      this.#head(UINT, epoch);
    }
    this.#head(UINT, id);
  }

  #number(value: number): void {
    if (!Number.isSafeInteger(value) || Object.is(value, -0)) return this.#float(value);
    if (value >= 0) this.#head(UINT, value);
    else this.#head(NEGATIVE, -1 - value);
  }

  #float(value: number): void {
    this.#room(9);
    this.#buffer[this.#length] = 0xfb;
    this.#view.setFloat64(this.#length + 1, value);
    this.#length += 9;
  }

  #bigint(value: bigint): void {
    const isNegative = value < 0n;
    let hex = (isNegative ? -1n - value : value).toString(16);
    if (hex.length % 2 === 1) hex = `0${hex}`;
    const bytes = new Uint8Array(hex === "00" ? 0 : hex.length / 2);
    if (bytes.length > MAX_BIGINT_BYTES) throw this.#error("a bigint of more than 8192 bits");
    for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(hex.slice(i * 2, i * 2 + 2), 16);
    this.#head(TAG, isNegative ? Tag.NEGATIVE_BIGNUM : Tag.POSITIVE_BIGNUM);
    this.#bytes(bytes);
  }

  #bytes(bytes: Uint8Array): void {
    this.#head(BYTES, bytes.length);
    this.#room(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  #text(text: string): void {
    const { length } = text;
    if (length < 24 && this.#shortAscii(text, length)) return;
    if (!text.isWellFormed()) throw this.#error("a string with half of a surrogate pair");
    // At most three bytes a unit; the head is written when the size is known.
    this.#room(length * 3 + 9);
    const start = this.#length;
    const guess = length < 24 ? 1 : length < 0x100 ? 2 : length < 0x10000 ? 3 : 5;
    const { written } = utf8.encodeInto(text, this.#buffer.subarray(start + guess));
    const needed = written < 24 ? 1 : written < 0x100 ? 2 : written < 0x10000 ? 3 : 5;
    if (needed !== guess) {
      this.#buffer.copyWithin(start + needed, start + guess, start + guess + written);
    }
    this.#head(TEXT, written);
    this.#length += written;
  }

  #shortAscii(text: string, length: number): boolean {
    this.#room(length + 1);
    const buffer = this.#buffer;
    const start = this.#length + 1;
    for (let i = 0; i < length; i++) {
      const unit = text.charCodeAt(i);
      if (unit >= 0x80) return false;
      buffer[start + i] = unit;
    }
    buffer[start - 1] = TEXT | length;
    this.#length = start + length;
    return true;
  }

  #head(major: number, value: number): void {
    this.#room(9);
    const buffer = this.#buffer;
    if (value < 24) {
      buffer[this.#length++] = major | value;
    } else if (value < 0x100) {
      buffer[this.#length++] = major | 24;
      buffer[this.#length++] = value;
    } else if (value < 0x10000) {
      buffer[this.#length++] = major | 25;
      this.#view.setUint16(this.#length, value);
      this.#length += 2;
    } else if (value < 0x100000000) {
      buffer[this.#length++] = major | 26;
      this.#view.setUint32(this.#length, value);
      this.#length += 4;
    } else {
      buffer[this.#length++] = major | 27;
      this.#view.setUint32(this.#length, Math.floor(value / 0x100000000));
      this.#view.setUint32(this.#length + 4, value >>> 0);
      this.#length += 8;
    }
  }

  #byte(value: number): void {
    this.#room(1);
    this.#buffer[this.#length++] = value;
  }

  #room(bytes: number): void {
    const needed = this.#length + bytes;
    if (needed <= this.#buffer.length) {
      if (this.#length > this.#maxBytes) throw this.#tooLarge();
      return;
    }
    // Text asks for three times what it may need, so the limit is checked on what is written.
    if (this.#length > this.#maxBytes || needed > this.#maxBytes * 3 + 64) throw this.#tooLarge();
    const bigger = new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    bigger.set(this.#buffer.subarray(0, this.#length));
    this.#buffer = bigger;
    this.#views = [];
    this.#view = new DataView(bigger.buffer);
  }

  #tooLarge(): EncodeError {
    return this.#error(this.#tooLargeText);
  }

  #error(what: string, steps: number = this.#path.length): EncodeError {
    let path = "$";
    for (const step of this.#path.slice(0, steps)) {
      path += typeof step === "number"
        ? `[${step}]`
        : /^[A-Za-z_$][\w$]*$/.test(step)
        ? `.${step}`
        : `[${JSON.stringify(step)}]`;
    }
    return new EncodeError(steps < this.#path.length ? `${path}…` : path, what);
  }
}
