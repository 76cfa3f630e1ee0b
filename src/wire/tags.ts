/** CBOR tags of the message codec (IANA registry; the last two are of this protocol). */
export const Tag = {
  EPOCH_TIME: 1,
  POSITIVE_BIGNUM: 2,
  NEGATIVE_BIGNUM: 3,
  /** A serialised object with its type's name: used for errors. */
  OBJECT: 27,
  SET: 258,
  MAP: 259,
  PID: 48_100,
  REF: 48_101,
} as const;

type TypedArray =
  | Uint8ClampedArray
  | Uint16Array
  | Uint32Array
  | BigUint64Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array
  | Float32Array
  | Float64Array;

/** Typed arrays by their tag, little-endian (RFC 8746 §2.1); `Uint8Array` is a byte string. */
export const TYPED_ARRAYS: ReadonlyMap<
  number,
  { new (buffer: ArrayBuffer): TypedArray; readonly BYTES_PER_ELEMENT: number }
> = new Map<
  number,
  { new (buffer: ArrayBuffer): TypedArray; readonly BYTES_PER_ELEMENT: number }
>([
  [68, Uint8ClampedArray],
  [69, Uint16Array],
  [70, Uint32Array],
  [71, BigUint64Array],
  [72, Int8Array],
  [77, Int16Array],
  [78, Int32Array],
  [79, BigInt64Array],
  [85, Float32Array],
  [86, Float64Array],
]);

const TAG_OF_TYPED_ARRAY = new Map([...TYPED_ARRAYS].map(([tag, type]) => [type as unknown, tag]));

/** The tag under which a view of numbers travels; nothing for other views and subclasses. */
export function tagOf(view: ArrayBufferView): number | undefined {
  return TAG_OF_TYPED_ARRAY.get(view.constructor);
}

/** Containers within containers. */
export const MAX_DEPTH = 64;
/** Bytes of one bignum. */
export const MAX_BIGINT_BYTES = 1024;
