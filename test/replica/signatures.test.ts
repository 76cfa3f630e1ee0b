import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { realCrypto } from "../../src/base/real.ts";
import { headMessage } from "../../src/replica/head.ts";
import { decodeData, encodeDelta } from "../../src/replica/messages.ts";
import type { Delta } from "../../src/replica/origin_rows.ts";
import { SetHash } from "../../src/replica/set_hash.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test, waitFor } from "../harness.ts";
import { network, open } from "./network.ts";
import type { Peer } from "./network.ts";

const crypto = await realCrypto();

type Lie = (truth: Delta, relay: Peer) => Delta | Promise<Delta>;

// Rows and head fit each other in all of these: nothing but the signature tells them from the truth.
const LIES: Record<string, Lie> = {
  "makes a head up": (truth) => ({ ...truth, head: { ...truth.head, seq: truth.head.seq + 7 } }),
  "forges a row, and a head for it": (truth) => forged(truth),
  "forges a row and signs it with its own key": async (truth, relay) => {
    const { head, ...rest } = forged(truth);
    const signature = await crypto.sign(headMessage("test", head), relay.keys);
    return { ...rest, head: { ...head, signature } };
  },
  "changes one bit of the signature": (truth) => {
    const signature = truth.head.signature.slice();
    signature[40] = (signature[40] as number) ^ 1;
    return { ...truth, head: { ...truth.head, signature } };
  },
};

function forged(truth: Delta): Delta {
  const puts = truth.puts.map((put) => ({ ...put, value: utf8("forged") }));
  const sum = new SetHash(crypto.sha256);
  for (const { seq, key, value } of puts) sum.add(seq, key, value);
  return { ...truth, puts, head: { ...truth.head, hash: sum.digest() } };
}

describe("a relay with real keys that", () => {
  for (const [what, lie] of Object.entries(LIES)) {
    for (const way of ["broadcast", "pull"] as const) {
      test(`${what} is refused as bad_signature, counted and logged (${way})`, async () => {
        // What the author says about itself reaches the victim through the relay alone.
        let told: Delta | undefined;
        let answer: Delta | undefined;
        const { add, link, close } = await network(undefined, (type, from, to, body) => {
          if (type === "broadcast") {
            if (from.identity.name === "author@test" && to.identity.name === "victim@test") {
              const message = decodeData(body);
              if (message.type === "delta" && message.delta.puts.length > 0) told = message.delta;
              return undefined;
            }
            return body;
          }
          if (type !== FrameType.REPLICA_DATA || to.identity.name !== "victim@test") return body;
          const message = decodeData(body);
          const isOfAuthor = message.type === "delta" &&
            String(message.delta.head.author) === String(author.identity.publicKey);
          return isOfAuthor && answer !== undefined ? encodeDelta("test", answer)[0] : body;
        });
        const author = await add("author@test");
        const relay = await add("relay@test");
        const victim = await add("victim@test");
        const onAuthor = open(author), onRelay = open(relay), onVictim = open(victim);
        link(author, relay);
        onAuthor.store.put("k", utf8("true"));
        await onAuthor.store.flushed();
        const rows = (store: typeof onVictim.store) => [...store.rowsBy(author.identity.publicKey)];
        await waitFor(() => rows(onRelay.store).length === 1 && told !== undefined, {
          what: "the truth at the relay",
        });
        const hear = (delta: Delta) =>
          victim.replication.receive(encodeDelta("test", delta)[0] as Bytes);
        const untrue = await lie(told as Delta, relay);
        if (way === "broadcast") hear(untrue);
        else {
          answer = untrue;
          link(relay, victim);
        }
        const refused = () =>
          victim.meter.snapshot()[
            'barrel_replica_refused_total{reason="bad_signature",store="test"}'
          ] ?? 0;
        await waitFor(() => refused() > 0 || rows(onVictim.store).length > 0, {
          what: "a verdict",
        });
        assert.deepEqual(rows(onVictim.store), []);
        assert.ok(refused() > 0);
        assert.deepEqual(victim.log.map(([level]) => level), ["warn"]);
        assert.deepEqual(victim.fields, [{ store: "test", reason: "bad_signature" }]);
        // It was the lie that was refused: the same without it is taken.
        hear(told as Delta);
        await waitFor(() => rows(onVictim.store).length === 1, { what: "the truth" });
        assert.deepEqual(rows(onVictim.store).map(({ value }) => value), [utf8("true")]);
        close();
      });
    }
  }
});
