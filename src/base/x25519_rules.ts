/**
 * Which bytes are an X25519 public key here: the canonical encodings only. RFC 7748 §5 lets an
 * implementation mask the top bit and reduce what is not below the prime; hosts differ in what they
 * refuse, and one key must be good on every runtime or on none.
 */
import { isBelow, PRIME } from "./ed25519_rules.ts";

/** Whether the bytes can be a public key. A key of low order can: its shared secret is refused. */
export function isAgreementKey(key: Uint8Array): boolean {
  return key.length === 32 && isBelow(key, PRIME);
}
