import assert from "node:assert/strict";
import fc from "fast-check";
import { fromUtf8, utf8, utf8Length } from "../../src/base/bytes.ts";
import { describe, test } from "../harness.ts";

const encoder = new TextEncoder();
// Short and ASCII, or around the length where the encoder takes over, or anything, half pairs too.
const texts = fc.oneof(
  fc.string({ unit: "binary-ascii", maxLength: 40 }),
  fc.string({ unit: "grapheme", maxLength: 40 }),
  fc.array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 40 })
    .map((units) => String.fromCharCode(...units)),
);

describe("UTF-8", () => {
  test("is what a TextEncoder makes of any text, and as long as was said", () => {
    fc.assert(
      fc.property(texts, (text) => {
        const bytes = utf8(text);
        assert.deepEqual([...bytes], [...encoder.encode(text)]);
        assert.equal(utf8Length(text), bytes.length);
        if (text.isWellFormed()) assert.equal(fromUtf8(bytes), text);
      }),
      { numRuns: 2_000 },
    );
  });
});
