import { pick, randomFraction } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { Bytes } from "../base/bytes.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Deadlines } from "./deadlines.ts";
import type { HyParViewEffect, MembershipEvent, PeerDownReason } from "./events.ts";
import type { Message, Priority } from "./messages.ts";
import type { MembershipOptions } from "./options.ts";
import { PassiveView } from "./passive_view.ts";
import { entryOf } from "./peer_entry.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";
import { Strangers } from "./strangers.ts";

/** A request that was not answered for this long has failed, milliseconds. */
export const REQUEST_TIMEOUT_MS: number = 10_000;
/** After this long another peer is asked as well, milliseconds: a dead host may never refuse. */
const HEDGE_MS = 1_000;
/** How long a peer that was dropped may take to say so, milliseconds. */
const LINGER_MS = 5_000;
/** How long a slot is kept for a peer that was sent to us, milliseconds. */
const PROMISE_MS = 2_000;
/** Requests under way, times the size of the active view. */
const MAX_ASKED_FACTOR = 3;
/** Pause between two attempts to fill the last free slot; doubled up to the maximum. */
const REFILL_PAUSE_MS = 125;
const REFILL_PAUSE_MAX_MS = 20_000;
/** Peers remembered that had no luck here, and for how long. */
const MAX_HUNGRY = 4;
const HUNGRY_MS = 300_000;
/** Hints that are followed at once, one after the other: some are out of date. */
const MAX_HINTS = 4;
/** One peer may make us drop a neighbour for it once in this time. */
const FAVOUR_MS = 5_000;
/** Entries of peers in no view that we may have to dial. */
const MAX_BOOK = 256;
/** More than half of the neighbours lost in this time is a disaster, milliseconds. */
const DISASTER_MS = 10_000;
/** Between two questions for members that we could turn to, doubled up to the maximum. */
const SEEK_PAUSE_MS = 250;
const SEEK_PAUSE_MAX_MS = 60_000;
/** A link that we have no more use for is kept for this long: a next request may come soon. */
const RELEASE_MS = 10_000;

interface Asked {
  readonly request: number;
  readonly at: number;
  /** Slots that an acceptance may fill. */
  readonly gain: number;
  /** Whom we drop when we are accepted and full. */
  readonly offer: NodeName | undefined;
  readonly entry: PeerEntry;
}

/**
 * The two views of one node, and the requests, grants and dismissals by which peers enter and
 * leave them. The parts of HyParView that decide *whom* to ask work on this.
 */
export class Views {
  readonly options: MembershipOptions;
  readonly random: Random;
  self: PeerEntry;
  isRunning: boolean = false;
  /** Whether there was a neighbour since the start. */
  isJoined: boolean = false;
  /** Whether anything happened since the last shuffle that makes shuffling worth while. */
  isEventful: boolean = true;
  /** When to look for another neighbour. */
  refillAt: number = Infinity;
  /** Called with each new neighbour, after the events that tell of it. */
  onAdmitted: (name: NodeName, isFirst: boolean, now: number) => void = () => {};

  /** Called when more than half of the active view was lost within seconds. */
  onDisaster: (now: number) => void = () => {};

  readonly active: Map<NodeName, PeerEntry> = new Map();
  readonly passive: PassiveView;
  /** Whom we asked for a slot. */
  readonly asked: Deadlines<Asked>;
  /** Whom a slot is kept for, because another peer sent it to us. */
  readonly promised: Deadlines<PeerEntry>;
  /** Whom we dropped and who has not acknowledged. */
  readonly leaving: Deadlines<PeerEntry> = new Deadlines(64);
  /** Whom we asked for its island, with the request's number. */
  readonly probed: Deadlines<number> = new Deadlines(8);
  readonly strangers: Strangers = new Strangers();
  readonly #hungry = new Deadlines<PeerEntry>(MAX_HUNGRY);
  readonly #favoured = new Deadlines<true>(256);
  readonly #released = new Deadlines<true>(256);
  readonly #book = new Map<NodeName, PeerEntry>();
  readonly #out: HyParViewEffect[];
  #lastRequest: number;
  #refillPauseMs = REFILL_PAUSE_MS;
  #hintsLeft = MAX_HINTS;
  // Once the view has been full: when to seek further members, and how rarely.
  #wasFull = false;
  #seekAt = 0;
  #seekPauseMs = SEEK_PAUSE_MS;
  #losses = 0;
  #lossesSince = 0;

  /** Effects are appended to `out`. */
  constructor(
    self: PeerEntry,
    options: MembershipOptions,
    random: Random,
    out: HyParViewEffect[],
  ) {
    this.self = self;
    this.options = options;
    this.random = random;
    this.#out = out;
    this.passive = new PassiveView(options.passiveSize, random);
    this.asked = new Deadlines(options.activeSize * MAX_ASKED_FACTOR);
    this.promised = new Deadlines(options.activeSize);
    this.#lastRequest = random.uint32();
  }

  /** The neighbours' names. */
  get activeView(): NodeName[] {
    return [...this.active.keys()];
  }

  /** Whether the active view has all it may have. */
  get isFull(): boolean {
    return this.active.size >= this.options.activeSize;
  }

  /** When the next deadline ends. */
  get nextAt(): number {
    return Math.min(
      this.refillAt,
      this.asked.nextAt,
      this.promised.nextAt,
      this.leaving.nextAt,
      this.probed.nextAt,
      this.#released.nextAt,
    );
  }

  /** What we know of a peer that we may have sent to. */
  entryOf(name: NodeName): PeerEntry | undefined {
    return this.active.get(name) ?? this.asked.get(name)?.entry ?? this.passive.get(name) ??
      this.strangers.get(name) ?? this.#book.get(name);
  }

  /** Ends what has lasted long enough. */
  expire(now: number): void {
    for (const [name] of this.leaving.expire(now)) this.release(name, now);
    if (this.promised.expire(now).length > 0) this.refillAt = now;
    for (const [name, asked] of this.asked.expire(now)) this.failed(name, asked.entry, now);
    for (const [name] of this.probed.expire(now)) this.unreachable(name, now);
    for (const [name] of this.#released.expire(now)) {
      if (!this.#isBusy(name)) this.#out.push({ type: "disconnect", peer: name });
    }
  }

  /** Tells the neighbours that we leave, and forgets everybody. */
  leave(now: number): void {
    for (const [name, entry] of [...this.active]) {
      this.send(name, { type: "disconnect", final: true, replacement: undefined });
      this.drop(name, "leaving");
      this.leaving.set(name, entry, now + LINGER_MS);
    }
    this.isRunning = false;
    this.isJoined = false;
    this.#wasFull = false;
    this.refillAt = Infinity;
    this.asked.clear();
    this.promised.clear();
    this.probed.clear();
    this.#hungry.clear();
    this.passive.clear();
    this.strangers.clear();
    this.emit({ type: "left" });
  }

  /** A peer that we dropped has dropped us. */
  acknowledged(name: NodeName, now: number): void {
    if (this.leaving.delete(name) !== undefined) this.release(name, now);
  }

  /** Forgets a peer altogether. */
  forget(name: NodeName, now: number): void {
    this.nodeDown(name, Infinity, now);
    this.strangers.remove(name);
    this.#book.delete(name);
  }

  /** Asks a peer for a slot; `offer`: whom we drop for it, being full. */
  ask(entry: PeerEntry, priority: Priority, offer: NodeName | undefined, now: number): void {
    const name = entry.name;
    if (name === this.self.name || this.active.has(name) || this.asked.has(name)) return;
    // A peer that has not acknowledged its dismissal would take our request for the old edge's.
    if (this.leaving.has(name) || this.asked.size >= this.#maxAsked) return;
    const gain = offer !== undefined ? 0 : priority === "low" ? 1 : 2;
    const request = this.noteRequest(entry, gain, offer, now);
    this.#sendRequest(
      name,
      request,
      priority,
      offer === undefined ? undefined : this.active.get(offer),
    );
  }

  #sendRequest(
    name: NodeName,
    request: number,
    priority: Priority,
    offer: PeerEntry | undefined,
  ): void {
    const { record } = this.self;
    this.send(name, { type: "neighbour", request, priority, record, offer });
  }

  /**
   * Two neighbours that lack one more each cannot help each other. A full peer can: it takes us in
   * and sends the peer that it drops for us to the other.
   */
  #askForBoth(full: PeerEntry, other: PeerEntry, now: number): void {
    if (!this.isEligible(full.name) || this.asked.size >= this.#maxAsked) return;
    this.#sendRequest(full.name, this.noteRequest(full, 1, undefined, now), "merge", other);
  }

  /** Notes a request for a slot that may fill `gain` of ours; returns its number. */
  noteRequest(entry: PeerEntry, gain: number, offer: NodeName | undefined, now: number): number {
    const request = this.nextRequest();
    this.asked.set(
      entry.name,
      { request, at: now, gain, offer, entry },
      now + REQUEST_TIMEOUT_MS,
    );
    return request;
  }

  /** Answers a request for a slot; whether it was granted. */
  decide(
    peer: PeerEntry,
    request: number,
    priority: Priority,
    offer: PeerEntry | undefined,
    now: number,
  ): boolean {
    // A neighbour that asks has lost the edge or never learned of it: for it, this is a new one.
    if (this.active.has(peer.name)) this.drop(peer.name, "restarted");
    const awaited = this.asked.has(peer.name) || this.promised.has(peer.name);
    let other: PeerEntry | undefined;
    this.#favoured.expire(now);
    if (!this.isFull) {
      // Departure: the paper accepts whenever the view is not full. Slots that will be filled are
      // kept, so that nobody is accepted only to be dropped; those that a request of low priority
      // may fill are not: it is mostly refused, and two nodes that both lack a neighbour would go
      // on refusing each other for the sake of requests to third ones.
      const free = this.lacking(now);
      const wanted = offer === undefined ? 1 : 2;
      if (!awaited && priority === "low" && free < wanted) return this.#refuse(peer, request, now);
      if (offer !== undefined && free >= wanted && this.isEligible(offer.name)) {
        this.promised.set(offer.name, offer, now + PROMISE_MS);
        other = this.self;
      }
    } else {
      // Departure: in the paper only an isolated node has priority. Here one that lacks two
      // neighbours does: it takes the peer that we drop for it, so that nobody loses.
      const victim = priority === "low" || this.#favoured.has(peer.name)
        ? undefined
        : this.victim(peer.name);
      if (victim === undefined) return this.#refuse(peer, request, now);
      this.#favoured.set(peer.name, true, now + FAVOUR_MS);
      other = this.active.get(victim);
      this.#evict(victim, offer ?? peer, now);
    }
    this.send(peer.name, { type: "accept", request, record: this.self.record, other });
    this.#admit(peer, now);
    return true;
  }

  #refuse(peer: PeerEntry, request: number, now: number): false {
    this.#hungry.expire(now);
    const names = this.#hungry.names().filter((name) => name !== peer.name);
    // Each hint is given once: whoever gets it will help the other, or find that it needs no help.
    const hint = this.#hungry.delete(pick(this.random, names) ?? "");
    this.send(peer.name, { type: "reject", request, hint });
    this.noteHungry(peer, now);
    this.learn(peer, now);
    this.release(peer.name, now);
    return false;
  }

  /** A peer lacks a neighbour, and we have no slot for it: the next such one will hear of it. */
  noteHungry(peer: PeerEntry, now: number): void {
    this.#hungry.set(peer.name, peer, now + HUNGRY_MS);
  }

  /** A peer granted a slot; `other` is whom it dropped, or where our offer may turn to. */
  accepted(
    from: Peer,
    request: number,
    record: Bytes,
    other: PeerEntry | undefined,
    now: number,
  ): void {
    const name = from.name;
    const asked = this.asked.get(name);
    if (asked === undefined || asked.request !== request) {
      // Too late, unless a newer request, which will be answered too, is under way. The peer
      // believes in an edge that we gave up: tell it.
      if (asked === undefined && !this.active.has(name)) this.dismiss(from, undefined, now);
      return;
    }
    this.asked.delete(name);
    if (this.active.has(name)) return;
    if (this.isFull) {
      if (asked.offer === undefined) return this.dismiss(from, undefined, now);
      const victim = this.active.has(asked.offer) ? asked.offer : this.victim(name);
      if (victim === undefined) return this.dismiss(from, undefined, now);
      this.#evict(victim, other, now);
    }
    this.#admit(entryOf(from, record), now);
    if (asked.offer !== undefined || other === undefined || !this.isEligible(other.name)) return;
    // The accepting peer dropped `other` for us and sent it here.
    if (!this.isFull) this.promised.set(other.name, other, now + PROMISE_MS);
  }

  /** A peer refused a slot. */
  rejected(from: Peer, request: number, hint: PeerEntry | undefined, now: number): void {
    const asked = this.asked.get(from.name);
    if (asked === undefined || asked.request !== request) return;
    this.asked.delete(from.name);
    this.passive.refused(asked.entry, now);
    this.release(from.name, now);
    if (this.active.size === 0 || this.free(now) > 1) this.refillAt = now;
    else {
      // All others have what they need: the last slot is no reason to hurry.
      this.refillAt = now + this.jittered(this.#refillPauseMs);
      this.#refillPauseMs = Math.min(REFILL_PAUSE_MAX_MS, this.#refillPauseMs * 2);
    }
    if (hint === undefined || this.free(now) <= 0 || this.#hintsLeft <= 0) return;
    this.#hintsLeft--;
    if (this.active.has(hint.name)) return this.#askForBoth(asked.entry, hint, now);
    this.learn(hint, now);
    this.ask(hint, this.lacking(now) > 1 ? "high" : "low", undefined, now);
  }

  /** The one place where the active view grows. */
  #admit(peer: PeerEntry, now: number): void {
    const { name } = peer;
    if (this.isFull || this.active.has(name)) {
      throw new Error(`invariant: ${name} does not fit the active view`);
    }
    this.passive.remove(name);
    this.strangers.remove(name);
    this.asked.delete(name);
    this.promised.delete(name);
    this.leaving.delete(name);
    this.#hungry.delete(name);
    this.active.set(name, peer);
    this.isEventful = true;
    if (this.free(now) > 0) {
      this.refillAt = Math.min(this.refillAt, now + this.jittered(HEDGE_MS));
    }
    this.#wasFull ||= this.isFull;
    const isFirst = !this.isJoined;
    this.isJoined = true;
    if (isFirst) this.emit({ type: "joined" });
    this.emit({ type: "peerUp", node: name });
    this.onAdmitted(name, isFirst, now);
  }

  /** The one place where it shrinks. */
  drop(name: NodeName, reason: PeerDownReason): PeerEntry | undefined {
    const peer = this.active.get(name);
    if (peer === undefined) return undefined;
    this.active.delete(name);
    this.isEventful = true;
    this.#refillPauseMs = REFILL_PAUSE_MS;
    this.emit({ type: "peerDown", node: name, reason });
    return peer;
  }

  #evict(name: NodeName, replacement: PeerEntry | undefined, now: number): void {
    const peer = this.drop(name, "evicted");
    if (peer === undefined) return;
    this.passive.add(peer, now);
    this.dismiss(peer, replacement?.name === name ? undefined : replacement, now);
  }

  /**
   * Departure: demotion has two phases. The peer is out of our view at once, but the link stays
   * until it has acknowledged or `LINGER_MS` have passed: what was under way still arrives.
   */
  dismiss(peer: Peer, replacement: PeerEntry | undefined, now: number): void {
    this.leaving.set(peer.name, this.entryOf(peer.name) ?? entryOf(peer), now + LINGER_MS);
    this.send(peer.name, { type: "disconnect", final: false, replacement });
  }

  /** A peer dropped us. */
  disconnected(
    from: Peer,
    final: boolean,
    replacement: PeerEntry | undefined,
    now: number,
  ): void {
    this.send(from.name, { type: "disconnectAck" });
    if (final) return this.peerLeft(from, now);
    const peer = this.drop(from.name, "disconnected");
    if (peer === undefined) return;
    this.passive.add(peer, now);
    this.passive.refused(peer, now);
    this.refillAt = now;
    if (replacement === undefined || !this.isEligible(replacement.name)) return;
    this.learn(replacement, now);
    if (this.free(now) > 0) this.ask(replacement, "low", undefined, now);
  }

  /** A peer left the cluster. */
  peerLeft(peer: Peer, now: number): void {
    if (this.drop(peer.name, "left") !== undefined && this.isRunning) this.refillAt = now;
    this.#forgetDealings(peer.name);
    this.strangers.remove(peer.name);
    this.passive.banish(entryOf(peer), now);
  }

  #forgetDealings(name: NodeName): void {
    this.asked.delete(name);
    this.promised.delete(name);
    this.leaving.delete(name);
    this.probed.delete(name);
    this.#hungry.delete(name);
  }

  /** A peer that we have dealings with cannot be reached. */
  unreachable(name: NodeName, now: number): void {
    this.promised.delete(name);
    this.leaving.delete(name);
    this.probed.delete(name);
    const asked = this.asked.delete(name);
    const peer = this.drop(name, "lost");
    if (peer !== undefined) {
      this.passive.add(peer, now);
      // Departure: the paper forgets it. After a partition it may be the only way back.
      this.strangers.add(peer, now);
      this.#countLoss(now);
      this.#seekSoon(now);
    }
    const entry = peer ?? asked?.entry ?? this.passive.get(name);
    if (entry !== undefined) this.failed(name, entry, now);
  }

  #countLoss(now: number): void {
    if (now - this.#lossesSince > DISASTER_MS) {
      this.#losses = 0;
      this.#lossesSince = now;
    }
    if (++this.#losses * 2 <= this.options.activeSize) return;
    this.#losses = 0;
    this.onDisaster(now);
  }

  /** An attempt to reach a peer failed. */
  failed(name: NodeName, entry: PeerEntry, now: number): void {
    this.isEventful = true;
    const dropped = this.passive.failed(entry, now);
    if (dropped !== undefined && !this.active.has(name)) this.strangers.add(dropped, now);
    if (this.isRunning) this.refillAt = now;
  }

  /** The cluster's verdict on one life of a node. */
  nodeDown(name: NodeName, epoch: number, now: number): void {
    const known = this.entryOf(name);
    if (known !== undefined && known.epoch > epoch) return;
    if (this.drop(name, "down") !== undefined) this.#seekSoon(now);
    this.#forgetDealings(name);
    if (known === undefined) return;
    this.passive.banish(known, now);
    // A verdict may come from the other side of a partition.
    this.strangers.add(known, now);
    if (this.isRunning) this.refillAt = now;
  }

  /** A neighbour does not read fast enough. */
  slowConsumer(name: NodeName, now: number): void {
    const peer = this.drop(name, "slow");
    if (peer === undefined) return;
    this.passive.failed(peer, now);
    this.dismiss(peer, undefined, now);
    this.refillAt = now;
  }

  /** A link proved that `peer` lives, under this epoch, at these addresses. */
  heard(peer: Peer, record: Bytes | undefined, now: number): void {
    const { name } = peer;
    if (name === this.self.name) return;
    const neighbour = this.active.get(name);
    const entry = entryOf(peer, record ?? this.entryOf(name)?.record);
    if (neighbour !== undefined) {
      if (peer.epoch > neighbour.epoch) {
        // A new life knows nothing of the old one's edges.
        this.drop(name, "restarted");
        this.passive.add(entry, now);
        this.refillAt = now;
      } else if (peer.epoch === neighbour.epoch) this.active.set(name, entry);
    }
    this.passive.heard(peer, entry, now);
  }

  /** Looks for neighbours until all free slots are asked for. */
  refill(now: number): void {
    this.refillAt = Infinity;
    if (!this.isRunning) return;
    let seekAt = Infinity;
    for (let free = this.free(now); free > 0; free = this.free(now)) {
      if (this.asked.size >= this.#maxAsked) break;
      const peer = this.passive.candidate(now, (name) => !this.isEligible(name));
      if (peer === undefined) {
        seekAt = this.#seek(now);
        break;
      }
      this.#hintsLeft = MAX_HINTS;
      this.ask(peer, free > 1 ? "high" : "low", undefined, now);
    }
    if (this.isFull) return;
    // Departure: the paper looks for a neighbour when it loses one, and if that fails no more. The
    // search goes on while the view is short, as fast as each peer's backoff allows.
    const hedgeAt = this.asked.size > 0 ? now + HEDGE_MS : Infinity;
    this.refillAt = Math.max(
      now + this.#refillPauseMs,
      Math.min(hedgeAt, this.passive.nextRetryAt(now), seekAt),
    );
  }

  /**
   * Departure: after a mass failure some know nobody who lives, and are known by nobody: with 35
   * peers in the views, 2.5 % of the survivors of 90 %. In the paper they stay alone. The roster
   * knows all members, so whoever had a full view and knows nobody else who may live turns to some
   * of them at random. Returns when to come back.
   */
  #seek(now: number): number {
    if (!this.#wasFull || !this.passive.isExhausted) return Infinity;
    if (now >= this.#seekAt) {
      this.#seekAt = now + this.jittered(this.#seekPauseMs);
      this.#seekPauseMs = Math.min(SEEK_PAUSE_MAX_MS, this.#seekPauseMs * 2);
      this.#out.push({ type: "seek", count: this.#maxAsked });
    }
    return this.#seekAt;
  }

  #seekSoon(now: number): void {
    this.#seekPauseMs = SEEK_PAUSE_MS;
    this.#seekAt = Math.min(this.#seekAt, now + SEEK_PAUSE_MS);
  }

  /** Slots of the active view that are neither taken nor kept for somebody. */
  free(now: number): number {
    let kept = 0;
    for (const asked of this.asked.values()) if (now - asked.at < HEDGE_MS) kept += asked.gain;
    for (const name of this.promised.names()) if (!this.asked.has(name)) kept++;
    return this.options.activeSize - this.active.size - kept;
  }

  /** Free slots, those among them that a request of low priority may fill. */
  lacking(now: number): number {
    let likely = 0;
    for (const asked of this.asked.values()) {
      if (asked.gain === 1 && now - asked.at < HEDGE_MS) likely++;
    }
    return this.free(now) + likely;
  }

  get #maxAsked(): number {
    return this.options.activeSize * MAX_ASKED_FACTOR;
  }

  /** Whether `name` could become a neighbour by a request of ours. */
  isEligible(name: NodeName): boolean {
    return name !== this.self.name && !this.active.has(name) && !this.asked.has(name) &&
      !this.leaving.has(name);
  }

  /** Whether `name` is in one of the views, or ourselves. */
  isKnown(name: NodeName): boolean {
    return name === this.self.name || this.active.has(name) ||
      this.passive.get(name) !== undefined;
  }

  /** A random neighbour to drop. */
  victim(except: NodeName): NodeName | undefined {
    return pick(this.random, this.activeView.filter((name) => name !== except));
  }

  /** Hearsay: into the passive view, if it is news. */
  learn(entry: PeerEntry, now: number, sent?: NodeName[]): void {
    if (entry.name === this.self.name || this.active.has(entry.name)) return;
    if (!this.passive.add(entry, now, sent)) return;
    if (this.passive.size < this.options.passiveSize) this.isEventful = true;
    // Somebody to ask at last.
    if (this.isRunning && this.free(now) > 0) this.refillAt = Math.min(this.refillAt, now);
  }

  /** The next hop of a random walk. */
  step(from: NodeName, origin: NodeName): NodeName | undefined {
    if (this.active.size <= 1) return undefined;
    return pick(
      this.random,
      this.activeView.filter((name) => name !== from && name !== origin),
    );
  }

  /** Has a message sent. */
  send(peer: NodeName, message: Message): void {
    this.#out.push({ type: "send", peer, message });
  }

  /** Tells the world. */
  emit(event: MembershipEvent): void {
    this.#out.push({ type: "emit", event });
  }

  /** Membership needs no link to this peer any more, unless there is other business with it. */
  release(name: NodeName, now: number): void {
    if (!this.#isBusy(name)) this.#released.set(name, true, now + RELEASE_MS);
  }

  #isBusy(name: NodeName): boolean {
    return this.active.has(name) || this.asked.has(name) || this.promised.has(name) ||
      this.leaving.has(name) || this.probed.has(name);
  }

  /** Keeps the addresses of a peer in no view until we have dialled it. */
  remember(entry: PeerEntry): void {
    this.#book.delete(entry.name);
    this.#book.set(entry.name, entry);
    if (this.#book.size <= MAX_BOOK) return;
    const oldest = this.#book.keys().next().value;
    if (oldest !== undefined) this.#book.delete(oldest);
  }

  /** A number for a request, unlike those under way. */
  nextRequest(): number {
    this.#lastRequest = (this.#lastRequest + 1) % 2 ** 32;
    return this.#lastRequest;
  }

  /** `ms` give or take a fifth: nodes that started together drift apart. */
  jittered(ms: number): number {
    return ms * (0.8 + 0.4 * randomFraction(this.random));
  }
}
