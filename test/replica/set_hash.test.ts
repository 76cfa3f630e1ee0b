import assert from "node:assert/strict";
import { equalBytes, utf8 } from "../../src/base/bytes.ts";
import { syncHashes } from "../../src/base/noble_crypto.ts";
import { sample, seededRandom } from "../../src/base/random.ts";
import { SetHash } from "../../src/replica/set_hash.ts";
import { describe, test } from "../harness.ts";

const { sha256 } = syncHashes;
const rows = Array.from({ length: 40 }, (_, i) => [i + 1, `key${i}`, utf8(`value${i}`)] as const);

describe("set hash", () => {
  test("is the same in whatever order rows came and went", () => {
    const random = seededRandom(1);
    const straight = new SetHash(sha256);
    for (const row of rows.slice(0, 20)) straight.add(...row);
    for (let i = 0; i < 10; i++) {
      const winding = new SetHash(sha256);
      for (const row of sample(random, rows, rows.length)) winding.add(...row);
      for (const row of sample(random, rows.slice(20), 20)) winding.remove(...row);
      assert.deepEqual(winding.digest(), straight.digest());
    }
    for (const row of rows.slice(0, 20)) straight.remove(...row);
    assert.deepEqual(straight.digest(), new SetHash(sha256).digest());
  });

  test("differs when any part of any row does", () => {
    const of = (...all: (readonly [number, string, Uint8Array])[]) => {
      const hash = new SetHash(sha256);
      for (const row of all) hash.add(...row);
      return hash.digest();
    };
    const base = of([1, "ab", utf8("c")], [2, "d", utf8("e")]);
    const others = [
      of([1, "ab", utf8("c")]),
      of([1, "a", utf8("bc")], [2, "d", utf8("e")]),
      of([2, "ab", utf8("c")], [1, "d", utf8("e")]),
      of([1, "d", utf8("c")], [2, "ab", utf8("e")]),
      of([1, "ab", utf8("c")], [2, "d", utf8("e")], [2, "d", utf8("e")]),
    ];
    for (const other of others) assert.ok(!equalBytes(other, base));
  });

  test("a copy goes its own way", () => {
    const first = new SetHash(sha256);
    first.add(1, "a", utf8("b"));
    const before = first.digest();
    const second = new SetHash(sha256, first);
    assert.deepEqual(second.digest(), before);
    second.add(2, "c", utf8("d"));
    assert.deepEqual(first.digest(), before);
    assert.ok(!equalBytes(second.digest(), before));
  });
});
