import assert from "node:assert/strict";
import * as fc from "fast-check";
import { concat } from "../../src/base/bytes.ts";
import { frameBytes } from "../../src/link/frame_writer.ts";
import { Inbox } from "../../src/stream/inbox.ts";
import { test } from "../harness.ts";
import { pattern } from "./cluster.ts";

test("what is pushed comes out in order, and its credit in full", () => {
  const step = fc.oneof(
    fc.record({ push: fc.integer({ min: 1, max: 6_000 }) }),
    fc.constant("shift" as const),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const inbox = new Inbox();
      const pushed: Uint8Array[] = [], shifted: Uint8Array[] = [];
      let owed = 0;
      const shift = () => {
        const chunk = inbox.shift();
        if (chunk === undefined) return false;
        shifted.push(chunk.body);
        owed -= chunk.credit;
        return true;
      };
      for (const one of steps) {
        if (one === "shift") shift();
        else {
          const body = pattern(one.push, pushed.length);
          pushed.push(body.slice());
          owed += frameBytes(body.length);
          inbox.push(body);
        }
      }
      while (shift());
      assert.deepEqual(concat(shifted), concat(pushed));
      assert.equal(owed, 0);
      assert.ok(inbox.isEmpty);
    }),
    { numRuns: 500 },
  );
});

test("many small bodies and bodies of large buffers keep little memory", () => {
  const inbox = new Inbox();
  let bytes = 0;
  for (let i = 0; i < 50_000; i++) inbox.push(Uint8Array.of(i));
  for (let i = 0; i < 20; i++) inbox.push(new Uint8Array(64 * 1024).subarray(0, 2_048));
  const buffers = new Set<ArrayBuffer>();
  let chunks = 0;
  for (let chunk = inbox.shift(); chunk !== undefined; chunk = inbox.shift()) {
    buffers.add(chunk.body.buffer);
    bytes += chunk.body.length;
    chunks++;
  }
  assert.equal(bytes, 50_000 + 20 * 2_048);
  assert.ok(chunks < 30, `${chunks} chunks`);
  let held = 0;
  for (const { byteLength } of buffers) held += byteLength;
  assert.ok(held < 2 * bytes + 16 * 1024, `${held} bytes are held for ${bytes}`);
});

test("dropping everything returns the credit of all", () => {
  const inbox = new Inbox();
  inbox.push(pattern(10));
  inbox.push(pattern(5_000));
  inbox.push(pattern(20));
  assert.equal(inbox.clear(), frameBytes(10) + frameBytes(5_000) + frameBytes(20));
  assert.ok(inbox.isEmpty);
});
