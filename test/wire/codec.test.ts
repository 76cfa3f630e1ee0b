import assert from "node:assert/strict";
import { decode as cborgDecode, encode as cborgEncode } from "cborg";
import * as fc from "fast-check";
import { EncodeError, ProtocolError } from "../../src/base/errors.ts";
import { decodeMessage, takeMessage } from "../../src/wire/decoder.ts";
import { MessageEncoder } from "../../src/wire/encoder.ts";
import { Life, Pid } from "../../src/wire/pid.ts";
import { Ref } from "../../src/wire/ref.ts";
import { test } from "../harness.ts";

const sender = { send() {} };
const a = new Life("a@x", 1, sender), b = new Life("b@x", 2, sender);
const context = { own: b, peer: a };
const encoder = new MessageEncoder(1 << 20);
const encode = (value: unknown) => new Uint8Array(encoder.encode(value, { own: a, peer: b }));
const roundTrip = (value: unknown) => decodeMessage(encode(value), context);

const refusal = (bytes: number[] | Uint8Array) => {
  try {
    decodeMessage(Uint8Array.from(bytes), context);
  } catch (error) {
    if (error instanceof ProtocolError) return error.message;
    throw error;
  }
  return undefined;
};

test("every kind of value arrives as it was", () => {
  const values: unknown[] = [
    null,
    undefined,
    true,
    false,
    0,
    -0,
    1.5,
    -1,
    NaN,
    Infinity,
    -Infinity,
    2 ** 53 - 1,
    -(2 ** 53) + 1,
    2 ** 60,
    0n,
    -1n,
    2n ** 200n,
    -(2n ** 64n),
    "",
    "ascii",
    "Grüße, 世界 🎉",
    "x".repeat(1000),
    "é".repeat(200),
    new Date(1_700_000_000_123),
    new Date(-5),
    [],
    [1, [2, [3]]],
    {},
    { a: 1, nested: { b: undefined, c: null } },
    new Map<unknown, unknown>([["k", 1], [{ x: 1 }, new Set([1])]]),
    new Set([1, "2", 3n]),
    new Uint8Array([1, 2, 3]),
    new Float64Array([1.5, -2]),
    new Int16Array([-1, 2]),
    new BigUint64Array([2n ** 63n]),
    new Uint8ClampedArray([255]),
  ];
  for (const value of values) assert.deepStrictEqual(roundTrip(value), value);
  assert.deepStrictEqual(roundTrip(values), values);
  assert.ok(Number.isNaN((roundTrip(new Date(NaN)) as Date).getTime()));
});

test("errors keep name, message, code, data and cause", () => {
  const cause = new TypeError("deeper");
  const error = Object.assign(new RangeError("too far", { cause }), { code: "far", data: [1] });
  const got = roundTrip(error) as RangeError & { code: string; data: unknown };
  assert.ok(got instanceof RangeError);
  assert.deepEqual([got.name, got.message, got.code, got.data], ["RangeError", "too far", "far", [
    1,
  ]]);
  assert.ok(got.cause instanceof TypeError);
  const custom = new Error("mine");
  custom.name = "MyError";
  assert.equal((roundTrip(custom) as Error).name, "MyError");
  assert.ok(!String(got.stack).includes("decoder"));
});

test("pids and refs keep their meaning on the other node", () => {
  for (const { node, epoch } of [a, b, { node: "c@[::1]", epoch: 9 }, { node: "a@x", epoch: 7 }]) {
    const pid = roundTrip(new Pid(a.other(node, epoch), 42)) as Pid;
    assert.ok(pid instanceof Pid && pid.equals(new Pid(a.other(node, epoch), 42)));
    const ref = roundTrip(new Ref(node, epoch, 43)) as Ref;
    assert.ok(ref instanceof Ref && ref.equals(new Ref(node, epoch, 43)));
  }
  assert.ok(encode(new Pid(a, 42)).length <= 9, "the own node costs one byte");
});

const json = fc.letrec((tie) => ({
  value: fc.oneof(
    { maxDepth: 4 },
    fc.string({ unit: "grapheme" }),
    fc.integer(),
    fc.double(),
    fc.boolean(),
    fc.constant(null),
    fc.uint8Array({ maxLength: 40 }),
    fc.array(tie("value"), { maxLength: 5 }),
    fc.dictionary(fc.string(), tie("value"), { maxKeys: 5, noNullPrototype: true }),
  ),
})).value;

test("any JSON-like value survives, and cborg reads it the same", () => {
  fc.assert(
    fc.property(json, (value) => {
      assert.deepStrictEqual(roundTrip(value), value);
      const isPlain = !JSON.stringify(value)?.includes("__proto__");
      if (isPlain) assert.deepStrictEqual(cborgDecode(encode(value)), value);
    }),
    { numRuns: 500 },
  );
});

const hasMinusZero = (value: unknown): boolean =>
  Object.is(value, -0) ||
  (typeof value === "object" && value !== null && Object.values(value).some(hasMinusZero));

test("what cborg writes is read the same, where both agree on the form", () => {
  fc.assert(
    fc.property(json, (value) => {
      // cborg writes -0 as 0.
      const isSame = !hasMinusZero(value) && !JSON.stringify(value)?.includes("__proto__");
      if (!isSame) return;
      const bytes = new Uint8Array(cborgEncode(value, { float64: true }));
      assert.deepStrictEqual(decodeMessage(bytes, context), value);
    }),
    { numRuns: 500 },
  );
});

test("keys that mean something to JavaScript are plain data", () => {
  const value = JSON.parse('{"__proto__":{"polluted":true},"constructor":1,"toString":2}');
  const got = roundTrip(value) as Record<string, unknown>;
  assert.deepEqual(Object.keys(got), ["__proto__", "constructor", "toString"]);
  assert.equal(Object.getPrototypeOf(got), Object.prototype);
  assert.equal(({} as { polluted?: boolean }).polluted, undefined);
});

test("what has no place in a message is refused with its path", () => {
  const deep: unknown[] = [];
  let inner = deep;
  for (let i = 0; i < 70; i++) inner.push(inner = []);
  for (const value of [() => {}, Symbol("s"), new WeakMap(), /x/, deep, new (class X {})()]) {
    assert.throws(() => encode({ list: [value] }), (error) => {
      return error instanceof EncodeError && error.path.startsWith("$.list[0]");
    });
  }
  assert.throws(() => encode(2n ** 9000n), EncodeError);
  assert.throws(() => encode("x".repeat(2 << 20)), /maxMessageBytes/);
});

test("broken, ambiguous and oversized encodings are refused by name", () => {
  const cases: [RegExp, number[]][] = [
    [/an early end/, []],
    [/bytes behind the end/, [0x01, 0x02]],
    [/shortest form/, [0x18, 0x05]],
    [/shortest form/, [0x19, 0x00, 0x05]],
    [/shortest form/, [0x9f, 0xff]],
    [/shortest form/, [0x1b, 0x00, 0x40, 0, 0, 0, 0, 0, 0]],
    [/an early end/, [0x9a, 0xff, 0xff, 0xff, 0xff]],
    [/an early end/, [0xba, 0xff, 0xff, 0xff, 0xff]],
    [/an early end/, [0x5a, 0xff, 0xff, 0xff, 0xff]],
    [/duplicate key/, [0xa2, 0x61, 0x61, 1, 0x61, 0x61, 2]],
    [/no string/, [0xa1, 1, 1]],
    [/UTF-8/, [0x61, 0xff]],
    [/another size/, [0xf9, 0, 0]],
    [/tag 99/, [0xd8, 99, 1]],
    [/a pid/, [0xd9, 0xbb, 0xe4, 0x82, 0x02, 0x01]],
    [/leading zeros/, [0xc2, 0x42, 0, 1]],
    [/levels/, [...Array(70).fill(0x81), 1]],
    [/levels/, [...Array(5_000).fill(0xc1), 1]],
  ];
  for (const [expected, bytes] of cases) assert.match(refusal(bytes) ?? "accepted", expected);
});

test("random and mutated bytes are refused or read, and never harm", () => {
  const good = encode([{ a: [1, "text", new Map([[1, 2n]])], e: new Error("x") }, new Date(5)]);
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 100 }),
        fc.tuple(fc.nat(good.length - 1), fc.nat(255)).map(([at, byte]) => good.with(at, byte)),
      ),
      (bytes) => void refusal(bytes),
    ),
    { numRuns: 5_000 },
  );
});

test("what stays on the node is refused exactly where it could not be written", () => {
  const small = new MessageEncoder(2_000);
  const problem = (act: (value: unknown) => void, value: unknown) => {
    try {
      act(value);
      return undefined;
    } catch (error) {
      assert.ok(error instanceof EncodeError);
      return error.message;
    }
  };
  const pid = new Pid(a, 7);
  class Thing {}
  const odd: unknown[] = [
    () => {},
    Symbol("s"),
    new Thing(),
    new WeakMap(),
    Promise.resolve(),
    /x/,
    new ArrayBuffer(8),
    new DataView(new ArrayBuffer(8)),
    Object.create({ inherited: 1 }),
    "\udc00",
    "x".repeat(30) + "\ud800",
    1n << 8192n,
    -(1n << 8192n) - 1n,
    new Error("\ud800"),
    Object.assign(new Error("x"), { data: () => {} }),
    new Error("x", { cause: new Thing() }),
    new Map([[Symbol("key"), 1]]),
    { "\ud800": 1 },
  ];
  const fine: unknown[] = [
    (1n << 8192n) - 1n,
    -(1n << 8192n),
    new Date(NaN),
    pid,
    new Ref("a@x", 1, 2),
    new Uint8Array(500),
    new BigInt64Array(10),
    Object.assign(new RangeError("too far"), { code: "far", data: [1], more: () => {} }),
    Object.create(null),
    Object.defineProperty({ a: 1 }, "hidden", { value: () => {} }),
    "💥".repeat(200),
  ];
  for (const value of odd) assert.notEqual(problem((one) => small.check(one), value), undefined);
  for (const value of fine) assert.equal(problem((one) => small.check(one), value), undefined);
  const cycle: unknown[] = [];
  cycle.push(1, { cycle });
  assert.throws(
    () => small.check(cycle),
    (error) =>
      error instanceof EncodeError && error.path === `$${"[1].cycle".repeat(4)}…` &&
      error.message.endsWith(": deeper than 64 levels, or a cycle"),
  );
  // Each level doubles what is written, though the value itself is small.
  let bush: unknown = "leaf";
  for (let i = 0; i < 40; i++) bush = [bush, bush];
  let deep: unknown = 1;
  for (let i = 0; i < 64; i++) deep = [deep];
  const large = [new Uint8Array(1_999), "é".repeat(999), "é".repeat(1_001), "x".repeat(1_998)];
  const inner = fc.oneof(
    fc.constantFrom(...odd, ...fine, cycle, bush, deep, [deep], ...large),
    fc.string({ unit: "binary" }),
    fc.bigInt(),
    fc.double(),
    fc.date(),
    fc.uint8Array(),
    fc.float64Array(),
  );
  const value = fc.letrec((tie) => ({
    any: fc.oneof({ maxDepth: 3 }, inner, fc.anything(), tie("list"), tie("map"), tie("set")),
    list: fc.array(tie("any"), { maxLength: 4 }),
    map: fc.array(fc.tuple(tie("any"), tie("any")), { maxLength: 3 })
      .map((entries) => new Map(entries)),
    set: fc.array(tie("any"), { maxLength: 3 }).map((items) => new Set(items)),
  })).any;
  fc.assert(
    fc.property(value, (one) => {
      assert.equal(problem((it) => small.check(it), one), problem((it) => small.encode(it), one));
    }),
    { numRuns: 3_000 },
  );
});

test("only bytes that are most of a message that nobody else uses are a view of it", () => {
  const large = new Uint8Array(100_000).fill(7);
  const bytes = Uint8Array.from(encode([large, large.slice(0, 40_000)]));
  const [first, second] = takeMessage(bytes, context) as [Uint8Array, Uint8Array];
  assert.equal(first.buffer, bytes.buffer);
  assert.notEqual(second.buffer, bytes.buffer);
  assert.deepEqual([first, second], [large, large.slice(0, 40_000)]);
  const ofChunk = new Uint8Array(300_000);
  ofChunk.set(bytes);
  const [copy] = takeMessage(ofChunk.subarray(0, bytes.length), context) as [Uint8Array];
  assert.notEqual(copy.buffer, ofChunk.buffer, "a large buffer is not held for a part of it");
  const [own] = decodeMessage(bytes, context) as [Uint8Array];
  assert.notEqual(own.buffer, bytes.buffer);
  assert.throws(() => takeMessage(bytes.subarray(0, 90_000), context), ProtocolError);
});
