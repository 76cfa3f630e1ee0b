/** Handshakes over connections whose TLS ends at somebody's proxy. */
import assert from "node:assert/strict";
import { decodeHex, encodeHex } from "@std/encoding/hex";
import { concat, equalBytes, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { decodeHello, encodeHello, encodeRefuse } from "../../src/identity/handshake_messages.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test } from "../harness.ts";
import { agreements, converse, crypto, keysOf, Party, summary } from "./conversation.ts";
import type { End, Message, Tamper } from "./conversation.ts";

const { HELLO, PROOF, READY, REFUSE, SEALED } = FrameType;
const COOKIE = utf8("a cookie of 16 b");

const client = (end: End = {}) =>
  new Party("client", { binding: undefined, agreement: agreements.client, ...end });
const server = (end: End = {}) =>
  new Party("server", { binding: undefined, agreement: agreements.server, ...end });

const types = (wire: readonly Message[]) => wire.map(({ from, frameType }) => [from, frameType]);

function session(party: Party): Bytes {
  assert.ok(party.outcome?.type === "established");
  assert.ok(party.outcome.session !== undefined);
  return party.outcome.session;
}

/** Replaces the agreement key of a HELLO by mallory's. */
function withMallorysKey(body: Bytes): Bytes {
  return encodeHello({
    ...decodeHello(body),
    agreementKey: agreements.mallory.publicKey,
  });
}

describe("a handshake through a proxy", () => {
  test("seals all from the client's PROOF on, and both ends have one key", async () => {
    const [one, other] = [client({ cookie: COOKIE }), server({ cookie: COOKIE })];
    const { wire } = await converse(one, other);
    assert.deepEqual(types(wire), [
      ["client", HELLO],
      ["server", HELLO],
      ["server", PROOF],
      ["client", SEALED],
      ["server", SEALED],
    ]);
    assert.deepEqual([summary(one), summary(other)], ["established", "established"]);
    assert.deepEqual(session(one), session(other));
    // A type byte and a tag beside the signature and the MAC.
    assert.equal(wire[3]?.body.length, 1 + 64 + 32 + 16);
    assert.equal(wire[4]?.body.length, 1 + 32 + 16);
  });

  test("has another key for each agreement, and none where TLS ends at the peer", async () => {
    const [one, other] = [client(), server()];
    await converse(one, other);
    const again = client({ agreement: await crypto.newAgreement() });
    await converse(again, server());
    assert.notDeepEqual(session(one), session(again));
    const direct = new Party("client");
    await converse(direct, new Party("server"));
    assert.ok(direct.outcome?.type === "established");
    assert.equal(direct.outcome.session, undefined);
  });

  // Both ends must compute the same from the same bytes for ever.
  test("is the same to the byte each time, as pinned here", async () => {
    const one = client({ cookie: COOKIE });
    const { wire } = await converse(one, server({ cookie: COOKIE }));
    const said = concat([...wire.map(({ body }) => body), session(one)]);
    assert.equal(
      encodeHex(crypto.sha256(said)),
      "61cf2c63956f7273427622c49dd307c8e5edd08ec2dca3e5d47dbf353d87613c",
    );
  });

  test("needs no certificate: the channel of the proxy counts for nothing", async () => {
    const [one, other] = [
      client({ binding: new Uint8Array(32).fill(1) }),
      server({ binding: new Uint8Array(32).fill(2) }),
    ];
    await converse(one, other);
    assert.deepEqual([summary(one), summary(other)], ["established", "established"]);
  });

  test("still refuses by name on both ends", async () => {
    const cases: [client: End, server: End, reason: string, by: "client" | "server"][] = [
      [{ cookie: COOKIE }, {}, "bad_cookie", "server"],
      [{}, { trust: "mismatch" }, "key_mismatch", "server"],
      [{ trust: "mismatch" }, {}, "key_mismatch", "client"],
      [{ trust: "conflict" }, {}, "name_conflict", "client"],
      [{}, { trust: "unknown" }, "untrusted_key", "server"],
      [
        { keys: keysOf.mallory, hello: { publicKey: keysOf.client.publicKey } },
        {},
        "bad_signature",
        "server",
      ],
      [{ hello: { cluster: "other" } }, {}, "cluster_mismatch", "server"],
    ];
    for (const [clientEnd, serverEnd, reason, by] of cases) {
      const [one, other] = [client(clientEnd), server(serverEnd)];
      const { wire } = await converse(one, other);
      const expected = [`local: ${reason}`, `peer: ${reason}`];
      const seen = [summary(one), summary(other)];
      assert.deepEqual(by === "client" ? seen : seen.toReversed(), expected);
      // Who refuses behind the agreement seals why.
      const isEarly = reason === "cluster_mismatch";
      assert.equal(wire.at(-1)?.frameType, isEarly ? REFUSE : SEALED, reason);
    }
  });

  test("tells a timeout at each stage, sealed once there are keys", async () => {
    let told = 0;
    for (const role of ["client", "server"] as const) {
      for (let delivered = 0; delivered < 5; delivered++) {
        const [one, other] = [client(), server()];
        const lost = new Set<string>();
        await converse(one, other, (message, index) => {
          if (index < delivered) return [message];
          lost.add(message.from);
          return [];
        });
        const [party, peer] = role === "client" ? [one, other] : [other, one];
        // On a pipe nothing arrives behind what has not arrived.
        if (party.machine.isOver || lost.has(role)) continue;
        told++;
        const [said] = await party.feed({ type: "deadline" });
        assert.equal(summary(party), "local: timeout");
        if (peer.machine.isOver) continue;
        const { frameType, body } = said as Message;
        await peer.feed({ type: "message", frameType, body });
        assert.equal(summary(peer), "peer: timeout", `${role} after ${delivered}`);
      }
    }
    assert.equal(told, 5);
  });
});

describe("a proxy that is not content to pass bytes on", () => {
  test("cannot put its own agreement key into a HELLO, nor into both", async () => {
    for (const which of [[0], [1], [0, 1]]) {
      const [one, other] = [client(), server()];
      await converse(
        one,
        other,
        (message, index) =>
          which.includes(index) ? [{ ...message, body: withMallorysKey(message.body) }] : [message],
      );
      assert.equal(summary(one), "local: bad_signature", `${which}`);
      assert.notEqual(other.outcome?.type, "established");
      assert.equal(one.effects.some(({ type }) => type === "sign"), false);
    }
  });

  test("cannot have a handshake without keys: neither end takes the other mode", async () => {
    const direct: Tamper = (message) =>
      message.frameType === HELLO
        ? [{
          ...message,
          body: encodeHello({
            ...decodeHello(message.body),
            mode: "direct",
            agreementKey: new Uint8Array(0),
          }),
        }]
        : [message];
    for (const tampered of ["client", "server"] as const) {
      const [one, other] = [client(), server()];
      await converse(
        one,
        other,
        (message, index) => message.from === tampered ? direct(message, index) : [message],
      );
      const [victim, peer] = tampered === "client" ? [other, one] : [one, other];
      assert.equal(summary(victim), "local: mode_mismatch");
      assert.notEqual(peer.outcome?.type, "established");
    }
  });

  test("gets no secret of zero agreed on, whoever is offered the key", async () => {
    const lowOrder = [
      "0000000000000000000000000000000000000000000000000000000000000000",
      "0100000000000000000000000000000000000000000000000000000000000000",
      "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
      "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
      "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ].map((hex) => decodeHex(hex));
    for (const agreementKey of lowOrder) {
      for (const index of [0, 1]) {
        const [one, other] = [client(), server()];
        await converse(
          one,
          other,
          (message, at) =>
            at === index
              ? [{ ...message, body: encodeHello({ ...decodeHello(message.body), agreementKey }) }]
              : [message],
        );
        assert.equal(summary(index === 0 ? other : one), "local: zero_secret");
        assert.notEqual((index === 0 ? one : other).outcome?.type, "established");
      }
    }
  });

  test("cannot say anything in the clear where it must be sealed", async () => {
    const clear: [at: number, message: Message][] = [
      [3, { from: "client", frameType: PROOF, body: new Uint8Array(64) }],
      [4, { from: "server", frameType: READY, body: new Uint8Array(0) }],
      [4, { from: "server", frameType: REFUSE, body: encodeRefuse("bad_cookie") }],
    ];
    for (const [at, forged] of clear) {
      const [one, other] = [client(), server()];
      await converse(one, other, (message, index) => index === at ? [forged] : [message]);
      assert.equal(summary(forged.from === "client" ? other : one), "local: unsealed");
    }
  });

  test("cannot change, double, reflect or replay what is sealed", async () => {
    const { wire: earlier } = await converse(
      client(),
      server({
        hello: { nonce: new Uint8Array(32).fill(1) },
      }),
    );
    for (const at of [3, 4]) {
      const changes: ((message: Message, wire: readonly Message[]) => Message)[] = [
        (message) => ({
          ...message,
          body: message.body.map((byte, i) => i === 5 ? byte ^ 1 : byte),
        }),
        (message) => ({ ...message, body: message.body.slice(0, -1) }),
        (message) => ({ ...message, body: new Uint8Array(0) }),
        (message) => ({ ...message, body: (earlier[at] as Message).body }),
      ];
      for (const change of changes) {
        const [one, other] = [client(), server()];
        await converse(
          one,
          other,
          (message, index) => index === at ? [change(message, [])] : [message],
        );
        assert.equal(summary(at === 3 ? other : one), "local: unsealed");
      }
    }
    const [one, other] = [client(), server()];
    let proof: Message | undefined;
    await converse(one, other, (message, index) => {
      if (index === 3) proof = message;
      return index === 4 ? [{ ...proof as Message, from: "server" }] : [message];
    });
    assert.equal(summary(one), "local: unsealed");
  });

  test("learns no word of the cookie or of the client's signature", async () => {
    const one = client({ cookie: COOKIE });
    const { wire } = await converse(one, server({ cookie: COOKIE }));
    const signed = one.effects.find(({ type }) => type === "sign");
    assert.ok(signed?.type === "sign");
    const signature = await crypto.sign(signed.message, keysOf.client);
    for (const { body } of wire) {
      for (let i = 0; i + 64 <= body.length; i++) {
        assert.ok(!equalBytes(body.subarray(i, i + 64), signature));
      }
    }
  });
});
