import { concat, equalSecrets, utf8 } from "../../../src/base/bytes.ts";
import type { Bytes } from "../../../src/base/bytes.ts";
import { syncHashes } from "../../../src/base/noble_crypto.ts";
import type { Random } from "../../../src/base/random.ts";
import type { HostPort } from "./binding.ts";

/** How long a client has to come back with its token, milliseconds. */
const VALID_MS = 10_000;
const TIME_BYTES = 8;
const MAC_BYTES = 32;

/**
 * Tokens that prove that a client receives at the address it claims (RFC 9000 §8.1.2): nothing is
 * remembered of it in between.
 */
export class RetryTokens {
  readonly #secret: Bytes;

  constructor(random: Random) {
    this.#secret = random.bytes(32);
  }

  /**
   * A token for the client at `from`, whose first packet went to the id `original`; it must come
   * back under the id `next`. `now` in milliseconds.
   */
  issue(original: Uint8Array, next: Uint8Array, from: HostPort, now: number): Bytes {
    const time = new Uint8Array(TIME_BYTES);
    new DataView(time.buffer).setFloat64(0, now);
    return concat([time, this.#mac(time, original, next, from), original]);
  }

  /** The original id of a token that is ours, for this address and id, and fresh. */
  original(token: Uint8Array, next: Uint8Array, from: HostPort, now: number): Bytes | undefined {
    if (token.length < TIME_BYTES + MAC_BYTES) return undefined;
    const time = token.subarray(0, TIME_BYTES);
    const mac = token.subarray(TIME_BYTES, TIME_BYTES + MAC_BYTES);
    const original = token.slice(TIME_BYTES + MAC_BYTES) as Bytes;
    if (!equalSecrets(mac, this.#mac(time, original, next, from))) return undefined;
    const issuedAt = new DataView(time.buffer, time.byteOffset).getFloat64(0);
    return now - issuedAt < VALID_MS ? original : undefined;
  }

  #mac(time: Uint8Array, original: Uint8Array, next: Uint8Array, from: HostPort): Bytes {
    const lengths = new Uint8Array([original.length, next.length]);
    const where = utf8(`${from.host} ${from.port}`);
    return syncHashes.hmac(this.#secret, concat([time, lengths, original, next, where]));
  }
}
