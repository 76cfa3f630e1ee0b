import assert from "node:assert/strict";
import { paced } from "../../adapters/quic/dial_pacer.ts";
import type { Connection, DialOptions } from "../../src/transport/contract.ts";
import { test } from "../harness.ts";
import { manualClock } from "../manual_clock.ts";

const target = { host: "127.0.0.1", port: 9100, isIpv6: false };

function begin() {
  const time = manualClock();
  const begun: (PromiseWithResolvers<Connection> & { timeoutMs: number })[] = [];
  const dial = paced((_, { timeoutMs }) => {
    const attempt = { ...Promise.withResolvers<Connection>(), timeoutMs };
    begun.push(attempt);
    return attempt.promise;
  });
  const ends: string[] = [];
  return {
    time,
    begun,
    ends,
    dial(options: Partial<DialOptions> = {}) {
      const all = { clock: time.clock, timeoutMs: 1_000, ...options } as DialOptions;
      dial(target, all).then(
        () => ends.push("connected"),
        (error: { reason?: string }) => ends.push(error.reason ?? "?"),
      );
    },
  };
}

test("of a burst sixteen dials are under way, and each that ends lets another begin", async () => {
  const { begun, dial, ends, time } = begin();
  for (let i = 0; i < 40; i++) dial();
  await time.pass(0);
  assert.equal(begun.length, 16);
  begun[3]?.resolve({} as Connection);
  begun[5]?.reject(Object.assign(new Error("no"), { reason: "refused" }));
  await time.pass(0);
  assert.deepEqual(ends, ["connected", "refused"]);
  assert.equal(begun.length, 18);
  for (let i = 0; i < 40; i++) {
    begun[i]?.resolve({} as Connection);
    await time.pass(0);
  }
  assert.equal(begun.length, 40);
  assert.equal(ends.length, 40);
  assert.equal(time.waiting(), 0);
});

test("dials that get no answer hold the others up for a moment only", async () => {
  const { begun, dial, time } = begin();
  for (let i = 0; i < 20; i++) dial();
  await time.pass(199);
  assert.equal(begun.length, 16);
  await time.pass(1);
  assert.equal(begun.length, 20);
  assert.deepEqual(begun.map(({ timeoutMs }) => timeoutMs).slice(14), [
    1_000,
    1_000,
    800,
    800,
    800,
    800,
  ]);
  // Each counts once, however it ends.
  for (const attempt of begun.splice(0)) attempt.resolve({} as Connection);
  await time.pass(0);
  for (let i = 0; i < 20; i++) dial();
  await time.pass(0);
  assert.equal(begun.length, 16);
});

test("who waits for a turn may give up, and takes no turn from the others", async () => {
  const { begun, dial, ends, time } = begin();
  for (let i = 0; i < 16; i++) dial();
  const abort = new AbortController();
  dial({ signal: abort.signal });
  dial({ timeoutMs: 100 });
  dial({ timeoutMs: 900 });
  await time.pass(0);
  abort.abort();
  await time.pass(100);
  assert.deepEqual(ends, ["aborted", "timeout"]);
  begun[0]?.resolve({} as Connection);
  await time.pass(0);
  assert.deepEqual(begun.slice(16).map(({ timeoutMs }) => timeoutMs), [800]);
});
