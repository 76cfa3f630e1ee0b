import assert from "node:assert/strict";
import { concat, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { pick, randomBelow, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { MAX_KEY_BYTES, MAX_OPS, MAX_PULL, MAX_VALUE_BYTES } from "../../src/replica/limits.ts";
import {
  decodeControl,
  decodeData,
  encodeControl,
  encodeDelta,
  encodeDone,
} from "../../src/replica/messages.ts";
import type { ControlMessage } from "../../src/replica/messages.ts";
import type { Delta, Earlier, Put } from "../../src/replica/origin_rows.ts";
import { describe, test } from "../harness.ts";
import { STORE, World } from "./world.ts";

const random = seededRandom(4);
const origin = (fill: number) => String.fromCharCode(...new Uint8Array(16).fill(fill));
const head = {
  author: random.bytes(32),
  epoch: 1_790_000_000_000,
  seq: 900,
  hash: random.bytes(32),
  signature: random.bytes(64),
};

function delta(from: number, earlier: Earlier, puts: readonly Put[]): Delta {
  return { head, from, earlier, puts };
}

const SMALL = delta(870, { type: "removed", dots: [1, 2, 869] }, [
  { seq: 871, key: "", value: utf8("") },
  { seq: 900, key: "ключ", value: random.bytes(300) },
]);
const KEPT = delta(
  870,
  { type: "kept", runs: [{ first: 1, last: 1 }, { first: 5, last: 870 }] },
  [],
);

const CONTROLS: ControlMessage[] = [
  { type: "root", digest: random.bytes(16) },
  {
    type: "stores",
    stores: [{ name: STORE, root: random.bytes(16) }, { name: "ü", root: random.bytes(16) }],
  },
  { type: "stores", stores: [] },
  { type: "buckets", store: STORE, digests: random.bytes(512) },
  {
    type: "vector",
    store: STORE,
    mask: random.bytes(8),
    entries: [
      { origin: origin(0), version: { epoch: 2 ** 53 - 1, seq: 0 }, tag: 2 ** 32 - 1 },
      { origin: origin(255), version: { epoch: 0, seq: 2 ** 53 - 1 }, tag: 0 },
    ],
  },
  {
    type: "pull",
    store: STORE,
    request: 7,
    items: [{ origin: origin(3), version: { epoch: 5, seq: 900 } }],
  },
];

function refused(reason: string | RegExp, run: () => unknown): void {
  assert.throws(run, (error) => {
    assert.ok(error instanceof ProtocolError, String(error));
    assert.match(error.reason, typeof reason === "string" ? new RegExp(`^${reason}$`) : reason);
    return true;
  });
}

describe("replica messages", () => {
  test("come back as they were", () => {
    for (const message of CONTROLS) {
      assert.deepEqual(decodeControl(encodeControl(message)), message);
    }
    for (const each of [SMALL, KEPT]) {
      const [body, ...more] = encodeDelta(STORE, each);
      assert.equal(more.length, 0);
      assert.deepEqual(decodeData(body as Bytes), {
        type: "delta",
        store: STORE,
        delta: each,
        hasMore: false,
      });
    }
    assert.deepEqual(decodeData(encodeDone(STORE, 3, true)), {
      type: "done",
      store: STORE,
      request: 3,
      isPartial: true,
    });
  });

  test("a large delta travels in parts that fit a frame and join to the same rows", () => {
    const puts = Array.from({ length: 60 }, (_, i) => (
      { seq: 801 + i, key: `k${i}`, value: random.bytes(4_000) }
    ));
    const parts = encodeDelta(STORE, delta(800, { type: "kept", runs: [] }, puts));
    assert.ok(parts.length > 4);
    const joined: Put[] = [];
    for (const [i, part] of parts.entries()) {
      assert.ok(part.length <= 48 * 1024);
      const message = decodeData(part);
      assert.ok(message.type === (i === 0 ? "delta" : "more"));
      assert.equal(message.hasMore, i < parts.length - 1);
      joined.push(...(message.type === "delta" ? message.delta.puts : message.puts));
    }
    assert.deepEqual(joined, puts);
  });

  test("every prefix and every longer form is refused", () => {
    const bodies = CONTROLS.map((message) => [decodeControl, encodeControl(message)] as const);
    const data = [
      ...encodeDelta(STORE, SMALL),
      ...encodeDelta(STORE, KEPT),
      encodeDone(STORE, 1, false),
    ];
    for (const [decode, body] of [...bodies, ...data.map((body) => [decodeData, body] as const)]) {
      for (let length = 0; length < body.length; length++) {
        refused(/truncated|bad_/, () => decode(body.slice(0, length)));
      }
      refused("bad_replica_message", () => decode(concat([body, new Uint8Array(1)])));
    }
  });

  test("what breaks order, range or a cap is refused by name", () => {
    const put = (seq: number, key = "k", value: Bytes = utf8("v")): Put => ({ seq, key, value });
    const of = (from: number, earlier: Earlier, puts: Put[]) => () =>
      decodeData(encodeDelta(STORE, delta(from, earlier, puts))[0] as Bytes);
    const none: Earlier = { type: "removed", dots: [] };
    refused("bad_replica_message", of(901, none, []));
    refused("bad_replica_message", of(10, none, [put(10)]));
    refused("bad_replica_message", of(10, none, [put(901)]));
    refused("bad_replica_message", of(10, { type: "removed", dots: [11] }, []));
    refused("bad_replica_message", of(10, { type: "removed", dots: [3, 3] }, []));
    refused("bad_replica_message", of(10, { type: "kept", runs: [{ first: 3, last: 11 }] }, []));
    refused("too_long", of(10, none, [put(11, "k".repeat(MAX_KEY_BYTES + 1))]));
    refused("too_long", of(10, none, [put(11, "k", new Uint8Array(MAX_VALUE_BYTES + 1))]));
    const dots = Array.from({ length: MAX_OPS + 1 }, (_, i) => i + 1);
    refused("bad_replica_message", () =>
      decodeData(
        encodeDelta(STORE, {
          ...delta(9_000, { type: "removed", dots }, []),
          head: { ...head, seq: 9_001 },
        })[0] as Bytes,
      ));
    const items = new Array(MAX_PULL + 1).fill({
      origin: origin(1),
      version: { epoch: 1, seq: 1 },
    });
    refused(
      "bad_replica_message",
      () => decodeControl(encodeControl({ type: "pull", store: STORE, request: 1, items })),
    );
    refused("bad_replica_message", () => decodeControl(new Uint8Array([99])));
    refused("bad_replica_message", () => decodeData(new Uint8Array(129 * 1024).fill(16)));
    refused("bad_replica_message", () => decodeData(new Uint8Array([18, 1, 0xff, 1, 0]))); // A name that is not UTF-8.
    refused("bad_varint", () => decodeData(new Uint8Array([18, 1, 0x61, 0x80, 0, 0])));
  });

  test("garbage is refused by ProtocolError alone and never moves a replica", {
    timeoutMs: 120_000,
  }, () => {
    const world = new World(9, { loss: 0, duplication: 0, minDelayMs: 1, maxDelayMs: 5 });
    const [a, b] = [world.addNode(), world.addNode()];
    world.link(a, b);
    const frames: [("control" | "data" | "broadcast"), Bytes][] = [];
    world.tamper = (kind, _from, _to, body) => {
      frames.push([kind, body.slice()]);
      return body;
    };
    for (let i = 0; i < 40; i++) {
      world.put(a, `k${i}`, random.bytes(20));
      world.run(i % 7 === 0 ? 12_000 : 5);
    }
    world.unlink(a, b);
    world.put(a, "late", utf8("x"));
    world.run(100);
    world.link(a, b);
    world.run(30_000);
    const before = [...world.state(b).rows()].length;
    assert.equal(before, 41);
    const version = world.state(b).version(a.origin);
    for (let i = 0; i < 30_000; i++) {
      const [kind, body] = pick(random, frames) as [("control" | "data" | "broadcast"), Bytes];
      const bad = garble(random, body);
      world.feed(
        b,
        kind === "broadcast" ? { type: kind, body: bad } : { type: kind, from: a.name, body: bad },
      );
      if (i % 1_000 === 0) world.run(10_000);
    }
    world.run(60_000);
    assert.equal([...world.state(b).rows()].length, before);
    assert.deepEqual(world.state(b).version(a.origin), version);
  });
});

function garble(random: Random, body: Bytes): Bytes {
  const bad = body.slice();
  switch (randomBelow(random, 4)) {
    case 0:
      return random.bytes(randomBelow(random, 200));
    case 1:
      return bad.slice(0, randomBelow(random, bad.length + 1));
    case 2:
      return concat([bad, random.bytes(1 + randomBelow(random, 8))]);
    default:
      for (let i = 0; i <= randomBelow(random, 3); i++) {
        bad[randomBelow(random, bad.length)] = random.uint32() & 0xff;
      }
      return bad;
  }
}
