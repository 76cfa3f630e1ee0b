import { createCipheriv, createHmac } from "node:crypto";
import { concat, utf8 } from "../../../src/base/bytes.ts";
import type { Bytes } from "../../../src/base/bytes.ts";

// RFC 9001 §5.2: keys of Initial packets come from this and an id that everybody can read.
// deno-fmt-ignore
const SALT = new Uint8Array([
  0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
  0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a,
]);
const VERSION_1 = new Uint8Array([0, 0, 0, 1]);
const TAG_BYTES = 16;
/** CONNECTION_CLOSE with CONNECTION_REFUSED, for no frame in particular, without a reason. */
const CLOSE_FRAME = new Uint8Array([0x1c, 0x02, 0x00, 0x00]);

/**
 * The packet that refuses a client whose first packet of QUIC version 1 went from `clientId` to
 * `originalId`: an Initial with CONNECTION_REFUSED (RFC 9000 §10.2.3). quiche would begin a
 * handshake for it and then close in a packet that the client cannot read yet.
 */
export function refusal(clientId: Uint8Array, originalId: Uint8Array): Bytes {
  const secret = expand(hmac(SALT, originalId), "server in", 32);
  const [key, iv, mask] = [
    expand(secret, "quic key", 16),
    expand(secret, "quic iv", 12),
    expand(secret, "quic hp", 16),
  ];
  const header = concat([
    new Uint8Array([0xc0]), // an Initial, with one byte of packet number
    VERSION_1,
    new Uint8Array([clientId.length]),
    clientId,
    // No id of ours, no token, then the length of what follows, and packet number 0.
    new Uint8Array([0, 0, 1 + CLOSE_FRAME.length + TAG_BYTES, 0]),
  ]);
  const cipher = createCipheriv("aes-128-gcm", key, iv); // the nonce of packet 0 is the IV itself
  cipher.setAAD(header);
  const packet = concat([header, cipher.update(CLOSE_FRAME), cipher.final(), cipher.getAuthTag()]);
  return protect(packet, header.length - 1, mask);
}

// RFC 9001 §5.4: hides the low bits of the first byte and the packet number.
function protect(packet: Bytes, numberAt: number, key: Bytes): Bytes {
  const sample = packet.subarray(numberAt + 4, numberAt + 20);
  const mask = createCipheriv("aes-128-ecb", key, null).update(sample);
  packet[0] = (packet[0] as number) ^ ((mask[0] as number) & 0x0f);
  packet[numberAt] = (packet[numberAt] as number) ^ (mask[1] as number);
  return packet;
}

// HKDF-Expand-Label of TLS 1.3 for outputs of one hash at most (RFC 8446 §7.1).
function expand(secret: Uint8Array, label: string, bytes: number): Bytes {
  const name = utf8(`tls13 ${label}`);
  const info = concat([new Uint8Array([0, bytes, name.length]), name, new Uint8Array([0, 1])]);
  return hmac(secret, info).slice(0, bytes);
}

function hmac(key: Uint8Array, data: Uint8Array): Bytes {
  return new Uint8Array(createHmac("sha256", key).update(data).digest());
}
