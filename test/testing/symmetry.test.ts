import assert from "node:assert/strict";
import { Symmetry } from "../../src/testing/symmetry.ts";
import { test } from "../harness.ts";

test("an edge counts as one-sided until the other end has it, or the first has it no more", () => {
  const symmetry = new Symmetry();
  assert.equal(symmetry.oneSidedMs(5), 0);
  symmetry.up("a", "b", 10);
  symmetry.up("c", "d", 20);
  assert.equal(symmetry.oneSidedMs(30), 20);
  assert.equal(symmetry.oldest, "a -> b");
  symmetry.up("b", "a", 30);
  assert.equal(symmetry.oneSidedMs(50), 30);
  symmetry.down("c", "d", 60);
  assert.equal(symmetry.oneSidedMs(70), 0);
  symmetry.down("a", "b", 80);
  assert.equal(symmetry.oldest, "b -> a");
  assert.equal(symmetry.oneSidedMs(90), 10);
});

test("what others hold of a node that is gone is one-sided, and time counts from the last fault", () => {
  const symmetry = new Symmetry();
  for (const [node, peer] of [["a", "b"], ["b", "a"]] as const) symmetry.up(node, peer, 0);
  symmetry.gone("a", 100);
  assert.equal(symmetry.oldest, "b -> a");
  assert.equal(symmetry.oneSidedMs(150), 50);
  symmetry.disturbed(140);
  assert.equal(symmetry.oneSidedMs(150), 10);
  symmetry.down("b", "a", 160);
  assert.equal(symmetry.oneSidedMs(170), 0);
});
