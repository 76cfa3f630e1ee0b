import assert from "node:assert/strict";
import { EMPTY } from "../../src/base/bytes.ts";
import type { Gossip } from "../../src/broadcast/messages.ts";
import { Roots } from "../../src/broadcast/roots.ts";
import { describe, test } from "../harness.ts";

/** A message of `origin`; 4, 8 and 12 share a tree with 8, the node under test. */
function message(origin: number, seq = 1, shaping = false): Gossip {
  return { origin, seq, hops: 1, shaping, topic: "t", payload: EMPTY };
}

describe("the roots of trees", () => {
  test("a message that travels alone may shape its tree, one among others may not", () => {
    const roots = new Roots(8);
    roots.saw(message(4), 0);
    assert.equal(roots.mayShape(500), false);
    assert.equal(roots.mayShape(2_500), true);
  });

  test("other trees' traffic does not matter", () => {
    const roots = new Roots(8);
    roots.saw(message(5), 0);
    assert.equal(roots.mayShape(1), true);
  });

  test("the sender with the lowest number may shape, once in a second", () => {
    const roots = new Roots(8);
    roots.saw(message(12), 0);
    roots.saw(message(8), 0);
    assert.equal(roots.mayShape(10), true);
    roots.saw(message(8, 2, true), 10);
    assert.equal(roots.mayShape(500), false);
    assert.equal(roots.mayShape(1_020), true);
  });

  test("a root that fell silent gives way", () => {
    const roots = new Roots(8);
    roots.saw(message(4), 0);
    for (let now = 1_000; now <= 170_000; now += 1_000) roots.saw(message(12), now);
    assert.equal(roots.mayShape(170_500), false);
    for (let now = 171_000; now <= 182_000; now += 1_000) roots.saw(message(12), now);
    assert.equal(roots.mayShape(182_500), true);
  });

  test("only the root's latest shaping message counts as the shape", () => {
    const roots = new Roots(8);
    roots.saw(message(4, 1, true), 0);
    roots.saw(message(4, 2, false), 1);
    roots.saw(message(12, 7, true), 2);
    assert.equal(roots.isLatestShape(message(4, 1)), true);
    assert.equal(roots.isLatestShape(message(4, 2)), false);
    assert.equal(roots.isLatestShape(message(12, 7)), false);
    roots.saw(message(4, 3, true), 3);
    assert.equal(roots.isLatestShape(message(4, 1)), false);
    assert.equal(roots.isLatestShape(message(4, 3)), true);
  });

  test("only a root whose tree others use is due to send, and not without end", () => {
    const follower = new Roots(8);
    follower.saw(message(4), 0);
    follower.saw(message(12), 1);
    assert.equal(follower.wakeAt, Infinity);
    const root = new Roots(8);
    root.saw(message(8), 0);
    assert.equal(root.wakeAt, Infinity);
    root.saw(message(12), 1);
    let rounds = 0;
    while (root.wakeAt < Infinity && rounds < 100) {
      const now = root.wakeAt;
      assert.equal(root.takeDue(now), true);
      assert.equal(root.takeDue(now), false);
      root.mayShape(now);
      root.saw(message(8, 2 + rounds, true), now);
      rounds++;
    }
    assert.ok(rounds >= 10 && rounds <= 15, `${rounds} rounds`);
  });
});
