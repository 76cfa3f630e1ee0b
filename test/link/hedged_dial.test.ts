import assert from "node:assert/strict";
import { hedgedDial } from "../../src/link/hedged_dial.ts";
import type { DialAttempt } from "../../src/link/hedged_dial.ts";
import type { CloseInfo, Connection } from "../../src/transport/contract.ts";
import { test } from "../harness.ts";
import { manualClock } from "../manual_clock.ts";

/** Dials that are answered when the test says so, and with `turns` begin when it says so. */
function dials(turns: boolean) {
  const attempts: (PromiseWithResolvers<Connection> & {
    signal: AbortSignal;
    timeoutMs: number;
    isRetry: boolean;
    begin: () => void;
    closed: string | undefined;
    connection: Connection;
  })[] = [];
  return {
    attempts,
    dial({ signal, timeoutMs, isRetry, onBegin }: DialAttempt) {
      const attempt = {
        ...Promise.withResolvers<Connection>(),
        signal: signal as AbortSignal,
        timeoutMs,
        isRetry: isRetry === true,
        begin: () => onBegin?.(),
        closed: undefined as string | undefined,
        connection: undefined as unknown as Connection,
      };
      attempt.connection = {
        close: (_code: number, reason: string) => void (attempt.closed = reason),
        closed: new Promise<CloseInfo>(() => {}),
      } as unknown as Connection;
      attempts.push(attempt);
      if (!turns) attempt.begin();
      return attempt.promise;
    },
  };
}

const begin = (turns = false) => {
  const time = manualClock();
  const { attempts, dial } = dials(turns);
  const closing = new AbortController();
  const result = hedgedDial(dial, { clock: time.clock, signal: closing.signal, timeoutMs: 10_000 });
  return { time, attempts, closing, result };
};

test("a dial without an answer is joined by others, and the first connection counts", async () => {
  const { time, attempts, result } = begin();
  await time.pass(1_400);
  assert.equal(attempts.length, 1, "one suffices at first");
  await time.pass(200);
  await time.pass(3_000);
  assert.deepEqual(attempts.map(({ timeoutMs }) => timeoutMs), [10_000, 8_500, 6_000]);
  assert.deepEqual(attempts.map(({ isRetry }) => isRetry), [false, true, true]);
  const [first, second, third] = attempts;
  second?.resolve(second.connection);
  assert.equal(await result, second?.connection);
  assert.ok(first?.signal.aborted, "the others are given up");
  third?.resolve(third.connection);
  first?.reject(new Error("aborted"));
  await time.pass(0);
  assert.equal(third?.closed, "another dial was faster");
  assert.equal(second?.closed, undefined);
});

test("a refusal is told at once, while one that may still be answered is waited for", async () => {
  const refused = begin();
  refused.attempts[0]?.reject(new Error("refused"));
  await assert.rejects(refused.result, /refused/);
  assert.equal(refused.time.waiting(), 0, "nothing goes on");
  const { time, attempts, result } = begin();
  await time.pass(2_000);
  attempts[1]?.reject(new Error("too many"));
  await time.pass(0);
  attempts[0]?.resolve(attempts[0].connection);
  assert.equal(await result, attempts[0]?.connection);
});

test("a dial that is given up ends all its attempts", async () => {
  const { time, attempts, closing, result } = begin();
  await time.pass(2_000);
  closing.abort();
  assert.deepEqual(attempts.map(({ signal }) => signal.aborted), [true, true]);
  for (const attempt of attempts) attempt.reject(new Error("aborted"));
  await assert.rejects(result, /aborted/);
  assert.equal(time.waiting(), 0);
});

test("a dial that waits for its turn is joined by none until it has begun", async () => {
  const { time, attempts, result } = begin(true);
  await time.pass(9_000);
  assert.equal(attempts.length, 1);
  attempts[0]?.begin();
  await time.pass(1_499);
  assert.equal(attempts.length, 1);
  await time.pass(1);
  assert.deepEqual(attempts.map(({ timeoutMs }) => timeoutMs), [10_000, 8_500]);
  // A further one that never got its turn says nothing about those that are under way.
  attempts[1]?.reject(new Error("too many wait"));
  await time.pass(2_500);
  assert.equal(attempts.length, 3);
  // And when the first has failed, nobody waits for the turn of another.
  attempts[0]?.reject(new Error("nobody there"));
  await assert.rejects(result, /nobody there/);
  assert.equal(attempts[2]?.signal.aborted, true);
  assert.equal(time.waiting(), 0);
});

test("a further dial whose turn came late has no more time than the first", async () => {
  const { time, attempts, result } = begin(true);
  result.catch(() => {});
  attempts[0]?.begin();
  await time.pass(1_500);
  await time.pass(6_000);
  attempts[1]?.begin();
  await time.pass(2_500);
  attempts[0]?.reject(new Error("no answer"));
  await assert.rejects(result, /no answer/);
  assert.equal(attempts[1]?.signal.aborted, true);
});

test("a dial that gets no turn has failed", async () => {
  const { time, attempts, result } = begin(true);
  attempts[0]?.reject(new Error("too many wait"));
  await assert.rejects(result, /too many wait/);
  assert.equal(time.waiting(), 0);
});
