/**
 * The TLS certificate of a node, derived from its identity key: the leaf's key is the identity
 * key, the serial comes from the key, everything else is constant, and the issuer is the key
 * below. Ed25519 signatures are deterministic, so whoever knows a node's public key can compute
 * its certificate to the byte. TLS then proves that the server holds the identity key, and there is
 * no second credential to keep.
 *
 * **The issuer's secret key is public on purpose and carries no trust.** Its signature proves
 * nothing; it is there because TLS stacks want an issuer, and because Deno can accept a peer whose
 * key it does not know yet only through a certificate authority. Trust comes from the handshake.
 */
import { concat, equalBytes, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto, KeyPair } from "../base/crypto.ts";
import { ProtocolError } from "../base/errors.ts";
import { pkcs8Of } from "../base/web_crypto.ts";
import { der, oid, pem } from "./der.ts";

/** What TLS needs of a node's identity; equal to `TlsIdentity` of the transport contract. */
export interface DerivedIdentity {
  /** The leaf certificate, DER. */
  readonly certificate: Bytes;
  /** The leaf, PEM. */
  readonly certificatePem: string;
  /** The private key, PKCS#8 PEM. */
  readonly privateKeyPem: string;
  /** The well-known issuer's certificate, PEM. */
  readonly issuerPem: string;
}

/** The DNS name in every certificate: what a client gives as server name (SNI). */
export const CERTIFICATE_NAME = "barrel";

const ISSUER_LABEL = "barrel/1 public issuer, no trust";
const ED25519 = der(0x30, oid(1, 3, 101, 112));
const SERIAL_BYTES = 16;

// 19700101000000Z would be UTCTime by RFC 5280 §4.1.2.5; 9999 is "no well-defined expiration".
const VALIDITY = der(
  0x30,
  der(0x17, utf8("700101000000Z")),
  der(0x18, utf8("99991231235959Z")),
);

/** The certificate of the node with this public key, DER. */
export async function certificateOf(publicKey: Uint8Array, crypto: Crypto): Promise<Bytes> {
  const issuer = await issuerKeys(crypto);
  const extensions = [
    extension(oid(2, 5, 29, 19), true, der(0x30)), // basicConstraints: CA:FALSE
    extension(oid(2, 5, 29, 17), false, der(0x30, der(0x82, utf8(CERTIFICATE_NAME)))),
    extension(oid(2, 5, 29, 35), false, der(0x30, der(0x80, keyId(issuer.publicKey, crypto)))),
    extension(oid(2, 5, 29, 14), false, der(0x04, keyId(publicKey, crypto))),
  ];
  return await signed(publicKey, CERTIFICATE_NAME, extensions, issuer, crypto);
}

/**
 * The public key of a node's certificate.
 *
 * @throws ProtocolError `bad_certificate` unless it is, byte for byte, the one derived from its key.
 */
export async function publicKeyOfCertificate(
  certificate: Uint8Array,
  crypto: Crypto,
): Promise<Bytes> {
  const marker = concat([ED25519, Uint8Array.of(0x03, 33, 0)]);
  const at = indexOf(certificate, marker);
  if (at >= 0 && certificate.length >= at + marker.length + 32) {
    const key = new Uint8Array(certificate.subarray(at + marker.length, at + marker.length + 32));
    if (equalBytes(await certificateOf(key, crypto), certificate)) return key;
  }
  throw new ProtocolError("bad_certificate", "the certificate is not derived from its key");
}

/** The TLS credential of a node. */
export async function tlsIdentity(keys: KeyPair, crypto: Crypto): Promise<DerivedIdentity> {
  const certificate = await certificateOf(keys.publicKey, crypto);
  return {
    certificate,
    certificatePem: pem("CERTIFICATE", certificate),
    privateKeyPem: pem("PRIVATE KEY", pkcs8Of(keys.secretKey)),
    issuerPem: pem("CERTIFICATE", await issuerCertificate(crypto)),
  };
}

async function issuerCertificate(crypto: Crypto): Promise<Bytes> {
  const issuer = await issuerKeys(crypto);
  const extensions = [
    extension(oid(2, 5, 29, 19), true, der(0x30, der(0x01, Uint8Array.of(0xff)))), // CA:TRUE
    extension(oid(2, 5, 29, 15), true, der(0x03, Uint8Array.of(2, 0x04))), // keyCertSign
    extension(oid(2, 5, 29, 14), false, der(0x04, keyId(issuer.publicKey, crypto))),
  ];
  return await signed(issuer.publicKey, ISSUER_LABEL, extensions, issuer, crypto);
}

// One object for all calls: implementations keep what they derive from a pair beside it.
let issuerPair: KeyPair | undefined;
async function issuerKeys(crypto: Crypto): Promise<KeyPair> {
  if (issuerPair === undefined) {
    const secretKey = crypto.sha256(utf8(ISSUER_LABEL));
    issuerPair = { secretKey, publicKey: await crypto.publicKeyOf(secretKey) };
  }
  return issuerPair;
}

async function signed(
  publicKey: Uint8Array,
  subject: string,
  extensions: readonly Bytes[],
  issuer: KeyPair,
  crypto: Crypto,
): Promise<Bytes> {
  const body = der(
    0x30,
    der(0xa0, der(0x02, Uint8Array.of(2))), // version 3
    der(0x02, serial(publicKey, crypto)),
    ED25519,
    name(ISSUER_LABEL),
    VALIDITY,
    name(subject),
    der(0x30, ED25519, bitString(publicKey)),
    der(0xa3, der(0x30, ...extensions)),
  );
  return der(0x30, body, ED25519, bitString(await crypto.sign(body, issuer)));
}

// Positive and of constant length: the first byte lies between 0x40 and 0x7f.
function serial(publicKey: Uint8Array, crypto: Crypto): Bytes {
  const bytes = crypto.sha256(publicKey).slice(0, SERIAL_BYTES);
  bytes[0] = ((bytes[0] as number) & 0x3f) | 0x40;
  return bytes;
}

function keyId(publicKey: Uint8Array, crypto: Crypto): Bytes {
  return crypto.sha256(publicKey).slice(0, 20);
}

function name(common: string): Bytes {
  return der(0x30, der(0x31, der(0x30, oid(2, 5, 4, 3), der(0x0c, utf8(common)))));
}

function bitString(bytes: Uint8Array): Bytes {
  return der(0x03, Uint8Array.of(0), bytes);
}

function extension(id: Bytes, isCritical: boolean, value: Bytes): Bytes {
  const critical = isCritical ? [der(0x01, Uint8Array.of(0xff))] : [];
  return der(0x30, id, ...critical, der(0x04, value));
}

function indexOf(haystack: Uint8Array, needle: Uint8Array): number {
  for (let i = 0; i + needle.length <= haystack.length; i++) {
    if (equalBytes(haystack.subarray(i, i + needle.length), needle)) return i;
  }
  return -1;
}
