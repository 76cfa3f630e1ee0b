import assert from "node:assert/strict";
import {
  ID_BYTES,
  isLong,
  keyAt,
  LONG_ID_AT,
  longIdBytes,
  newConnectionId,
} from "../../adapters/quic/quiche/connection_id.ts";
import { loadQuiche } from "../../adapters/quic/quiche/binding.ts";
import { reasonBytes } from "../../adapters/quic/quiche/close_info.ts";
import { RetryTokens } from "../../adapters/quic/quiche/retry.ts";
import { fromUtf8 } from "../../src/base/bytes.ts";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import { test } from "../harness.ts";

const from = { host: "127.0.0.1", port: 4000 };

test("the id in a long header lies within the packet, whatever the bytes", () => {
  const random = seededRandom(1);
  let found = 0;
  for (let i = 0; i < 20_000; i++) {
    const packet = random.bytes(1 + randomBelow(random, 40));
    isLong(packet);
    const length = longIdBytes(packet);
    if (length < 0) continue;
    found++;
    assert.equal(packet[LONG_ID_AT - 1], length);
    assert.ok(length <= 20 && LONG_ID_AT + length <= packet.length);
  }
  assert.ok(found > 100, `only ${found} packets had an id`);
});

test("connection ids are found by a number, wherever in the packet they are", () => {
  const random = seededRandom(2);
  const keys = new Set<number>();
  for (let i = 0; i < 1_000; i++) {
    const id = newConnectionId(random);
    assert.equal(id.length, ID_BYTES);
    const packet = random.bytes(40);
    packet.set(id, 7);
    assert.equal(keyAt(packet, 7), keyAt(id, 0));
    assert.ok(Number.isSafeInteger(keyAt(id, 0)) && keyAt(id, 0) >= 0);
    keys.add(keyAt(id, 0));
  }
  assert.equal(keys.size, 1_000);
});

test("a retry token holds for its address, its id and its time, and for nothing else", () => {
  const random = seededRandom(3);
  const tokens = new RetryTokens(random);
  const original = random.bytes(18);
  const next = random.bytes(8);
  const token = tokens.issue(original, next, from, 1_000.5);
  assert.deepEqual(tokens.original(token, next, from, 2_000), original);
  assert.equal(tokens.original(token, next, from, 12_000), undefined);
  assert.equal(tokens.original(token, next, { ...from, port: 4001 }, 2_000), undefined);
  assert.equal(tokens.original(token, next, { ...from, host: "127.0.0.2" }, 2_000), undefined);
  assert.equal(tokens.original(token, random.bytes(8), from, 2_000), undefined);
  assert.equal(new RetryTokens(random).original(token, next, from, 2_000), undefined);
  for (let length = 0; length < token.length; length++) {
    assert.equal(tokens.original(token.slice(0, length), next, from, 2_000), undefined);
  }
  for (let i = 0; i < token.length; i++) {
    const forged = token.slice();
    forged[i] = (forged[i] as number) ^ 1;
    assert.equal(tokens.original(forged, next, from, 2_000), undefined);
  }
});

test("the reason of a close is cut between characters", () => {
  assert.equal(fromUtf8(reasonBytes("enough said")), "enough said");
  assert.equal(fromUtf8(reasonBytes("€".repeat(200))), "€".repeat(85));
});

test("a missing native package is named, with what to install", async () => {
  await assert.rejects(
    loadQuiche("@infisical/quic/not-there.js"),
    (error: { reason?: string; message: string }) =>
      error.reason === "unavailable" && error.message.includes("npm install @infisical/quic@1.0.8"),
  );
});
