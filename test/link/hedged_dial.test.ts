import assert from "node:assert/strict";
import { hedgedDial } from "../../src/link/hedged_dial.ts";
import type { CloseInfo, Connection } from "../../src/transport/contract.ts";
import { test } from "../harness.ts";
import { manualClock } from "../manual_clock.ts";

/** Dials that are answered when the test says so. */
function dials() {
  const attempts: (PromiseWithResolvers<Connection> & {
    signal: AbortSignal;
    timeoutMs: number;
    closed: string | undefined;
    connection: Connection;
  })[] = [];
  return {
    attempts,
    dial(signal: AbortSignal, timeoutMs: number) {
      const attempt = {
        ...Promise.withResolvers<Connection>(),
        signal,
        timeoutMs,
        closed: undefined as string | undefined,
        connection: undefined as unknown as Connection,
      };
      attempt.connection = {
        close: (_code: number, reason: string) => void (attempt.closed = reason),
        closed: new Promise<CloseInfo>(() => {}),
      } as unknown as Connection;
      attempts.push(attempt);
      return attempt.promise;
    },
  };
}

const begin = () => {
  const time = manualClock();
  const { attempts, dial } = dials();
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
