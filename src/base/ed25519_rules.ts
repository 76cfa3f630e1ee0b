/**
 * The checks that make every Ed25519 library agree: RFC 8032 §5.1.7 with canonical encodings and
 * no point of low order. Without them one signature may be good on one runtime and bad on another
 * (ZIP-215 accepts non-canonical points and low-order keys, BoringSSL and noble differ from it, and
 * Node refuses an R of low order that Deno and Bun accept).
 */
import { decodeHex } from "@std/encoding/hex";
import { equalBytes } from "./bytes.ts";

// The group order L, little-endian.
const ORDER = decodeHex("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
/** The field prime p = 2^255 - 19, little-endian. */
export const PRIME: Uint8Array = decodeHex(
  "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
);

// The points whose order divides the cofactor, in their canonical encodings.
const LOW_ORDER = [
  "0100000000000000000000000000000000000000000000000000000000000000",
  "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
  "0000000000000000000000000000000000000000000000000000000000000000",
  "0000000000000000000000000000000000000000000000000000000000000080",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
  "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
].map((hex) => decodeHex(hex));

/** Whether the bytes can be a public key: 32 bytes, canonical, not of low order. */
export function isAcceptableKey(key: Uint8Array): boolean {
  return key.length === 32 && isAcceptablePoint(key);
}

/**
 * Whether the bytes can be a signature: 64 bytes, R canonical and not of low order, S below the
 * group order.
 */
export function isAcceptableSignature(signature: Uint8Array): boolean {
  return signature.length === 64 && isAcceptablePoint(signature.subarray(0, 32)) &&
    isBelow(signature.subarray(32), ORDER);
}

function isAcceptablePoint(point: Uint8Array): boolean {
  return isCanonicalPoint(point) && !LOW_ORDER.some((low) => equalBytes(low, point));
}

function isCanonicalPoint(point: Uint8Array): boolean {
  const y = point.slice();
  y[31] = (y[31] as number) & 0x7f;
  if (!isBelow(y, PRIME)) return false;
  // x = 0 has no sign: y = 1 and y = -1 with the sign bit are second spellings.
  const signed = (point[31] as number) >= 0x80;
  return !signed || !(equalBytes(y, LOW_ORDER[0] as Uint8Array) ||
    equalBytes(y, LOW_ORDER[1] as Uint8Array));
}

/** Whether 32 little-endian bytes are a smaller number than `bound`. */
export function isBelow(value: Uint8Array, bound: Uint8Array): boolean {
  for (let i = 31; i >= 0; i--) {
    const difference = (value[i] as number) - (bound[i] as number);
    if (difference !== 0) return difference < 0;
  }
  return false;
}
