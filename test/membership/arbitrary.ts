import fc from "fast-check";
import type { Message } from "../../src/membership/messages.ts";
import type { PeerEntry } from "../../src/membership/peer_entry.ts";

/** A plain object, as ours are. */
export function record<T>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model, { noNullPrototype: true });
}

const bytes = (maxLength: number) =>
  fc.uint8Array({ maxLength }).map((array) => new Uint8Array(array));

/** Entries of few names, so that they meet again. */
export const arbitraryEntry: fc.Arbitrary<PeerEntry> = record({
  name: fc.integer({ min: 0, max: 12 }).map((i) => `n${i}@test`),
  epoch: fc.integer({ min: 0, max: 3 }),
  addresses: fc.array(fc.integer({ min: 0, max: 99 }).map((i) => `quic://h${i}:1`), {
    maxLength: 3,
  }),
  record: bytes(20),
});

const request = fc.nat(2 ** 32 - 1);
const mark = record({ root: fc.nat(5), beat: fc.nat(200) });
const optional = fc.option(arbitraryEntry, { nil: undefined });
const entries = fc.array(arbitraryEntry, { maxLength: 8 });

/** Any message that a machine may meet. */
export const arbitraryMessage: fc.Arbitrary<Message> = fc.oneof(
  record({
    type: fc.constant("join" as const),
    request,
    urgent: fc.boolean(),
    record: bytes(20),
  }),
  record({ type: fc.constant("forwardJoin" as const), ttl: fc.nat(255), peer: arbitraryEntry }),
  record({
    type: fc.constant("neighbour" as const),
    request,
    priority: fc.constantFrom("low" as const, "high" as const, "merge" as const),
    record: bytes(20),
    offer: optional,
  }),
  record({ type: fc.constant("accept" as const), request, record: bytes(20), other: optional }),
  record({ type: fc.constant("reject" as const), request, hint: optional }),
  record({
    type: fc.constant("disconnect" as const),
    final: fc.boolean(),
    replacement: optional,
  }),
  record({ type: fc.constant("disconnectAck" as const) }),
  record({
    type: fc.constant("shuffle" as const),
    request,
    ttl: fc.nat(255),
    hungry: fc.boolean(),
    origin: arbitraryEntry,
    entries,
  }),
  record({ type: fc.constant("shuffleReply" as const), request, entries }),
  record({ type: fc.constant("keep" as const), mark }),
  record({ type: fc.constant("probe" as const), request, mark, record: bytes(20) }),
  record({
    type: fc.constant("probeReply" as const),
    request,
    mark,
    foreign: fc.boolean(),
    record: bytes(20),
    entries,
  }),
);
