/**
 * CBOR to messages, strictly: definite and shortest lengths only, known tags only, no duplicate
 * keys, own data properties only, bounded depth, and nothing allocated for what is merely claimed.
 */
import { fromUtf8 } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { OWN_NODE, PEER_NODE } from "./encoder.ts";
import { isNodeName } from "./node_name.ts";
import { Pid } from "./pid.ts";
import type { Life } from "./pid.ts";
import { Ref } from "./ref.ts";
import { MAX_BIGINT_BYTES, MAX_DEPTH, Tag, TYPED_ARRAYS } from "./tags.ts";

/** Byte strings from here on may be views of the message that they came in, bytes. */
const LARGE_BYTES = 16 * 1024;

/** What short pids mean to the reader. */
export interface DecodeContext {
  /** The node that reads. */
  readonly own: Life;
  /** The node that wrote. */
  readonly peer: Life;
}

const ERRORS: Readonly<Record<string, ErrorConstructor>> = {
  EvalError,
  RangeError,
  ReferenceError,
  SyntaxError,
  TypeError,
  URIError,
};

/**
 * Reads one message, which begins at `offset` and ends with the bytes.
 *
 * @throws ProtocolError `bad_message` with what is wrong
 */
export function decodeMessage(bytes: Uint8Array, context: DecodeContext, offset = 0): unknown {
  return wholeOf(new Reader(bytes, context, offset, false));
}

/**
 * The same of `bytes` that nobody uses any more: a large `Uint8Array` that takes up most of their
 * buffer is a view of it.
 *
 * @throws ProtocolError `bad_message` with what is wrong
 */
export function takeMessage(bytes: Uint8Array, context: DecodeContext, offset = 0): unknown {
  return wholeOf(new Reader(bytes, context, offset, true));
}

function wholeOf(reader: Reader): unknown {
  const value = reader.value(0);
  if (!reader.isAtEnd) throw bad("bytes behind the end");
  return value;
}

class Reader {
  offset: number;
  readonly #bytes: Uint8Array;
  readonly #context: DecodeContext;
  readonly #isOwned: boolean;
  #view: DataView | undefined;

  constructor(bytes: Uint8Array, context: DecodeContext, offset: number, isOwned: boolean) {
    this.#bytes = bytes;
    this.#context = context;
    this.offset = offset;
    this.#isOwned = isOwned;
  }

  get isAtEnd(): boolean {
    return this.offset === this.#bytes.length;
  }

  value(depth: number): unknown {
    const initial = this.#byte();
    const info = initial & 0x1f;
    switch (initial >> 5) {
      case 0:
        return this.#count(info);
      case 1:
        return -1 - this.#count(info);
      case 2:
        return this.#copy(this.#count(info));
      case 3:
        return this.#text(this.#count(info));
      case 4:
        return this.#array(this.#count(info), deeper(depth));
      case 5:
        return this.#record(this.#count(info), deeper(depth));
      case 6:
        return this.#tagged(this.#count(info), depth);
      default:
        return this.#simple(initial);
    }
  }

  #simple(initial: number): unknown {
    switch (initial) {
      case 0xf4:
        return false;
      case 0xf5:
        return true;
      case 0xf6:
        return null;
      case 0xf7:
        return undefined;
      case 0xfb: {
        this.#need(8);
        const value = this.#data().getFloat64(this.offset);
        this.offset += 8;
        return value;
      }
    }
    throw bad("a simple value or a float of another size");
  }

  #array(length: number, depth: number): unknown[] {
    this.#need(length);
    const items: unknown[] = [];
    for (let i = 0; i < length; i++) items.push(this.value(depth));
    return items;
  }

  #record(size: number, depth: number): Record<string, unknown> {
    this.#need(size * 2);
    const record: Record<string, unknown> = {};
    for (let i = 0; i < size; i++) {
      const key = this.value(depth);
      if (typeof key !== "string") throw bad("an object key that is no string");
      if (Object.hasOwn(record, key)) throw bad("a duplicate key");
      const value = this.value(depth);
      if (key === "__proto__") {
        Object.defineProperty(record, key, {
          value,
          enumerable: true,
          configurable: true,
          writable: true,
        });
      } else record[key] = value;
    }
    return record;
  }

  #tagged(tag: number, depth: number): unknown {
    switch (tag) {
      case Tag.EPOCH_TIME: {
        const seconds = this.value(deeper(depth));
        if (typeof seconds !== "number") throw bad("a date that is no number");
        return new Date(Math.round(seconds * 1000));
      }
      case Tag.POSITIVE_BIGNUM:
        return this.#bignum();
      case Tag.NEGATIVE_BIGNUM:
        return -1n - this.#bignum();
      case Tag.OBJECT:
        return this.#error(deeper(depth));
      case Tag.SET: {
        const items = this.#arrayOf(deeper(depth));
        const set = new Set(items);
        if (set.size !== items.length) throw bad("a duplicate in a set");
        return set;
      }
      case Tag.MAP:
        return this.#map(deeper(depth));
      case Tag.PID: {
        const [life, id] = this.#nameParts(deeper(depth));
        return new Pid(life, id);
      }
      case Tag.REF: {
        const [{ node, epoch }, id] = this.#nameParts(deeper(depth));
        return new Ref(node, epoch, id);
      }
    }
    const type = TYPED_ARRAYS.get(tag);
    if (type === undefined) throw bad(`tag ${tag}`);
    const bytes = this.#byteString();
    if (bytes.length % type.BYTES_PER_ELEMENT !== 0) throw bad("a typed array of odd length");
    return new type(bytes.slice().buffer as ArrayBuffer);
  }

  #map(depth: number): Map<unknown, unknown> {
    const initial = this.#byte();
    if (initial >> 5 !== 5) throw bad("a Map that is none");
    const size = this.#count(initial & 0x1f);
    this.#need(size * 2);
    const map = new Map<unknown, unknown>();
    for (let i = 0; i < size; i++) {
      const key = this.value(depth);
      map.set(key, this.value(depth));
    }
    if (map.size !== size) throw bad("a duplicate key");
    return map;
  }

  #error(depth: number): Error {
    const parts = this.#arrayOf(depth);
    const [type, name, message, code, data, cause] = parts;
    const isError = parts.length === 6 && type === "Error" && typeof name === "string" &&
      typeof message === "string" && (code === undefined || typeof code === "string");
    if (!isError) throw bad("an object of a type that is not known");
    const options = cause === undefined ? undefined : { cause };
    const constructor = Object.hasOwn(ERRORS, name) ? ERRORS[name] as ErrorConstructor : Error;
    const error = new constructor(message, options);
    // The stack would be this decoder's: it says nothing about the sender.
    const own = { name, stack: `${name}: ${message}`, code, data };
    for (const [key, value] of Object.entries(own)) {
      if (value === undefined || (key === "name" && error.name === name)) continue;
      Object.defineProperty(error, key, { value, configurable: true, writable: true });
    }
    return error;
  }

  #nameParts(depth: number): [life: Life, id: number] {
    const parts = this.#arrayOf(depth);
    const id = parts.at(-1);
    if (typeof id !== "number" || id < 0 || !Number.isSafeInteger(id)) throw bad("a pid");
    if (parts.length === 2) {
      // The writer's own node is the reader's peer.
      if (parts[0] === OWN_NODE) return [this.#context.peer, id];
      if (parts[0] === PEER_NODE) return [this.#context.own, id];
    }
    const [node, epoch] = parts;
    const isWhole = parts.length === 3 && isNodeName(node) && typeof epoch === "number" &&
      Number.isSafeInteger(epoch) && epoch >= 0;
    if (!isWhole) throw bad("a pid");
    return [this.#context.own.other(node, epoch), id];
  }

  #bignum(): bigint {
    const bytes = this.#byteString();
    if (bytes.length > MAX_BIGINT_BYTES) throw bad("a bigint of more than 8192 bits");
    if (bytes[0] === 0) throw bad("a bigint with leading zeros");
    let hex = "0";
    for (const byte of bytes) hex += byte.toString(16).padStart(2, "0");
    return BigInt(`0x${hex}`);
  }

  #arrayOf(depth: number): unknown[] {
    const initial = this.#byte();
    if (initial >> 5 !== 4) throw bad("a tag around something else than an array");
    return this.#array(this.#count(initial & 0x1f), depth);
  }

  #byteString(): Uint8Array {
    const initial = this.#byte();
    if (initial >> 5 !== 2) throw bad("a tag around something else than bytes");
    return this.#take(this.#count(initial & 0x1f));
  }

  #text(length: number): string {
    const bytes = this.#take(length);
    try {
      return fromUtf8(bytes);
    } catch {
      throw bad("text that is not UTF-8");
    }
  }

  #count(info: number): number {
    if (info < 24) return info;
    const start = this.offset;
    switch (info) {
      case 24: {
        const value = this.#byte();
        if (value >= 24) return value;
        break;
      }
      case 25: {
        this.#need(2);
        this.offset += 2;
        const value = this.#data().getUint16(start);
        if (value >= 0x100) return value;
        break;
      }
      case 26: {
        this.#need(4);
        this.offset += 4;
        const value = this.#data().getUint32(start);
        if (value >= 0x10000) return value;
        break;
      }
      case 27: {
        this.#need(8);
        this.offset += 8;
        const high = this.#data().getUint32(start);
        const value = high * 0x100000000 + this.#data().getUint32(start + 4);
        if (high > 0 && Number.isSafeInteger(value)) return value;
        break;
      }
    }
    throw bad("a length that is indefinite, too long or not in its shortest form");
  }

  #byte(): number {
    const value = this.#bytes[this.offset];
    if (value === undefined) throw bad("an early end");
    this.offset++;
    return value;
  }

  // Of its own: the frame that it came in may be part of a large chunk. More than half of a buffer is
  // held once, and keeps less than as much again.
  #copy(length: number): Uint8Array {
    const { byteLength } = this.#bytes.buffer;
    if (this.#isOwned && length >= LARGE_BYTES && length * 2 > byteLength) {
      return this.#take(length);
    }
    this.#need(length);
    const start = this.offset;
    this.offset = start + length;
    return this.#bytes.slice(start, this.offset);
  }

  #take(length: number): Uint8Array {
    this.#need(length);
    const view = this.#bytes.subarray(this.offset, this.offset + length);
    this.offset += length;
    return view;
  }

  #need(bytes: number): void {
    if (this.#bytes.length - this.offset < bytes) throw bad("an early end");
  }

  #data(): DataView {
    const { buffer, byteOffset, byteLength } = this.#bytes;
    return this.#view ??= new DataView(buffer, byteOffset, byteLength);
  }
}

function deeper(depth: number): number {
  if (depth >= MAX_DEPTH) throw bad(`more than ${MAX_DEPTH} levels`);
  return depth + 1;
}

function bad(what: string): ProtocolError {
  return new ProtocolError("bad_message", `a message holds ${what}`);
}
