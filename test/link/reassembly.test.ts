import assert from "node:assert/strict";
import * as fc from "fast-check";
import { concat } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { layOut, MAX_TRANSFERS, nextFrameBytes } from "../../src/link/fragments.ts";
import type { Transfer } from "../../src/link/fragments.ts";
import { FrameReader } from "../../src/link/frame_reader.ts";
import { Reassembly } from "../../src/link/reassembly.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { varintLength, writeVarint } from "../../src/wire/varint.ts";
import { test } from "../harness.ts";

const NOTHING = new Uint8Array(0);
const MIB = 2 ** 20;
const MOST = 16 * MIB;
/** What may be held beyond twice what has come. */
const ADVANCED = MIB + 64 * 1024;

/** The body of a FRAGMENT frame. */
function fragment(id: number, type: number, total: number, piece: Uint8Array): Bytes {
  const body = new Uint8Array(varintLength(id) + 1 + varintLength(total) + piece.length);
  let at = writeVarint(body, 0, id);
  body[at++] = type;
  at = writeVarint(body, at, total);
  body.set(piece, at);
  return body;
}

test("large messages arrive whole, however they are mixed and however the bytes are cut", () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 2 * MIB }), { minLength: 1, maxLength: 4 }),
      fc.integer({ min: 1, max: 200_000 }),
      fc.infiniteStream(fc.nat()),
      (sizes, chunkBytes, choices) => {
        const messages = sizes.map((size, id) => {
          const bytes = new Uint8Array(size);
          for (let at = 0; at < size; at += 1 + at % 977) bytes[at] = at + id;
          return bytes;
        });
        const transfers = messages.map((bytes, id): Transfer => {
          const head = bytes.subarray(0, bytes.length % 9);
          const frames = layOut(id, 0x40 + id, head, bytes.subarray(head.length));
          return { key: id, frames, sent: 0 };
        });
        const frames: Uint8Array[] = [];
        for (const pending = [...transfers]; pending.length > 0;) {
          const index = choices.next().value as number % pending.length;
          const next = pending[index] as Transfer;
          const end = next.sent + nextFrameBytes(next);
          frames.push(next.frames.subarray(next.sent, end));
          next.sent = end;
          if (end === next.frames.length) pending.splice(index, 1);
        }
        const stream = concat(frames);
        const reader = new FrameReader(65_537, FrameType.FRAGMENT);
        const reassembly = new Reassembly(MOST);
        const arrived = new Map<number, Uint8Array>();
        for (let at = 0; at < stream.length; at += chunkBytes) {
          const chunk = stream.slice(at, at + chunkBytes);
          reader.push(chunk);
          while (reader.next()) {
            const message = reassembly.add(reader.body);
            if (message !== undefined) arrived.set(message.type, message.body);
          }
          assert.ok(reader.release());
          // The pipe uses it again, as Deno's does.
          structuredClone(chunk.buffer, { transfer: [chunk.buffer] });
        }
        assert.equal(reassembly.held, 0);
        for (const [id, bytes] of messages.entries()) {
          assert.ok(Buffer.compare(arrived.get(0x40 + id) ?? NOTHING, bytes) === 0, `${id}`);
        }
      },
    ),
    { numRuns: 10 },
  );
});

test("memory follows what has come, whatever lengths are claimed", () => {
  fc.assert(
    fc.property(
      fc.array(
        fc.record({
          id: fc.nat({ max: MAX_TRANSFERS + 4 }),
          total: fc.oneof(fc.nat({ max: 40_000 }), fc.nat({ max: 2 * MOST }), fc.constant(MOST)),
          bytes: fc.nat({ max: 17_000 }),
        }),
        { maxLength: 200 },
      ),
      (pieces) => {
        const reassembly = new Reassembly(MOST);
        const totals = new Map<number, number>();
        const came = new Map<number, number>();
        for (const { id, total: claimed, bytes } of pieces) {
          const total = totals.get(id) ?? claimed;
          try {
            const piece = new Uint8Array(bytes);
            const message = reassembly.add(fragment(id, 0x40, total, piece));
            totals.set(id, total);
            came.set(id, (came.get(id) ?? 0) + bytes);
            if (message === undefined) continue;
            assert.equal(message.body.length, total);
            totals.delete(id);
            came.delete(id);
          } catch (error) {
            const { reason } = error as { reason?: string };
            const reasons = ["message_too_large", "too_many_transfers", "bad_fragment"];
            assert.ok(reasons.includes(reason ?? ""), String(error));
          } finally {
            const arrived = [...came.values()].reduce((sum, one) => sum + one, 0);
            assert.ok(
              reassembly.held <= 2 * arrived + ADVANCED,
              `${reassembly.held} of ${arrived}`,
            );
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});

test("a message of a megabyte has its whole place at its first piece", () => {
  const reassembly = new Reassembly(MOST);
  const total = MIB + 20;
  reassembly.add(fragment(1, 0x40, total, new Uint8Array(10_000)));
  assert.equal(reassembly.held, total);
  const message = reassembly.add(fragment(1, 0x40, total, new Uint8Array(total - 10_000)));
  assert.ok((message?.body.buffer.byteLength ?? 0) < total + 1_000, "the rest is no second block");
});
