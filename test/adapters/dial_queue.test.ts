import assert from "node:assert/strict";
import { DialQueue } from "../../adapters/quic/dial_queue.ts";
import { SilentAddresses } from "../../adapters/quic/silent_addresses.ts";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import { test } from "../harness.ts";

function begin(capacity: number) {
  const queue = new DialQueue(capacity);
  const names = new Map<() => void, string>();
  return {
    queue,
    add(name: string, isSecondClass: boolean): boolean {
      const turn = () => {};
      names.set(turn, name);
      return queue.add(turn, isSecondClass);
    },
    next(): string | undefined {
      const turn = queue.next();
      return turn && names.get(turn);
    },
  };
}

test("three turns of four are the first class's while both wait, in their order", () => {
  const { add, next, queue } = begin(10);
  for (let i = 0; i < 3; i++) add(`b${i}`, true);
  for (let i = 0; i < 5; i++) add(`a${i}`, false);
  assert.equal(queue.size, 8);
  assert.deepEqual(
    Array.from({ length: 9 }, next),
    ["a0", "a1", "a2", "b0", "a3", "a4", "b1", "b2", undefined],
  );
  assert.equal(queue.size, 0);
});

test("a class that is full takes no more, and leaves the other alone", () => {
  const { add, next } = begin(2);
  assert.deepEqual([add("a", true), add("b", true), add("c", true)], [true, true, false]);
  assert.ok(add("d", false));
  assert.deepEqual([next(), next(), next(), next()], ["d", "a", "b", undefined]);
  assert.ok(add("c", true));
});

test("whoever waits gets a turn: no first one waits for more than a third of those before it", () => {
  const random = seededRandom(7);
  const { add, next, queue } = begin(1_000);
  const waiting: string[] = [];
  let ahead = 0;
  for (let i = 0; i < 5_000; i++) {
    if (randomBelow(random, 2) === 0) {
      const name = `${randomBelow(random, 2) === 0 ? "a" : "b"}${i}`;
      assert.ok(add(name, name.startsWith("b")));
      waiting.push(name);
    } else {
      const name = next();
      const first = waiting.find((one) => one.startsWith("a"));
      const second = waiting.find((one) => one.startsWith("b"));
      assert.ok(name === first || name === second);
      if (first !== undefined && name === second) {
        assert.equal(ahead, 3);
      } else if (second !== undefined && first !== undefined) {
        assert.ok(ahead < 3);
      }
      ahead = name === second || second === undefined ? 0 : ahead + 1;
      if (name !== undefined) waiting.splice(waiting.indexOf(name), 1);
    }
    assert.equal(queue.size, waiting.length);
  }
});

test("an address is silent for a while only, and of many the first are forgotten", () => {
  const silent = new SilentAddresses();
  silent.note("a", 0);
  assert.equal(silent.has("a", 59_999), true);
  assert.equal(silent.has("a", 60_000), false);
  silent.note("b", 0);
  silent.forget("b");
  assert.equal(silent.has("b", 1), false);
  silent.note("a", 0);
  silent.note("c", 0);
  silent.note("a", 1);
  for (let i = 0; i < 4_095; i++) silent.note(`${i}`, 2);
  assert.equal(silent.has("c", 3), false);
  assert.equal(silent.has("a", 3), true);
});
