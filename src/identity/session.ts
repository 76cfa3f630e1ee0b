/**
 * Keys of a connection whose TLS ends at somebody's proxy (mode `edge`), and the sealing of what
 * crosses it. Both HELLOs carry an X25519 key; the secret of the two, mixed with both HELLOs, takes
 * the place of the TLS channel: its binding is what the handshake signs, and its keys seal all that
 * follows. Whoever puts a key of its own into a HELLO gets another secret at each end, and the
 * signatures do not fit.
 */
import { concat, EMPTY, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { SyncCrypto } from "../base/crypto.ts";

/** Bytes that sealing adds. */
export const TAG_BYTES = 16;
const NONCE_BYTES = 12;

/** What seals one direction: each message under the next number, none of which comes twice. */
export interface Sealer {
  seal(plain: Uint8Array): Bytes;
}

/** The other end of a {@link Sealer}. */
export interface Unsealer {
  /** `undefined` when a message was changed, left out, doubled or moved. */
  open(sealed: Uint8Array): Bytes | undefined;
}

/** Which end seals, or opened a pipe. */
export type Role = "client" | "server";

/** The channel binding that the agreed secret gives. */
export function bindingOfSecret(secret: Bytes, hellos: Bytes, crypto: SyncCrypto): Bytes {
  return crypto.hkdf(secret, hellos, utf8("barrel/1 edge binding"));
}

/** The key from which all keys of the connection come. */
export function sessionKey(secret: Bytes, transcript: Bytes, crypto: SyncCrypto): Bytes {
  return crypto.hkdf(secret, transcript, utf8("barrel/1 edge session"));
}

/** The key of what `sender` says in the handshake. */
export function handshakeKey(session: Bytes, sender: Role, crypto: SyncCrypto): Bytes {
  return crypto.hkdf(session, EMPTY, utf8(`barrel/1 edge handshake ${sender}`));
}

/** The key of what `sender` writes on the pipe that `opener` opened under `number`. */
export function pipeKey(
  session: Bytes,
  { opener, number, sender }: { opener: Role; number: number; sender: Role },
  crypto: SyncCrypto,
): Bytes {
  return crypto.hkdf(session, EMPTY, utf8(`barrel/1 edge pipe ${opener} ${number} ${sender}`));
}

/** Seals with a key that nothing else seals with. */
export function sealer(key: Bytes, crypto: SyncCrypto): Sealer {
  const nonce = counter();
  return { seal: (plain) => crypto.seal(key, nonce(), plain) };
}

/** Opens what a {@link sealer} with the same key has sealed, in the same order. */
export function unsealer(key: Bytes, crypto: SyncCrypto): Unsealer {
  const nonce = counter();
  return { open: (sealed) => crypto.open(key, nonce(), sealed) };
}

/** A frame of the handshake, as it is sealed: its type byte and its body. */
export function joinFrame(type: number, body: Uint8Array): Bytes {
  return concat([Uint8Array.of(type), body]);
}

// 2^53 messages of one key are more than any connection sees.
function counter(): () => Bytes {
  let next = 0;
  return () => {
    const nonce = new Uint8Array(NONCE_BYTES);
    const view = new DataView(nonce.buffer);
    view.setUint32(4, Math.floor(next / 2 ** 32));
    view.setUint32(8, next % 2 ** 32);
    next++;
    return nonce;
  };
}
