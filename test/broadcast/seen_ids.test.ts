import assert from "node:assert/strict";
import fc from "fast-check";
import { SeenIds } from "../../src/broadcast/seen_ids.ts";
import { describe, test } from "../harness.ts";

describe("seen ids", () => {
  test("a message is new once, in whatever order its sender's messages come", () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 3_000 }), { maxLength: 500 }), (seqs) => {
        const seen = new SeenIds();
        const model = new Set<number>();
        for (const seq of seqs) {
          assert.equal(seen.has({ origin: 1, seq }), model.has(seq));
          assert.equal(seen.add({ origin: 1, seq }), !model.has(seq));
          model.add(seq);
        }
      }),
    );
  });

  test("a million messages in a row leave nothing but a bitmap, and the recent ones are known", () => {
    const seen = new SeenIds();
    for (let seq = 1; seq <= 1_000_000; seq++) {
      if (!seen.add({ origin: 1, seq })) assert.fail(`${seq} was new`);
    }
    for (let seq = 1_000_000; seq > 1_000_000 - 65_000; seq -= 7) {
      if (seen.add({ origin: 1, seq })) assert.fail(`${seq} was known`);
    }
    assert.equal(seen.origins, 1);
  });

  test("invented high numbers in a sender's name do not make its true messages look old", () => {
    const seen = new SeenIds();
    for (let seq = 1; seq <= 100; seq++) seen.add({ origin: 1, seq });
    seen.add({ origin: 1, seq: 2 ** 50 });
    seen.add({ origin: 1, seq: 1_000_000 });
    for (let seq = 101; seq <= 200; seq++) assert.ok(seen.add({ origin: 1, seq }));
    for (let seq = 1; seq <= 200; seq++) assert.ok(!seen.add({ origin: 1, seq }));
  });

  test("a flood of invented senders is bounded and spares those who still send", () => {
    const seen = new SeenIds();
    for (let origin = 10; origin < 60_010; origin++) {
      seen.add({ origin, seq: 1 });
      if (origin % 1_000 === 0) seen.add({ origin: 1, seq: origin });
    }
    assert.ok(seen.origins <= 32_768);
    assert.ok(!seen.add({ origin: 1, seq: 60_000 }));
  });
});
