import fc from "fast-check";
import { ALL_TREES, MAX_HOPS, MAX_NUMBER, TREES } from "../../src/broadcast/messages.ts";
import type { Control, Gossip } from "../../src/broadcast/messages.ts";

/** A plain object, as ours are. */
function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true });
}

/** Origins and numbers of which few are near, so that they meet again, and some are far. */
const origin = fc.oneof(fc.nat(6), fc.integer({ min: 0, max: 2 ** 48 - 1 }));
const seq = fc.oneof(
  fc.integer({ min: 1, max: 12 }),
  fc.integer({ min: 2 ** 40, max: 2 ** 40 + 12 }),
  fc.constant(Number.MAX_SAFE_INTEGER),
);
const hops = fc.nat(MAX_HOPS);
const trees = fc.nat(ALL_TREES);
const tree = fc.nat(TREES - 1);
/** Terms and waves. */
const count = fc.oneof(fc.integer({ min: 0, max: 4 }), fc.constant(MAX_NUMBER));

/** Any message with a payload. */
export const arbitraryGossip: fc.Arbitrary<Gossip> = record({
  origin,
  seq,
  hops,
  tree,
  topic: fc.constantFrom("", "a", "b", "ü"),
  payload: fc.uint8Array({ maxLength: 20 }).map((bytes) => new Uint8Array(bytes)),
});

/** Any other message. */
export const arbitraryControl: fc.Arbitrary<Control> = fc.oneof(
  record({
    type: fc.constant("ihave" as const),
    entries: fc.array(record({ origin, seq, tree }), { maxLength: 12 }),
  }),
  record({
    type: fc.constant("graft" as const),
    trees,
    ids: fc.array(record({ origin, seq }), { maxLength: 6 }),
  }),
  record({ type: fc.constant("prune" as const), trees }),
  record({
    type: fc.constant("shape" as const),
    shapes: fc.array(record({ tree, term: count, root: origin, wave: count, hops }), {
      maxLength: TREES,
    }),
  }),
  record({ type: fc.constant("reshape" as const), trees }),
  record({ type: fc.constant("hello" as const), origin }),
);
