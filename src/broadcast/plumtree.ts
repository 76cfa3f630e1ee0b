/**
 * Plumtree: broadcast along spanning trees that build and repair themselves on top of the active
 * view. A message's payload is pushed to *eager* neighbours, the tree; *lazy* neighbours hear its
 * id, and ask for it when the tree has not brought it.
 *
 * After Leitão, Pereira and Rodrigues, "Epidemic broadcast trees" (SRDS 2007). Where this machine
 * leaves the paper, a comment that starts with "Departure" says so and why.
 *
 * Departure: several trees instead of one, chosen by the sender, so that not always the same nodes
 * carry the load; and each tree is shaped for one of its senders, its root, where the paper lets
 * the senders pull one tree to and fro.
 */
import { pick, randomFraction } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import { EMPTY } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { PlumtreeCount, PlumtreeEffect, PlumtreeEvent } from "./events.ts";
import { keyOf, MessageCache } from "./message_cache.ts";
import type { Cached } from "./message_cache.ts";
import { ALL_TREES, MAX_HOPS, MAX_IDS, treeOf, TREES } from "./messages.ts";
import type { Announcement, Control, Gossip, MessageId } from "./messages.ts";
import { MissingTable } from "./missing.ts";
import { Roots } from "./roots.ts";
import { Rto } from "./rto.ts";
import { SeenIds } from "./seen_ids.ts";

/** Announcements wait this long for company, milliseconds. */
const ANNOUNCE_MS = 50;
/** Wait for the tree before the first announcer is asked: first guess and bounds, milliseconds. */
const TREE_WAIT_MS = [500, 100, 3_000] as const;
/** Wait for an announcer that was asked, before the next one is: first guess and bounds. */
const GRAFT_WAIT_MS = [500, 50, 5_000] as const;
/** A new neighbour hears of messages of this age, milliseconds, and of so many at most. */
const RECENT_MS = 30_000;
const MAX_RECENT = 512;
/** One message is sent again so often at most: a request costs its sender less than us. */
const MAX_GRAFTS = 32;
/** Announcing anew to a peer that frames did not reach: once in this time, milliseconds. */
const REANNOUNCE_MS = 5_000;

interface Neighbour {
  readonly name: NodeName;
  /** Trees in which we push to it. */
  eager: number;
  /** What we said when we met, until it has said the same. */
  met: { readonly wanted: number; readonly unused: number } | undefined;
  /** Announcements that wait. */
  readonly lazy: Map<string, Announcement>;
  /** Its distance from the sender of the last message we heard of, by tree. */
  readonly hops: number[];
  readonly rto: Rto;
  reannouncedAt: number;
}

/** The machine of one node. Pure: events and time in, effects out. */
export class Plumtree {
  readonly #origin: number;
  readonly #random: Random;
  #out: PlumtreeEffect[] = [];

  readonly #neighbours = new Map<NodeName, Neighbour>();
  /** Who pushed the last message of each tree to us. */
  readonly #parents: (NodeName | undefined)[] = new Array(TREES).fill(undefined);
  /** Trees of which no message was seen yet. */
  #unused = ALL_TREES;

  readonly #seen = new SeenIds();
  readonly #cache = new MessageCache();
  readonly #missing = new MissingTable();
  readonly #treeWait = new Rto(...TREE_WAIT_MS);
  readonly #roots: Roots;
  #lastSeq = 0;
  #announceAt = Infinity;

  /** `origin`: 48-bit number of this life of this node, see `originOf`. */
  constructor(origin: number, random: Random) {
    this.#origin = origin;
    this.#random = random;
    this.#roots = new Roots(origin);
  }

  /** The time at which a `tick` is due; `Infinity` when nothing is. */
  get wakeAt(): number {
    return Math.min(this.#announceAt, this.#roots.wakeAt, this.#missing.nextAt);
  }

  /** Sizes of all that can grow, for gauges and tests. */
  get sizes(): { neighbours: number; cached: number; cachedBytes: number; missing: number } {
    return {
      neighbours: this.#neighbours.size,
      cached: this.#cache.size,
      cachedBytes: this.#cache.bytes,
      missing: this.#missing.size,
    };
  }

  /** What names the message that was published last. */
  get lastId(): MessageId {
    return { origin: this.#origin, seq: this.#lastSeq };
  }

  /** The neighbours that we push one tree's messages to. */
  eagerPeers(tree: number): NodeName[] {
    return this.#eager(1 << tree, undefined);
  }

  /** Takes one event in and says what is to be done about it. */
  handle(event: PlumtreeEvent, now: number): PlumtreeEffect[] {
    switch (event.type) {
      case "publish":
        this.#publish(event.topic, event.payload, now);
        break;
      case "gossip":
        this.#gossip(event.from, event.gossip, now);
        break;
      case "control":
        this.#control(event.from, event.message, now);
        break;
      case "neighbourUp":
        this.#neighbourUp(event.peer, now);
        break;
      case "neighbourDown":
        this.#neighbourDown(event.peer);
        break;
      case "undelivered":
        this.#undelivered(event.peer, now);
        break;
      case "tick":
        this.#tick(now);
        break;
    }
    const out = this.#out;
    this.#out = [];
    return out;
  }

  // ---- messages

  #publish(topic: string, payload: Bytes, now: number): void {
    const seq = ++this.#lastSeq;
    const shaping = this.#roots.mayShape(now);
    const gossip = { origin: this.#origin, seq, shaping, hops: 0, topic, payload };
    this.#seen.add(gossip);
    this.#keep(keyOf(gossip), gossip, undefined, undefined, now);
  }

  #gossip(from: NodeName, received: Gossip, now: number): void {
    const tree = treeOf(received.origin);
    const neighbour = this.#neighbours.get(from);
    if (neighbour !== undefined) neighbour.hops[tree] = received.hops;
    const key = keyOf(received);
    if (!this.#seen.add(received)) return this.#duplicate(neighbour, tree, key);

    const missing = this.#missing.delete(key);
    if (missing !== undefined) this.#learnWait(missing, from, now);
    if (received.topic !== "") this.#out.push({ type: "deliver", gossip: received, from });
    // Whether it came on request, over an edge that is new in the tree.
    const rescued = missing?.grafted === true && missing.asked === from;
    if (rescued) this.#count("rescued");
    else if (missing?.grafted && missing.asked !== undefined) this.#undoGraft(missing.asked, tree);
    if (neighbour !== undefined) {
      neighbour.eager |= 1 << tree;
      neighbour.lazy.delete(key);
      this.#parents[tree] = from;
    }
    const gossip = { ...received, hops: Math.min(MAX_HOPS, received.hops + 1) };
    this.#keep(key, gossip, from, missing, now);
    const cached = this.#cache.get(key);
    if (cached !== undefined) cached.rescued = rescued;
  }

  /** Keeps a new message, pushes it on and has it announced. */
  #keep(
    key: string,
    gossip: Gossip,
    from: NodeName | undefined,
    missing: { readonly announcers: readonly NodeName[] } | undefined,
    now: number,
  ): void {
    const tree = treeOf(gossip.origin);
    this.#unused &= ~(1 << tree);
    this.#roots.saw(gossip, now);
    this.#cache.add(key, { gossip, from, rescued: false, at: now, grafts: 0 });
    const peers = this.#eager(1 << tree, from);
    if (peers.length > 0) this.#out.push({ type: "push", peers, gossip });
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.eager & (1 << tree) || neighbour.name === from) continue;
      // Departure: who announced it to us has it, and need not hear it from us.
      if (missing?.announcers.includes(neighbour.name)) continue;
      this.#announce(neighbour, key, gossip, now);
    }
  }

  #duplicate(neighbour: Neighbour | undefined, tree: number, key: string): void {
    this.#count("duplicate");
    if (neighbour === undefined) return;
    neighbour.lazy.delete(key);
    const cached = this.#cache.get(key);
    // The same peer's again: an answer to a request that crossed the push. No sign of a cycle.
    if (cached === undefined || cached.from === neighbour.name) return;
    if (cached.rescued && neighbour.eager & (1 << tree)) {
      cached.rescued = false;
      this.#parents[tree] = neighbour.name;
      if (cached.from !== undefined) this.#undoGraft(cached.from, tree);
      return;
    }
    // Departure: the paper prunes on every duplicate. Two messages under way that meet a cycle from
    // different sides would have it cut in two places, and the tree falls apart. One sender's
    // message at a time shapes the tree; of duplicates of others, nothing follows.
    if (!cached.gossip.shaping || !(neighbour.eager & (1 << tree))) return;
    // Trees that are not in use yet take the shape of the first one that is.
    this.#prune(neighbour, (1 << tree) | (this.#unused & neighbour.eager));
  }

  /** We asked too early, the tree was only late: it needs no new edge. */
  #undoGraft(peer: NodeName, tree: number): void {
    this.#count("impatient");
    const neighbour = this.#neighbours.get(peer);
    if (neighbour !== undefined) this.#prune(neighbour, 1 << tree);
  }

  #prune(neighbour: Neighbour, trees: number): void {
    neighbour.eager &= ~trees;
    this.#out.push({ type: "send", peer: neighbour.name, message: { type: "prune", trees } });
  }

  #graft(neighbour: Neighbour, trees: number, ids: readonly MessageId[]): void {
    neighbour.eager |= trees;
    this.#out.push({ type: "send", peer: neighbour.name, message: { type: "graft", trees, ids } });
  }

  #count(what: PlumtreeCount): void {
    this.#out.push({ type: "count", what });
  }

  // ---- control

  #control(from: NodeName, message: Control, now: number): void {
    const neighbour = this.#neighbours.get(from);
    switch (message.type) {
      case "ihave":
        for (const entry of message.entries) this.#announced(from, neighbour, entry, now);
        return;
      case "graft":
        if (neighbour !== undefined) neighbour.eager |= message.trees;
        for (const id of message.ids) this.#serve(from, neighbour, id);
        return;
      case "prune":
        if (neighbour === undefined) return;
        neighbour.eager &= ~message.trees;
        this.#lostPusher(from, message.trees, false);
        return;
      case "meet":
        if (neighbour?.met === undefined) return;
        // Both sides work out the same: an edge of the tree if either needs it, or if there is no
        // tree yet and the first message is to find one.
        neighbour.eager = neighbour.met.wanted | message.wanted |
          (neighbour.met.unused & message.unused);
        neighbour.met = undefined;
        return;
    }
  }

  #announced(
    from: NodeName,
    neighbour: Neighbour | undefined,
    entry: Announcement,
    now: number,
  ): void {
    const tree = treeOf(entry.origin);
    if (neighbour !== undefined) {
      neighbour.hops[tree] = entry.hops;
      neighbour.lazy.delete(keyOf(entry));
    }
    if (this.#seen.has(entry)) {
      if (neighbour !== undefined) this.#optimise(neighbour, tree, entry);
      return;
    }
    const id = { origin: entry.origin, seq: entry.seq };
    if (
      this.#missing.announce(
        id,
        from,
        now,
        now + (1 + randomFraction(this.#random)) * this.#treeWait.timeoutMs,
      )
    ) return;
    this.#count("announcement_refused");
  }

  #serve(from: NodeName, neighbour: Neighbour | undefined, id: MessageId): void {
    const key = keyOf(id);
    const cached = this.#cache.get(key);
    if (cached === undefined || cached.grafts >= MAX_GRAFTS) {
      this.#count("graft_unserved");
      return;
    }
    cached.grafts++;
    neighbour?.lazy.delete(key);
    this.#out.push({ type: "push", peers: [from], gossip: cached.gossip });
  }

  // ---- time

  #tick(now: number): void {
    if (this.#roots.takeDue(now)) this.#publish("", EMPTY, now);
    if (this.#announceAt <= now) {
      this.#announceAt = Infinity;
      for (const neighbour of this.#neighbours.values()) this.#flush(neighbour);
    }
    const requests = new Map<Neighbour, { trees: number; ids: MessageId[] }>();
    for (let due = this.#missing.takeDue(now); due; due = this.#missing.takeDue(now)) {
      const neighbour = this.#nextAnnouncer(due.announcers);
      if (neighbour === undefined) {
        this.#missing.delete(keyOf(due.id));
        this.#count("missed");
        continue;
      }
      due.asked = neighbour.name;
      due.askedAt = now;
      this.#missing.postpone(due, now + neighbour.rto.timeoutMs);
      const request = requests.get(neighbour) ?? { trees: 0, ids: [] };
      requests.set(neighbour, request);
      const bit = 1 << treeOf(due.id.origin);
      due.grafted = !(neighbour.eager & bit);
      request.trees |= bit;
      request.ids.push(due.id);
      if (request.ids.length < MAX_IDS) continue;
      this.#graft(neighbour, request.trees, request.ids);
      requests.delete(neighbour);
    }
    for (const [neighbour, { trees, ids }] of requests) this.#graft(neighbour, trees, ids);
  }

  #nextAnnouncer(announcers: NodeName[]): Neighbour | undefined {
    for (let name = announcers.shift(); name !== undefined; name = announcers.shift()) {
      const neighbour = this.#neighbours.get(name);
      if (neighbour !== undefined) return neighbour;
    }
    return undefined;
  }

  #announce(neighbour: Neighbour, key: string, gossip: Gossip, now: number): void {
    const { origin, seq, hops } = gossip;
    neighbour.lazy.set(key, { origin, seq, hops });
    if (neighbour.lazy.size >= MAX_IDS) this.#flush(neighbour);
    else if (this.#announceAt === Infinity) this.#announceAt = now + ANNOUNCE_MS;
  }

  #flush(neighbour: Neighbour): void {
    if (neighbour.lazy.size === 0) return;
    const message: Control = { type: "ihave", entries: [...neighbour.lazy.values()] };
    neighbour.lazy.clear();
    this.#out.push({ type: "send", peer: neighbour.name, message });
  }

  /** How late the tree is behind announcements, and how fast an announcer answers. */
  #learnWait(
    missing: {
      readonly announcedAt: number;
      readonly asked: NodeName | undefined;
      askedAt: number;
    },
    from: NodeName,
    now: number,
  ): void {
    if (missing.asked === from) this.#neighbours.get(from)?.rto.sample(now - missing.askedAt);
    else this.#treeWait.sample(now - missing.announcedAt);
  }

  // ---- neighbours

  #neighbourUp(peer: NodeName, now: number): void {
    if (this.#neighbours.has(peer)) return;
    // Departure: the paper starts with an eager edge, which brings a duplicate each way in every
    // tree that reaches both. Here the two agree first who needs it.
    const wanted = ALL_TREES & ~this.#fed();
    const unused = this.#unused;
    const neighbour: Neighbour = {
      name: peer,
      eager: wanted | unused,
      met: { wanted, unused },
      lazy: new Map(),
      hops: new Array(TREES).fill(MAX_HOPS),
      rto: new Rto(...GRAFT_WAIT_MS),
      reannouncedAt: now,
    };
    this.#neighbours.set(peer, neighbour);
    this.#out.push({ type: "send", peer, message: { type: "meet", wanted, unused } });
    this.#reannounce(neighbour, now);
  }

  #neighbourDown(peer: NodeName): void {
    if (!this.#neighbours.delete(peer)) return;
    this.#lostPusher(peer, ALL_TREES, true);
  }

  #undelivered(peer: NodeName, now: number): void {
    const neighbour = this.#neighbours.get(peer);
    if (neighbour === undefined || now - neighbour.reannouncedAt < REANNOUNCE_MS) return;
    this.#reannounce(neighbour, now);
  }

  #reannounce(neighbour: Neighbour, now: number): void {
    neighbour.reannouncedAt = now;
    for (const { gossip } of this.#cache.recent(now - RECENT_MS, MAX_RECENT)) {
      this.#announce(neighbour, keyOf(gossip), gossip, now);
    }
  }

  /** The trees in which some neighbour is eager. */
  #fed(): number {
    let trees = 0;
    for (const neighbour of this.#neighbours.values()) trees |= neighbour.eager;
    return trees;
  }

  #eager(trees: number, except: NodeName | undefined): NodeName[] {
    const peers: NodeName[] = [];
    for (const { name, eager } of this.#neighbours.values()) {
      if (eager & trees && name !== except) peers.push(name);
    }
    return peers;
  }

  /**
   * `peer` pushes these trees' messages to us no more. Departure: the paper waits for the next
   * message to be announced and missed. Where it was the way to the sender, or the last edge, the
   * neighbour that was nearest to the sender takes its place now.
   */
  #lostPusher(peer: NodeName, trees: number, gone: boolean): void {
    const fed = this.#fed();
    const requests = new Map<Neighbour, number>();
    for (let tree = 0; tree < TREES; tree++) {
      const bit = 1 << tree;
      if (!(trees & bit)) continue;
      const wasParent = gone && this.#parents[tree] === peer;
      if (wasParent) this.#parents[tree] = undefined;
      if (this.#unused & bit || (fed & bit && !wasParent)) continue;
      const nearest = this.#nearest(tree, peer);
      if (nearest !== undefined) requests.set(nearest, (requests.get(nearest) ?? 0) | bit);
    }
    for (const [neighbour, mask] of requests) this.#graft(neighbour, mask, []);
  }

  #nearest(tree: number, except: NodeName): Neighbour | undefined {
    let nearest: Neighbour[] = [];
    let hops = Infinity;
    for (const neighbour of this.#neighbours.values()) {
      const its = neighbour.hops[tree] as number;
      if (neighbour.eager & (1 << tree) || neighbour.name === except || its > hops) continue;
      if (its < hops) nearest = [];
      hops = its;
      nearest.push(neighbour);
    }
    return pick(this.#random, nearest);
  }

  // ---- optimisation

  /**
   * An announcer that is nearer to the root than whoever pushed the same message to us takes its
   * place (paper §3.8). Departure: only the latest shaping message of the tree's root may change the tree.
   * All changes that one message causes lead to nodes that had it in fewer hops, so they cannot
   * close a cycle; and the tree comes to rest.
   */
  #optimise(neighbour: Neighbour, tree: number, entry: Announcement): void {
    if (!this.#roots.isLatestShape(entry)) return;
    const cached: Cached | undefined = this.#cache.get(keyOf(entry));
    if (cached?.from === undefined || cached.from === neighbour.name) return;
    const hops = entry.hops + 1;
    if (cached.gossip.hops <= hops) return;
    this.#count("optimised");
    const parent = this.#neighbours.get(cached.from);
    cached.from = neighbour.name;
    cached.gossip = { ...cached.gossip, hops };
    this.#parents[tree] = neighbour.name;
    this.#graft(neighbour, 1 << tree, []);
    if (parent !== undefined && parent.eager & (1 << tree)) this.#prune(parent, 1 << tree);
  }
}
