import assert from "node:assert/strict";
import { ProtocolError } from "../../src/base/errors.ts";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import {
  compareStamps,
  HybridLogicalClock,
  stampFromBytes,
  stampToBytes,
} from "../../src/crdt/hlc.ts";
import type { Stamp } from "../../src/crdt/hlc.ts";
import { compareBytes } from "../../src/base/bytes.ts";
import { describe, test } from "../harness.ts";

const START = 1_790_000_000_000;

function clockAt(start: number): { wall(): number; at: number } {
  return {
    at: start,
    wall() {
      return this.at;
    },
  };
}

describe("hybrid logical clock", () => {
  test("stamps grow while the wall clock stands, jumps back and goes on", () => {
    const wall = clockAt(START);
    const hlc = new HybridLogicalClock(wall, 5_000);
    let last = hlc.now();
    for (const step of [0, 0, -3_600_000, 0, 3_600_000, 1, 0]) {
      wall.at += step;
      const next = hlc.now();
      assert.ok(compareStamps(next, last) > 0);
      last = next;
    }
    assert.deepEqual(last, { wallMs: START + 1, counter: 1 });
  });

  test("a message's stamp is followed, so what comes after it is later", () => {
    const hlc = new HybridLogicalClock(clockAt(START), 5_000);
    const remote: Stamp = { wallMs: START + 5_000, counter: 7 };
    assert.deepEqual(hlc.update(remote), { isTooFarAhead: false, aheadMs: 5_000 });
    assert.ok(compareStamps(hlc.now(), remote) > 0);
  });

  test("a stamp further ahead than maxDriftMs is reported and never moves our clock (yugabyte-db 10628)", () => {
    const hlc = new HybridLogicalClock(clockAt(START), 5_000);
    const before = hlc.now();
    const verdict = hlc.update({ wallMs: START + 3_600_000, counter: 0 });
    assert.deepEqual(verdict, { isTooFarAhead: true, aheadMs: 3_600_000 });
    assert.deepEqual(hlc.now(), { wallMs: before.wallMs, counter: before.counter + 1 });
  });

  test("a full counter borrows the next millisecond, also when a peer sent it", () => {
    const hlc = new HybridLogicalClock(clockAt(START), 5_000);
    hlc.update({ wallMs: START, counter: 65_535 });
    assert.deepEqual(hlc.now(), { wallMs: START + 1, counter: 1 });
  });

  test("with clocks an hour apart, the honest nodes stay within maxDriftMs of their walls", () => {
    const random = seededRandom(20);
    const walls = [0, 0, 0, 3_600_000, -3_600_000].map((offset) => clockAt(START + offset));
    const clocks = walls.map((wall) => new HybridLogicalClock(wall, 5_000));
    for (let i = 0; i < 20_000; i++) {
      for (const wall of walls) wall.at += randomBelow(random, 3);
      const from = randomBelow(random, 5), to = randomBelow(random, 5);
      const stamp = (clocks[from] as HybridLogicalClock).now();
      const receiver = clocks[to] as HybridLogicalClock;
      receiver.update(stamp);
      const next = receiver.now();
      const ahead = next.wallMs - (walls[to] as { at: number }).at;
      assert.ok(ahead <= 5_001, `clock ${to} is ${ahead} ms ahead of its wall`);
    }
  });

  test("the binary form keeps value and order", () => {
    const random = seededRandom(8);
    let previous: Stamp = { wallMs: 2 ** 48 - 1, counter: 65_535 };
    for (let i = 0; i < 2_000; i++) {
      const stamp: Stamp = {
        wallMs: randomBelow(random, 2 ** 16) * 2 ** 32 + random.uint32(),
        counter: randomBelow(random, 2 ** 16),
      };
      const bytes = stampToBytes(stamp);
      assert.equal(bytes.length, 8);
      assert.deepEqual(stampFromBytes(bytes), stamp);
      const order = Math.sign(compareBytes(bytes, stampToBytes(previous)));
      assert.equal(order, Math.sign(compareStamps(stamp, previous)));
      previous = stamp;
    }
    assert.throws(
      () => stampFromBytes(new Uint8Array(7)),
      (error) => error instanceof ProtocolError && error.reason === "bad_stamp",
    );
  });
});
