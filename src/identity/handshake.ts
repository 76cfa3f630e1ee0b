/**
 * The handshake of a connection, both roles, as a pure machine:
 *
 * ```
 * C -> S  HELLO
 * S -> C  HELLO, PROOF
 * C -> S  PROOF   (with the cookie's MAC, where there is one)
 * S -> C  READY   (with the server's)
 * ```
 *
 * Each signature covers the role, the mode and SHA-256(binding || SHA-256(HELLO of the client) ||
 * SHA-256(HELLO of the server)): both names, both keys, both nonces and the TLS channel. A proof
 * can be neither replayed, reflected, relayed nor moved to another pair of nodes. Wall clocks
 * decide nothing.
 *
 * Where TLS ends at somebody's proxy (mode `edge`) the binding comes from a key agreement between
 * the two HELLOs (`session.ts`), and all that follows the server's PROOF is sealed with its keys.
 *
 * The driver feeds events in and carries effects out; while an effect that has an answer (`sign`,
 * `verify`, `bindingOf`, `agree`, `checkTrust`) is under way it must not feed messages.
 */
import { concat, EMPTY, equalBytes, equalSecrets, utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { SyncCrypto } from "../base/crypto.ts";
import { ProtocolError } from "../base/errors.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import {
  decodeHello,
  decodeProof,
  decodeReady,
  decodeRefuse,
  encodeHello,
  encodeProof,
  encodeRefuse,
  REFUSALS,
} from "./handshake_messages.ts";
import type { Features, Hello, Refusal } from "./handshake_messages.ts";
import {
  bindingOfSecret,
  handshakeKey,
  joinFrame,
  sealer,
  sessionKey,
  unsealer,
} from "./session.ts";
import type { Sealer, Unsealer } from "./session.ts";
import type { TrustVerdict } from "./trust.ts";

/** What happens to the machine. */
export type HandshakeEvent =
  | { readonly type: "start" }
  | { readonly type: "message"; readonly frameType: number; readonly body: Bytes }
  | { readonly type: "signed"; readonly signature: Bytes }
  | { readonly type: "verified"; readonly ok: boolean }
  | { readonly type: "bindingOf"; readonly binding: Bytes }
  | { readonly type: "agreed"; readonly secret: Bytes | undefined }
  | { readonly type: "trust"; readonly verdict: TrustVerdict | "conflict" }
  | { readonly type: "deadline" };

/** What the driver has to do. */
export type HandshakeEffect =
  | { readonly type: "send"; readonly frameType: number; readonly body: Bytes }
  /** Sign with our key; answer `signed`. */
  | { readonly type: "sign"; readonly message: Bytes }
  /** Check a signature; answer `verified`. */
  | {
    readonly type: "verify";
    readonly signature: Bytes;
    readonly message: Bytes;
    readonly publicKey: Bytes;
  }
  /** SHA-256 of the certificate derived from this key; answer `bindingOf`. */
  | { readonly type: "bindingOf"; readonly publicKey: Bytes }
  /** The secret that our agreement key shares with this one; answer `agreed`. */
  | { readonly type: "agree"; readonly publicKey: Bytes }
  /** Look the peer up; answer `trust`. */
  | { readonly type: "checkTrust"; readonly peer: Hello }
  /**
   * The peer is who it says. `cookieOnly`: its key is not to be pinned. `session`: the key to seal
   * all pipes with, in mode `edge`.
   */
  | {
    readonly type: "established";
    readonly peer: Hello;
    readonly cookieOnly: boolean;
    readonly session: Bytes | undefined;
  }
  /** Nothing was proved, but its key is known now: close, and dial again with the key pinned. */
  | { readonly type: "redial"; readonly peer: Hello }
  /** It is over. `by` tells which end refused; a `message` was sent when it was ours. */
  | {
    readonly type: "refused";
    readonly reason: Refusal;
    readonly by: "local" | "peer";
    readonly text: string;
    readonly peer: Hello | undefined;
  };

/** What a handshake is made of. */
export interface HandshakeOptions {
  readonly role: "client" | "server";
  /** Ours, with a fresh nonce. */
  readonly hello: Hello;
  /** From the connection; `undefined` on an unpinned dial that shows no certificate. */
  readonly channelBinding: Bytes | undefined;
  /** The shared secret, at least 16 bytes, where the cluster has one. */
  readonly cookie: Bytes | undefined;
  /** Whether this peer needs no trusted key, only the cookie. */
  readonly isCookieOnly: (name: NodeName) => boolean;
  readonly crypto: SyncCrypto;
}

type State =
  | "new"
  | "awaitHello"
  | "agreeing"
  | "binding"
  | "awaitProof"
  | "verifying"
  | "trusting"
  | "signing"
  | "awaitReady"
  | "over";

const HANDSHAKE_LABEL = utf8("barrel/1 handshake");
const COOKIE_LABEL = utf8("barrel/1 cookie");
const CLIENT = Uint8Array.of(1);
const SERVER = Uint8Array.of(2);

/** The machine; see the module. */
export class Handshake {
  readonly #options: HandshakeOptions;
  readonly #ownHello: Bytes;
  #state: State = "new";
  #peer: Hello | undefined;
  #transcript: Bytes = EMPTY;
  #signature: Bytes = EMPTY;
  /** What the HELLOs hash to, while the agreement is under way. */
  #hellos: Bytes = EMPTY;
  #session: Bytes | undefined;
  #sealer: Sealer | undefined;
  /** The server's, until its PROOF has been sent. */
  #laterSealer: Sealer | undefined;
  #unsealer: Unsealer | undefined;

  constructor(options: HandshakeOptions) {
    this.#options = options;
    this.#ownHello = encodeHello(options.hello);
  }

  /** Whether it has ended, well or not. */
  get isOver(): boolean {
    return this.#state === "over";
  }

  /** Takes one event; never throws. */
  handle(event: HandshakeEvent): HandshakeEffect[] {
    if (this.#state === "over") return [];
    try {
      return this.#step(event);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      const reason = Object.hasOwn(REFUSALS, error.reason) ? error.reason as Refusal : "malformed";
      return this.#refuse(reason, error.message);
    }
  }

  #step(event: HandshakeEvent): HandshakeEffect[] {
    switch (event.type) {
      case "start":
        this.#state = "awaitHello";
        return this.#isClient ? [send(FrameType.HELLO, this.#ownHello)] : [];
      case "message":
        return this.#message(event.frameType, event.body);
      case "bindingOf":
        return this.#bindingKnown(event.binding);
      case "agreed":
        return this.#agreed(event.secret);
      case "verified":
        return this.#verified(event.ok);
      case "trust":
        return this.#trusted(event.verdict);
      case "signed":
        return this.#signed(event.signature);
      case "deadline":
        return this.#refuse("timeout");
    }
  }

  get #isClient(): boolean {
    return this.#options.role === "client";
  }

  #message(type: number, body: Bytes): HandshakeEffect[] {
    if (type === FrameType.SEALED && this.#unsealer !== undefined) {
      const frame = this.#unsealer.open(body);
      if (frame === undefined || frame.length === 0) return this.#refuse("unsealed");
      return this.#plainMessage(frame[0] as number, frame.subarray(1));
    }
    if (this.#mustBeSealed(type)) return this.#refuse("unsealed");
    return this.#plainMessage(type, body);
  }

  // Once there are keys: the server's PROOF is the last message in the clear, and a client that
  // refuses the server's HELLO has no keys to seal that with.
  #mustBeSealed(type: number): boolean {
    if (this.#unsealer === undefined) return false;
    if (this.#isClient) return this.#state === "awaitReady";
    return type !== FrameType.REFUSE;
  }

  #plainMessage(type: number, body: Bytes): HandshakeEffect[] {
    if (type === FrameType.REFUSE) {
      const reason = decodeRefuse(body);
      this.#state = "over";
      return [{ type: "refused", reason, by: "peer", text: REFUSALS[reason], peer: this.#peer }];
    }
    if (type === FrameType.HELLO && this.#state === "awaitHello") return this.#hello(body);
    if (type === FrameType.PROOF && this.#state === "awaitProof") return this.#proof(body);
    if (type === FrameType.READY && this.#state === "awaitReady") return this.#ready(body);
    throw new ProtocolError("malformed", `a message of type ${type} came out of turn`);
  }

  #hello(body: Bytes): HandshakeEffect[] {
    const { hello: own, channelBinding, crypto } = this.#options;
    const peer = decodeHello(body);
    this.#peer = peer;
    if (peer.cluster !== own.cluster) {
      return this.#refuse(
        "cluster_mismatch",
        `the peer is of cluster ${JSON.stringify(peer.cluster)}`,
      );
    }
    if (equalBytes(peer.publicKey, own.publicKey)) return this.#refuse("self_connection");
    if (peer.name === own.name) return this.#refuse("name_conflict");
    // The mode is how the connection came about; nobody on the way can talk us into another one.
    if (own.mode !== peer.mode) return this.#refuse("mode_mismatch");
    const differing = differingFeature(own, peer);
    if (differing !== undefined) return this.#refuse("feature_mismatch", differing);
    const hashes = (this.#isClient ? [this.#ownHello, body] : [body, this.#ownHello])
      .map((hello) => crypto.sha256(hello));
    this.#hellos = concat(hashes);
    if (own.mode === "edge") {
      this.#state = "agreeing";
      return [{ type: "agree", publicKey: peer.agreementKey }];
    }
    if (channelBinding === undefined) {
      this.#state = "over";
      return [{ type: "redial", peer }];
    }
    this.#transcript = crypto.sha256(concat([channelBinding, this.#hellos]));
    if (this.#isClient) {
      this.#state = "binding";
      return [{ type: "bindingOf", publicKey: peer.publicKey }];
    }
    return this.#answerHello();
  }

  #answerHello(): HandshakeEffect[] {
    this.#state = "signing";
    return [send(FrameType.HELLO, this.#ownHello), this.#sign(SERVER)];
  }

  #agreed(secret: Bytes | undefined): HandshakeEffect[] {
    if (this.#state !== "agreeing") throw outOfTurn();
    if (secret === undefined) return this.#refuse("zero_secret");
    const { crypto, role } = this.#options;
    const binding = bindingOfSecret(secret, this.#hellos, crypto);
    this.#transcript = crypto.sha256(concat([binding, this.#hellos]));
    const session = sessionKey(secret, this.#transcript, crypto);
    this.#session = session;
    const other = this.#isClient ? "server" : "client";
    this.#unsealer = unsealer(handshakeKey(session, other, crypto), crypto);
    const ours = sealer(handshakeKey(session, role, crypto), crypto);
    if (this.#isClient) {
      this.#sealer = ours;
      this.#state = "awaitProof";
      return [];
    }
    const effects = this.#answerHello();
    // Its PROOF comes first, in the clear: see `#signed`.
    this.#laterSealer = ours;
    return effects;
  }

  // The key in HELLO must be the key of the certificate that TLS verified.
  #bindingKnown(binding: Bytes): HandshakeEffect[] {
    if (this.#state !== "binding") throw outOfTurn();
    if (!equalBytes(binding, this.#options.channelBinding as Bytes)) {
      return this.#refuse("channel_binding");
    }
    this.#state = "awaitProof";
    return [];
  }

  #proof(body: Bytes): HandshakeEffect[] {
    const { signature, mac } = decodeProof(body);
    if (!this.#isClient && !this.#isCookieRight(mac, CLIENT)) return this.#refuse("bad_cookie");
    // The server shows its MAC in READY, after the client has shown its own.
    if (this.#isClient && mac.length > 0) throw new ProtocolError("malformed", "an early MAC");
    this.#state = "verifying";
    const { publicKey } = this.#peer as Hello;
    const message = this.#signedMessage(this.#isClient ? SERVER : CLIENT);
    return [{ type: "verify", signature, message, publicKey }];
  }

  #verified(ok: boolean): HandshakeEffect[] {
    if (this.#state !== "verifying") throw outOfTurn();
    if (!ok) return this.#refuse("bad_signature");
    this.#state = "trusting";
    return [{ type: "checkTrust", peer: this.#peer as Hello }];
  }

  #trusted(verdict: TrustVerdict | "conflict"): HandshakeEffect[] {
    if (this.#state !== "trusting") throw outOfTurn();
    if (verdict === "conflict") return this.#refuse("name_conflict");
    if (!this.#isCookieOnly()) {
      if (verdict === "mismatch") return this.#refuse("key_mismatch");
      if (verdict === "unknown") return this.#refuse("untrusted_key");
    }
    if (this.#isClient) {
      this.#state = "signing";
      return [this.#sign(CLIENT)];
    }
    return [this.#send(FrameType.READY, this.#mac(SERVER)), this.#established()];
  }

  #signed(signature: Bytes): HandshakeEffect[] {
    if (this.#state !== "signing") throw outOfTurn();
    this.#signature = signature;
    if (this.#isClient) {
      this.#state = "awaitReady";
      return [this.#send(FrameType.PROOF, encodeProof(this.#signature, this.#mac(CLIENT)))];
    }
    this.#state = "awaitProof";
    this.#sealer = this.#laterSealer;
    return [send(FrameType.PROOF, encodeProof(this.#signature, EMPTY))];
  }

  #ready(body: Bytes): HandshakeEffect[] {
    if (!this.#isCookieRight(decodeReady(body), SERVER)) return this.#refuse("bad_cookie");
    return [this.#established()];
  }

  #established(): HandshakeEffect {
    this.#state = "over";
    const cookieOnly = this.#isCookieOnly();
    return {
      type: "established",
      peer: this.#peer as Hello,
      cookieOnly,
      session: this.#session,
    };
  }

  #isCookieOnly(): boolean {
    const { cookie, isCookieOnly } = this.#options;
    return cookie !== undefined && isCookieOnly((this.#peer as Hello).name);
  }

  #sign(role: Uint8Array): HandshakeEffect {
    return { type: "sign", message: this.#signedMessage(role) };
  }

  #signedMessage(role: Uint8Array): Bytes {
    return concat([HANDSHAKE_LABEL, role, utf8(this.#options.hello.mode), this.#transcript]);
  }

  #mac(role: Uint8Array): Bytes {
    const { cookie, crypto } = this.#options;
    if (cookie === undefined) return EMPTY;
    return crypto.hmac(cookie, concat([COOKIE_LABEL, role, this.#transcript]));
  }

  #isCookieRight(mac: Bytes, role: Uint8Array): boolean {
    // Only one end with a cookie is a difference that both must hear of.
    if (this.#options.cookie === undefined) return mac.length === 0;
    return equalSecrets(mac, this.#mac(role));
  }

  #send(frameType: number, body: Bytes): HandshakeEffect {
    if (this.#sealer === undefined) return send(frameType, body);
    return send(FrameType.SEALED, this.#sealer.seal(joinFrame(frameType, body)));
  }

  #refuse(reason: Refusal, text: string = REFUSALS[reason]): HandshakeEffect[] {
    this.#state = "over";
    return [
      this.#send(FrameType.REFUSE, encodeRefuse(reason)),
      { type: "refused", reason, by: "local", text, peer: this.#peer },
    ];
  }
}

function send(frameType: number, body: Bytes): HandshakeEffect {
  return { type: "send", frameType, body };
}

function outOfTurn(): ProtocolError {
  return new ProtocolError("malformed", "the driver answered out of turn");
}

function differingFeature(own: Hello, peer: Hello): string | undefined {
  for (const name of new Set([...Object.keys(own.features), ...Object.keys(peer.features)])) {
    const [here, there] = [ownValue(own.features, name), ownValue(peer.features, name)];
    if (here !== there) return `${JSON.stringify(name)} is ${here} here and ${there} there`;
  }
  return undefined;
}

// The names are the peer's choice: `constructor` must not find what every object has.
function ownValue(features: Features, name: string): number | undefined {
  return Object.hasOwn(features, name) ? features[name] : undefined;
}
