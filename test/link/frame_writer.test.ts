import assert from "node:assert/strict";
import { concat } from "../../src/base/bytes.ts";
import { FrameReader } from "../../src/link/frame_reader.ts";
import { frameBytes, FrameWriter } from "../../src/link/frame_writer.ts";
import { test } from "../harness.ts";

const NOTHING = new Uint8Array(0);

test("buffers of several writers stay as they were written, small and large", () => {
  // Sizes around those at which a buffer is shared, kept or given away.
  const sizes = [0, 1, 60, 100, 400, 505, 508, 509, 510, 511, 512, 600, 3_000, 40_000, 70_000, 80];
  const writers = [new FrameWriter(), new FrameWriter(), new FrameWriter()];
  const taken: Uint8Array[][] = writers.map(() => []);
  const written: number[][][] = writers.map(() => []);
  let value = 0;
  for (let round = 0; round < 40; round++) {
    for (const [index, writer] of writers.entries()) {
      for (let i = 0; i <= (round + index) % 3; i++) {
        const size = sizes[(round * 7 + index * 3 + i) % sizes.length] as number;
        const body = new Uint8Array(size).fill(++value);
        const before = writer.bytes;
        writer.write(value % 256, body.subarray(0, 5), body.subarray(5));
        assert.equal(writer.bytes - before, frameBytes(size));
        written[index]?.push([value % 256, size]);
      }
    }
    for (const [index, writer] of writers.entries()) {
      taken[index]?.push(...writer.take());
      assert.equal(writer.bytes, 0);
    }
  }
  for (const [index, buffers] of taken.entries()) {
    const reader = new FrameReader(100_000);
    reader.push(concat(buffers));
    for (const [type = 0, size = 0] of written[index] as number[][]) {
      assert.ok(reader.next());
      assert.deepEqual([reader.type, reader.body.length], [type, size]);
      assert.ok(reader.body.every((byte) => byte === type), `a frame of ${size} bytes`);
    }
    assert.equal(reader.next(), false);
  }
});

test("taking nothing gives nothing", () => {
  const writer = new FrameWriter();
  assert.deepEqual(writer.take(), []);
  writer.write(1, NOTHING, NOTHING);
  assert.equal(writer.take().length, 1);
  assert.deepEqual(writer.take(), []);
});

test("a large frame in a buffer of its own is read back whole, between small ones", () => {
  const writer = new FrameWriter();
  const payload = new Uint8Array(65_536).map((_, i) => i % 251);
  writer.writeAlone(0x05, payload.subarray(0, 100));
  writer.writeAlone(0x05, payload);
  writer.write(0x40, Uint8Array.of(1), Uint8Array.of(2));
  assert.equal(writer.bytes, frameBytes(100) + frameBytes(65_536) + frameBytes(2));
  const reader = new FrameReader(65_537);
  const bodies: Uint8Array[] = [];
  for (const buffer of writer.take()) reader.push(buffer);
  while (reader.next()) bodies.push(reader.body);
  assert.deepEqual(bodies, [payload.subarray(0, 100), payload, Uint8Array.of(1, 2)]);
  assert.equal(writer.bytes, 0);
});
