import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, equalBytes, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import type { Agreement } from "../../src/base/crypto.ts";
import type { HandshakeEvent } from "../../src/identity/handshake.ts";
import { REFUSALS } from "../../src/identity/handshake_messages.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test } from "../harness.ts";
import { agreements, converse, keysOf, Party, SERVER_BINDING, standIn } from "./conversation.ts";
import type { Message } from "./conversation.ts";

const COOKIE = utf8("a cookie of 16 b");

const party = (role: "client" | "server", cookie: boolean, isEdge = false) =>
  new Party(role, {
    signer: standIn,
    ...(cookie ? { cookie: COOKIE } : {}),
    ...(isEdge ? { binding: undefined, agreement: quick(role) } : {}),
  });

// As good as X25519 here, and hundreds of times cheaper: nobody on the way knows the secret.
const quick = (role: "client" | "server"): Agreement => {
  const { publicKey } = agreements[role];
  const other = agreements[role === "client" ? "server" : "client"].publicKey;
  return {
    publicKey,
    agree: (key) => Promise.resolve(new Uint8Array(32).fill(equalBytes(key, other) ? 7 : 8)),
  };
};

type Change =
  | { readonly kind: "flip"; readonly at: number; readonly mask: number }
  | { readonly kind: "cut"; readonly at: number }
  | { readonly kind: "insert"; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: "replace"; readonly bytes: Uint8Array };

const change: fc.Arbitrary<Change> = fc.oneof(
  fc.record({
    kind: fc.constant("flip" as const),
    at: fc.nat(400),
    mask: fc.integer({ min: 1, max: 255 }),
  }),
  fc.record({ kind: fc.constant("cut" as const), at: fc.nat(400) }),
  fc.record({
    kind: fc.constant("insert" as const),
    at: fc.nat(400),
    bytes: fc.uint8Array({ minLength: 1, maxLength: 80 }),
  }),
  fc.record({ kind: fc.constant("replace" as const), bytes: fc.uint8Array({ maxLength: 100 }) }),
);

function changed(body: Bytes, how: Change): Bytes {
  if (how.kind === "replace") return new Uint8Array(how.bytes);
  const at = Math.min(how.at, Math.max(0, body.length - 1));
  if (how.kind === "cut") return body.slice(0, at);
  if (how.kind === "insert") {
    return concat([body.subarray(0, at), how.bytes, body.subarray(at)]);
  }
  const copy = body.slice();
  if (copy.length > 0) copy[at] = (copy[at] as number) ^ how.mask;
  return copy;
}

describe("a handshake under attack", () => {
  test("is never established by whoever got changed bytes, nor by a client whose HELLO was", async () => {
    let touched = 0;
    await fc.assert(
      fc.asyncProperty(fc.nat(4), change, fc.boolean(), fc.boolean(), async (
        index,
        how,
        cookie,
        isEdge,
      ) => {
        const client = party("client", cookie, isEdge);
        const server = party("server", cookie, isEdge);
        let receiver: Party | undefined;
        await converse(client, server, (message, at) => {
          if (at !== index) return [message];
          const body = changed(message.body, how);
          if (!equalBytes(body, message.body)) {
            receiver = message.from === "client" ? server : client;
          }
          return [{ ...message, body }];
        });
        if (receiver === undefined) return;
        touched++;
        assert.notEqual(receiver.outcome?.type, "established");
        if (index < 4) assert.notEqual(client.outcome?.type, "established");
        if (index < 3) assert.notEqual(server.outcome?.type, "established");
      }),
      { numRuns: 3_000 },
    );
    assert.ok(touched > 2_000, `${touched}`);
  });

  test("drops, repeats and swaps establish nothing that was not said", async () => {
    const verdicts = new Set<string>();
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom("pass", "drop", "twice", "hold", "to sender"), { maxLength: 8 }),
        fc.boolean(),
        async (plan, isEdge) => {
          const client = party("client", true, isEdge);
          const server = party("server", true, isEdge);
          let held: Message[] = [];
          await converse(client, server, (message, index) => {
            const released = held;
            held = [];
            switch (plan[index] ?? "pass") {
              case "drop":
                return released;
              case "twice":
                return [message, message, ...released];
              case "hold":
                held = [message];
                return released;
              case "to sender":
                return [{ ...message, from: message.from === "client" ? "server" : "client" }];
              default:
                return [message, ...released];
            }
          });
          for (const [one, other] of [[client, server], [server, client]] as const) {
            verdicts.add(`${one.role} ${one.outcome?.type}`);
            if (one.outcome?.type !== "established") continue;
            assert.deepEqual(one.outcome.peer.publicKey, keysOf[other.role].publicKey);
            assert.equal(one.outcome.peer.name, `${other.role}@127.0.0.1`);
          }
        },
      ),
      { numRuns: 1_500 },
    );
    // The plans led somewhere: honest ones through, others not.
    for (const role of ["client", "server"]) {
      for (const type of ["established", "refused", "undefined"]) {
        assert.ok(verdicts.has(`${role} ${type}`), `${role} ${type}`);
      }
    }
  });

  test("answers any events in any order, and never throws", async () => {
    const honest: Bytes[] = [];
    for (const isEdge of [false, true]) {
      const { wire } = await converse(party("client", true, isEdge), party("server", true, isEdge));
      for (const { body } of wire) honest.push(body);
    }
    const bytes = fc.uint8Array({ maxLength: 100 }).map((value) => new Uint8Array(value));
    const event: fc.Arbitrary<HandshakeEvent> = fc.oneof(
      fc.constant({ type: "start" } as const),
      fc.record({
        type: fc.constant("message" as const),
        frameType: fc.oneof(
          fc.constantFrom(
            FrameType.HELLO,
            FrameType.PROOF,
            FrameType.READY,
            FrameType.REFUSE,
            FrameType.SEALED,
          ),
          fc.integer({ min: -1, max: 300 }),
        ),
        body: fc.oneof(bytes, fc.constantFrom(...honest)),
      }),
      fc.record({ type: fc.constant("signed" as const), signature: bytes }),
      fc.record({ type: fc.constant("verified" as const), ok: fc.constant(false) }),
      fc.record({
        type: fc.constant("bindingOf" as const),
        binding: fc.oneof(bytes, fc.constant(SERVER_BINDING)),
      }),
      fc.record({
        type: fc.constant("agreed" as const),
        secret: fc.oneof(fc.constant(undefined), fc.constant(new Uint8Array(32).fill(7))),
      }),
      fc.record({
        type: fc.constant("trust" as const),
        verdict: fc.constantFrom("pinned", "first_contact", "mismatch", "unknown", "conflict"),
      }),
      fc.constant({ type: "deadline" } as const),
    );
    fc.assert(
      fc.property(
        fc.constantFrom("client" as const, "server" as const),
        fc.array(event, { maxLength: 12 }),
        fc.boolean(),
        (role, events, isEdge) => {
          const { machine } = party(role, true, isEdge);
          let ends = 0;
          for (const next of events) {
            for (const effect of machine.handle(next)) {
              // No signature was ever found good.
              assert.notEqual(effect.type, "established");
              if (effect.type !== "refused") continue;
              ends++;
              assert.ok(Object.hasOwn(REFUSALS, effect.reason));
            }
          }
          assert.ok(ends <= 1);
          assert.equal(machine.isOver, ends === 1);
        },
      ),
      { numRuns: 10_000 },
    );
  });
});
