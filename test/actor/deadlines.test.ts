import assert from "node:assert/strict";
import { createDeadlines } from "../../src/actor/deadlines.ts";
import type { Clock } from "../../src/base/clock.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { describe, test } from "../harness.ts";

/** A clock that counts the timers it was asked for. */
function countedClock() {
  const virtual = createVirtualClock();
  const view = virtual.view().clock;
  let timers = 0;
  const clock: Clock = {
    ...view,
    after(ms, fn) {
      timers++;
      return view.after(ms, fn);
    },
  };
  return { clock, virtual, timers: () => timers };
}

describe("deadlines of calls", () => {
  test("share one timer where they are the usual ones, and expire each at its time", async () => {
    const { clock, virtual, timers } = countedClock();
    const deadlines = createDeadlines(clock, 100);
    const expired: [string, number][] = [];
    const set = (name: string, ms = 100) =>
      deadlines.after(ms, () => expired.push([name, clock.now() - start]));
    const start = clock.now();
    set("first");
    await virtual.run(30);
    set("second");
    const cancelled = set("cancelled");
    set("third");
    assert.equal(timers(), 1);
    cancelled.cancel();
    set("short", 20);
    await virtual.run(1_000);
    assert.deepEqual(expired, [["short", 50], ["first", 100], ["second", 130], ["third", 130]]);
  });

  test("cost no timer each when they are cancelled and set again", async () => {
    const { clock, virtual, timers } = countedClock();
    const deadlines = createDeadlines(clock, 100);
    for (let i = 0; i < 1_000; i++) {
      deadlines.after(100, () => assert.fail("it was cancelled")).cancel();
      await virtual.run(1);
    }
    assert.ok(timers() <= 12, `${timers()} timers in ten times the deadline`);
    let isExpired = false;
    deadlines.after(100, () => (isExpired = true));
    await virtual.run(99);
    assert.equal(isExpired, false);
    await virtual.run(1);
    assert.equal(isExpired, true);
  });
});
