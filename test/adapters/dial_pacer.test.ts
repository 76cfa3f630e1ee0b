import assert from "node:assert/strict";
import { paced } from "../../adapters/quic/dial_pacer.ts";
import { TransportError } from "../../src/base/errors.ts";
import type { Connection, DialOptions } from "../../src/transport/contract.ts";
import { hedgedDial } from "../../src/link/hedged_dial.ts";
import { test } from "../harness.ts";
import { manualClock } from "../manual_clock.ts";

function begin() {
  const time = manualClock();
  const begun: (PromiseWithResolvers<Connection> & { host: string; timeoutMs: number })[] = [];
  const dial = paced(({ host }, { timeoutMs }) => {
    const attempt = { ...Promise.withResolvers<Connection>(), host, timeoutMs };
    begun.push(attempt);
    return attempt.promise;
  });
  const ends: string[] = [];
  const words: string[] = [];
  return {
    time,
    begun,
    ends,
    words,
    hosts: () => begun.map(({ host }) => host),
    dial(options: Partial<DialOptions> = {}, host = "192.0.2.1") {
      const all = { clock: time.clock, timeoutMs: 1_000, ...options } as DialOptions;
      dial({ host, port: 9100, isIpv6: false }, all).then(
        () => ends.push("connected"),
        (error: { reason?: string; message: string }) => {
          ends.push(error.reason ?? "?");
          words.push(error.message);
        },
      );
    },
  };
}

const timeout = () => new TransportError("timeout", "no answer");

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
  // Each counts once, however it ends.
  for (const attempt of begun.splice(0)) attempt.resolve({} as Connection);
  await time.pass(0);
  for (let i = 0; i < 20; i++) dial();
  await time.pass(0);
  assert.equal(begun.length, 16);
});

test("behind hundreds of silent hosts a dial gets its turn, and then has all its time", async () => {
  const { begun, dial, ends, time, hosts } = begin();
  for (let i = 0; i < 800; i++) dial({ timeoutMs: 5_000 }, `10.2.${i >> 8}.${i & 255}`);
  let told = 0;
  dial({ timeoutMs: 5_000, onBegin: () => void told++ }, "live");
  for (let ms = 0; ms < 10_000; ms += 200) {
    assert.deepEqual([hosts().includes("live"), told], [false, 0]);
    await time.pass(200);
  }
  assert.equal(told, 1);
  const live = begun.at(-1);
  assert.deepEqual([live?.host, live?.timeoutMs], ["live", 5_000]);
  live?.resolve({} as Connection);
  await time.pass(0);
  assert.deepEqual(ends, ["connected"]);
});

test("retries, and addresses that were silent lately, wait behind first dials", async () => {
  const { begun, dial, time, hosts } = begin();
  dial({}, "silent");
  await time.pass(0);
  begun[0]?.reject(timeout());
  await time.pass(0);
  for (let i = 0; i < 16; i++) dial();
  await time.pass(0);
  for (let i = 0; i < 4; i++) dial({}, "silent");
  dial({ isRetry: true }, "retry");
  for (let i = 0; i < 8; i++) dial({}, "first");
  await time.pass(200);
  const first = Array(3).fill("first");
  const both = [...first, "silent", ...first, "silent", "first", "first", "silent", "silent"];
  assert.deepEqual(hosts().slice(17), [...both, "retry"]);
  // It has answered: it is like any other.
  begun.at(-2)?.resolve({} as Connection);
  await time.pass(200);
  for (let i = 0; i < 16; i++) dial();
  dial({}, "first");
  dial({}, "silent");
  dial({}, "first");
  await time.pass(200);
  assert.deepEqual(hosts().slice(-3), ["first", "silent", "first"]);
});

test("attempts that join silent ones do not multiply what a first dial waits for", async () => {
  const { time } = begin();
  const begun: string[] = [];
  const dial = paced(({ host }, { isRetry }) => {
    begun.push(isRetry === true ? "retry" : host);
    return new Promise(() => {});
  });
  const { signal } = new AbortController();
  const go = (host: string) =>
    void hedgedDial(
      (attempt) =>
        dial({ host, port: 9100, isIpv6: false }, { clock: time.clock, ...attempt } as DialOptions),
      { clock: time.clock, signal, timeoutMs: 5_000 },
    );
  for (let i = 0; i < 200; i++) go("silent");
  await time.pass(0);
  // 200 first attempts take 2.4 s; those that join them from 1.5 s on come after the live dial.
  for (let ms = 0; ms < 1_800; ms += 100) await time.pass(100);
  const waiting = 200 - begun.filter((one) => one === "silent").length;
  const before = begun.length;
  assert.ok(waiting > 30);
  go("live");
  while (!begun.includes("live")) await time.pass(100);
  const ahead = begun.slice(before, begun.indexOf("live"));
  assert.equal(ahead.filter((one) => one === "silent").length, waiting);
  assert.ok(ahead.length <= waiting * 4 / 3 + 1);
});

test("who waits for a turn may give up, and takes no turn from the others", async () => {
  const { begun, dial, ends, time } = begin();
  for (let i = 0; i < 16; i++) dial();
  const abort = new AbortController();
  dial({ signal: abort.signal });
  dial({ timeoutMs: 900 });
  await time.pass(0);
  abort.abort();
  await time.pass(100);
  assert.deepEqual(ends, ["aborted"]);
  begun[0]?.resolve({} as Connection);
  await time.pass(0);
  assert.deepEqual(begun.slice(16).map(({ timeoutMs }) => timeoutMs), [900]);
});

test("a queue that is full says so, and to each class for itself", async () => {
  const { begun, dial, ends, time, words } = begin();
  for (let i = 0; i < 16 + 2_048; i++) dial();
  await time.pass(0);
  assert.deepEqual(ends, []);
  dial({}, "192.0.2.9");
  await time.pass(0);
  assert.deepEqual(ends, ["overloaded"]);
  assert.equal(
    words[0],
    "quic://192.0.2.9:9100 was not dialled: 2048 dials wait for their turn already",
  );
  dial({ isRetry: true });
  begun[0]?.resolve({} as Connection);
  await time.pass(0);
  assert.deepEqual(ends, ["overloaded", "connected"]);
  dial();
  await time.pass(0);
  assert.equal(ends.length, 2);
});

test("a turn that does not come within 15 s is given up, in words of its own", async () => {
  const { dial, ends, time, words, hosts } = begin();
  // Fresh ones that nobody answers come all the time: a retry has a turn of four.
  for (let i = 0; i < 16; i++) dial();
  await time.pass(0);
  for (let i = 0; i < 400; i++) dial({ isRetry: true, timeoutMs: 60_000 }, "retry");
  for (let ms = 0; ms < 15_000; ms += 200) {
    for (let i = 0; i < 16; i++) dial({ timeoutMs: 60_000 });
    await time.pass(200);
  }
  const tried = hosts().filter((host) => host === "retry").length;
  assert.equal(tried, 74 * 4);
  assert.deepEqual(ends, Array(104).fill("overloaded"));
  assert.match(words[0] ?? "", /^quic:\/\/retry:9100 was not dialled: its turn among \d+ waiting/);
});
