import assert from "node:assert/strict";
import { concat } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { pick, randomBelow, sample, seededRandom } from "../../src/base/random.ts";
import { MAX_IN_FLIGHT, Router } from "../../src/registry/router.ts";
import type { RouterEffect, RouterEvent } from "../../src/registry/router.ts";
import { decodeRouter, encodeRouter } from "../../src/registry/router_messages.ts";
import type { RouterMessage } from "../../src/registry/router_messages.ts";
import { describe, test } from "../harness.ts";

const MESSAGES: RouterMessage[] = [
  { type: "query", id: new Uint8Array(8).fill(7), ttl: 8, name: "ключ" },
  { type: "found", id: new Uint8Array(8), node: "node1@127.0.0.1" },
  { type: "ask", request: 2 ** 53 - 1, name: "x".repeat(255) },
  { type: "answer", request: 1, process: 0 },
];

const peer = (name: string) => ({ name, epoch: 1 });
const id = (n: number) => new Uint8Array(8).fill(n);

function routerOf(
  neighbours: string[],
  names: { local?: Record<string, number>; known?: Record<string, string[]> } = {},
): Router {
  return new Router({
    self: "me@test",
    random: seededRandom(1),
    neighbours: () => neighbours,
    localProcess: (name) => names.local?.[name],
    knownNodes: (name) => names.known?.[name] ?? [],
  });
}

function sends(effects: readonly RouterEffect[]): [string, RouterMessage][] {
  return effects.flatMap((effect) => effect.type === "send" ? [[effect.to, effect.message]] : []);
}

describe("router messages", () => {
  test("come back as they were, and nothing shorter or longer is taken", () => {
    for (const message of MESSAGES) {
      const body = encodeRouter(message);
      assert.deepEqual(decodeRouter(body), message);
      for (let length = 0; length < body.length; length++) {
        assert.throws(() => decodeRouter(body.slice(0, length)), ProtocolError);
      }
      assert.throws(() => decodeRouter(concat([body, new Uint8Array(1)])), ProtocolError);
    }
  });

  test("what breaks a rule is refused by name", () => {
    const refused = (message: RouterMessage, reason: string) =>
      assert.throws(
        () => decodeRouter(encodeRouter(message)),
        (error) => error instanceof ProtocolError && error.reason === reason,
      );
    const query = MESSAGES[0] as RouterMessage & { type: "query" };
    refused({ ...query, ttl: 0 }, "bad_router_message");
    refused({ ...query, ttl: 9 }, "bad_router_message");
    refused({ ...query, name: "" }, "bad_router_message");
    refused({ ...query, name: "x".repeat(256) }, "too_long");
    refused({ type: "found", id: id(1), node: "../../etc/passwd" }, "bad_node_name");
  });

  test("garbage is refused by ProtocolError alone", () => {
    const random = seededRandom(5);
    const bodies = MESSAGES.map(encodeRouter);
    for (let i = 0; i < 20_000; i++) {
      const bad = (pick(random, bodies) as Bytes).slice();
      for (let k = 0; k <= randomBelow(random, 3); k++) {
        bad[randomBelow(random, bad.length)] = random.uint32() & 0xff;
      }
      try {
        decodeRouter(bad.slice(0, randomBelow(random, bad.length + 1)));
      } catch (error) {
        assert.ok(error instanceof ProtocolError, String(error));
      }
    }
  });
});

describe("router", () => {
  test("a query is passed on once, not back, and one hop shorter", () => {
    const router = routerOf(["a@test", "b@test", "c@test"]);
    const query: RouterMessage = { type: "query", id: id(1), ttl: 3, name: "s" };
    const event: RouterEvent = { type: "message", from: peer("a@test"), message: query };
    assert.deepEqual(sends(router.handle(event, 0)), [
      ["b@test", { ...query, ttl: 2 }],
      ["c@test", { ...query, ttl: 2 }],
    ]);
    assert.deepEqual(router.handle({ ...event, from: peer("b@test") }, 1), []);
    const last: RouterMessage = { ...query, id: id(2), ttl: 1 };
    assert.deepEqual(router.handle({ ...event, message: last }, 1), []);
  });

  test("who has the name, or knows who has, answers back and does not pass the query on", () => {
    const router = routerOf(["a@test", "b@test"], {
      local: { mine: 7 },
      known: { theirs: ["x@test", "y@test", "z@test", "w@test"] },
    });
    const ask = (n: number, name: string) =>
      sends(router.handle({
        type: "message",
        from: peer("a@test"),
        message: { type: "query", id: id(n), ttl: 8, name },
      }, 0));
    assert.deepEqual(ask(1, "mine"), [["a@test", { type: "found", id: id(1), node: "me@test" }]]);
    assert.deepEqual(
      ask(2, "theirs").map(([to, message]) => [to, (message as { node: string }).node]),
      [["a@test", "x@test"], ["a@test", "y@test"], ["a@test", "z@test"]],
    );
  });

  test("three answers to a query go back through us, two of a neighbour, none when it is over", () => {
    const router = routerOf(["a@test", "b@test", "c@test"]);
    const query: RouterMessage = { type: "query", id: id(1), ttl: 2, name: "s" };
    router.handle({ type: "message", from: peer("a@test"), message: query }, 0);
    const found = (node: string, now: number, from = "b@test") =>
      sends(router.handle({
        type: "message",
        from: peer(from),
        message: { type: "found", id: id(1), node },
      }, now));
    assert.equal(found("x@test", 1)[0]?.[0], "a@test");
    assert.equal(found("y@test", 1).length, 1);
    assert.deepEqual(found("z@test", 1), []);
    assert.equal(found("z@test", 1, "c@test").length, 1);
    assert.deepEqual(found("w@test", 1, "c@test"), []);
    router.handle({ type: "message", from: peer("a@test"), message: { ...query, id: id(2) } }, 10);
    assert.equal(router.wakeAt(), 5_000);
    router.handle({ type: "tick" }, 5_010);
    assert.equal(router.wakeAt(), Infinity);
    assert.deepEqual(found("x@test", 5_011), []);
  });

  test("a search asks each node that is named once, three of a neighbour, and believes only that node", () => {
    const router = routerOf(["a@test", "b@test"]);
    const [[, query]] = sends(router.handle({ type: "search", name: "s", retries: 0 }, 0)) as [
      [string, RouterMessage & { type: "query" }],
    ];
    const found = (node: string, from = "a@test") =>
      sends(router.handle({
        type: "message",
        from: peer(from),
        message: { type: "found", id: query.id, node },
      }, 1));
    const [[to, ask]] = found("x@test") as [[string, RouterMessage & { type: "ask" }]];
    assert.equal(to, "x@test");
    assert.deepEqual(found("x@test"), []);
    assert.deepEqual(found("me@test"), []);
    const asked = Array.from({ length: 20 }, (_, i) => found(`n${i}@test`)).flat();
    assert.equal(asked.length, 2);
    assert.equal(found("known@test", "b@test").length, 1, "one that makes names up is not alone");
    const answer = (name: string, request: number, process: number) =>
      router.handle({
        type: "message",
        from: { name, epoch: 4 },
        message: { type: "answer", request, process },
      }, 2);
    assert.deepEqual(answer("a@test", ask.request, 9), []);
    assert.deepEqual(answer("x@test", ask.request + 1, 9), []);
    assert.equal(router.inFlight, 1);
    assert.deepEqual(answer("x@test", ask.request, 9), [
      { type: "found", name: "s", node: "x@test", epoch: 4, process: 9 },
    ]);
    assert.equal(router.inFlight, 0);
    assert.deepEqual(answer("x@test", ask.request, 9), []);
  });

  test("rings widen until the retries are used up", () => {
    const router = routerOf(["a@test"]);
    const ttls: number[] = [];
    const note = (effects: RouterEffect[]) => {
      for (const [, message] of sends(effects)) {
        if (message.type === "query") ttls.push(message.ttl);
      }
      return effects;
    };
    note(router.handle({ type: "search", name: "s", retries: 5 }, 0));
    let ended: RouterEffect[] = [];
    while (router.wakeAt() < Infinity) {
      ended = note(router.handle({ type: "tick" }, router.wakeAt()));
    }
    assert.deepEqual(ttls, [1, 2, 4, 8, 8, 8]);
    assert.deepEqual(ended, [{ type: "missing", name: "s" }]);
  });

  test("what a peer has under way through us is bounded, and free again later", () => {
    const router = routerOf([]);
    const query = (n: number, from: string, now: number) => {
      const bytes = id(0);
      new DataView(bytes.buffer).setUint32(0, n);
      const message: RouterMessage = { type: "query", id: bytes, ttl: 1, name: "s" };
      return router.handle({ type: "message", from: peer(from), message }, now);
    };
    for (let n = 0; n < MAX_IN_FLIGHT; n++) assert.deepEqual(query(n, "a@test", 0), []);
    const refused = [{ type: "refused", reason: "too_many_queries" }];
    assert.deepEqual(query(1_000, "a@test", 1), refused);
    assert.deepEqual(query(1_001, "b@test", 1), []);
    router.handle({ type: "tick" }, 5_000);
    assert.deepEqual(query(1_002, "a@test", 5_000), []);
  });

  test("random hostile messages keep every table bounded", () => {
    const random = seededRandom(3);
    const router = routerOf(["a@test", "b@test"], { local: { s1: 1 }, known: { s2: ["b@test"] } });
    const ids = Array.from({ length: 50 }, () => random.bytes(8));
    let now = 0;
    for (let i = 0; i < 20_000; i++) {
      now += randomBelow(random, 40);
      if (i % 500 === 0) router.handle({ type: "search", name: `w${i}`, retries: 1 }, now);
      const message = pick<RouterMessage>(random, [
        {
          type: "query",
          id: pick(random, ids) as Bytes,
          ttl: 1 + randomBelow(random, 8),
          name: `s${randomBelow(random, 5)}`,
        },
        {
          type: "found",
          id: pick(random, ids) as Bytes,
          node: `${sample(random, "xyz", 1)[0]}@test`,
        },
        { type: "ask", request: randomBelow(random, 9), name: "s1" },
        { type: "answer", request: randomBelow(random, 99), process: randomBelow(random, 3) },
      ]) as RouterMessage;
      const from = peer(`${sample(random, "abcd", 1)[0]}@test`);
      for (const effect of router.handle({ type: "message", from, message }, now)) {
        assert.notEqual(effect.type, "found");
      }
      if (router.wakeAt() <= now) router.handle({ type: "tick" }, now);
    }
    while (router.wakeAt() < Infinity) router.handle({ type: "tick" }, router.wakeAt());
    assert.equal(router.inFlight, 0);
  });
});
