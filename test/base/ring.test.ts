import assert from "node:assert/strict";
import { Ring } from "../../src/base/ring.ts";
import { test } from "../harness.ts";

test("a ring gives items back in order while it grows and wraps", () => {
  const ring = new Ring<number>();
  const model: number[] = [];
  let next = 0;
  for (let round = 0; round < 200; round++) {
    for (let i = 0; i < round % 7 + 1; i++) {
      ring.push(next);
      model.push(next++);
    }
    for (let i = 0; i < round % 5; i++) assert.equal(ring.shift(), model.shift());
  }
  assert.equal(ring.length, model.length);
  while (model.length > 0) assert.equal(ring.shift(), model.shift());
  assert.equal(ring.shift(), undefined);
});

test("a ring takes an item out of the middle and keeps the others in order", () => {
  const ring = new Ring<number>();
  for (let i = 0; i < 20; i++) ring.push(i);
  for (let i = 0; i < 4; i++) ring.shift();
  for (let i = 20; i < 30; i++) ring.push(i);
  assert.equal(ring.removeAt(3), 7);
  assert.equal(ring.removeAt(99), undefined);
  const rest = [];
  for (let item = ring.shift(); item !== undefined; item = ring.shift()) rest.push(item);
  assert.deepEqual(rest, [4, 5, 6, ...Array.from({ length: 22 }, (_, i) => i + 8)]);
});
