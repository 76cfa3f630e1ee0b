import { concat } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";

/** Just enough of DER (X.690) to write a certificate; definite lengths up to 64 KiB. */
export function der(tag: number, ...contents: readonly Uint8Array[]): Bytes {
  const body = concat(contents);
  const length = body.length < 0x80
    ? [body.length]
    : body.length < 0x100
    ? [0x81, body.length]
    : [0x82, body.length >> 8, body.length & 0xff];
  return concat([Uint8Array.of(tag, ...length), body]);
}

/** An object identifier. */
export function oid(...arcs: readonly number[]): Bytes {
  const [first = 0, second = 0, ...others] = arcs;
  const bytes = [first * 40 + second];
  for (const arc of others) {
    const groups = [arc & 0x7f];
    for (let rest = arc >> 7; rest > 0; rest >>= 7) groups.unshift((rest & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Uint8Array.from(bytes));
}

/** DER as PEM (RFC 7468). */
export function pem(label: string, bytes: Uint8Array): string {
  const base64 = btoa(String.fromCharCode(...bytes));
  const lines = base64.match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
