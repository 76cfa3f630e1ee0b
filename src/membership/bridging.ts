import { randomFraction } from "../base/random.ts";
import type { NodeName } from "../wire/node_name.ts";
import { BEAT_MS, Island, rootOf } from "./island.ts";
import type { IslandMark } from "./island.ts";
import { MAX_SHUFFLE_ENTRIES } from "./messages.ts";
import type { Message } from "./messages.ts";
import { entryOf } from "./peer_entry.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";
import { REQUEST_TIMEOUT_MS } from "./views.ts";
import type { Views } from "./views.ts";

/** Milliseconds between two probes of a stranger, and up to four times that while all is calm. */
const PROBE_INTERVAL_MS = 30_000;
/** Between two probes of a sweep, milliseconds. */
const SWEEP_MS = 250;
/**
 * Edges that a newcomer moves, and the pause before each, milliseconds: once and up to twice as
 * long. Who joins waits until a few shuffles have told it of peers from everywhere. All who joined
 * at once spread their moves, since each leaves two nodes a neighbour short for a round trip.
 */
const MIXES = 2;
const MIX_MS = 30_000;
/** Edges that a node moves which has come over to another island; the first after this pause. */
const MERGE_MIXES = 3;
const MERGE_MIX_MS = 5_000;
/** Edges that a node gives at most, within so many milliseconds, to those who were cut off. */
const RETURNS = 2;
const RETURNS_MS = 10_000;

/**
 * What keeps the overlay one, and random: neighbours that remind each other of their edge and their
 * island, probes of strangers, and the moving of edges.
 */
export class Bridging {
  /** When the next beat, probe or moving of an edge is due. */
  beatAt: number = Infinity;
  probeAt: number = Infinity;
  mixAt: number = Infinity;
  readonly #views: Views;
  readonly #tryContact: (now: number) => boolean;
  readonly #island: Island;
  #probeTurn = 0;
  #mixesLeft = 0;
  #sweep: NodeName[] = [];
  #returns = 0;
  #returnsSince = -Infinity;

  /** `tryContact` turns to a contact that is no neighbour; `false` when there is none. */
  constructor(views: Views, tryContact: (now: number) => boolean, now: number) {
    this.#views = views;
    this.#tryContact = tryContact;
    this.#island = new Island(rootOf(views.self.name, views.self.epoch), now);
  }

  /** Begins to count and to probe. */
  start(now: number): void {
    this.beatAt = now + this.#views.jittered(BEAT_MS);
    this.probeAt = now + this.#views.jittered(PROBE_INTERVAL_MS);
  }

  /** Stops. */
  stop(): void {
    this.beatAt = this.probeAt = this.mixAt = Infinity;
    this.#sweep = [];
  }

  /** A newcomer has found its first neighbour: it will move some edges. */
  planMixes(now: number): void {
    this.#mixesLeft = MIXES;
    this.mixAt = this.#nextMix(now);
  }

  #nextMix(now: number): number {
    return now + MIX_MS * (1 + randomFraction(this.#views.random));
  }

  /**
   * Departure: who lost most neighbours at once says a word to each passive peer, one by one. After
   * a mass failure some of the living know nobody else who lives: they can only be found, and once
   * all others have what they need, nobody would look for them any more.
   */
  planSweep(now: number): void {
    this.#sweep = this.#views.passive.names();
    this.probeAt = Math.min(this.probeAt, now + this.#views.jittered(SWEEP_MS));
  }

  /** Reminds one neighbour of the edge, and tells it our island. */
  keep(name: NodeName): void {
    this.#views.send(name, { type: "keep", mark: this.#island.mark });
  }

  /** A beat is due. */
  beat(now: number): void {
    if (this.#island.beat(now)) this.#keepAll(undefined);
    this.beatAt = now + BEAT_MS;
  }

  #keepAll(except: NodeName | undefined): void {
    for (const name of this.#views.active.keys()) {
      if (name !== except) this.keep(name);
    }
  }

  /** A neighbour reminded us of the edge. */
  kept(from: Peer, mark: IslandMark, now: number): void {
    const { name } = from;
    if (!this.#views.active.has(name)) {
      // It holds an edge that we do not have; unless we are about to settle that anyway.
      if (!this.#views.asked.has(name) && !this.#views.leaving.has(name)) {
        this.#views.dismiss(from, undefined, now);
      }
      return;
    }
    switch (this.#island.hear(mark, now)) {
      case "behind":
        this.keep(name);
        break;
      case "newer":
        this.#keepAll(name);
        break;
      case "merged":
        this.#keepAll(name);
        // What could not be reached from the other island may be within reach now.
        this.#views.passive.pardon();
        this.#views.strangers.pardon();
        // One bridge between two islands is thin: those who come over move some of their edges.
        if (this.#views.isFull) {
          this.#mixesLeft = MERGE_MIXES;
          this.mixAt = Math.min(this.mixAt, now + this.#views.jittered(MERGE_MIX_MS));
        }
        break;
      case "same":
        break;
    }
  }

  /** Departure: one contact, stranger or passive peer is asked now and then which island it is on. */
  probe(calm: number, now: number): void {
    for (let name = this.#sweep.pop(); name !== undefined; name = this.#sweep.pop()) {
      const peer = this.#views.passive.get(name);
      if (peer === undefined || !this.#views.isEligible(name)) continue;
      this.probeAt = now + this.#views.jittered(SWEEP_MS);
      return this.sendProbe(peer, now);
    }
    this.probeAt = now + this.#views.jittered(PROBE_INTERVAL_MS * Math.min(4, calm));
    for (let i = 0; i < 3; i++) {
      this.#probeTurn = (this.#probeTurn + 1) % 3;
      if (this.#probeTurn === 0) {
        if (this.#tryContact(now)) return;
        continue;
      }
      const peer = this.#probeTurn === 1
        ? this.#views.strangers.take(now)
        : this.#views.passive.stalest();
      if (peer !== undefined && this.#views.isEligible(peer.name)) return this.sendProbe(peer, now);
    }
  }

  /**
   * Departure: a cut has healed, and the marks do not show it yet: while the root on the other side
   * is not given up, both sides bear one mark. Whoever is to mend it takes the member as a
   * neighbour, and each of the two gives the other a neighbour of its own side. A lone member that
   * comes back gets a slot that is free anyway.
   */
  returned(peer: PeerEntry, isCut: boolean, now: number): void {
    const views = this.#views;
    if (!views.isEligible(peer.name)) return;
    if (views.free(now) > 0) return views.ask(peer, "low", undefined, now);
    if (!isCut) return;
    if (now - this.#returnsSince > RETURNS_MS) {
      this.#returnsSince = now;
      this.#returns = 0;
    }
    if (this.#returns >= RETURNS) return;
    this.#returns++;
    this.#askMerge(peer, now);
  }

  #askMerge(peer: PeerEntry, now: number): void {
    const offer = this.#views.free(now) > 0 ? undefined : this.#views.victim(peer.name);
    this.#views.ask(peer, "merge", offer, now);
  }

  /** Asks a peer which island it lives on. */
  sendProbe(peer: PeerEntry, now: number): void {
    const { name } = peer;
    if (!this.#views.isEligible(name) || this.#views.probed.has(name)) return;
    const request = this.#views.nextRequest();
    this.#views.remember(peer);
    this.#views.probed.set(name, request, now + REQUEST_TIMEOUT_MS);
    const mark = this.#island.mark;
    this.#views.send(name, { type: "probe", request, mark, record: this.#views.self.record });
  }

  /** A stranger asks which island we live on. */
  probedBy(from: Peer, message: Message & { type: "probe" }, now: number): void {
    this.#views.send(from.name, {
      type: "probeReply",
      request: message.request,
      mark: this.#island.mark,
      foreign: this.#island.isForeign(message.mark, now),
      record: this.#views.self.record,
      entries: this.#views.passive.sample(this.#views.options.shufflePassive, from.name)
        .slice(0, MAX_SHUFFLE_ENTRIES),
    });
    this.#views.learn(entryOf(from, message.record), now);
    if (!this.#views.active.has(from.name)) this.#views.release(from.name, now);
  }

  /** It answers; another island is worth an edge. */
  probeReply(from: Peer, message: Message & { type: "probeReply" }, now: number): void {
    const { name } = from;
    if (this.#views.probed.get(name) !== message.request) return;
    this.#views.probed.delete(name);
    const peer = entryOf(from, message.record);
    this.#views.strangers.remove(name);
    this.#views.learn(peer, now);
    for (const entry of message.entries) this.#views.learn(entry, now);
    if (!this.#views.isEligible(name)) return;
    const foreign = message.foreign && this.#island.isForeign(message.mark, now);
    if (!foreign) return this.#views.release(name, now);
    this.#askMerge(peer, now);
  }

  /**
   * Departure: a newcomer moves a few of its edges to random passive peers, each time so that all
   * four ends keep their number of neighbours. Walks from one contact alone leave the graph more
   * clustered than a random one (at 10,000 nodes 0.0012 instead of 0.0006).
   */
  mix(now: number): void {
    this.mixAt = --this.#mixesLeft > 0 ? this.#nextMix(now) : Infinity;
    // In a small cluster everybody is near everybody anyway.
    const large = this.#views.passive.size >= this.#views.options.passiveSize / 2;
    if (!large || !this.#views.isFull) return;
    const peer = this.#views.strangers.take(now) ??
      this.#views.passive.candidate(now, (name) => !this.#views.isEligible(name));
    const offer = peer === undefined ? undefined : this.#views.victim(peer.name);
    if (peer !== undefined && offer !== undefined) this.#views.ask(peer, "merge", offer, now);
  }
}
