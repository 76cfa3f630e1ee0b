import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Agreement, Crypto, KeyPair } from "../base/crypto.ts";
import { HandshakeError, messageOf } from "../base/errors.ts";
import { certificateOf } from "../identity/certificate.ts";
import { Handshake } from "../identity/handshake.ts";
import type { HandshakeEffect, HandshakeEvent } from "../identity/handshake.ts";
import { PROTOCOL_VERSION, REFUSALS } from "../identity/handshake_messages.ts";
import type { Features, Hello, Refusal } from "../identity/handshake_messages.ts";
import type { TrustVerdict } from "../identity/trust.ts";
import type { Connection } from "../transport/contract.ts";
import { MAX_HANDSHAKE_BYTES } from "../wire/limits.ts";
import type { NodeName } from "../wire/node_name.ts";
import { CloseCode } from "./close_codes.ts";
import type { FramedPipe } from "./framed_pipe.ts";
import type { PeerIdentity } from "./ports.ts";

const NOTHING = new Uint8Array(0);

/** Who we are in one handshake: it begins and ends with the same keys. */
export interface Credentials {
  readonly self: PeerIdentity;
  readonly keys: KeyPair;
  /** How the node came to the key; see `identity/succession.ts`. */
  readonly successions: Bytes;
}

/** What every handshake of a node needs. */
export interface HandshakeContext {
  /** As they are now, or as they were when the connection's certificate was shown. */
  readonly credentials: (connection: Connection) => Credentials;
  readonly cluster: string;
  readonly cookie: Bytes | undefined;
  readonly isCookieOnly: (name: NodeName) => boolean;
  /** Whether this node has no disk. */
  readonly ephemeral: boolean;
  readonly features: Features;
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly crypto: Crypto;
  readonly nonce: () => Bytes;
  /** What to make of the peer's name and key. */
  readonly checkTrust: (
    peer: Hello,
  ) => TrustVerdict | "conflict" | Promise<TrustVerdict | "conflict">;
}

/** How a handshake ended well. */
export type HandshakeOutcome =
  | {
    readonly type: "established";
    readonly peer: Hello;
    readonly cookieOnly: boolean;
    /** What to seal the connection with, where its TLS ends elsewhere. */
    readonly session: Bytes | undefined;
    /** The client's nonce: by it both ends name this connection. */
    readonly id: Bytes;
  }
  | { readonly type: "redial"; readonly peer: Hello };

/**
 * Runs the handshake over the first pipe of `connection`. Afterwards the pipe is paused, so that
 * whoever takes it over misses nothing.
 *
 * @param replaces the link that this connection takes over from, by its `id`
 * @throws HandshakeError with the refusal's name; its `cause` is `{ by, peer }`
 */
export async function runHandshake(
  connection: Connection,
  pipe: FramedPipe,
  context: HandshakeContext,
  replaces: Bytes = NOTHING,
): Promise<HandshakeOutcome> {
  if (connection.mode === "direct") return await converse(connection, pipe, context, replaces);
  // Frames wait in the pipe while the key is made.
  pipe.pause();
  const agreement = await context.crypto.newAgreement();
  const conversation = converse(connection, pipe, context, replaces, agreement);
  pipe.resume();
  return await conversation;
}

function converse(
  connection: Connection,
  pipe: FramedPipe,
  context: HandshakeContext,
  replaces: Bytes,
  agreement?: Agreement,
): Promise<HandshakeOutcome> {
  return new Promise((resolve, reject) => {
    const { self, keys, successions } = context.credentials(connection);
    const nonce = context.nonce();
    const machine = new Handshake({
      role: connection.role,
      hello: {
        version: PROTOCOL_VERSION,
        mode: connection.mode,
        cluster: context.cluster,
        name: self.name,
        epoch: self.epoch,
        publicKey: self.publicKey,
        nonce,
        ephemeral: context.ephemeral,
        addresses: self.addresses,
        replaces,
        features: context.features,
        successions,
        agreementKey: agreement?.publicKey ?? NOTHING,
      },
      channelBinding: connection.channelBinding,
      cookie: context.cookie,
      isCookieOnly: context.isCookieOnly,
      crypto: context.crypto,
    });
    let settled = false;
    const deadline = context.clock.after(context.timeoutMs, () => feed({ type: "deadline" }));
    const finish = (settle: () => void) => {
      if (settled) return;
      settled = true;
      deadline.cancel();
      pipe.pause();
      settle();
    };
    const fail = (reason: Refusal, text: string, by: "local" | "peer", peer?: Hello) => {
      const error = new HandshakeError(reason, describe(connection, reason, text, by, peer), {
        cause: { by, peer },
      });
      finish(() => reject(error));
    };
    const feed = (event: HandshakeEvent) => {
      for (const effect of machine.handle(event)) carryOut(effect);
    };
    // No message is looked at while an answer is awaited.
    let awaited = 0;
    const answer = (work: Promise<HandshakeEvent>) => {
      awaited++;
      pipe.pause();
      work.then((event) => {
        awaited--;
        feed(event);
        // What was answered may have asked anew.
        if (!settled && awaited === 0) pipe.resume();
      }, (error) => fail("internal", messageOf(error), "local"));
    };
    const checkTrust = (peer: Hello) => {
      const verdict = context.checkTrust(peer);
      if (typeof verdict === "string") return feed({ type: "trust", verdict });
      answer(verdict.then((known) => ({ type: "trust", verdict: known })));
    };
    const carryOut = (effect: HandshakeEffect) => {
      const { crypto } = context;
      switch (effect.type) {
        case "send":
          return pipe.send(0, effect.frameType, effect.body, NOTHING);
        case "sign":
          return answer(
            crypto.sign(effect.message, keys)
              .then((signature) => ({ type: "signed", signature })),
          );
        case "verify":
          return answer(
            crypto.verify(effect.signature, effect.message, effect.publicKey)
              .then((ok) => ({ type: "verified", ok })),
          );
        case "bindingOf":
          return answer(
            certificateOf(effect.publicKey, crypto)
              .then((der) => ({ type: "bindingOf", binding: crypto.sha256(der) })),
          );
        case "agree": {
          const secret = agreement?.agree(effect.publicKey) ?? Promise.resolve(undefined);
          return answer(secret.then((shared) => ({ type: "agreed", secret: shared })));
        }
        case "checkTrust":
          return checkTrust(effect.peer);
        case "established": {
          const id = connection.role === "client" ? nonce : effect.peer.nonce;
          return finish(() => resolve({ ...effect, id }));
        }
        case "redial":
          return finish(() => resolve(effect));
        case "refused":
          return fail(effect.reason, effect.text, effect.by, effect.peer);
      }
    };
    pipe.handler = {
      onFrame(frameType, body) {
        if (body.length > MAX_HANDSHAKE_BYTES) feed({ type: "message", frameType: -1, body });
        else feed({ type: "message", frameType, body });
      },
      onEnd: () => fail("malformed", "the peer ended the handshake", "local"),
      onAbort: () => fail("malformed", "the peer broke the handshake off", "local"),
      onFailure(error) {
        const end = () => fail("malformed", error.message, "local");
        // The end of the connection is about to tell more.
        if (error.reason === "truncated") context.clock.after(TOLD_WITHIN_MS, end);
        else end();
      },
      onDrain() {},
    };
    void connection.closed.then((info) => {
      if (info.by === "peer" && info.code === CloseCode.REDIAL) {
        const text = "the client knows the key now and dials again";
        return finish(() => reject(new HandshakeError("redial", text)));
      }
      // The close may overtake the REFUSE frame; its reason says the same.
      const reason = Object.hasOwn(REFUSALS, info.reason) ? info.reason as Refusal : "malformed";
      const text = info.by === "peer" && reason !== "malformed"
        ? REFUSALS[reason]
        : `the connection ended (${info.reason || info.by})`;
      fail(reason, text, info.by === "peer" ? "peer" : "local");
    });
    feed({ type: "start" });
  });
}

/** The end of a pipe and the end of its connection are told this close together, milliseconds. */
const TOLD_WITHIN_MS = 100;

function describe(
  connection: Connection,
  reason: Refusal,
  text: string,
  by: "local" | "peer",
  peer: Hello | undefined,
): string {
  const who = peer === undefined
    ? connection.remoteAddress
    : `${peer.name} at ${connection.remoteAddress}`;
  return by === "local"
    ? `refused ${who}: ${reason} (${text})`
    : `${who} refused this node: ${reason} (${text})`;
}
