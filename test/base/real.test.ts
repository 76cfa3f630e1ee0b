import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { errorLogger, realClock, realCrypto, realRandom } from "../../src/base/real.ts";
import { describe, runtime, test } from "../harness.ts";

describe("the real clock", () => {
  test("never goes back, and shows the wall's time", () => {
    let last = realClock.now();
    for (let i = 0; i < 1_000; i++) {
      const now = realClock.now();
      assert.ok(now >= last);
      last = now;
    }
    assert.ok(Math.abs(realClock.wall() - Date.now()) < 1_000);
  });

  test("calls back after the time, and not when cancelled", async () => {
    const start = realClock.now();
    let early = 0;
    const cancelled = realClock.after(1, () => early++);
    cancelled.cancel();
    cancelled.cancel();
    await new Promise<void>((resolve) => keepAlive((done) => realClock.after(20, done), resolve));
    // Hosts may fire a fraction of a millisecond early.
    assert.ok(realClock.now() - start >= 19);
    assert.equal(early, 0);
  });

  test("does not take a timeout of years for one that is over", async () => {
    let fired = 0;
    const timers = [2 ** 31, 2 ** 40, Infinity].map((ms) => realClock.after(ms, () => fired++));
    await new Promise<void>((resolve) => keepAlive((done) => realClock.after(30, done), resolve));
    for (const timer of timers) timer.cancel();
    assert.equal(fired, 0);
  });

  test("has a next turn that comes after all microtasks", async () => {
    const order: string[] = [];
    const turn = new Promise<void>((resolve) => {
      realClock.nextTurn(() => {
        order.push("turn");
        resolve();
      });
    });
    for (let i = 0; i < 5; i++) await Promise.resolve();
    order.push("microtasks");
    await turn;
    assert.deepEqual(order, ["microtasks", "turn"]);
  });

  test("keeps no process alive with its timers", async () => {
    const real = JSON.stringify(new URL("../../src/base/real.ts", import.meta.url).href);
    const code = `const { realClock } = await import(${real});
      realClock.after(600_000, () => {});
      realClock.after(2 ** 40, () => {});
      console.log("armed");`;
    const args = {
      deno: ["eval", code],
      bun: ["-e", code],
      node: ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", code],
    }[runtime];
    const cwd = fileURLToPath(new URL("../..", import.meta.url));
    const [failure, output] = await new Promise<[Error | null, string]>((resolve) => {
      execFile(
        process.execPath,
        args,
        { cwd, timeout: 20_000 },
        (error, stdout, stderr) => resolve([error, stdout + stderr]),
      );
    });
    assert.equal(failure, null, output);
    assert.match(output, /armed/);
  });
});

describe("real randomness", () => {
  test("fills any length and does not repeat itself", () => {
    assert.equal(realRandom.bytes(0).length, 0);
    const long = realRandom.bytes(200_000);
    assert.equal(long.length, 200_000);
    // Each part of 64 KiB was filled: a run of zeros as long as this does not happen by chance.
    for (let i = 0; i < long.length; i += 1_000) {
      assert.ok(long.subarray(i, i + 32).some((byte) => byte !== 0), `at ${i}`);
    }
    assert.notDeepEqual(realRandom.bytes(16), realRandom.bytes(16));
    const numbers = new Set(Array.from({ length: 3_000 }, () => realRandom.uint32()));
    assert.ok(numbers.size > 2_990);
    for (const number of numbers) {
      assert.ok(Number.isInteger(number) && number >= 0 && number < 2 ** 32);
    }
  });
});

describe("real cryptography", () => {
  test("signs and verifies", async () => {
    const crypto = await realCrypto();
    const keys = await crypto.generateKeyPair();
    const message = realRandom.bytes(100);
    const signature = await crypto.sign(message, keys);
    assert.equal(await crypto.verify(signature, message, keys.publicKey), true);
    message[0] = (message[0] as number) ^ 1;
    assert.equal(await crypto.verify(signature, message, keys.publicKey), false);
  });
});

// The clock's own timers let the process go, so one of the test's holds it.
function keepAlive(start: (done: () => void) => void, done: () => void): void {
  const held = setTimeout(() => {}, 20_000);
  start(() => {
    clearTimeout(held);
    done();
  });
}

test("errors are printed on one line each, whatever a peer had them say", () => {
  const printed: unknown[] = [];
  const { error } = console;
  console.error = (...line: unknown[]) => void printed.push(...line);
  try {
    const circular: Record<string, unknown> = {};
    circular["self"] = circular;
    errorLogger.log("warn", "nothing");
    errorLogger.log("error", "a\nb\u001b[31m", { error: new Error("why"), big: 1n });
    errorLogger.log("error", "c", circular);
  } finally {
    console.error = error;
  }
  assert.deepEqual(printed, [
    'barrel: a\\x0ab\\x1b[31m {"error":"why","big":"1"}',
    "barrel: c {}",
  ]);
});
