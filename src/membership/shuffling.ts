import { pick, sample } from "../base/random.ts";
import type { NodeName } from "../wire/node_name.ts";
import { MAX_SHUFFLE_ENTRIES } from "./messages.ts";
import type { Message } from "./messages.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";
import type { Views } from "./views.ts";

/** Shuffles whose reply is awaited. */
const MAX_SHUFFLES = 4;
/** Replies to shuffles in one interval, as each may make us dial a node: no tool for a flood. */
const MAX_SHUFFLE_REPLIES = 16;

/** The exchange of samples that keeps passive views fresh and random (paper §4.4). */
export class Shuffling {
  /** When the next shuffle is due. */
  shuffleAt: number = Infinity;
  /** Doubled, up to 8, by each shuffle during which nothing happened. */
  calm: number = 1;
  readonly #views: Views;
  readonly #shuffles = new Map<number, NodeName[]>();
  #replies = 0;

  constructor(views: Views) {
    this.#views = views;
  }

  /** Starts or stops. */
  schedule(at: number): void {
    this.shuffleAt = at;
    if (at === Infinity) this.#shuffles.clear();
  }

  /** Sends a sample of both views on a walk. */
  shuffle(now: number): void {
    const { shuffleIntervalMs, shuffleActive, shufflePassive, arwl } = this.#views.options;
    // Departure: the paper shuffles at a fixed pace. While nothing happens the pause grows to eight
    // times the interval, so that an idle cluster is nearly silent; a newcomer makes haste.
    const starved = this.#views.passive.size < this.#views.options.passiveSize / 2;
    this.calm = this.#views.isEventful ? 1 : Math.min(8, this.calm * 2);
    const pace = this.#views.isEventful && starved ? 0.25 : this.calm;
    this.shuffleAt = now + this.#views.jittered(shuffleIntervalMs * pace);
    this.#views.isEventful = false;
    this.#replies = 0;
    const target = pick(this.#views.random, this.#views.activeView);
    if (target === undefined) return;
    const neighbours = [...this.#views.active.values()].filter((peer) => peer.name !== target);
    const entries = [
      ...sample(this.#views.random, neighbours, shuffleActive),
      ...this.#views.passive.sample(shufflePassive, target),
    ].slice(0, MAX_SHUFFLE_ENTRIES);
    const request = this.#views.nextRequest();
    this.#shuffles.set(request, entries.map((entry) => entry.name));
    if (this.#shuffles.size > MAX_SHUFFLES) {
      const oldest = this.#shuffles.keys().next().value;
      if (oldest !== undefined) this.#shuffles.delete(oldest);
    }
    const hungry = this.#views.free(now) > 0;
    this.#views.send(target, {
      type: "shuffle",
      request,
      ttl: arwl,
      hungry,
      origin: this.#views.self,
      entries,
    });
  }

  /** Another node's walk passes by, or ends here. */
  shuffled(from: Peer, message: Message & { type: "shuffle" }, now: number): void {
    const { origin, entries, hungry, request } = message;
    if (origin.name === this.#views.self.name) return;
    // Departure: a node with a free slot that meets the walk of another one asks it; the others
    // remember that there is one. The last two nodes with a free slot in a large cluster would
    // hardly ever ask each other by chance.
    if (hungry && this.#views.lacking(now) <= 0) this.#views.noteHungry(origin, now);
    else if (hungry && this.#views.isEligible(origin.name)) {
      this.#views.ask(origin, "low", undefined, now);
    }
    const ttl = Math.min(message.ttl, this.#views.options.arwl) - 1;
    const next = ttl > 0 ? this.#views.step(from.name, origin.name) : undefined;
    if (next !== undefined) return this.#views.send(next, { ...message, ttl });
    const reply = this.#views.passive.sample(entries.length, origin.name);
    if (this.#replies++ < MAX_SHUFFLE_REPLIES) {
      this.#views.remember(origin);
      this.#views.send(origin.name, { type: "shuffleReply", request, entries: reply });
      if (!this.#views.active.has(origin.name)) this.#views.release(origin.name, now);
    }
    const sent = reply.map((entry) => entry.name);
    this.#views.learn(origin, now, sent);
    for (const entry of entries) this.#views.learn(entry, now, sent);
  }

  /** The end of our walk answers. */
  replied(request: number, entries: readonly PeerEntry[], now: number): void {
    const sent = this.#shuffles.get(request);
    if (sent === undefined) return;
    this.#shuffles.delete(request);
    for (const entry of entries) this.#views.learn(entry, now, sent);
  }
}
