import assert from "node:assert/strict";
import type { Clock } from "../../src/base/clock.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import { test } from "../harness.ts";

const sleep = (clock: Clock, ms: number) =>
  new Promise<void>((resolve) => void clock.after(ms, resolve));

test("timers fire in the order of their times, equal ones in the order of their making", async () => {
  const time = createVirtualClock();
  const { clock } = time.view();
  const fired: [string, number][] = [];
  const note = (name: string) => () => void fired.push([name, clock.now()]);
  clock.after(20, note("late"));
  for (let i = 0; i < 20; i++) clock.after(10, note(`${i}`));
  clock.after(5, note("early"));
  clock.nextTurn(note("turn"));
  clock.after(-1, note("past"));
  await time.run(10);
  const expected = [["turn", 0], ["past", 0], ["early", 5]];
  for (let i = 0; i < 20; i++) expected.push([`${i}`, 10]);
  assert.deepEqual(fired, expected);
  assert.equal(time.now(), 10);
  await time.run(9.5);
  assert.equal(fired.length, expected.length);
  await time.run(0.5);
  assert.deepEqual(fired.at(-1), ["late", 20]);
});

test("promises settle before time moves on", async () => {
  const time = createVirtualClock();
  const { clock } = time.view();
  const seen: string[] = [];
  clock.after(1, async () => {
    for (let i = 0; i < 50; i++) await Promise.resolve();
    seen.push(`first at ${clock.now()}`);
    await sleep(clock, 0.25);
    seen.push(`second at ${clock.now()}`);
  });
  clock.after(2, () => void seen.push(`third at ${clock.now()}`));
  await time.run(3);
  assert.deepEqual(seen, ["first at 1", "second at 1.25", "third at 2"]);
});

test("a cancelled timer does not fire, even if what is due with it cancels it", async () => {
  const time = createVirtualClock();
  const { clock } = time.view();
  let fired = 0;
  clock.after(1, () => second.cancel());
  const second = clock.after(1, () => fired++);
  const third = clock.after(2, () => fired++);
  third.cancel();
  third.cancel();
  await time.run(10);
  assert.equal(fired, 0);
});

test("until stops at the moment at which the promise settles, and gives what it gives", async () => {
  const time = createVirtualClock();
  const { clock } = time.view();
  let later = false;
  clock.after(1_001, () => (later = true));
  const value = await time.until(sleep(clock, 1_000).then(() => "done"), 10_000);
  assert.equal(value, "done");
  assert.equal(time.now(), 1_000);
  assert.equal(later, false);
  await assert.rejects(
    time.until(sleep(clock, 5).then(() => Promise.reject(new Error("no"))), 10_000),
    { message: "no" },
  );
});

test("until gives up at its limit, also while timers go on for ever", async () => {
  const time = createVirtualClock();
  const { clock } = time.view();
  const tick = () => void clock.after(100, tick);
  tick();
  await assert.rejects(time.until(new Promise(() => {}), 1_000), /1000 ms of virtual time/);
  assert.equal(time.now(), 1_000);
});

test("a view has its own wall clock, and can be stopped for good", async () => {
  const time = createVirtualClock();
  const right = time.view(), wrong = time.view({ wallOffsetMs: -90_000 });
  await time.run(500);
  assert.equal(right.clock.wall() - wrong.clock.wall(), 90_000);
  assert.equal(right.clock.wall(), Date.UTC(2026, 0, 1) + 500);
  assert.equal(right.clock.now(), wrong.clock.now());
  const fired: string[] = [];
  right.clock.after(10, () => void fired.push("right"));
  wrong.clock.after(10, () => void fired.push("wrong"));
  wrong.clock.nextTurn(() => void fired.push("wrong"));
  wrong.stop();
  wrong.clock.after(10, () => void fired.push("wrong"));
  await time.run(100);
  assert.deepEqual(fired, ["right"]);
});

test("a wait too short to move the time ends all the same", async () => {
  const time = createVirtualClock();
  const { clock } = time.view();
  await time.run(100_000.1);
  let rounds = 0;
  const start = clock.now();
  const wait = () => {
    rounds++;
    if (clock.now() === start && rounds < 100) clock.after(1e-12, wait);
  };
  wait();
  await time.run(1);
  assert.equal(rounds, 2);
});

test("a loop that time never ends is told, not run for ever", async () => {
  const time = createVirtualClock();
  const { clock, stop } = time.view();
  const again = () => clock.nextTurn(again);
  again();
  await assert.rejects(time.run(1), /stands still/);
  stop();
});

test("a view that is paused fires its timers afterwards, in order, and no other view waits", async () => {
  const time = createVirtualClock();
  const one = time.view(), other = time.view();
  const fired: string[] = [];
  const note = (name: string, clock: Clock) => () => void fired.push(`${name} ${clock.now()}`);
  one.clock.after(20, note("b", one.clock));
  one.clock.after(10, note("a", one.clock));
  one.clock.after(200, note("c", one.clock));
  const dropped = one.clock.after(15, note("dropped", one.clock));
  other.clock.after(50, note("other", other.clock));
  other.clock.after(60, () => dropped.cancel());
  one.pause(100);
  await time.run(300);
  assert.deepEqual(fired, ["other 50", "a 100", "b 100", "c 200"]);
});
