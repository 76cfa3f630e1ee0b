/**
 * HyParView, the membership protocol: each node keeps a small *active view*, the neighbours it
 * gossips with, and a larger *passive view*, whom to turn to when a neighbour is lost.
 *
 * After Leitão, Pereira and Rodrigues, "HyParView: a membership protocol for reliable gossip-based
 * broadcast" (DSN 2007). Where this machine leaves the paper, a comment that starts with
 * "Departure" says so and why.
 *
 * Departure: the paper adds a peer to the active view in one step and hopes that the other side
 * does the same. Here every edge is asked for (JOIN, NEIGHBOR) and granted (ACCEPT), a drop is
 * announced and acknowledged (DISCONNECT), and neighbours remind each other now and then (KEEP),
 * so both ends of an edge agree but for messages under way.
 */
import { pick, randomFraction, sample } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { Bytes } from "../base/bytes.ts";
import type { LinkDownReason } from "../link/ports.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Contacts } from "./contacts.ts";
import type { Contact } from "./contacts.ts";
import { Deadlines } from "./deadlines.ts";
import { BEAT_MS, Island, rootOf } from "./island.ts";
import { MAX_SHUFFLE_ENTRIES } from "./messages.ts";
import type { Message, Priority } from "./messages.ts";
import type { MembershipOptions } from "./options.ts";
import { PassiveView } from "./passive_view.ts";
import { entryOf } from "./peer_entry.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";
import { Strangers } from "./strangers.ts";

/** Why a peer left the active view. */
export type PeerDownReason =
  /** The link to it ended, or a frame could not be delivered. */
  | "lost"
  /** We dropped it for another. */
  | "evicted"
  /** It dropped us. */
  | "disconnected"
  /** It left the cluster. */
  | "left"
  /** It came back as a new life, or asked anew as if it did not know the edge. */
  | "restarted"
  /** The cluster declared it down. */
  | "down"
  /** It did not read fast enough. */
  | "slow"
  /** We leave the cluster. */
  | "leaving";

/** What the world learns. Each change of the active view is told exactly once, in order. */
export type MembershipEvent =
  /** The first neighbour since the start or since `leave`. */
  | { readonly type: "joined" }
  | { readonly type: "left" }
  | { readonly type: "peerUp"; readonly node: NodeName }
  | { readonly type: "peerDown"; readonly node: NodeName; readonly reason: PeerDownReason };

/** What happens to the machine. */
export type HyParViewEvent =
  /** Begins; nothing is accepted before. */
  | { readonly type: "start" }
  /** A contact to join through, an address or a node name; tried for ever. */
  | { readonly type: "join"; readonly contact: string }
  | { readonly type: "contactUp"; readonly address: string; readonly peer: Peer }
  | { readonly type: "contactFailed"; readonly address: string }
  | { readonly type: "message"; readonly from: Peer; readonly message: Message }
  | { readonly type: "linkUp"; readonly peer: Peer }
  | { readonly type: "linkDown"; readonly peer: Peer; readonly reason: LinkDownReason }
  /** A message could not be handed to a link. */
  | { readonly type: "undelivered"; readonly peer: NodeName }
  /** The cluster's verdict on one life of a node. */
  | { readonly type: "nodeDown"; readonly peer: NodeName; readonly epoch: number }
  /** Forget a node altogether, by an operator's word. */
  | { readonly type: "forget"; readonly peer: NodeName }
  /** Nodes that others know of: the roster's, for the probes. */
  | { readonly type: "known"; readonly peers: readonly PeerEntry[] }
  | { readonly type: "slowConsumer"; readonly peer: NodeName }
  /** Our own entry has changed. */
  | { readonly type: "self"; readonly entry: PeerEntry }
  | { readonly type: "leave" }
  /** `wakeAt` has come. */
  | { readonly type: "tick" };

/** What the driver is to do. */
export type HyParViewEffect =
  | { readonly type: "send"; readonly peer: NodeName; readonly message: Message }
  /** Open a link to whoever answers there and report `contactUp` or `contactFailed`. */
  | { readonly type: "connectAddress"; readonly address: string }
  | { readonly type: "emit"; readonly event: MembershipEvent }
  /** Membership has no further use for a link to this peer. */
  | { readonly type: "disconnect"; readonly peer: NodeName };

/** A request that was not answered for this long has failed, milliseconds. */
const REQUEST_TIMEOUT_MS = 10_000;
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
const REFILL_PAUSE_MAX_MS = 60_000;
/** Milliseconds between two probes of a stranger, and up to four times that while all is calm. */
const PROBE_INTERVAL_MS = 30_000;
/** Edges that a newcomer moves, and the pause before each, milliseconds. */
const MIXES = 2;
const MIX_MS = 20_000;
/** Edges that a node moves which has come over to another island; the first after this pause. */
const MERGE_MIXES = 3;
const MERGE_MIX_MS = 5_000;
/** Peers remembered that had no luck here, and for how long. */
const MAX_HUNGRY = 4;
const HUNGRY_MS = 30_000;
/** One peer may make us drop a neighbour for it once in this time. */
const FAVOUR_MS = 5_000;
/** Entries of peers in no view that we may have to dial. */
const MAX_BOOK = 256;
/** Shuffles whose reply is awaited. */
const MAX_SHUFFLES = 4;
/** Replies to shuffles in one interval, as each may make us dial a node: no tool for a flood. */
const MAX_SHUFFLE_REPLIES = 16;

interface Asked {
  readonly request: number;
  readonly at: number;
  /** Slots that an acceptance may fill. */
  readonly gain: number;
  /** Whom we drop when we are accepted and full. */
  readonly offer: NodeName | undefined;
  readonly entry: PeerEntry;
}

/** The machine of one node. Pure: events and time in, effects out. */
export class HyParView {
  readonly #options: MembershipOptions;
  readonly #random: Random;
  #self: PeerEntry;
  #out: HyParViewEffect[] = [];

  readonly #active = new Map<NodeName, PeerEntry>();
  readonly #passive: PassiveView;
  readonly #asked: Deadlines<Asked>;
  readonly #promised: Deadlines<PeerEntry>;
  readonly #leaving = new Deadlines<PeerEntry>(64);
  readonly #probed = new Deadlines<number>(8);
  readonly #hungry = new Deadlines<PeerEntry>(MAX_HUNGRY);
  readonly #favoured = new Deadlines<true>(256);
  readonly #contacts = new Contacts();
  readonly #strangers = new Strangers();
  readonly #book = new Map<NodeName, PeerEntry>();
  readonly #shuffles = new Map<number, NodeName[]>();
  #island: Island;

  #running = false;
  #joined = false;
  #lastRequest: number;
  #refillAt = Infinity;
  #refillPauseMs = REFILL_PAUSE_MS;
  #shuffleAt = Infinity;
  #shuffleReplies = 0;
  #beatAt = Infinity;
  #probeAt = Infinity;
  #probeTurn = 0;
  #mixAt = Infinity;
  #mixesLeft = 0;
  /** Doubled by each shuffle during which nothing happened. */
  #calm = 1;
  #eventful = true;

  constructor(self: PeerEntry, options: MembershipOptions, random: Random, now: number) {
    this.#self = self;
    this.#options = options;
    this.#random = random;
    this.#passive = new PassiveView(options.passiveSize, random);
    this.#asked = new Deadlines(options.activeSize * MAX_ASKED_FACTOR);
    this.#promised = new Deadlines(options.activeSize);
    this.#island = new Island(rootOf(self.name, self.epoch), now);
    this.#lastRequest = random.uint32();
  }

  /** The neighbours' names. */
  get activeView(): NodeName[] {
    return [...this.#active.keys()];
  }

  /** The names of the peers kept in reserve. */
  get passiveView(): NodeName[] {
    return this.#passive.names();
  }

  /** Whether we have had a neighbour since the start or since `leave`. */
  get joined(): boolean {
    return this.#joined;
  }

  /** The time at which a `tick` is due; `Infinity` when nothing is. */
  get wakeAt(): number {
    let at = Math.min(this.#refillAt, this.#shuffleAt, this.#beatAt, this.#probeAt, this.#mixAt);
    at = Math.min(at, this.#asked.nextAt, this.#promised.nextAt, this.#leaving.nextAt);
    at = Math.min(at, this.#probed.nextAt);
    if (this.#running && this.#active.size === 0) at = Math.min(at, this.#contacts.nextAt);
    return at;
  }

  /** What we know of a peer that we may have sent to: for the one who dials. */
  entryOf(name: NodeName): PeerEntry | undefined {
    return this.#active.get(name) ?? this.#asked.get(name)?.entry ?? this.#passive.get(name) ??
      this.#strangers.get(name) ?? this.#book.get(name) ?? this.#contacts.entryOf(name);
  }

  /** Takes one event in and says what is to be done about it. */
  handle(event: HyParViewEvent, now: number): HyParViewEffect[] {
    switch (event.type) {
      case "start":
        if (!this.#running) this.#start(now);
        break;
      case "join":
        if (!this.#running) this.#start(now);
        this.#tryContact(this.#contacts.add(event.contact), now);
        break;
      case "contactUp":
        this.#contactUp(event.address, event.peer, now);
        break;
      case "contactFailed": {
        const contact = this.#contacts.at(event.address);
        if (contact !== undefined) contact.dialling = false;
        break;
      }
      case "message":
        if (event.from.name !== this.#self.name) this.#receive(event.from, event.message, now);
        break;
      case "linkUp":
        this.#heard(event.peer, undefined, now);
        break;
      case "linkDown":
        this.#linkDown(event.peer, event.reason, now);
        break;
      case "undelivered":
        this.#unreachable(event.peer, now);
        break;
      case "nodeDown":
        this.#nodeDown(event.peer, event.epoch, now);
        break;
      case "forget":
        this.#nodeDown(event.peer, Infinity, now);
        this.#strangers.remove(event.peer);
        this.#book.delete(event.peer);
        break;
      case "known":
        for (const peer of event.peers) {
          if (!this.#isKnown(peer.name)) this.#strangers.add(peer, now);
        }
        break;
      case "slowConsumer":
        this.#slowConsumer(event.peer, now);
        break;
      case "self":
        this.#self = event.entry;
        break;
      case "leave":
        if (this.#running) this.#leave(now);
        break;
      case "tick":
        this.#tick(now);
        break;
    }
    if (this.#refillAt <= now) this.#refill(now);
    const out = this.#out;
    this.#out = [];
    return out;
  }

  // ---- life

  #start(now: number): void {
    this.#running = true;
    // Not all nodes of a cluster that starts at once shuffle at once.
    this.#shuffleAt = now + this.#jittered(this.#options.shuffleIntervalMs / 4);
    this.#beatAt = now + this.#jittered(BEAT_MS);
    this.#probeAt = now + this.#jittered(PROBE_INTERVAL_MS);
  }

  #leave(now: number): void {
    for (const [name, entry] of [...this.#active]) {
      this.#send(name, { type: "disconnect", final: true, replacement: undefined });
      this.#drop(name, "leaving");
      this.#leaving.set(name, entry, now + LINGER_MS);
    }
    this.#running = false;
    this.#joined = false;
    this.#asked.clear();
    this.#promised.clear();
    this.#probed.clear();
    this.#hungry.clear();
    this.#shuffles.clear();
    this.#passive.clear();
    this.#strangers.clear();
    this.#refillAt =
      this.#shuffleAt =
      this.#beatAt =
      this.#probeAt =
      this.#mixAt =
        Infinity;
    this.#emit({ type: "left" });
  }

  #tick(now: number): void {
    for (const [name] of this.#leaving.expire(now)) this.#release(name);
    if (this.#promised.expire(now).length > 0) this.#refillAt = now;
    for (const [name, asked] of this.#asked.expire(now)) this.#failed(name, asked.entry, now);
    for (const [name] of this.#probed.expire(now)) this.#unreachable(name, now);
    if (!this.#running) return;
    if (this.#shuffleAt <= now) this.#shuffle(now);
    if (this.#beatAt <= now) {
      if (this.#island.beat(now)) this.#keepAll(undefined);
      this.#beatAt = now + BEAT_MS;
    }
    if (this.#probeAt <= now) this.#probe(now);
    if (this.#mixAt <= now) this.#mix(now);
    if (this.#active.size === 0) {
      for (const contact of this.#contacts.due(now)) this.#tryContact(contact, now);
    }
  }

  // ---- joining

  #tryContact(contact: Contact, now: number): void {
    const { address, peer } = contact;
    this.#contacts.tried(contact, now);
    // By name when we know it, by address in between: another node may live there by now.
    if (peer !== undefined && (address === undefined || contact.attempts % 2 === 0)) {
      if (peer.name === this.#self.name) return this.#contacts.remove(contact);
      if (!this.#active.has(peer.name)) this.#approach(peer, contact.attempts > 1, now);
    } else if (address !== undefined && !contact.dialling) {
      contact.dialling = true;
      this.#out.push({ type: "connectAddress", address });
    }
  }

  #contactUp(address: string, peer: Peer, now: number): void {
    const contact = this.#contacts.at(address);
    if (contact === undefined) return;
    contact.dialling = false;
    if (peer.name === this.#self.name) return this.#contacts.remove(contact);
    contact.peer = entryOf(peer);
    this.#heard(peer, undefined, now);
    if (!this.#running || this.#active.has(peer.name)) return;
    this.#approach(contact.peer, contact.attempts > 1, now);
  }

  /** Asks a contact for a place; once we have all we need, only whether it lives on our island. */
  #approach(entry: PeerEntry, again: boolean, now: number): void {
    if (this.#free(now) <= 0) return this.#sendProbe(entry, now);
    if (this.#asked.has(entry.name) || this.#leaving.has(entry.name)) return;
    const request = this.#note(entry, 2, undefined, now);
    const urgent = again && this.#active.size === 0;
    this.#send(entry.name, { type: "join", request, urgent, record: this.#self.record });
  }

  /**
   * Departure: in the paper the contact always takes the newcomer in and drops a neighbour for it.
   * With one contact for all, its neighbours are always the latest newcomers, and every walk starts
   * among them: measured at 1,000 nodes, clustering 0.10 and paths of 8.8 hops where a random graph
   * has 0.004 and 4.7. Here a full contact takes in only those who stay alone without it.
   */
  #join(from: Peer, request: number, urgent: boolean, record: Bytes, now: number): void {
    const newcomer = entryOf(from, record);
    const others = this.activeView.filter((name) => name !== from.name);
    const full = this.#active.size >= this.#options.activeSize;
    this.#decide(newcomer, request, urgent ? "high" : "low", undefined, now);
    // A walk that ends at a full node brings two neighbours, so three are enough.
    for (const name of sample(this.#random, others, full ? 3 : others.length)) {
      if (!this.#active.has(name)) continue;
      this.#send(name, { type: "forwardJoin", peer: newcomer, ttl: this.#options.arwl });
    }
  }

  #forwardJoin(from: Peer, peer: PeerEntry, ttl: number, now: number): void {
    if (peer.name === this.#self.name) return;
    const hops = Math.min(ttl, this.#options.arwl);
    if (hops === this.#options.prwl) this.#learn(peer, now);
    const known = this.#active.has(peer.name) || this.#asked.has(peer.name) ||
      this.#leaving.has(peer.name);
    // Departure: a node with a free slot ends the walk, since both are looking for a neighbour.
    const ends = hops === 0 || this.#free(now) > 0;
    if (ends && !known) return this.#court(peer, now);
    if (hops === 0) return;
    // Departure: the last hop leads to a passive peer, so to any place in the overlay. A walk of six
    // hops from one contact reaches but a part of a large one, and nodes would pile up there.
    const next = hops === 1
      ? this.#passive.sample(1, peer.name)[0]?.name
      : this.#step(from.name, peer.name);
    if (next !== undefined) this.#send(next, { type: "forwardJoin", peer, ttl: hops - 1 });
    else if (!known) this.#court(peer, now);
  }

  /**
   * The end of a newcomer's walk. Departure: in the paper the end drops a random peer and adds the
   * newcomer, unasked. Here a full end puts the newcomer *between* itself and the peer it drops:
   * both become its neighbours, nobody's view gets shorter, and the graph stays random and regular.
   */
  #court(peer: PeerEntry, now: number): void {
    const offer = this.#free(now) > 0 ? undefined : this.#victim(peer.name);
    if (this.#active.size >= this.#options.activeSize && offer === undefined) return;
    this.#ask(peer, "low", offer, now);
  }

  // ---- asking and granting

  #ask(entry: PeerEntry, priority: Priority, offer: NodeName | undefined, now: number): void {
    const name = entry.name;
    if (name === this.#self.name || this.#active.has(name) || this.#asked.has(name)) return;
    // A peer that has not acknowledged its dismissal would take our request for the old edge's.
    if (this.#leaving.has(name) || this.#asked.size >= this.#maxAsked) return;
    const gain = offer !== undefined ? 0 : priority === "low" ? 1 : 2;
    const request = this.#note(entry, gain, offer, now);
    this.#send(name, {
      type: "neighbour",
      request,
      priority,
      record: this.#self.record,
      offer: offer === undefined ? undefined : this.#active.get(offer),
    });
  }

  #note(entry: PeerEntry, gain: number, offer: NodeName | undefined, now: number): number {
    const request = this.#nextRequest();
    this.#asked.set(
      entry.name,
      { request, at: now, gain, offer, entry },
      now + REQUEST_TIMEOUT_MS,
    );
    return request;
  }

  /** Answers a request for a slot; whether it was granted. */
  #decide(
    peer: PeerEntry,
    request: number,
    priority: Priority,
    offer: PeerEntry | undefined,
    now: number,
  ): boolean {
    // A neighbour that asks has lost the edge or never learned of it: for it, this is a new one.
    if (this.#active.has(peer.name)) this.#drop(peer.name, "restarted");
    const { activeSize } = this.#options;
    const awaited = this.#asked.has(peer.name) || this.#promised.has(peer.name);
    let other: PeerEntry | undefined;
    if (this.#active.size < activeSize) {
      const free = this.#free(now);
      // Departure: the paper accepts whenever the view is not full. Slots that requests under way
      // may fill are kept for them, so that nobody is accepted only to be dropped.
      const wanted = offer === undefined ? 1 : 2;
      if (!awaited && priority === "low" && free < wanted) return this.#refuse(peer, request, now);
      if (offer !== undefined && free >= wanted && this.#isEligible(offer.name)) {
        this.#promised.set(offer.name, offer, now + PROMISE_MS);
        other = this.#self;
      }
    } else {
      // Departure: in the paper only an isolated node has priority. Here one that lacks two
      // neighbours does: it takes the peer that we drop for it, so that nobody loses.
      const victim = priority === "low" || this.#favoured.has(peer.name)
        ? undefined
        : this.#victim(peer.name);
      if (victim === undefined) return this.#refuse(peer, request, now);
      this.#favoured.set(peer.name, true, now + FAVOUR_MS);
      other = this.#active.get(victim);
      this.#evict(victim, offer ?? peer, now);
    }
    this.#send(peer.name, { type: "accept", request, record: this.#self.record, other });
    this.#admit(peer, now);
    return true;
  }

  #refuse(peer: PeerEntry, request: number, now: number): false {
    this.#hungry.expire(now);
    const names = this.#hungry.names().filter((name) => name !== peer.name);
    const hint = this.#hungry.get(pick(this.#random, names) ?? "");
    this.#send(peer.name, { type: "reject", request, hint });
    this.#hungry.set(peer.name, peer, now + HUNGRY_MS);
    this.#learn(peer, now);
    this.#release(peer.name);
    return false;
  }

  #accepted(
    from: Peer,
    request: number,
    record: Bytes,
    other: PeerEntry | undefined,
    now: number,
  ): void {
    const name = from.name;
    const asked = this.#asked.get(name);
    if (asked === undefined || asked.request !== request) {
      // Too late, unless a newer request, which will be answered too, is under way. The peer
      // believes in an edge that we gave up: tell it.
      if (asked === undefined && !this.#active.has(name)) this.#dismiss(from, undefined, now);
      return;
    }
    this.#asked.delete(name);
    if (this.#active.has(name)) return;
    const full = this.#active.size >= this.#options.activeSize;
    if (full) {
      if (asked.offer === undefined) return this.#dismiss(from, undefined, now);
      const victim = this.#active.has(asked.offer) ? asked.offer : this.#victim(name);
      if (victim === undefined) return this.#dismiss(from, undefined, now);
      this.#evict(victim, other, now);
    }
    this.#admit(entryOf(from, record), now);
    if (asked.offer !== undefined || other === undefined || !this.#isEligible(other.name)) return;
    // The accepting peer dropped `other` for us and sent it here.
    if (this.#active.size < this.#options.activeSize) {
      this.#promised.set(other.name, other, now + PROMISE_MS);
    }
  }

  #rejected(from: Peer, request: number, hint: PeerEntry | undefined, now: number): void {
    const asked = this.#asked.get(from.name);
    if (asked === undefined || asked.request !== request) return;
    this.#asked.delete(from.name);
    this.#passive.refused(asked.entry, now);
    this.#release(from.name);
    if (this.#active.size === 0 || this.#free(now) > 1) this.#refillAt = now;
    else {
      // All others have what they need: the last slot is no reason to hurry.
      this.#refillAt = now + this.#jittered(this.#refillPauseMs);
      this.#refillPauseMs = Math.min(REFILL_PAUSE_MAX_MS, this.#refillPauseMs * 2);
    }
    if (hint === undefined || this.#free(now) <= 0) return;
    this.#learn(hint, now);
    this.#ask(hint, this.#free(now) > 1 ? "high" : "low", undefined, now);
  }

  /** The one place where the active view grows. */
  #admit(peer: PeerEntry, now: number): void {
    const { name } = peer;
    if (this.#active.size >= this.#options.activeSize || this.#active.has(name)) {
      throw new Error(`invariant: ${name} does not fit the active view`);
    }
    this.#passive.remove(name);
    this.#strangers.remove(name);
    this.#asked.delete(name);
    this.#promised.delete(name);
    this.#leaving.delete(name);
    this.#hungry.delete(name);
    this.#active.set(name, peer);
    this.#eventful = true;
    if (this.#free(now) > 0) {
      this.#refillAt = Math.min(this.#refillAt, now + this.#jittered(HEDGE_MS));
    }
    if (!this.#joined) {
      this.#joined = true;
      this.#contacts.reset();
      this.#mixesLeft = MIXES;
      this.#mixAt = now + this.#jittered(MIX_MS);
      this.#emit({ type: "joined" });
    }
    this.#emit({ type: "peerUp", node: name });
    this.#send(name, { type: "keep", mark: this.#island.mark });
  }

  /** The one place where it shrinks. */
  #drop(name: NodeName, reason: PeerDownReason): PeerEntry | undefined {
    const peer = this.#active.get(name);
    if (peer === undefined) return undefined;
    this.#active.delete(name);
    this.#eventful = true;
    this.#refillPauseMs = REFILL_PAUSE_MS;
    this.#emit({ type: "peerDown", node: name, reason });
    return peer;
  }

  #evict(name: NodeName, replacement: PeerEntry | undefined, now: number): void {
    const peer = this.#drop(name, "evicted");
    if (peer === undefined) return;
    this.#passive.add(peer, now);
    this.#dismiss(peer, replacement?.name === name ? undefined : replacement, now);
  }

  /**
   * Departure: demotion has two phases. The peer is out of our view at once, but the link stays
   * until it has acknowledged or `LINGER_MS` have passed: what was under way still arrives.
   */
  #dismiss(peer: Peer, replacement: PeerEntry | undefined, now: number): void {
    this.#leaving.set(peer.name, this.entryOf(peer.name) ?? entryOf(peer), now + LINGER_MS);
    this.#send(peer.name, { type: "disconnect", final: false, replacement });
  }

  #disconnected(
    from: Peer,
    final: boolean,
    replacement: PeerEntry | undefined,
    now: number,
  ): void {
    this.#send(from.name, { type: "disconnectAck" });
    if (final) return this.#peerLeft(from, now);
    const peer = this.#drop(from.name, "disconnected");
    if (peer === undefined) return;
    this.#passive.add(peer, now);
    this.#passive.refused(peer, now);
    this.#refillAt = now;
    if (replacement === undefined || !this.#isEligible(replacement.name)) return;
    this.#learn(replacement, now);
    if (this.#free(now) > 0) this.#ask(replacement, "low", undefined, now);
  }

  #peerLeft(peer: Peer, now: number): void {
    if (this.#drop(peer.name, "left") !== undefined && this.#running) this.#refillAt = now;
    this.#forgetDealings(peer.name);
    this.#strangers.remove(peer.name);
    this.#passive.banish(entryOf(peer), now);
  }

  #forgetDealings(name: NodeName): void {
    this.#asked.delete(name);
    this.#promised.delete(name);
    this.#leaving.delete(name);
    this.#probed.delete(name);
    this.#hungry.delete(name);
  }

  // ---- losses

  #linkDown(peer: Peer, reason: LinkDownReason, now: number): void {
    const known = this.#active.get(peer.name) ?? this.#asked.get(peer.name)?.entry;
    // The end of an old life's link says nothing about the new life.
    if (known !== undefined && known.epoch > peer.epoch) return;
    if (reason === "replaced") {
      // Another link took over. What was on the old one may be lost: make sure both still agree.
      if (this.#active.has(peer.name)) {
        this.#send(peer.name, { type: "keep", mark: this.#island.mark });
      }
      return;
    }
    if (reason === "left") return this.#peerLeft(peer, now);
    if (reason === "overloaded") {
      const slow = this.#drop(peer.name, "slow");
      if (slow !== undefined) this.#failed(peer.name, slow, now);
    }
    // Links to others come and go; only neighbours, and those we asked, concern us.
    if (this.#active.has(peer.name) || this.#asked.has(peer.name)) {
      this.#unreachable(peer.name, now);
    } else this.#leaving.delete(peer.name);
  }

  /** A peer that we have dealings with cannot be reached. */
  #unreachable(name: NodeName, now: number): void {
    this.#promised.delete(name);
    this.#leaving.delete(name);
    this.#probed.delete(name);
    const asked = this.#asked.delete(name);
    const peer = this.#drop(name, "lost");
    if (peer !== undefined) {
      this.#passive.add(peer, now);
      // Departure: the paper forgets it. After a partition it may be the only way back.
      this.#strangers.add(peer, now);
    }
    const entry = peer ?? asked?.entry ?? this.#passive.get(name);
    if (entry !== undefined) this.#failed(name, entry, now);
  }

  #failed(name: NodeName, entry: PeerEntry, now: number): void {
    this.#eventful = true;
    const dropped = this.#passive.failed(entry, now);
    if (dropped !== undefined && !this.#active.has(name)) this.#strangers.add(dropped, now);
    if (this.#running) this.#refillAt = now;
  }

  #nodeDown(name: NodeName, epoch: number, now: number): void {
    const known = this.entryOf(name);
    if (known !== undefined && known.epoch > epoch) return;
    this.#drop(name, "down");
    this.#forgetDealings(name);
    if (known === undefined) return;
    this.#passive.banish(known, now);
    // A verdict may come from the other side of a partition.
    this.#strangers.add(known, now);
    if (this.#running) this.#refillAt = now;
  }

  #slowConsumer(name: NodeName, now: number): void {
    const peer = this.#drop(name, "slow");
    if (peer === undefined) return;
    this.#passive.failed(peer, now);
    this.#dismiss(peer, undefined, now);
    this.#refillAt = now;
  }

  /** A link proved that `peer` lives, under this epoch, at these addresses. */
  #heard(peer: Peer, record: Bytes | undefined, now: number): void {
    const { name } = peer;
    if (name === this.#self.name) return;
    const neighbour = this.#active.get(name);
    const entry = entryOf(peer, record ?? this.entryOf(name)?.record);
    if (neighbour !== undefined) {
      if (peer.epoch > neighbour.epoch) {
        // A new life knows nothing of the old one's edges.
        this.#drop(name, "restarted");
        this.#passive.add(entry, now);
        this.#refillAt = now;
      } else if (peer.epoch === neighbour.epoch) this.#active.set(name, entry);
    }
    this.#passive.heard(peer, entry, now);
  }

  // ---- filling the view

  #refill(now: number): void {
    this.#refillAt = Infinity;
    if (!this.#running) return;
    for (let free = this.#free(now); free > 0; free = this.#free(now)) {
      if (this.#asked.size >= this.#maxAsked) break;
      const peer = this.#passive.candidate(now, (name) => !this.#isEligible(name));
      if (peer === undefined) break;
      this.#ask(peer, free > 1 ? "high" : "low", undefined, now);
    }
    if (this.#active.size >= this.#options.activeSize) return;
    // Departure: the paper looks for a neighbour when it loses one, and if that fails no more. The
    // search goes on while the view is short, as fast as each peer's backoff allows.
    const hedgeAt = this.#asked.size > 0 ? now + HEDGE_MS : Infinity;
    this.#refillAt = Math.max(
      now + this.#refillPauseMs,
      Math.min(hedgeAt, this.#passive.nextRetryAt(now)),
    );
  }

  /** Slots of the active view that are neither taken nor kept for somebody. */
  #free(now: number): number {
    let kept = 0;
    for (const asked of this.#asked.values()) if (now - asked.at < HEDGE_MS) kept += asked.gain;
    for (const name of this.#promised.names()) if (!this.#asked.has(name)) kept++;
    return this.#options.activeSize - this.#active.size - kept;
  }

  get #maxAsked(): number {
    return this.#options.activeSize * MAX_ASKED_FACTOR;
  }

  /** Whether `name` could become a neighbour by a request of ours. */
  #isEligible(name: NodeName): boolean {
    return name !== this.#self.name && !this.#active.has(name) && !this.#asked.has(name) &&
      !this.#leaving.has(name);
  }

  #isKnown(name: NodeName): boolean {
    return name === this.#self.name || this.#active.has(name) ||
      this.#passive.get(name) !== undefined;
  }

  #victim(except: NodeName): NodeName | undefined {
    return pick(this.#random, this.activeView.filter((name) => name !== except));
  }

  // ---- shuffling

  #shuffle(now: number): void {
    const { shuffleIntervalMs, shuffleActive, shufflePassive, arwl } = this.#options;
    // Departure: the paper shuffles at a fixed pace. While nothing happens the pause grows to eight
    // times the interval, so that an idle cluster is nearly silent; a newcomer makes haste.
    const starved = this.#passive.size < this.#options.passiveSize / 2;
    this.#calm = this.#eventful ? 1 : Math.min(8, this.#calm * 2);
    const pace = this.#eventful && starved ? 0.25 : this.#calm;
    this.#shuffleAt = now + this.#jittered(shuffleIntervalMs * pace);
    this.#eventful = false;
    this.#shuffleReplies = 0;
    const target = pick(this.#random, this.activeView);
    if (target === undefined) return;
    const neighbours = [...this.#active.values()].filter((peer) => peer.name !== target);
    const entries = [
      ...sample(this.#random, neighbours, shuffleActive),
      ...this.#passive.sample(shufflePassive, target),
    ].slice(0, MAX_SHUFFLE_ENTRIES);
    const request = this.#nextRequest();
    this.#shuffles.set(request, entries.map((entry) => entry.name));
    if (this.#shuffles.size > MAX_SHUFFLES) {
      const oldest = this.#shuffles.keys().next().value;
      if (oldest !== undefined) this.#shuffles.delete(oldest);
    }
    const hungry = this.#free(now) > 0;
    this.#send(target, {
      type: "shuffle",
      request,
      ttl: arwl,
      hungry,
      origin: this.#self,
      entries,
    });
  }

  #shuffled(from: Peer, message: Message & { type: "shuffle" }, now: number): void {
    const { origin, entries, hungry, request } = message;
    if (origin.name === this.#self.name) return;
    // Departure: a node with a free slot that meets the walk of another one asks it.
    if (hungry && this.#free(now) > 0 && this.#isEligible(origin.name)) {
      this.#ask(origin, "low", undefined, now);
    }
    const ttl = Math.min(message.ttl, this.#options.arwl) - 1;
    const next = ttl > 0 ? this.#step(from.name, origin.name) : undefined;
    if (next !== undefined) return this.#send(next, { ...message, ttl });
    const reply = this.#passive.sample(entries.length, origin.name);
    if (this.#shuffleReplies++ < MAX_SHUFFLE_REPLIES) {
      this.#remember(origin);
      this.#send(origin.name, { type: "shuffleReply", request, entries: reply });
      if (!this.#active.has(origin.name)) this.#release(origin.name);
    }
    const sent = reply.map((entry) => entry.name);
    this.#learn(origin, now, sent);
    for (const entry of entries) this.#learn(entry, now, sent);
  }

  #shuffleReply(request: number, entries: readonly PeerEntry[], now: number): void {
    const sent = this.#shuffles.get(request);
    if (sent === undefined) return;
    this.#shuffles.delete(request);
    for (const entry of entries) this.#learn(entry, now, sent);
  }

  /** Hearsay: into the passive view, if it is news. */
  #learn(entry: PeerEntry, now: number, sent?: NodeName[]): void {
    if (entry.name === this.#self.name || this.#active.has(entry.name)) return;
    if (!this.#passive.add(entry, now, sent)) return;
    if (this.#passive.size < this.#options.passiveSize) this.#eventful = true;
    // Somebody to ask at last.
    if (this.#running && this.#free(now) > 0) this.#refillAt = Math.min(this.#refillAt, now);
  }

  /** The next hop of a random walk. */
  #step(from: NodeName, origin: NodeName): NodeName | undefined {
    if (this.#active.size <= 1) return undefined;
    return pick(
      this.#random,
      this.activeView.filter((name) => name !== from && name !== origin),
    );
  }

  // ---- islands

  #keepAll(except: NodeName | undefined): void {
    for (const name of this.#active.keys()) {
      if (name !== except) this.#send(name, { type: "keep", mark: this.#island.mark });
    }
  }

  #kept(from: Peer, mark: Message & { type: "keep" }, now: number): void {
    const { name } = from;
    if (!this.#active.has(name)) {
      // It holds an edge that we do not have; unless we are about to settle that anyway.
      if (!this.#asked.has(name) && !this.#leaving.has(name)) this.#dismiss(from, undefined, now);
      return;
    }
    switch (this.#island.hear(mark.mark, now)) {
      case "behind":
        this.#send(name, { type: "keep", mark: this.#island.mark });
        break;
      case "newer":
        this.#keepAll(name);
        break;
      case "merged":
        this.#keepAll(name);
        // What could not be reached from the other island may be within reach now.
        this.#passive.pardon();
        this.#strangers.pardon();
        // One bridge between two islands is thin: those who come over move some of their edges.
        if (this.#active.size >= this.#options.activeSize) {
          this.#mixesLeft = MERGE_MIXES;
          this.#mixAt = Math.min(this.#mixAt, now + this.#jittered(MERGE_MIX_MS));
        }
        break;
      case "same":
        break;
    }
  }

  /** Departure: one contact, stranger or passive peer is asked now and then which island it is on. */
  #probe(now: number): void {
    this.#probeAt = now + this.#jittered(PROBE_INTERVAL_MS * Math.min(4, this.#calm));
    for (let i = 0; i < 3; i++) {
      this.#probeTurn = (this.#probeTurn + 1) % 3;
      if (this.#probeTurn === 0) {
        // While we have nobody the contacts are tried anyway.
        if (this.#active.size === 0) continue;
        const contacts = this.#contacts.all().filter((contact) =>
          contact.peer === undefined || !this.#active.has(contact.peer.name)
        );
        const contact = pick(this.#random, contacts);
        if (contact === undefined) continue;
        return this.#tryContact(contact, now);
      }
      const peer = this.#probeTurn === 1 ? this.#strangers.take(now) : this.#passive.stalest();
      if (peer !== undefined && this.#isEligible(peer.name)) return this.#sendProbe(peer, now);
    }
  }

  #sendProbe(peer: PeerEntry, now: number): void {
    const { name } = peer;
    if (!this.#isEligible(name) || this.#probed.has(name)) return;
    const request = this.#nextRequest();
    this.#remember(peer);
    this.#probed.set(name, request, now + REQUEST_TIMEOUT_MS);
    const mark = this.#island.mark;
    this.#send(name, { type: "probe", request, mark, record: this.#self.record });
  }

  #probedBy(from: Peer, message: Message & { type: "probe" }, now: number): void {
    this.#send(from.name, {
      type: "probeReply",
      request: message.request,
      mark: this.#island.mark,
      foreign: this.#island.isForeign(message.mark, now),
      record: this.#self.record,
      entries: this.#passive.sample(this.#options.shufflePassive, from.name)
        .slice(0, MAX_SHUFFLE_ENTRIES),
    });
    this.#learn(entryOf(from, message.record), now);
    if (!this.#active.has(from.name)) this.#release(from.name);
  }

  #probeReply(from: Peer, message: Message & { type: "probeReply" }, now: number): void {
    const { name } = from;
    if (this.#probed.get(name) !== message.request) return;
    this.#probed.delete(name);
    const peer = entryOf(from, message.record);
    this.#strangers.remove(name);
    this.#learn(peer, now);
    for (const entry of message.entries) this.#learn(entry, now);
    if (!this.#isEligible(name)) return;
    const foreign = message.foreign && this.#island.isForeign(message.mark, now);
    if (!foreign) return this.#release(name);
    const offer = this.#free(now) > 0 ? undefined : this.#victim(name);
    this.#ask(peer, "merge", offer, now);
  }

  /**
   * Departure: a newcomer moves a few of its edges to random passive peers, each time so that all
   * four ends keep their number of neighbours. Walks from one contact alone leave the graph more
   * clustered than a random one (at 10,000 nodes 0.0012 instead of 0.0006).
   */
  #mix(now: number): void {
    this.#mixAt = --this.#mixesLeft > 0 ? now + this.#jittered(MIX_MS) : Infinity;
    // In a small cluster everybody is near everybody anyway.
    const large = this.#passive.size >= this.#options.passiveSize / 2;
    if (!large || this.#active.size < this.#options.activeSize) return;
    const peer = this.#strangers.take(now) ??
      this.#passive.candidate(now, (name) => !this.#isEligible(name));
    const offer = peer === undefined ? undefined : this.#victim(peer.name);
    if (peer !== undefined && offer !== undefined) this.#ask(peer, "merge", offer, now);
  }

  // ---- messages

  #receive(from: Peer, message: Message, now: number): void {
    const neighbour = this.#active.get(from.name);
    // A frame of a life that has ended, still under way when the next one arrived.
    if (neighbour !== undefined && neighbour.epoch > from.epoch) return;
    this.#heard(from, "record" in message ? message.record : undefined, now);
    if (!this.#running) return this.#receiveOutside(from, message);
    switch (message.type) {
      case "join":
        return this.#join(from, message.request, message.urgent, message.record, now);
      case "forwardJoin":
        return this.#forwardJoin(from, message.peer, message.ttl, now);
      case "neighbour":
        this.#decide(
          entryOf(from, message.record),
          message.request,
          message.priority,
          message.offer,
          now,
        );
        return;
      case "accept":
        return this.#accepted(from, message.request, message.record, message.other, now);
      case "reject":
        return this.#rejected(from, message.request, message.hint, now);
      case "disconnect":
        return this.#disconnected(from, message.final, message.replacement, now);
      case "disconnectAck":
        if (this.#leaving.delete(from.name) !== undefined) this.#release(from.name);
        return;
      case "shuffle":
        return this.#shuffled(from, message, now);
      case "shuffleReply":
        return this.#shuffleReply(message.request, message.entries, now);
      case "keep":
        return this.#kept(from, message, now);
      case "probe":
        return this.#probedBy(from, message, now);
      case "probeReply":
        return this.#probeReply(from, message, now);
    }
  }

  /** We have left, or not begun: nobody gets a slot, and those who hold an edge are told. */
  #receiveOutside(from: Peer, message: Message): void {
    switch (message.type) {
      case "join":
      case "neighbour":
        this.#send(from.name, { type: "reject", request: message.request, hint: undefined });
        this.#send(from.name, { type: "disconnect", final: true, replacement: undefined });
        break;
      case "accept":
      case "keep":
      case "probe":
        this.#send(from.name, { type: "disconnect", final: true, replacement: undefined });
        break;
      case "disconnect":
        this.#send(from.name, { type: "disconnectAck" });
        break;
      case "disconnectAck":
        if (this.#leaving.delete(from.name) !== undefined) this.#release(from.name);
        break;
    }
  }

  // ---- small change

  #send(peer: NodeName, message: Message): void {
    this.#out.push({ type: "send", peer, message });
  }

  #emit(event: MembershipEvent): void {
    this.#out.push({ type: "emit", event });
  }

  /** Membership needs no link to this peer any more, unless it has other business with it. */
  #release(name: NodeName): void {
    const busy = this.#active.has(name) || this.#asked.has(name) || this.#promised.has(name) ||
      this.#leaving.has(name) || this.#probed.has(name);
    if (!busy) this.#out.push({ type: "disconnect", peer: name });
  }

  /** Keeps the addresses of a peer in no view until we have dialled it. */
  #remember(entry: PeerEntry): void {
    this.#book.delete(entry.name);
    this.#book.set(entry.name, entry);
    if (this.#book.size <= MAX_BOOK) return;
    const oldest = this.#book.keys().next().value;
    if (oldest !== undefined) this.#book.delete(oldest);
  }

  #nextRequest(): number {
    this.#lastRequest = (this.#lastRequest + 1) % 2 ** 32;
    return this.#lastRequest;
  }

  /** `ms` give or take a fifth: nodes that started together drift apart. */
  #jittered(ms: number): number {
    return ms * (0.8 + 0.4 * randomFraction(this.#random));
  }
}
