import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import fc from "fast-check";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import {
  decodeControl,
  decodeGossip,
  encodeControl,
  encodeGossip,
  MAX_HOPS,
  MAX_IDS,
  MAX_NUMBER,
  originOf,
  TREES,
} from "../../src/broadcast/messages.ts";
import { describe, test } from "../harness.ts";
import { arbitraryControl, arbitraryGossip } from "./arbitrary.ts";

const reasonOf = (decode: () => unknown): string => {
  try {
    decode();
    return "";
  } catch (error) {
    assert.ok(error instanceof ProtocolError, `${error} is a protocol error`);
    return error.reason;
  }
};

describe("Plumtree messages", () => {
  test("every message comes back as it was sent", () => {
    fc.assert(fc.property(arbitraryGossip, (gossip) => {
      assert.deepEqual(decodeGossip(encodeGossip(gossip), 100), gossip);
    }));
    fc.assert(fc.property(arbitraryControl, (message) => {
      assert.deepEqual(decodeControl(encodeControl(message)), message);
    }));
  });

  test("no bytes whatever do more than raise a protocol error", () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (array) => {
      const bytes: Bytes = new Uint8Array(array);
      reasonOf(() => decodeGossip(bytes, 50));
      reasonOf(() => decodeControl(bytes));
    }));
  });

  test("what is above a cap is refused by name", () => {
    const gossip = {
      origin: 1,
      seq: 1,
      hops: 0,
      tree: 0,
      topic: "t",
      payload: new Uint8Array(51),
    };
    assert.equal(reasonOf(() => decodeGossip(encodeGossip(gossip), 50)), "too_long");
    const topic = "t".repeat(256);
    assert.equal(reasonOf(() => decodeGossip(encodeGossip({ ...gossip, topic }), 50)), "too_long");
    assert.equal(reasonOf(() => decodeGossip(encodeGossip({ ...gossip, seq: 0 }), 99)), "bad_seq");
    const id = { origin: 1, seq: 1 };
    const ids = new Array(MAX_IDS + 1).fill(id);
    const graft = encodeControl({ type: "graft", trees: 1, ids });
    assert.equal(reasonOf(() => decodeControl(graft)), "too_long");
    const entries = ids.map((entry) => ({ ...entry, tree: 1 }));
    const ihave = encodeControl({ type: "ihave", entries });
    assert.equal(reasonOf(() => decodeControl(ihave)), "too_long");
    assert.equal(reasonOf(() => decodeControl(new Uint8Array([3, 16]))), "bad_tree");
    assert.equal(reasonOf(() => decodeControl(new Uint8Array([3, 1, 0]))), "trailing_bytes");
    assert.equal(reasonOf(() => decodeControl(new Uint8Array([9]))), "bad_message");
    const place = { tree: 0, term: 1, root: 1, wave: 1, hops: 1 };
    const shape = (...shapes: (typeof place)[]) =>
      reasonOf(() => decodeControl(encodeControl({ type: "shape", shapes })));
    assert.equal(shape({ ...place, tree: TREES }), "bad_tree");
    assert.equal(shape({ ...place, hops: MAX_HOPS + 1 }), "bad_hops");
    assert.equal(shape({ ...place, term: MAX_NUMBER + 1 }), "bad_number");
    assert.equal(shape({ ...place, wave: MAX_NUMBER + 1 }), "bad_number");
    assert.equal(shape(...new Array(TREES + 1).fill(place)), "too_long");
    const far = { ...gossip, payload: new Uint8Array(1), hops: MAX_HOPS + 1 };
    assert.equal(reasonOf(() => decodeGossip(encodeGossip(far), 50)), "bad_hops");
    const elsewhere = { ...far, hops: 1, tree: TREES };
    assert.equal(reasonOf(() => decodeGossip(encodeGossip(elsewhere), 50)), "bad_tree");
  });

  test("each life of each node has a number of its own", () => {
    const hash = (data: Uint8Array) => new Uint8Array(createHash("sha256").update(data).digest());
    const key = (i: number) => new Uint8Array(32).fill(i);
    const numbers = [
      originOf(key(1), 1, hash),
      originOf(key(1), 2, hash),
      originOf(key(2), 1, hash),
    ];
    assert.equal(new Set(numbers).size, 3);
    for (const number of numbers) assert.ok(Number.isSafeInteger(number) && number < 2 ** 48);
    assert.equal(originOf(key(1), 1, hash), numbers[0]);
  });
});
