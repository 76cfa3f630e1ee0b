/** Two handshake machines and the wire between them, on which a test may lay its hands. */
import { sha512 } from "@noble/hashes/sha2.js";
import type { Bytes } from "../../src/base/bytes.ts";
import { concat, equalBytes } from "../../src/base/bytes.ts";
import type { Agreement, Crypto, KeyPair } from "../../src/base/crypto.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { certificateOf } from "../../src/identity/certificate.ts";
import { Handshake } from "../../src/identity/handshake.ts";
import type { HandshakeEffect, HandshakeEvent } from "../../src/identity/handshake.ts";
import { PROTOCOL_VERSION } from "../../src/identity/handshake_messages.ts";
import type { Hello } from "../../src/identity/handshake_messages.ts";
import type { TrustVerdict } from "../../src/identity/trust.ts";
import type { NodeName } from "../../src/wire/node_name.ts";

export const crypto: Crypto = nobleCrypto(seededRandom(2023));

/** Keys of three nodes; `mallory` is nobody's friend. */
export const keysOf: Readonly<Record<Role | "mallory", KeyPair>> = {
  client: await crypto.generateKeyPair(),
  server: await crypto.generateKeyPair(),
  mallory: await crypto.generateKeyPair(),
};

/** The channel binding of connections to the node with this key. */
export async function bindingOf(publicKey: Bytes): Promise<Bytes> {
  return crypto.sha256(await certificateOf(publicKey, crypto));
}

export const SERVER_BINDING: Bytes = await bindingOf(keysOf.server.publicKey);

/** One agreement key for each end, so that a conversation is the same each time. */
export const agreements: Readonly<Record<Role | "mallory", Agreement>> = {
  client: await crypto.newAgreement(),
  server: await crypto.newAgreement(),
  mallory: await crypto.newAgreement(),
};

/** Signatures that nobody could forge without the key, and thousands of times cheaper. */
export interface Signer {
  sign(message: Bytes, keys: KeyPair): Promise<Bytes>;
  verify(signature: Bytes, message: Bytes, publicKey: Bytes): Promise<boolean>;
}

export const standIn: Signer = {
  sign: (message, keys) => Promise.resolve(sha512(concat([keys.publicKey, message])) as Bytes),
  verify: (signature, message, publicKey) =>
    Promise.resolve(equalBytes(signature, sha512(concat([publicKey, message])))),
};

/** What one end is made of; everything has a default that works. */
export interface End {
  readonly keys?: KeyPair;
  readonly hello?: Partial<Hello>;
  readonly binding?: Bytes | undefined;
  readonly cookie?: Bytes;
  readonly isCookieOnly?: (name: NodeName) => boolean;
  readonly trust?: TrustVerdict | "conflict" | ((peer: Hello) => TrustVerdict | "conflict");
  readonly signer?: Signer;
  /** The connection is through a proxy, and this is our part of the agreement. */
  readonly agreement?: Agreement;
}

export type Role = "client" | "server";

/** A message on the wire. */
export interface Message {
  readonly from: Role;
  readonly frameType: number;
  readonly body: Bytes;
}

/** How it ended for one end. */
export type Outcome = Extract<HandshakeEffect, { type: "established" | "redial" | "refused" }>;

/** One end: the machine with its answers. */
export class Party {
  readonly machine: Handshake;
  readonly role: Role;
  /** Everything that was asked of the driver, in order. */
  readonly effects: HandshakeEffect[] = [];
  outcome: Outcome | undefined;
  readonly #end: End;
  readonly #keys: KeyPair;

  constructor(role: Role, end: End = {}) {
    this.role = role;
    this.#end = end;
    this.#keys = end.keys ?? keysOf[role];
    this.machine = new Handshake({
      role,
      hello: {
        version: PROTOCOL_VERSION,
        mode: end.agreement === undefined ? "direct" : "edge",
        cluster: "test",
        name: `${role}@127.0.0.1`,
        epoch: role === "client" ? 11 : 22,
        publicKey: this.#keys.publicKey,
        nonce: crypto.sha256(this.#keys.publicKey),
        ephemeral: role === "client",
        addresses: [`mem://${role}`],
        replaces: new Uint8Array(0),
        features: { maxMessageBytes: 1_000, maxDriftMs: 5_000 },
        successions: new Uint8Array(0),
        agreementKey: end.agreement?.publicKey ?? new Uint8Array(0),
        ...end.hello,
      },
      channelBinding: "binding" in end ? end.binding : SERVER_BINDING,
      cookie: end.cookie,
      isCookieOnly: end.isCookieOnly ?? (() => false),
      crypto,
    });
  }

  /** Feeds one event and all the answers that follow; returns what goes on the wire. */
  async feed(event: HandshakeEvent): Promise<Message[]> {
    const sent: Message[] = [];
    const events = [event];
    for (let next = events.shift(); next !== undefined; next = events.shift()) {
      for (const effect of this.machine.handle(next)) {
        this.effects.push(effect);
        const answer = await this.#carryOut(effect, sent);
        if (answer !== undefined) events.push(answer);
      }
    }
    return sent;
  }

  async #carryOut(effect: HandshakeEffect, sent: Message[]): Promise<HandshakeEvent | undefined> {
    const { signer = crypto, trust = "pinned" } = this.#end;
    switch (effect.type) {
      case "send":
        sent.push({ from: this.role, frameType: effect.frameType, body: effect.body });
        return undefined;
      case "sign":
        return { type: "signed", signature: await signer.sign(effect.message, this.#keys) };
      case "verify": {
        const { signature, message, publicKey } = effect;
        return { type: "verified", ok: await signer.verify(signature, message, publicKey) };
      }
      case "bindingOf":
        return { type: "bindingOf", binding: await bindingOf(effect.publicKey) };
      case "agree":
        return { type: "agreed", secret: await this.#end.agreement?.agree(effect.publicKey) };
      case "checkTrust":
        return {
          type: "trust",
          verdict: typeof trust === "function" ? trust(effect.peer) : trust,
        };
      default:
        this.outcome = effect;
        return undefined;
    }
  }
}

/** What a test does to a message: what comes out is delivered in its place. */
export type Tamper = (message: Message, index: number) => readonly Message[];

/** Runs a handshake until nothing moves any more. */
export async function converse(
  client: Party,
  server: Party,
  tamper: Tamper = (message) => [message],
): Promise<{ readonly wire: readonly Message[] }> {
  const wire: Message[] = [];
  const flying = [...await server.feed({ type: "start" }), ...await client.feed({ type: "start" })];
  for (let message = flying.shift(); message !== undefined; message = flying.shift()) {
    for (const delivered of tamper(message, wire.length)) {
      const to = delivered.from === "client" ? server : client;
      const { frameType, body } = delivered;
      flying.push(...await to.feed({ type: "message", frameType, body }));
    }
    wire.push(message);
  }
  return { wire };
}

/** What each end reports, short: `established`, `redial`, or who refused and why. */
export function summary(party: Party): string {
  const { outcome } = party;
  if (outcome === undefined) return "open";
  return outcome.type === "refused" ? `${outcome.by}: ${outcome.reason}` : outcome.type;
}
