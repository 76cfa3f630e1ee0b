import assert from "node:assert/strict";
import fc from "fast-check";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import {
  decodeMessage,
  encodeMessage,
  MAX_SHUFFLE_ENTRIES,
} from "../../src/membership/messages.ts";
import type { Message } from "../../src/membership/messages.ts";
import { MAX_RECORD_BYTES } from "../../src/membership/peer_entry.ts";
import { MAX_CONTROL_FRAME_BYTES } from "../../src/wire/limits.ts";
import { describe, test } from "../harness.ts";
import { arbitraryEntry, arbitraryMessage } from "./arbitrary.ts";

const reasonOf = (body: Bytes): string => {
  try {
    decodeMessage(body);
    return "";
  } catch (error) {
    assert.ok(error instanceof ProtocolError, `${error} is a protocol error`);
    return error.reason;
  }
};

describe("HyParView messages", () => {
  test("every message comes back as it was sent", () => {
    fc.assert(fc.property(arbitraryMessage, (message) => {
      assert.deepEqual(decodeMessage(encodeMessage(message)), message);
    }));
  });

  test("no bytes whatever do more than raise a protocol error", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      reasonOf(new Uint8Array(bytes));
    }));
  });

  test("a message with one byte changed, missing or added never gets through unseen", () => {
    fc.assert(
      fc.property(
        arbitraryMessage,
        fc.nat(),
        fc.integer({ min: 1, max: 255 }),
        (message, at, by) => {
          const body = encodeMessage(message);
          const index = at % body.length;
          const changed = body.slice();
          changed[index] = (changed[index] as number) ^ by;
          if (reasonOf(changed) === "") {
            assert.notDeepEqual(decodeMessage(changed), message);
          }
          assert.notEqual(reasonOf(body.slice(0, index)), "");
          const longer = new Uint8Array(body.length + 1);
          longer.set(body);
          assert.equal(reasonOf(longer), "trailing_bytes");
        },
      ),
    );
  });

  test("lists, texts and records above their caps are refused by name", () => {
    fc.assert(fc.property(arbitraryEntry, (entry) => {
      const entries = new Array(MAX_SHUFFLE_ENTRIES + 1).fill(entry);
      const long = encodeMessage({ type: "shuffleReply", request: 1, entries });
      assert.equal(reasonOf(long), "too_long");
    }));
    const record = new Uint8Array(MAX_RECORD_BYTES + 1);
    const join: Message = { type: "join", request: 1, urgent: false, record };
    assert.equal(reasonOf(encodeMessage(join)), "too_long");
    const peer = { name: "no name", epoch: 1, addresses: [], record: new Uint8Array(0) };
    assert.equal(reasonOf(encodeMessage({ type: "forwardJoin", peer, ttl: 3 })), "bad_node_name");
    const lost = { ...peer, name: "a@b", addresses: ["nowhere"] };
    assert.equal(
      reasonOf(encodeMessage({ type: "forwardJoin", peer: lost, ttl: 3 })),
      "bad_address",
    );
    assert.equal(reasonOf(new Uint8Array([99])), "bad_message");
    assert.equal(reasonOf(new Uint8Array([])), "truncated");
  });

  test("the largest shuffle fits one control frame", () => {
    const address = `quic://${"a".repeat(248)}`;
    const entry = {
      name: `${"n".repeat(64)}@${"h".repeat(189)}`,
      epoch: Number.MAX_SAFE_INTEGER,
      addresses: new Array(8).fill(address),
      record: new Uint8Array(MAX_RECORD_BYTES),
    };
    // Nodes send at most seven entries and themselves with the settings there are.
    const entries = new Array(7).fill(entry);
    const message: Message = {
      type: "shuffle",
      request: 1,
      ttl: 6,
      hungry: true,
      origin: entry,
      entries,
    };
    assert.ok(encodeMessage(message).length < MAX_CONTROL_FRAME_BYTES);
    assert.deepEqual(decodeMessage(encodeMessage(message)), message);
  });
});
