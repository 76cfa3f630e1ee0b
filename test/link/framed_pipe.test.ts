import assert from "node:assert/strict";
import * as fc from "fast-check";
import type { ProtocolError } from "../../src/base/errors.ts";
import { CREDIT_WINDOW, FramedPipe } from "../../src/link/framed_pipe.ts";
import type { FramedPipeHandler } from "../../src/link/framed_pipe.ts";
import { frameBytes } from "../../src/link/frame_writer.ts";
import { SPENT } from "../../src/transport/contract.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { test } from "../harness.ts";
import { pipePair } from "./pipes.ts";
import type { TestPipe } from "./pipes.ts";

const NOTHING = new Uint8Array(0);

interface Log extends FramedPipeHandler {
  frames: { type: number; body: Uint8Array }[];
  ends: number;
  aborts: [number, string][];
  failures: string[];
}

function log(): Log {
  const self: Log = {
    frames: [],
    ends: 0,
    aborts: [],
    failures: [],
    onFrame: (type, body) => void self.frames.push({ type, body }),
    onEnd: () => void self.ends++,
    onAbort: (code, reason) => void self.aborts.push([code, reason]),
    onFailure: (error: ProtocolError) => void self.failures.push(error.reason),
    onDrain() {},
  };
  return self;
}

function framedPair(options: { chunkBytes?: number; autoConsume?: boolean } = {}) {
  const [a, b] = pipePair(options.chunkBytes);
  const seen = log();
  const settings = { maxMessageBytes: 4 << 20, autoConsume: options.autoConsume ?? true };
  return {
    sender: new FramedPipe(a, log(), { maxMessageBytes: 4 << 20, autoConsume: true }),
    receiver: new FramedPipe(b, seen, settings),
    seen,
    raw: [a, b] as [TestPipe, TestPipe],
  };
}

const turns = async (count = 400) => {
  for (let i = 0; i < count; i++) await Promise.resolve();
};
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));

test("frames arrive whole and in order, however the bytes are cut", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(fc.tuple(fc.integer({ min: 0x10, max: 0xff }), fc.uint8Array({ maxLength: 300 })), {
        maxLength: 20,
      }),
      fc.integer({ min: 1, max: 50 }),
      async (frames, chunkBytes) => {
        const { sender, seen } = framedPair({ chunkBytes });
        for (const [type, body] of frames) sender.send(0, type, body.slice(0, 7), body.slice(7));
        await settled();
        assert.deepEqual(
          seen.frames.map(({ type, body }) => [type, [...body]]),
          frames.map(([type, body]) => [type, [...body]]),
        );
      },
    ),
    { numRuns: 40 },
  );
});

test("what is written a few microtasks apart leaves in one write, in the same turn", async () => {
  const { sender, raw } = framedPair();
  let writes = 0;
  const { write } = raw[0];
  raw[0].write = (chunk) => {
    writes++;
    return write(chunk);
  };
  for (let i = 0; i < 20; i++) {
    sender.send(0, 0x40, NOTHING, Uint8Array.of(i));
    await turns(4);
  }
  assert.equal(writes, 0);
  await turns(20);
  assert.equal(writes, 1);
  assert.equal(raw[0].written, 20 * frameBytes(1));
});

test("what is much leaves although more is being written", async () => {
  const { sender, raw } = framedPair();
  for (let i = 0; i < 40; i++) {
    sender.send(0, 0x40, NOTHING, new Uint8Array(1_000));
    await turns(4);
  }
  assert.ok(raw[0].written >= 16_000, `only ${raw[0].written} bytes have left`);
});

test("what is written in one turn leaves in one write", async () => {
  const { sender, raw } = framedPair();
  let writes = 0;
  const write = raw[0].write;
  raw[0].write = (chunk) => {
    writes++;
    return write(chunk);
  };
  for (let i = 0; i < 50; i++) sender.send(0, 0x40, Uint8Array.of(i), NOTHING);
  await turns();
  assert.equal(writes, 1);
});

test("a large message lets small ones of other keys by and keeps those of its own key in order", async () => {
  const { sender, seen } = framedPair();
  const big = new Uint8Array(3 << 20).map((_, i) => i % 253);
  sender.send(1, 0x40, NOTHING, big);
  sender.send(1, 0x41, Uint8Array.of(1), NOTHING);
  sender.send(2, 0x42, Uint8Array.of(2), NOTHING);
  await settled();
  assert.deepEqual(seen.frames.map(({ type }) => type), [0x42, 0x40, 0x41]);
  assert.deepEqual(seen.frames[1]?.body, big);
});

test("a reader that does not read makes the writer wait, and gets all when it does", async () => {
  const { sender, receiver, seen, raw } = framedPair({ autoConsume: false });
  const body = new Uint8Array(10_000);
  for (let i = 0; i < 300; i++) sender.send(0, FrameType.DATA, body, NOTHING);
  await settled();
  assert.ok(raw[0].written <= CREDIT_WINDOW, "no more than the window is sent");
  assert.ok(sender.buffered > 300 * body.length - CREDIT_WINDOW - body.length);
  for (let read = 0; read < 300;) {
    const ready = seen.frames.length - read;
    assert.ok(ready > 0, "credit brings more");
    receiver.consumed(ready * frameBytes(body.length));
    read += ready;
    await settled();
  }
  assert.equal(seen.frames.length, 300);
  assert.equal(sender.buffered, 0);
});

test("a stalled pipe holds back what follows and goes on when it drains", async () => {
  const { sender, seen, raw } = framedPair();
  raw[0].stalled = true;
  for (let i = 0; i < 100; i++) {
    sender.send(0, 0x40, new Uint8Array(5_000), Uint8Array.of(i));
    // The pipe has the first frame and asks to wait.
    if (i === 0) await turns();
  }
  await settled();
  assert.equal(seen.frames.length, 0);
  assert.ok(sender.buffered > 0);
  raw[0].stalled = false;
  await settled();
  assert.deepEqual(seen.frames.map(({ body }) => body.at(-1)), [...Array(100).keys()]);
});

test("END comes behind everything, and only END is an orderly end", async () => {
  const { sender, seen } = framedPair();
  sender.send(0, 0x40, new Uint8Array(200_000), NOTHING);
  sender.end();
  await settled();
  assert.equal(seen.frames.length, 1);
  assert.equal(seen.ends, 1);
  const broken = framedPair();
  broken.sender.send(0, 0x40, new Uint8Array(10), NOTHING);
  await turns();
  broken.raw[1].onEnd?.(true);
  assert.deepEqual(broken.seen.failures, ["truncated"], "a clean EOF without END is a failure");
});

test("an end that has said END goes on granting credit to the other direction", async () => {
  const { sender, receiver, seen } = framedPair();
  receiver.end();
  await settled();
  for (let i = 0; i < 100; i++) sender.send(i, 0x40, new Uint8Array(60_000), NOTHING);
  sender.end();
  await settled();
  assert.equal(seen.frames.length, 100);
  assert.equal(seen.ends, 1);
});

test("the end of the pipe never travels alone, whoever ends first", async () => {
  for (const order of [["sender", "receiver"], ["receiver", "sender"], ["both"]] as const) {
    const pair = framedPair();
    const ends: boolean[] = [];
    for (const raw of pair.raw) {
      let justWrote = false;
      const { write, end } = raw;
      raw.write = (chunk) => {
        justWrote = true;
        queueMicrotask(() => (justWrote = false));
        return write.call(raw, chunk);
      };
      raw.end = () => {
        ends.push(justWrote);
        end.call(raw);
      };
    }
    for (const who of order) {
      if (who !== "receiver") pair.sender.end();
      if (who !== "sender") pair.receiver.end();
      await settled();
    }
    assert.deepEqual(ends, [true, true], order.join());
  }
});

test("frames behind END are refused", async () => {
  const { receiver, raw, seen } = framedPair();
  raw[1].onData?.(Uint8Array.of(1, 0x01, 2, 0x40, 7));
  await turns();
  assert.equal(seen.ends, 1);
  assert.deepEqual(seen.failures, ["after_end"]);
  assert.equal(seen.frames.length, 0);
  receiver.destroy();
});

test("an abort arrives with its code and its reason", async () => {
  const { sender, seen } = framedPair();
  sender.abort(77, "enough — says Zoë");
  await settled();
  assert.deepEqual(seen.aborts, [[77, "enough — says Zoë"]]);
});

test("paused frames wait and come in order", async () => {
  const { sender, receiver, seen } = framedPair();
  receiver.pause();
  for (let i = 0; i < 5; i++) sender.send(0, 0x40, Uint8Array.of(i), NOTHING);
  await turns();
  assert.equal(seen.frames.length, 0);
  receiver.resume();
  assert.deepEqual(seen.frames.map(({ body }) => body[0]), [0, 1, 2, 3, 4]);
});

test("a peer that breaks the framing fails the pipe by name", () => {
  const cases: [string, number[]][] = [
    ["frame_size", [0]],
    ["frame_size", [0xff, 0xff, 0xff, 0xff, 0x01]],
    ["frame_size", [0xff, 0xff, 0x7f]],
    ["bad_credit", [2, FrameType.CREDIT, 1]],
    ["truncated", [1, FrameType.CREDIT]],
    ["bad_fragment", [4, FrameType.FRAGMENT, 1, 0x40, 5]],
    ["message_too_large", [8, FrameType.FRAGMENT, 1, 0x40, 0x80, 0x80, 0x80, 0x08, 1]],
  ];
  for (const [reason, bytes] of cases) {
    const { raw, seen } = framedPair();
    raw[1].inject(Uint8Array.from(bytes));
    assert.deepEqual(seen.failures, [reason], `${bytes}`);
  }
});

test("a peer that sends more than it was granted is refused", async () => {
  const { raw, seen } = framedPair({ autoConsume: false });
  const frame = new Uint8Array(32_004);
  frame.set([0x80 | (32_001 & 0x7f), 0x80 | ((32_001 >> 7) & 0x7f), 32_001 >> 14, 0x40]);
  for (let i = 0; i < 40; i++) raw[1].inject(frame.slice());
  await turns();
  assert.deepEqual(seen.failures, ["credit_exceeded"]);
  assert.ok(seen.frames.length <= CREDIT_WINDOW / 32_000);
});

test("a chunk goes back to its pipe only when no body lies in it and nothing of it waits", () => {
  const { receiver, raw, seen } = framedPair();
  const receive = (...bytes: number[]) => raw[1].onData?.(Uint8Array.from(bytes));
  const piece = [5, FrameType.FRAGMENT, 1, 0x40, 9, 7];
  assert.equal(receive(...piece), SPENT);
  assert.notEqual(receive(2, 0x40, 7), SPENT, "a body lies in it");
  assert.equal(receive(...piece.slice(0, 4)), SPENT, "what has come of a frame is copied");
  assert.equal(receive(...piece.slice(4), 2), SPENT);
  assert.equal(receive(0x40, 8), SPENT);
  receiver.pause();
  assert.notEqual(receive(...piece), SPENT, "it waits");
  receiver.resume();
  assert.notEqual(receive(2, 0x40, 9), SPENT);
  assert.equal(receive(...piece), SPENT);
  assert.deepEqual(seen.failures, []);
  assert.deepEqual(seen.frames.map(({ body }) => [...body]), [[7], [8], [9]]);
});

test("random bytes never throw, and end in a named failure or wait for more", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { maxLength: 20 }),
      (chunks) => {
        const { raw, seen } = framedPair();
        for (const chunk of chunks) raw[1].inject(chunk);
        assert.ok(seen.failures.length <= 1);
      },
    ),
    { numRuns: 2_000 },
  );
});
