/**
 * The messages of the handshake. HELLO is a positional CBOR array, so that both ends hash the
 * same bytes; PROOF and READY are fixed fields. All caps are checked before anything is kept.
 */
import { decode, encode } from "cborg";
import * as v from "valibot";
import { EMPTY, fromUtf8, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { isAcceptableKey } from "../base/ed25519_rules.ts";
import { ProtocolError } from "../base/errors.ts";
import { isAgreementKey } from "../base/x25519_rules.ts";
import { isAddress } from "../wire/address.ts";
import { MAX_ADDRESSES, MAX_HANDSHAKE_BYTES } from "../wire/limits.ts";
import { isNodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";
import { isChain } from "./succession.ts";

/** Version of the handshake and of everything behind it. */
export const PROTOCOL_VERSION = 1;

/** Settings that the whole cluster must share, by name. */
export type Features = Readonly<Record<string, number>>;

/** What each end says of itself. */
export interface Hello {
  readonly version: number;
  /** `direct`: TLS ends at the peer. `edge`: at somebody's proxy. */
  readonly mode: "direct" | "edge";
  readonly cluster: string;
  readonly name: NodeName;
  readonly epoch: number;
  readonly publicKey: Bytes;
  readonly nonce: Bytes;
  /** The node has no disk: its key lives as long as it does. */
  readonly ephemeral: boolean;
  readonly addresses: readonly string[];
  /** The client's: the nonce that began the link which this one takes over from; else empty. */
  readonly replaces: Bytes;
  readonly features: Features;
  /** How it came to its key, when it has rotated it; see `succession.ts`. Empty when never. */
  readonly successions: Bytes;
  /** In mode `edge` an X25519 key for this connection alone; else empty. */
  readonly agreementKey: Bytes;
}

const bytes = (length: number) =>
  v.pipe(v.instance(Uint8Array), v.check((value) => value.length === length));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

const helloSchema = v.strictTuple([
  v.literal(PROTOCOL_VERSION),
  v.picklist(["direct", "edge"]),
  v.pipe(v.string(), v.minLength(1), v.maxLength(64)),
  v.pipe(v.string(), v.check((text) => isNodeName(text))),
  count,
  v.pipe(bytes(32), v.check((key) => isAcceptableKey(key))),
  bytes(32),
  v.boolean(),
  // Others will hear of these from us: what they would refuse must not get past here.
  v.pipe(
    v.array(v.pipe(v.string(), v.check((text) => isAddress(text)))),
    v.maxLength(MAX_ADDRESSES),
  ),
  v.union([bytes(0), bytes(32)]),
  v.pipe(
    v.array(v.strictTuple([v.pipe(v.string(), v.maxLength(64)), count])),
    v.maxLength(16),
  ),
  v.pipe(v.instance(Uint8Array), v.check((chain) => isChain(chain))),
  v.union([bytes(0), v.pipe(bytes(32), v.check((key) => isAgreementKey(key)))]),
]);

/** The bytes of a HELLO. */
export function encodeHello(hello: Hello): Bytes {
  return encode([
    hello.version,
    hello.mode,
    hello.cluster,
    hello.name,
    hello.epoch,
    hello.publicKey,
    hello.nonce,
    hello.ephemeral,
    hello.addresses,
    hello.replaces,
    Object.entries(hello.features).sort(([a], [b]) => (a < b ? -1 : 1)),
    hello.successions,
    hello.agreementKey,
  ]) as Bytes;
}

/** Reads a HELLO. @throws ProtocolError `malformed`, `version_mismatch` */
export function decodeHello(body: Uint8Array): Hello {
  if (body.length > MAX_HANDSHAKE_BYTES) throw malformed("HELLO is too long");
  let raw: unknown;
  try {
    raw = decode(body, { strict: true, allowIndefinite: false, useMaps: true });
  } catch (error) {
    throw malformed("HELLO is not CBOR", error);
  }
  if (Array.isArray(raw) && Number.isSafeInteger(raw[0]) && raw[0] !== PROTOCOL_VERSION) {
    throw new ProtocolError(
      "version_mismatch",
      `the peer speaks version ${raw[0]}, this node version ${PROTOCOL_VERSION}`,
    );
  }
  const parsed = v.safeParse(helloSchema, raw);
  if (!parsed.success) throw malformed("HELLO has fields that are not allowed");
  const [
    version,
    mode,
    cluster,
    name,
    epoch,
    key,
    nonce,
    ephemeral,
    addresses,
    replaces,
    features,
    successions,
    agreementKey,
  ] = parsed.output;
  if ((mode === "edge") !== (agreementKey.length > 0)) {
    throw malformed(`HELLO in mode ${mode} with an agreement key of ${agreementKey.length} bytes`);
  }
  return {
    version,
    mode,
    cluster,
    name,
    epoch,
    publicKey: new Uint8Array(key),
    nonce: new Uint8Array(nonce),
    ephemeral,
    addresses,
    replaces: new Uint8Array(replaces),
    features: Object.fromEntries(features),
    successions: new Uint8Array(successions),
    agreementKey: new Uint8Array(agreementKey),
  };
}

/** PROOF: a signature, and the cookie's MAC where there is one. */
export interface Proof {
  readonly signature: Bytes;
  readonly mac: Bytes;
}

const SIGNATURE_BYTES = 64;
const MAC_BYTES = 32;

/** The bytes of a PROOF; `mac` may be empty. */
export function encodeProof(signature: Uint8Array, mac: Uint8Array): Bytes {
  const body = new Uint8Array(signature.length + mac.length);
  body.set(signature);
  body.set(mac, signature.length);
  return body;
}

/** Reads a PROOF. @throws ProtocolError `malformed` */
export function decodeProof(body: Bytes): Proof {
  if (body.length !== SIGNATURE_BYTES && body.length !== SIGNATURE_BYTES + MAC_BYTES) {
    throw malformed(`PROOF has ${body.length} bytes`);
  }
  return { signature: body.slice(0, SIGNATURE_BYTES), mac: body.slice(SIGNATURE_BYTES) };
}

/** Reads a READY: the server's MAC, or nothing. @throws ProtocolError `malformed` */
export function decodeReady(body: Bytes): Bytes {
  if (body.length !== 0 && body.length !== MAC_BYTES) {
    throw malformed(`READY has ${body.length} bytes`);
  }
  return body.length === 0 ? EMPTY : body;
}

/** Why a handshake was refused: one name for both ends, with what it means. */
export const REFUSALS = {
  version_mismatch: "the two nodes speak different versions of the protocol",
  cluster_mismatch: "the peer belongs to another cluster",
  feature_mismatch: "a setting that the whole cluster must share differs",
  malformed: "a handshake message does not follow the protocol",
  channel_binding: "the peer's key is not the one of the TLS certificate: somebody is in between",
  bad_signature: "the peer's signature does not fit this connection (channel binding) or its key",
  bad_cookie: "the cluster cookie is missing or different",
  key_mismatch: "another key is pinned for this node name",
  untrusted_key: "the key is not pinned, and trust is strict",
  name_conflict: "the name is taken by another live node",
  self_connection: "the node reached itself",
  mode_mismatch: "the two ends do not agree about where TLS ends",
  zero_secret: "the peer's agreement key makes a secret that everybody knows",
  unsealed: "a message that had to be sealed was not, or was changed on the way",
  timeout: "the handshake took too long",
  too_many: "too many connections are waiting to authenticate",
  internal: "the handshake failed inside the node",
} as const;

/** One of the {@link REFUSALS}. */
export type Refusal = keyof typeof REFUSALS;

/** The bytes of a REFUSE. */
export function encodeRefuse(reason: Refusal): Bytes {
  return utf8(reason);
}

/** Reads a REFUSE; a reason we do not know counts as `malformed`. */
export function decodeRefuse(body: Bytes): Refusal {
  try {
    const reason = fromUtf8(body.subarray(0, 64));
    if (Object.hasOwn(REFUSALS, reason)) return reason as Refusal;
  } catch {
    // Not even text.
  }
  return "malformed";
}

function malformed(what: string, cause?: unknown): ProtocolError {
  return new ProtocolError("malformed", what, { cause });
}
