import assert from "node:assert/strict";
import fc from "fast-check";
import { EMPTY } from "../../src/base/bytes.ts";
import { seededRandom } from "../../src/base/random.ts";
import { HyParView } from "../../src/membership/hyparview.ts";
import type { HyParViewEffect, HyParViewEvent } from "../../src/membership/events.ts";
import { decodeMessage, encodeMessage } from "../../src/membership/messages.ts";
import type { Message } from "../../src/membership/messages.ts";
import { membershipDefaults } from "../../src/membership/options.ts";
import type { PeerEntry } from "../../src/membership/peer_entry.ts";
import { describe, test } from "../harness.ts";
import { arbitraryEntry, arbitraryMessage, record } from "./arbitrary.ts";

const peer = (i: number, epoch = 1): PeerEntry => ({
  name: `n${i}@test`,
  epoch,
  addresses: [`quic://h${i}:1`],
  record: EMPTY,
});
const self = peer(0);

/** A started machine and its effects, one event at a time. */
class Bench {
  readonly machine: HyParView;
  now = 0;

  constructor(options: Partial<typeof membershipDefaults> = {}) {
    this.machine = new HyParView(self, { ...membershipDefaults, ...options }, seededRandom(1), 0);
    this.handle({ type: "start" });
  }

  handle(event: HyParViewEvent): HyParViewEffect[] {
    return this.machine.handle(event, this.now);
  }

  receive(from: PeerEntry, message: Message): HyParViewEffect[] {
    return this.handle({ type: "message", from, message });
  }

  /** Lets time pass, with a tick whenever one is due. */
  pass(ms: number): HyParViewEffect[] {
    const end = this.now + ms;
    const effects: HyParViewEffect[] = [];
    while (this.machine.wakeAt <= end) {
      this.now = Math.max(this.now, this.machine.wakeAt);
      effects.push(...this.handle({ type: "tick" }));
    }
    this.now = end;
    return effects;
  }

  /** Makes `i` a neighbour, by its own request. */
  befriend(i: number, epoch = 1): HyParViewEffect[] {
    return this.receive(peer(i, epoch), neighbour("high"));
  }
}

function neighbour(priority: "low" | "high" | "merge", offer?: PeerEntry): Message {
  return { type: "neighbour", request: 7, priority, record: EMPTY, offer };
}

function sent(effects: readonly HyParViewEffect[], type: Message["type"]): string[] {
  return effects.flatMap((effect) =>
    effect.type === "send" && effect.message.type === type ? [effect.peer] : []
  );
}

/** The number of the one request among the effects. */
function requestOf(effects: readonly HyParViewEffect[]): number {
  for (const effect of effects) {
    if (effect.type === "send" && effect.message.type === "neighbour") {
      return effect.message.request;
    }
  }
  throw new Error("no request");
}

function told(effects: readonly HyParViewEffect[]): string[] {
  return effects.flatMap((effect) => {
    if (effect.type !== "emit") return [];
    const { event } = effect;
    return "node" in event
      ? [`${event.type} ${event.node}${"reason" in event ? ` ${event.reason}` : ""}`]
      : [event.type];
  });
}

describe("HyParView", () => {
  test("nobody is a neighbour before both sides have said so", () => {
    const bench = new Bench();
    bench.handle({ type: "join", contact: "quic://h1:1" });
    const asked = bench.handle({ type: "contactUp", address: "quic://h1:1", peer: peer(1) });
    const [join] = asked.filter((effect) => effect.type === "send");
    assert.ok(join?.type === "send" && join.message.type === "join");
    assert.deepEqual(bench.machine.activeView, []);
    const { request } = join.message;
    const stray: Message = {
      type: "accept",
      request: request + 1,
      record: EMPTY,
      other: undefined,
    };
    assert.deepEqual(told(bench.receive(peer(1), stray)), []);
    const accepted = bench.receive(peer(1), { ...stray, request });
    assert.deepEqual(told(accepted), ["joined", "peerUp n1@test"]);
    assert.deepEqual(bench.machine.activeView, ["n1@test"]);
  });

  test("an acceptance that comes too late is answered with a dismissal, not a one-sided edge", () => {
    const bench = new Bench();
    const late: Message = { type: "accept", request: 1, record: EMPTY, other: undefined };
    const effects = bench.receive(peer(1), late);
    assert.deepEqual(sent(effects, "disconnect"), ["n1@test"]);
    assert.deepEqual(bench.machine.activeView, []);
  });

  test("a full view refuses low priority and hints at another who was refused", () => {
    const bench = new Bench();
    for (let i = 1; i <= 5; i++) bench.befriend(i);
    assert.deepEqual(sent(bench.receive(peer(6), neighbour("low")), "reject"), ["n6@test"]);
    const second = bench.receive(peer(7), neighbour("low"));
    const [reject] = second.filter((effect) => effect.type === "send");
    assert.ok(reject?.type === "send" && reject.message.type === "reject");
    assert.equal(reject.message.hint?.name, "n6@test");
    assert.equal(bench.machine.activeView.length, 5);
  });

  test("a full view drops one peer for high priority and sends it to the newcomer", () => {
    const bench = new Bench();
    for (let i = 1; i <= 5; i++) bench.befriend(i);
    const effects = bench.befriend(6);
    const [gone] = sent(effects, "disconnect");
    assert.ok(gone !== undefined);
    assert.deepEqual(told(effects), [`peerDown ${gone} evicted`, "peerUp n6@test"]);
    const dismissal = effects.find((e) => e.type === "send" && e.message.type === "disconnect");
    assert.ok(dismissal?.type === "send" && dismissal.message.type === "disconnect");
    assert.equal(dismissal.message.replacement?.name, "n6@test");
    assert.equal(bench.machine.activeView.length, 5);
  });

  test("two of those who were cut off get an edge at once, each for one of the old ones", () => {
    const bench = new Bench();
    for (let i = 1; i <= 5; i++) bench.befriend(i);
    const returned = (i: number, isCut = true) =>
      bench.handle({ type: "returned", peer: peer(i), isCut });
    assert.deepEqual(returned(6, false), [], "one that was lost alone gets a free slot or none");
    const first = returned(6);
    assert.deepEqual(sent(first, "neighbour"), ["n6@test"]);
    const grant = { type: "accept" as const, request: requestOf(first), record: EMPTY };
    const effects = bench.receive(peer(6), { ...grant, other: peer(16) });
    const [gone] = sent(effects, "disconnect");
    assert.ok(gone !== undefined);
    assert.deepEqual(told(effects), [`peerDown ${gone} evicted`, "peerUp n6@test"]);
    // A neighbour needs no edge, and a whole island that returns gets no more than two.
    assert.deepEqual(returned(6), []);
    for (const [i, asked] of [[7, 1], [8, 0], [9, 0]] as const) {
      const more = returned(i);
      assert.equal(sent(more, "neighbour").length, asked);
    }
    bench.now += 11_000;
    assert.deepEqual(sent(returned(9), "neighbour"), ["n9@test"]);
  });

  test("two that both lack a neighbour take each other, whomever else they have asked", () => {
    const bench = new Bench({ activeSize: 2 });
    bench.befriend(1);
    // A newcomer's walk ends here: the free slot is asked for, but it is not taken yet.
    const walk = bench.receive(peer(1), { type: "forwardJoin", peer: peer(5), ttl: 0 });
    assert.deepEqual(sent(walk, "neighbour"), ["n5@test"]);
    const answer = bench.receive(peer(6), neighbour("low"));
    assert.deepEqual(sent(answer, "accept"), ["n6@test"]);
    // Should the other have taken us in as well, it is told at once.
    const request = requestOf(walk);
    const late = bench.receive(peer(5), {
      type: "accept",
      request,
      record: EMPTY,
      other: undefined,
    });
    assert.deepEqual(sent(late, "disconnect"), ["n5@test"]);
    assert.deepEqual(bench.machine.activeView, ["n1@test", "n6@test"]);
  });

  test("two neighbours that lack one more each are helped by a full peer", () => {
    const bench = new Bench({ activeSize: 2 });
    bench.befriend(1);
    const walk = bench.receive(peer(1), { type: "forwardJoin", peer: peer(5), ttl: 0 });
    const refusal = { type: "reject", request: requestOf(walk), hint: peer(1) } as const;
    const [effect] = bench.receive(peer(5), refusal).filter(({ type }) => type === "send");
    assert.ok(effect?.type === "send" && effect.message.type === "neighbour");
    assert.deepEqual([effect.peer, effect.message.offer?.name], ["n5@test", "n1@test"]);

    const full = new Bench({ activeSize: 1 });
    full.befriend(2);
    const effects = full.receive(peer(7), effect.message);
    assert.deepEqual(sent(effects, "accept"), ["n7@test"]);
    const parting = effects.find((one) =>
      one.type === "send" && one.message.type === "disconnect" && one.peer === "n2@test"
    );
    assert.ok(parting?.type === "send" && parting.message.type === "disconnect");
    assert.equal(parting.message.replacement?.name, "n1@test");
  });

  test("each hint is given once, and only so many are followed without a pause", () => {
    const bench = new Bench({ activeSize: 1 });
    bench.befriend(1);
    const refuse = (i: number) => {
      const refusal = bench.receive(peer(i), neighbour("low"));
      return refusal.flatMap((effect) =>
        effect.type === "send" && effect.message.type === "reject"
          ? [effect.message.hint?.name]
          : []
      );
    };
    assert.deepEqual(refuse(2), [undefined]);
    assert.deepEqual(refuse(3), ["n2@test"]);
    assert.deepEqual(refuse(4), ["n3@test"]);

    const hungry = new Bench({ activeSize: 2 });
    hungry.befriend(1);
    let asked = hungry.receive(peer(1), { type: "forwardJoin", peer: peer(10), ttl: 0 });
    let followed = 0;
    for (let i = 10; sent(asked, "neighbour").length > 0; i++, followed++) {
      const request = requestOf(asked);
      asked = hungry.receive(peer(i), { type: "reject", request, hint: peer(i + 1) });
      assert.ok(followed < 20, "hints without end");
    }
    assert.equal(followed, 5);
  });

  test("the link of a dropped peer stays until both are done with it, and a while longer", () => {
    for (const acknowledges of [true, false]) {
      const bench = new Bench();
      for (let i = 1; i <= 5; i++) bench.befriend(i);
      const effects = bench.befriend(6);
      const [gone] = sent(effects, "disconnect");
      const isReleased = (list: HyParViewEffect[]) =>
        list.some((effect) => effect.type === "disconnect" && effect.peer === gone);
      assert.ok(!isReleased(effects));
      if (acknowledges) bench.receive(peer(Number(gone?.slice(1, 2))), { type: "disconnectAck" });
      assert.ok(!isReleased(bench.pass(acknowledges ? 9_000 : 14_000)));
      assert.ok(isReleased(bench.pass(2_000)));
    }
  });

  test("a link that is needed again is not given up", () => {
    const bench = new Bench();
    for (let i = 1; i <= 5; i++) bench.befriend(i);
    bench.receive(peer(6), neighbour("low"));
    bench.pass(5_000);
    bench.befriend(6);
    const released = bench.pass(60_000).filter((effect) => effect.type === "disconnect");
    assert.ok(!released.some((effect) => effect.peer === "n6@test"));
  });

  test("a peer that drops us is replaced from the passive view at once", () => {
    const bench = new Bench();
    for (let i = 1; i <= 5; i++) bench.befriend(i);
    bench.receive(peer(6), neighbour("low"));
    const effects = bench.receive(peer(1), {
      type: "disconnect",
      final: false,
      replacement: undefined,
    });
    assert.deepEqual(told(effects), ["peerDown n1@test disconnected"]);
    assert.deepEqual(sent(effects, "disconnectAck"), ["n1@test"]);
    assert.deepEqual(sent(effects, "neighbour"), ["n6@test"]);
  });

  test("a lost neighbour is asked again with growing pauses and given up after five failures", () => {
    const bench = new Bench();
    bench.befriend(1);
    const asks: number[] = [];
    let effects = bench.handle({ type: "linkDown", peer: peer(1), reason: "lost" });
    assert.deepEqual(told(effects), ["peerDown n1@test lost"]);
    for (let i = 0; i < 300; i++) {
      if (sent(effects, "neighbour").length > 0) {
        asks.push(bench.now);
        effects = bench.handle({ type: "undelivered", peer: "n1@test" });
        continue;
      }
      effects = bench.pass(100);
    }
    // The lost link was the first failure; after 1, 2, 4 and 8 s the others.
    assert.equal(asks.length, 4);
    asks.reduce((before, at, i) => {
      const wait = at - before;
      assert.ok(wait >= 1_000 * 2 ** i && wait < 1_000 * 2 ** i + 1_500, `${wait} ms`);
      return at;
    }, 0);
    assert.deepEqual(bench.machine.passiveView, []);
  });

  test("who had a full view and knows nobody else seeks among all members until it is full", () => {
    const bench = new Bench({ activeSize: 2, passiveSize: 2 });
    const counts = (effects: readonly HyParViewEffect[]) =>
      effects.flatMap((effect) => effect.type === "seek" ? [effect.count] : []);
    const lose = (i: number) => bench.handle({ type: "undelivered", peer: peer(i).name });
    bench.befriend(1);
    assert.deepEqual(counts([...lose(1), ...bench.pass(60_000)]), [], "it is new");
    for (const i of [1, 2]) bench.befriend(i);
    // By silence and by a verdict, and not at once: it is as alone.
    const effects = [...lose(1), ...bench.pass(60_000)];
    effects.push(...bench.handle({ type: "nodeDown", peer: peer(2).name, epoch: 1 }));
    effects.push(...bench.pass(3_600_000));
    const questions = counts(effects);
    assert.ok(questions.length > 20 && questions.length < 80, `${questions.length} questions`);
    assert.ok(questions.every((count) => count === 6));
    const asked = bench.handle({ type: "known", peers: [peer(7), peer(8), self] });
    assert.ok(sent(asked, "neighbour").length > 0);
    for (const i of [7, 8]) bench.befriend(i);
    assert.deepEqual(counts(bench.pass(120_000)), []);
  });

  test("hearsay does not bring back who was found dead; a new life or its own word does", () => {
    const bench = new Bench();
    for (let i = 1; i <= 5; i++) bench.befriend(i);
    bench.handle({ type: "nodeDown", peer: "n2@test", epoch: 1 });
    bench.befriend(6);
    const isKnownAfter = (entry: PeerEntry) => {
      bench.receive(peer(1), { type: "forwardJoin", peer: entry, ttl: 3 });
      return bench.machine.passiveView.includes(entry.name);
    };
    assert.ok(isKnownAfter(peer(7)));
    assert.ok(!isKnownAfter(peer(2)));
    assert.ok(isKnownAfter(peer(2, 2)));
    bench.handle({ type: "nodeDown", peer: "n2@test", epoch: 2 });
    assert.ok(!isKnownAfter(peer(2, 2)));
    assert.deepEqual(sent(bench.befriend(2, 2), "accept"), ["n2@test"]);
  });

  test("a verdict on a former life leaves the present one alone", () => {
    const bench = new Bench();
    bench.befriend(1, 5);
    assert.deepEqual(bench.handle({ type: "nodeDown", peer: "n1@test", epoch: 4 }), []);
    assert.deepEqual(bench.machine.activeView, ["n1@test"]);
    const effects = bench.handle({ type: "nodeDown", peer: "n1@test", epoch: 5 });
    assert.deepEqual(told(effects), ["peerDown n1@test down"]);
  });

  test("a reconnect of a new life replaces the stale edge at once", () => {
    const bench = new Bench();
    bench.befriend(1, 1);
    const effects = bench.handle({ type: "linkUp", peer: peer(1, 2) });
    assert.deepEqual(told(effects), ["peerDown n1@test restarted"]);
    assert.deepEqual(told(bench.befriend(1, 2)), ["peerUp n1@test"]);
    assert.deepEqual(
      told(bench.handle({ type: "linkDown", peer: peer(1, 1), reason: "lost" })),
      [],
    );
  });

  test("a link that takes over from another one changes nothing but asks whether both agree", () => {
    const bench = new Bench();
    bench.befriend(1);
    const effects = bench.handle({ type: "linkDown", peer: peer(1), reason: "replaced" });
    assert.deepEqual(told(effects), []);
    assert.deepEqual(sent(effects, "keep"), ["n1@test"]);
  });

  test("a neighbour that we do not know of is told so", () => {
    const bench = new Bench();
    const keep: Message = { type: "keep", mark: { root: 1, beat: 1 } };
    assert.deepEqual(sent(bench.receive(peer(1), keep), "disconnect"), ["n1@test"]);
  });

  test("a slow consumer is expelled", () => {
    const bench = new Bench();
    bench.befriend(1);
    const effects = bench.handle({ type: "slowConsumer", peer: "n1@test" });
    assert.deepEqual(told(effects), ["peerDown n1@test slow"]);
    assert.deepEqual(sent(effects, "disconnect"), ["n1@test"]);
  });

  test("leaving tells the neighbours, once, and takes nobody in", () => {
    const bench = new Bench();
    bench.befriend(1);
    bench.befriend(2);
    const effects = bench.handle({ type: "leave" });
    assert.deepEqual(sent(effects, "disconnect"), ["n1@test", "n2@test"]);
    assert.deepEqual(told(effects), [
      "peerDown n1@test leaving",
      "peerDown n2@test leaving",
      "left",
    ]);
    assert.deepEqual(bench.handle({ type: "leave" }), []);
    assert.deepEqual(sent(bench.befriend(3), "reject"), ["n3@test"]);
    assert.deepEqual(bench.machine.activeView, []);
    assert.equal(bench.machine.joined, false);
  });

  test("a contact that is ourselves is forgotten", () => {
    const bench = new Bench();
    bench.handle({ type: "join", contact: "quic://h0:1" });
    bench.handle({ type: "contactUp", address: "quic://h0:1", peer: self });
    const effects = bench.pass(3_600_000);
    assert.ok(!effects.some((effect) => effect.type === "connectAddress"));
  });

  test("a contact that does not answer is tried for ever, at most a minute apart", () => {
    const bench = new Bench();
    const dials = (list: HyParViewEffect[]) =>
      list.filter((effect) => effect.type === "connectAddress").length;
    assert.equal(dials(bench.handle({ type: "join", contact: "quic://h1:1" })), 1);
    let count = 0;
    for (let i = 0; i < 3_600; i++) {
      bench.handle({ type: "contactFailed", address: "quic://h1:1" });
      count += dials(bench.pass(1_000));
    }
    assert.ok(count >= 58 && count <= 70, `${count} dials in an hour`);
  });

  test("messages of a shuffle walk stop when their hops are used up, whatever they claim", () => {
    const bench = new Bench({ arwl: 2 });
    for (let i = 1; i <= 3; i++) bench.befriend(i);
    const message: Message = {
      type: "shuffle",
      request: 1,
      ttl: 255,
      hungry: false,
      origin: peer(9),
      entries: [peer(8)],
    };
    const effects = bench.receive(peer(1), message);
    const onward = effects.find((e) => e.type === "send" && e.message.type === "shuffle");
    assert.ok(onward?.type === "send" && onward.message.type === "shuffle");
    assert.equal(onward.message.ttl, 1);
    const last = bench.receive(peer(1), { ...message, ttl: 1 });
    assert.deepEqual(sent(last, "shuffleReply"), ["n9@test"]);
    assert.ok(["n8@test", "n9@test"].every((name) => bench.machine.passiveView.includes(name)));
  });

  test("replies to shuffles are rationed: they may make us dial whoever a peer names", () => {
    const bench = new Bench();
    bench.befriend(1);
    let replies = 0;
    for (let i = 0; i < 1_000; i++) {
      const origin = { ...peer(9), name: `x${i}@test` };
      const message: Message = {
        type: "shuffle",
        request: i,
        ttl: 0,
        hungry: false,
        origin,
        entries: [],
      };
      replies += sent(bench.receive(peer(1), message), "shuffleReply").length;
    }
    assert.ok(replies <= 16);
    assert.ok(bench.machine.passiveView.length <= membershipDefaults.passiveSize);
  });

  test("whatever happens: bounds hold, events match the view, all it says can be encoded", () => {
    const someone = fc.integer({ min: 0, max: 12 });
    const from = fc.tuple(someone, fc.integer({ min: 1, max: 3 })).map(([i, epoch]) =>
      peer(i, epoch)
    );
    const event: fc.Arbitrary<HyParViewEvent> = fc.oneof(
      {
        weight: 12,
        arbitrary: record({
          type: fc.constant("message" as const),
          from,
          message: arbitraryMessage,
        }),
      },
      { weight: 3, arbitrary: fc.constant<HyParViewEvent>({ type: "tick" }) },
      record({
        type: fc.constant("join" as const),
        contact: fc.constantFrom("quic://h1:1", "quic://h0:1", "n3@test", "n0@test"),
      }),
      record({
        type: fc.constant("contactUp" as const),
        address: fc.constantFrom("quic://h1:1", "quic://h0:1", "quic://h5:1"),
        peer: from,
      }),
      record({
        type: fc.constant("contactFailed" as const),
        address: fc.constant("quic://h1:1"),
      }),
      record({ type: fc.constant("linkUp" as const), peer: from }),
      record({ type: fc.constant("returned" as const), peer: from, isCut: fc.boolean() }),
      record({
        type: fc.constant("linkDown" as const),
        peer: from,
        reason: fc.constantFrom("lost", "goodbye", "left", "replaced", "idle", "overloaded"),
      }),
      record({ type: fc.constant("undelivered" as const), peer: someone.map((i) => peer(i).name) }),
      record({
        type: fc.constant("nodeDown" as const),
        peer: someone.map((i) => peer(i).name),
        epoch: fc.integer({ min: 0, max: 3 }),
      }),
      record({ type: fc.constant("forget" as const), peer: someone.map((i) => peer(i).name) }),
      record({
        type: fc.constant("slowConsumer" as const),
        peer: someone.map((i) => peer(i).name),
      }),
      record({
        type: fc.constant("known" as const),
        peers: fc.array(arbitraryEntry, { maxLength: 4 }),
      }),
      fc.constant<HyParViewEvent>({ type: "leave" }),
    );
    const step = fc.tuple(event, fc.integer({ min: 0, max: 20_000 }), fc.boolean());
    fc.assert(
      fc.property(
        fc.array(step, { maxLength: 200, size: "max" }),
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 0, max: 6 }),
        fc.nat(),
        (steps, activeSize, passiveSize, seed) => {
          const options = { ...membershipDefaults, activeSize, passiveSize };
          const machine = new HyParView(self, options, seededRandom(seed), 0);
          const view = new Set<string>();
          const requests: { peer: string; request: number }[] = [];
          let now = 0;
          const handle = (happening: HyParViewEvent) => {
            for (const effect of machine.handle(happening, now)) {
              if (effect.type === "send") {
                assert.notEqual(effect.peer, self.name);
                assert.deepEqual(decodeMessage(encodeMessage(effect.message)), effect.message);
                const { message } = effect;
                if (message.type === "join" || message.type === "neighbour") {
                  requests.push({ peer: effect.peer, request: message.request });
                }
              } else if (effect.type === "emit" && effect.event.type === "peerUp") {
                assert.ok(!view.has(effect.event.node), "up only when down");
                view.add(effect.event.node);
              } else if (effect.type === "emit" && effect.event.type === "peerDown") {
                assert.ok(view.delete(effect.event.node), "down only when up");
              }
              assert.ok(view.size <= activeSize);
            }
            const active = machine.activeView;
            const passive = machine.passiveView;
            assert.deepEqual(new Set(active), view);
            assert.ok(passive.length <= passiveSize);
            const all = [...active, ...passive, self.name];
            assert.equal(new Set(all).size, all.length, "no self, no duplicate");
            assert.ok(machine.wakeAt > now || happening.type !== "tick", "a tick does what is due");
          };
          handle({ type: "start" });
          for (const [happening, waitMs, answered] of steps) {
            now += waitMs;
            handle(happening);
            // Half of our requests are accepted, or random messages would hardly ever build a view.
            const asked = answered ? requests.pop() : undefined;
            if (asked === undefined) continue;
            const acceptor = peer(Number(/\d+/.exec(asked.peer)?.[0]));
            const { request } = asked;
            const message: Message = { type: "accept", request, record: EMPTY, other: undefined };
            handle({ type: "message", from: acceptor, message });
          }
        },
      ),
      { numRuns: 150 },
    );
  });
});
