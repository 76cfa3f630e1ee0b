import assert from "node:assert/strict";
import { encodeHex } from "@std/encoding/hex";
import { concat, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { encodeRefuse, REFUSALS } from "../../src/identity/handshake_messages.ts";
import type { Hello, Refusal } from "../../src/identity/handshake_messages.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test } from "../harness.ts";
import {
  agreements,
  bindingOf,
  converse,
  crypto,
  keysOf,
  Party,
  SERVER_BINDING,
  summary,
} from "./conversation.ts";
import type { End, Message } from "./conversation.ts";

const { HELLO, PROOF, READY, REFUSE } = FrameType;
const COOKIE = utf8("a cookie of 16 b");
const OTHER_COOKIE = utf8("another of 16 by");

const MALLORYS_BINDING = await bindingOf(keysOf.mallory.publicKey);

const types = (wire: readonly Message[]) => wire.map(({ from, frameType }) => [from, frameType]);

describe("a handshake", () => {
  test("binds each end to the other's name, key, life and addresses", async () => {
    const client = new Party("client");
    const server = new Party("server");
    const { wire } = await converse(client, server);
    assert.deepEqual(types(wire), [
      ["client", HELLO],
      ["server", HELLO],
      ["server", PROOF],
      ["client", PROOF],
      ["server", READY],
    ]);
    for (const [party, other, epoch] of [[client, "server", 22], [server, "client", 11]] as const) {
      assert.ok(party.outcome?.type === "established");
      const { peer, cookieOnly } = party.outcome;
      assert.equal(cookieOnly, false);
      assert.equal(peer.name, `${other}@127.0.0.1`);
      assert.deepEqual(peer.publicKey, keysOf[other].publicKey);
      assert.equal(peer.epoch, epoch);
      assert.deepEqual(peer.addresses, [`mem://${other}`]);
      assert.equal(peer.ephemeral, other === "client");
      assert.equal(party.machine.isOver, true);
    }
  });

  test("with the same cookie on both ends shows the client's MAC first", async () => {
    const client = new Party("client", { cookie: COOKIE });
    const server = new Party("server", { cookie: COOKIE });
    const { wire } = await converse(client, server);
    assert.deepEqual([summary(client), summary(server)], ["established", "established"]);
    // HELLOs say nothing of the cookie; the server's PROOF comes without a MAC.
    assert.equal(wire[2]?.body.length, 64);
    assert.equal(wire[3]?.body.length, 64 + 32);
    assert.equal(wire[4]?.body.length, 32);
    assert.notDeepEqual(wire[3]?.body.slice(64), wire[4]?.body);
  });

  test("takes a stranger at first contact", async () => {
    const client = new Party("client", { trust: "first_contact" });
    const server = new Party("server", { trust: "first_contact" });
    await converse(client, server);
    assert.deepEqual([summary(client), summary(server)], ["established", "established"]);
  });

  // Both ends must compute the same from the same bytes for ever.
  test("is the same to the byte each time, as pinned here", async () => {
    const run = async () => {
      const { wire } = await converse(
        new Party("client", { cookie: COOKIE }),
        new Party("server", { cookie: COOKIE }),
      );
      return encodeHex(crypto.sha256(concat(wire.map(({ body }) => body))));
    };
    const first = await run();
    assert.equal(await run(), first);
    assert.equal(first, "93188351361825bd6839228425052001aaf4901cf84aafb8a994da876624ad86");
  });

  test("signs the label, the role, the mode and the hash of channel and both HELLOs", async () => {
    const client = new Party("client");
    const { wire } = await converse(client, new Party("server"));
    const [helloC, helloS] = [wire[0]?.body as Bytes, wire[1]?.body as Bytes];
    const transcript = crypto.sha256(
      concat([SERVER_BINDING, crypto.sha256(helloC), crypto.sha256(helloS)]),
    );
    for (const [index, role, keys] of [[2, 2, keysOf.server], [3, 1, keysOf.client]] as const) {
      const message = concat([
        utf8("barrel/1 handshake"),
        Uint8Array.of(role),
        utf8("direct"),
        transcript,
      ]);
      const signature = wire[index]?.body.slice(0, 64) as Bytes;
      assert.equal(await crypto.verify(signature, message, keys.publicKey), true);
    }
  });

  test("ends for the client without a word about itself when the channel has no binding", async () => {
    const client = new Party("client", { binding: undefined });
    const server = new Party("server");
    const { wire } = await converse(client, server);
    assert.deepEqual(types(wire), [["client", HELLO], ["server", HELLO], ["server", PROOF]]);
    assert.ok(client.outcome?.type === "redial");
    assert.deepEqual(client.outcome.peer.publicKey, keysOf.server.publicKey);
    assert.equal(client.effects.some(({ type }) => type === "sign"), false);
    assert.equal(summary(server), "open");
  });
});

describe("before the peer has proved itself", () => {
  test("a server says nothing but HELLO and PROOF, and looks nobody up", async () => {
    const server = new Party("server", { cookie: COOKIE });
    await server.feed({ type: "start" });
    const [hello] = await new Party("client").feed({ type: "start" });
    const said = await server.feed({
      type: "message",
      frameType: HELLO,
      body: hello?.body as Bytes,
    });
    assert.deepEqual(types(said), [["server", HELLO], ["server", PROOF]]);
    assert.deepEqual(server.effects.map(({ type }) => type), ["send", "sign", "send"]);
  });

  test("a client sends no PROOF: the server's signature and trust come first", async () => {
    const order: string[] = [];
    const client = new Party("client", {
      trust: () => {
        order.push("trust");
        return "pinned";
      },
    });
    await converse(client, new Party("server"));
    const kinds = client.effects.map((effect) =>
      effect.type === "send" ? `send ${effect.frameType}` : effect.type
    );
    assert.deepEqual(kinds, [
      `send ${HELLO}`,
      "bindingOf",
      "verify",
      "checkTrust",
      "sign",
      `send ${PROOF}`,
      "established",
    ]);
    assert.deepEqual(order, ["trust"]);
  });

  test("a server with a bad signature in front of it looks nobody up", async () => {
    const server = new Party("server", { trust: () => assert.fail("looked up") });
    await converse(
      new Party("client"),
      server,
      (message) =>
        message.frameType === PROOF && message.from === "client"
          ? [{ ...message, body: flipped(message.body, 40) }]
          : [message],
    );
    assert.equal(summary(server), "local: bad_signature");
  });
});

describe("a handshake is refused by one name on both ends", () => {
  const cases: {
    what: string;
    client?: End;
    server?: End;
    reason: Refusal;
    by: "client" | "server";
  }[] = [
    {
      what: "the clusters differ",
      client: { hello: { cluster: "other" } },
      reason: "cluster_mismatch",
      by: "server",
    },
    {
      what: "a shared setting differs",
      client: { hello: { features: { maxMessageBytes: 1_001, maxDriftMs: 5_000 } } },
      reason: "feature_mismatch",
      by: "server",
    },
    {
      what: "one end lacks a shared setting",
      client: { hello: { features: { maxMessageBytes: 1_000 } } },
      reason: "feature_mismatch",
      by: "server",
    },
    {
      what: "one end has a setting that the other does not know, named like a method",
      client: {
        hello: { features: { maxMessageBytes: 1_000, maxDriftMs: 5_000, constructor: 1 } },
      },
      reason: "feature_mismatch",
      by: "server",
    },
    {
      what: "the node reached itself",
      client: { keys: keysOf.server, hello: { name: "server@127.0.0.1" } },
      reason: "self_connection",
      by: "server",
    },
    {
      what: "another node has the same name",
      client: { hello: { name: "server@127.0.0.1" } },
      reason: "name_conflict",
      by: "server",
    },
    {
      what: "the server knows a live node of that name",
      server: { trust: "conflict" },
      reason: "name_conflict",
      by: "server",
    },
    {
      what: "the client knows a live node of that name",
      client: { trust: "conflict" },
      reason: "name_conflict",
      by: "client",
    },
    {
      what: "the server has another key pinned",
      server: { trust: "mismatch" },
      reason: "key_mismatch",
      by: "server",
    },
    {
      what: "the client has another key pinned",
      client: { trust: "mismatch" },
      reason: "key_mismatch",
      by: "client",
    },
    {
      what: "a strict server does not know the key",
      server: { trust: "unknown" },
      reason: "untrusted_key",
      by: "server",
    },
    {
      what: "a strict client does not know the key",
      client: { trust: "unknown" },
      reason: "untrusted_key",
      by: "client",
    },
    {
      what: "the cookies differ",
      client: { cookie: OTHER_COOKIE },
      server: { cookie: COOKIE },
      reason: "bad_cookie",
      by: "server",
    },
    {
      what: "the client has no cookie",
      server: { cookie: COOKIE },
      reason: "bad_cookie",
      by: "server",
    },
    {
      what: "the server has no cookie",
      client: { cookie: COOKIE },
      reason: "bad_cookie",
      by: "server",
    },
    {
      what: "the client comes through a proxy, and the server sees none",
      client: { agreement: agreements.client },
      reason: "mode_mismatch",
      by: "server",
    },
    {
      what: "the server stands behind a proxy, and the client sees none",
      server: { agreement: agreements.server },
      reason: "mode_mismatch",
      by: "server",
    },
    {
      what: "TLS showed another key than HELLO",
      client: { binding: MALLORYS_BINDING },
      reason: "channel_binding",
      by: "client",
    },
    {
      what: "the server sees the client over another channel",
      server: { binding: MALLORYS_BINDING },
      reason: "bad_signature",
      by: "client",
    },
    {
      what: "the server signs with another key than it says",
      server: { keys: keysOf.mallory, hello: { publicKey: keysOf.server.publicKey } },
      reason: "bad_signature",
      by: "client",
    },
    {
      what: "the client signs with another key than it says",
      client: { keys: keysOf.mallory, hello: { publicKey: keysOf.client.publicKey } },
      reason: "bad_signature",
      by: "server",
    },
  ];
  for (const { what, client: clientEnd, server: serverEnd, reason, by } of cases) {
    test(`${reason}: ${what}`, async () => {
      const client = new Party("client", clientEnd);
      const server = new Party("server", serverEnd);
      const { wire } = await converse(client, server);
      const expected = [`local: ${reason}`, `peer: ${reason}`];
      const seen = [summary(client), summary(server)];
      assert.deepEqual(by === "client" ? seen : seen.toReversed(), expected);
      assert.equal(wire.at(-1)?.frameType, REFUSE);
      for (const party of [client, server]) {
        assert.ok(party.outcome?.type === "refused" && party.outcome.text.length > 10);
      }
    });
  }

  test("cluster and settings that differ are named, quoted and on one line", async () => {
    const mean = 'x"\n\u001b[31m';
    const server = new Party("server");
    await converse(new Party("client", { hello: { cluster: mean } }), server);
    assert.ok(server.outcome?.type === "refused");
    assert.ok(!server.outcome.text.includes("\n") && !server.outcome.text.includes("\u001b"));
    assert.ok(server.outcome.text.includes(JSON.stringify(mean)));

    const other = new Party("server");
    const features = { maxMessageBytes: 2_000, maxDriftMs: 5_000 };
    await converse(new Party("client", { hello: { features } }), other);
    assert.ok(other.outcome?.type === "refused");
    assert.equal(other.outcome.text, '"maxMessageBytes" is 1000 here and 2000 there');

    const third = new Party("server");
    const unknown = { maxMessageBytes: 1_000, maxDriftMs: 5_000, constructor: 1 };
    await converse(new Party("client", { hello: { features: unknown } }), third);
    assert.ok(third.outcome?.type === "refused");
    assert.equal(third.outcome.text, '"constructor" is undefined here and 1 there');
  });

  test("timeout: whoever waits too long, in every state", async () => {
    for (const role of ["client", "server"] as const) {
      for (let delivered = 0; delivered < 5; delivered++) {
        const client = new Party("client");
        const server = new Party("server");
        await converse(client, server, (message, index) => index < delivered ? [message] : []);
        const [party, other] = role === "client" ? [client, server] : [server, client];
        if (party.machine.isOver) continue;
        const said = await party.feed({ type: "deadline" });
        assert.equal(summary(party), "local: timeout");
        assert.deepEqual(said.map(({ body }) => body), [encodeRefuse("timeout")]);
        const body = said[0]?.body as Bytes;
        if (other.machine.isOver) continue;
        await other.feed({ type: "message", frameType: REFUSE, body });
        assert.equal(summary(other), "peer: timeout");
      }
    }
  });

  test("malformed: a message out of turn, in every state", async () => {
    const { wire } = await converse(new Party("client"), new Party("server"));
    const strays = [
      ...wire,
      { frameType: FrameType.SEND, body: new Uint8Array(3) },
      { frameType: -1, body: new Uint8Array(0) },
    ];
    // What each end waits for once so many messages have been delivered.
    const awaited = {
      client: [HELLO, HELLO, PROOF, READY, READY],
      server: [HELLO, PROOF, PROOF, PROOF],
    };
    for (const role of ["client", "server"] as const) {
      for (const [delivered, expected] of awaited[role].entries()) {
        for (const { frameType, body } of strays) {
          if (frameType === expected) continue;
          const client = new Party("client");
          const server = new Party("server");
          await converse(client, server, (message, index) => index < delivered ? [message] : []);
          const party = role === "client" ? client : server;
          await party.feed({ type: "message", frameType, body });
          const what = `${role} after ${delivered}, type ${frameType}`;
          assert.equal(summary(party), "local: malformed", what);
        }
      }
    }
  });

  test("malformed: a MAC that the server shows before the client's", async () => {
    const client = new Party("client", { cookie: COOKIE });
    await converse(
      client,
      new Party("server", { cookie: COOKIE }),
      (message, index) =>
        index === 2
          ? [{ ...message, body: concat([message.body, new Uint8Array(32)]) }]
          : [message],
    );
    assert.equal(summary(client), "local: malformed");
  });

  test("malformed: an answer of the driver that nobody asked for", async () => {
    const answers = [
      { type: "verified", ok: true },
      { type: "trust", verdict: "pinned" },
      { type: "bindingOf", binding: SERVER_BINDING },
      { type: "signed", signature: new Uint8Array(64) },
    ] as const;
    for (const answer of answers) {
      const client = new Party("client");
      await client.feed({ type: "start" });
      await client.feed(answer);
      assert.equal(summary(client), "local: malformed", answer.type);
    }
  });

  test("a machine that is over takes nothing more", async () => {
    const client = new Party("client");
    await converse(client, new Party("server"));
    const before = client.effects.length;
    for (
      const event of [
        { type: "start" },
        { type: "deadline" },
        { type: "message", frameType: HELLO, body: new Uint8Array(1) },
        { type: "verified", ok: true },
        { type: "trust", verdict: "pinned" },
      ] as const
    ) {
      assert.deepEqual(await client.feed(event), []);
    }
    assert.equal(client.effects.length, before);
    assert.equal(summary(client), "established");
  });

  test("every reason travels, and an unknown one counts as malformed", async () => {
    for (const reason of Object.keys(REFUSALS) as Refusal[]) {
      const client = new Party("client");
      await client.feed({ type: "start" });
      await client.feed({ type: "message", frameType: REFUSE, body: encodeRefuse(reason) });
      assert.equal(summary(client), `peer: ${reason}`);
    }
    for (const body of [utf8("toString"), utf8(""), Uint8Array.of(0xff), new Uint8Array(4_000)]) {
      const client = new Party("client");
      await client.feed({ type: "start" });
      await client.feed({ type: "message", frameType: REFUSE, body });
      assert.equal(summary(client), "peer: malformed");
    }
  });
});

describe("cookie-only peers", () => {
  const probe = (name: string) => name === "client@127.0.0.1";
  test("need no trusted key, but the cookie, and say so to the node", async () => {
    for (const trust of ["unknown", "mismatch", "first_contact"] as const) {
      const client = new Party("client", { cookie: COOKIE });
      const server = new Party("server", { cookie: COOKIE, isCookieOnly: probe, trust });
      await converse(client, server);
      assert.ok(server.outcome?.type === "established", trust);
      assert.equal(server.outcome.cookieOnly, true);
      assert.ok(client.outcome?.type === "established");
      assert.equal(client.outcome.cookieOnly, false);
    }
  });

  test("with another cookie are refused", async () => {
    const client = new Party("client", { cookie: OTHER_COOKIE });
    const server = new Party("server", { cookie: COOKIE, isCookieOnly: probe, trust: "unknown" });
    await converse(client, server);
    assert.equal(summary(server), "local: bad_cookie");
  });

  test("still sign: a key that is not theirs is refused", async () => {
    const client = new Party("client", {
      cookie: COOKIE,
      keys: keysOf.mallory,
      hello: { publicKey: keysOf.client.publicKey },
    });
    const server = new Party("server", { cookie: COOKIE, isCookieOnly: probe });
    await converse(client, server);
    assert.equal(summary(server), "local: bad_signature");
  });

  test("are nobody where the node has no cookie, and no excuse for a name that is taken", async () => {
    const server = new Party("server", { isCookieOnly: probe, trust: "unknown" });
    await converse(new Party("client"), server);
    assert.equal(summary(server), "local: untrusted_key");
    const taken = new Party("server", { cookie: COOKIE, isCookieOnly: probe, trust: "conflict" });
    await converse(new Party("client", { cookie: COOKIE }), taken);
    assert.equal(summary(taken), "local: name_conflict");
  });
});

describe("somebody in between", () => {
  test("who ends TLS with its own key and passes everything on is found out", async () => {
    // The client's channel is bound to mallory's certificate, the server's to its own.
    const client = new Party("client", { binding: MALLORYS_BINDING });
    const server = new Party("server");
    await converse(client, server);
    assert.equal(summary(client), "local: channel_binding");
    assert.equal(client.effects.some(({ type }) => type === "sign"), false);
  });

  test("who also puts its own key into the server's HELLO meets the pin", async () => {
    const binding = MALLORYS_BINDING;
    const client = new Party("client", {
      binding,
      trust: (peer) =>
        encodeHex(peer.publicKey) === encodeHex(keysOf.server.publicKey) ? "pinned" : "mismatch",
    });
    const fake = new Party("server", { keys: keysOf.mallory, binding });
    await converse(client, fake);
    assert.equal(summary(client), "local: key_mismatch");
    assert.equal(client.effects.some(({ type }) => type === "sign"), false);
  });

  test("cannot move a client's proof to a connection of its own", async () => {
    // The client was lured to mallory, who it trusts; mallory uses the proof at the server.
    const binding = MALLORYS_BINDING;
    const { wire } = await converse(
      new Party("client", { binding }),
      new Party("server", { keys: keysOf.mallory, hello: { name: "mallory@127.0.0.1" }, binding }),
    );
    const server = new Party("server");
    await server.feed({ type: "start" });
    for (const { from, frameType, body } of wire) {
      if (from === "client") await server.feed({ type: "message", frameType, body });
    }
    assert.equal(summary(server), "local: bad_signature");
  });

  test("cannot replay a proof: the other end's nonce is new", async () => {
    const { wire } = await converse(new Party("client"), new Party("server"));
    const server = new Party("server", { hello: { nonce: new Uint8Array(32).fill(1) } });
    await server.feed({ type: "start" });
    for (const { from, frameType, body } of wire) {
      if (from === "client") await server.feed({ type: "message", frameType, body });
    }
    assert.equal(summary(server), "local: bad_signature");

    const client = new Party("client", { hello: { nonce: new Uint8Array(32).fill(2) } });
    await client.feed({ type: "start" });
    for (const { from, frameType, body } of wire) {
      if (from === "server") await client.feed({ type: "message", frameType, body });
    }
    assert.equal(summary(client), "local: bad_signature");
  });

  test("cannot reflect a node's words to itself", async () => {
    const server = new Party("server");
    await server.feed({ type: "start" });
    const client = new Party("client");
    const [hello] = await client.feed({ type: "start" });
    const said = await server.feed({
      type: "message",
      frameType: HELLO,
      body: hello?.body as Bytes,
    });
    // The server's own signature comes back as the client's.
    await server.feed({ type: "message", frameType: PROOF, body: said[1]?.body as Bytes });
    assert.equal(summary(server), "local: bad_signature");

    const again = new Party("server");
    await again.feed({ type: "start" });
    await again.feed({ type: "message", frameType: HELLO, body: said[0]?.body as Bytes });
    assert.equal(summary(again), "local: self_connection");

    const dialling = new Party("client");
    await dialling.feed({ type: "start" });
    await dialling.feed({ type: "message", frameType: HELLO, body: hello?.body as Bytes });
    assert.equal(summary(dialling), "local: self_connection");
  });

  test("cannot use a server's proof in a connection where that node dials", async () => {
    // Same two nodes, same HELLO bytes in the same places, roles swapped.
    const { wire } = await converse(new Party("client"), new Party("server"));
    const dialled = new Party("server", {
      keys: keysOf.client,
      hello: { name: "client@127.0.0.1", nonce: crypto.sha256(keysOf.client.publicKey) },
    });
    await dialled.feed({ type: "start" });
    await dialled.feed({ type: "message", frameType: HELLO, body: wire[1]?.body as Bytes });
    await dialled.feed({ type: "message", frameType: PROOF, body: wire[2]?.body as Bytes });
    assert.equal(summary(dialled), "local: bad_signature");
  });

  test("gets nowhere with a pinned key's signature over another role, mode or label", async () => {
    const { wire } = await converse(new Party("client"), new Party("server"));
    const hellos = [wire[0]?.body as Bytes, wire[1]?.body as Bytes];
    const transcript = crypto.sha256(
      concat([SERVER_BINDING, ...hellos.map((hello) => crypto.sha256(hello))]),
    );
    const cases: [label: string, role: number, mode: string, expected: string][] = [
      ["barrel/1 handshake", 2, "direct", "established"],
      ["barrel/1 handshake", 1, "direct", "local: bad_signature"],
      ["barrel/1 handshake", 2, "edge", "local: bad_signature"],
      ["barrel/1 succession", 2, "direct", "local: bad_signature"],
    ];
    for (const [label, role, mode, expected] of cases) {
      const message = concat([utf8(label), Uint8Array.of(role), utf8(mode), transcript]);
      const signature = await crypto.sign(message, keysOf.server);
      const client = new Party("client");
      await converse(
        client,
        new Party("server"),
        (said, index) => index === 2 ? [{ ...said, body: signature }] : [said],
      );
      assert.equal(summary(client), expected, `${label} ${role} ${mode}`);
    }
  });

  test("gets nowhere with a signature that is not the canonical one", async () => {
    const order = 2n ** 252n + 27742317777372353535851937790883648493n;
    const unreduced = (signature: Bytes) => {
      let s = 0n;
      for (let i = 63; i >= 32; i--) s = s << 8n | BigInt(signature[i] as number);
      s += order;
      const changed = signature.slice();
      for (let i = 32; i < 64; i++, s >>= 8n) changed[i] = Number(s & 0xffn);
      return changed;
    };
    const lowOrder = (signature: Bytes) => {
      const changed = signature.slice();
      changed.fill(0, 0, 32);
      changed[0] = 1;
      return changed;
    };
    for (const change of [unreduced, lowOrder, () => new Uint8Array(64)]) {
      const client = new Party("client");
      await converse(
        client,
        new Party("server"),
        (said, index) => index === 2 ? [{ ...said, body: change(said.body) }] : [said],
      );
      assert.equal(summary(client), "local: bad_signature");
    }
  });

  test("cannot show a server its own cookie MAC", async () => {
    const client = new Party("client", { cookie: COOKIE });
    const server = new Party("server", { cookie: COOKIE });
    const { wire } = await converse(client, server);
    const serversMac = wire[4]?.body as Bytes;
    const again = new Party("server", { cookie: COOKIE });
    await again.feed({ type: "start" });
    await again.feed({ type: "message", frameType: HELLO, body: wire[0]?.body as Bytes });
    const proof = concat([(wire[3]?.body as Bytes).subarray(0, 64), serversMac]);
    await again.feed({ type: "message", frameType: PROOF, body: proof });
    assert.equal(summary(again), "local: bad_cookie");
  });

  test("cannot downgrade what the ends said: every field is in both signatures", async () => {
    const changes: Partial<Hello>[] = [
      { epoch: 12 },
      { ephemeral: false },
      { addresses: ["mem://mallory"] },
      { nonce: new Uint8Array(32) },
      { name: "another@127.0.0.1" },
    ];
    for (const change of changes) {
      const honest = new Party("client");
      const server = new Party("server");
      const forged = new Party("client", { hello: change });
      const [hello] = await forged.feed({ type: "start" });
      await converse(
        honest,
        server,
        (message, index) => index === 0 ? [{ ...message, body: hello?.body as Bytes }] : [message],
      );
      assert.equal(summary(honest), "local: bad_signature", JSON.stringify(Object.keys(change)));
      assert.equal(summary(server), "peer: bad_signature");
    }
  });
});

function flipped(body: Bytes, bit: number): Bytes {
  const changed = body.slice();
  changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7));
  return changed;
}
