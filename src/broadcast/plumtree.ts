/**
 * Plumtree: broadcast along spanning trees that repair themselves on top of the active view. A
 * message's payload is pushed to *eager* neighbours, the tree; *lazy* neighbours hear its id, and
 * ask for it when the tree has not brought it.
 *
 * After Leitão, Pereira and Rodrigues, "Epidemic broadcast trees" (SRDS 2007). Where this machine
 * leaves the paper, a comment that starts with "Departure" says so and why.
 *
 * Departure: several trees instead of one, so that not always the same nodes carry the load; a
 * sender takes the tree whose root is nearest. And the trees have their shape from waves without
 * payload, see {@link SpanningTree}, not from duplicates. What stays of GRAFT and PRUNE by message
 * is the repair: an announcer that was asked for a message pushes later ones as well, over an edge
 * that it lent and we borrowed, until a wave has mended the tree or payloads come twice.
 */
import { randomFraction } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { Bytes } from "../base/bytes.ts";
import type { NodeName } from "../wire/node_name.ts";
import { ControlBatch } from "./control_batch.ts";
import type { PlumtreeCount, PlumtreeEffect, PlumtreeEvent } from "./events.ts";
import { keyOf, MessageCache } from "./message_cache.ts";
import { homeTreeOf, MAX_HOPS, MAX_IDS, TREES } from "./messages.ts";
import type { Announcement, Control, Gossip, MessageId } from "./messages.ts";
import { MissingTable } from "./missing.ts";
import type { Missing } from "./missing.ts";
import { Rto } from "./rto.ts";
import { SeenIds } from "./seen_ids.ts";
import { SpanningTree } from "./spanning_tree.ts";

/** Announcements wait this long for company, milliseconds. */
const ANNOUNCE_MS = 50;
/** Wait for the tree before the first announcer is asked: first guess and bounds, milliseconds. */
const TREE_WAIT_MS = [240, 120, 1_000] as const;
/** So many messages in time make the wait forget a late one. */
const IN_TIME = 32;
/** Wait for an announcer that was asked, before the next one is: first guess and bounds. */
const GRAFT_WAIT_MS = [500, 50, 5_000] as const;
/** A new neighbour hears of messages of this age, milliseconds, and of so many at most. */
const RECENT_MS = 30_000;
const MAX_RECENT = 512;
/** One message is sent again so often at most: a request costs its sender less than us. */
const MAX_GRAFTS = 32;
/** What did not reach a neighbour is said again, once in this time, milliseconds. */
const REPEAT_MS = 5_000;
/** Who sent so many messages, for so long, ms, and nobody else any, makes itself the root… */
const LONE_MESSAGES = 8;
const LONE_MS = 5_000;
/** …once in this time, milliseconds. */
const LONE_PAUSE_MS = 30_000;
/** A neighbour may start anew once in this time, milliseconds. */
const HELLO_PAUSE_MS = 1_000;

interface Neighbour {
  readonly name: NodeName;
  /** Announcements that wait. */
  readonly lazy: Map<string, Announcement>;
  readonly rto: Rto;
  /** Its number as a sender, once it has told it, and when it did. */
  origin: number | undefined;
  greetedAt: number;
  /** When recent messages, and our place in the trees, were said last, and when they are due again. */
  repeatedAt: number;
  repeatAt: number;
}

/** How much a machine holds. */
export interface PlumtreeSizes {
  readonly neighbours: number;
  /** Messages kept for those who missed them, and their payloads' bytes. */
  readonly cached: number;
  readonly cachedBytes: number;
  /** Messages announced to us that have not come. */
  readonly missing: number;
  /** Announcements that have not left yet, to all neighbours. */
  readonly waiting: number;
}

/** The machine of one node. Pure: events and time in, effects out. */
export class Plumtree {
  readonly #origin: number;
  readonly #random: Random;
  #out: PlumtreeEffect[] = [];

  readonly #neighbours = new Map<NodeName, Neighbour>();
  readonly #trees: readonly SpanningTree[];
  readonly #batch = new ControlBatch();

  readonly #seen: SeenIds;
  readonly #cache = new MessageCache();
  readonly #missing = new MissingTable();
  readonly #treeWait = new Rto(...TREE_WAIT_MS);
  #inTime = 0;
  #lastSeq = 0;
  #lastTree = 0;
  #announceAt = Infinity;
  /** Our messages since the last one of somebody else, and when the first of them was. */
  #alone = 0;
  #aloneSince = 0;
  #claimedAt = -Infinity;

  /** `origin`: 48-bit number of this life of this node, see `originOf`. */
  /** `seen`: what a former one in this life of the node has had: nothing is delivered twice. */
  constructor(origin: number, random: Random, seen: SeenIds = new SeenIds()) {
    this.#origin = origin;
    this.#seen = seen;
    this.#random = random;
    const count = (what: PlumtreeCount) => this.#count(what);
    this.#trees = Array.from(
      { length: TREES },
      (_, tree) => new SpanningTree(tree, origin, random, this.#batch, count),
    );
  }

  /** The time at which a `tick` is due; `Infinity` when nothing is. */
  get wakeAt(): number {
    let at = Math.min(this.#announceAt, this.#missing.nextAt);
    for (const tree of this.#trees) at = Math.min(at, tree.wakeAt);
    for (const { repeatAt } of this.#neighbours.values()) at = Math.min(at, repeatAt);
    return at;
  }

  /** Sizes of all that can grow, for gauges and tests. */
  get sizes(): PlumtreeSizes {
    let waiting = 0;
    for (const { lazy } of this.#neighbours.values()) waiting += lazy.size;
    return {
      neighbours: this.#neighbours.size,
      cached: this.#cache.size,
      cachedBytes: this.#cache.bytes,
      missing: this.#missing.size,
      waiting,
    };
  }

  /** What names the message that was published last. */
  get lastId(): MessageId {
    return { origin: this.#origin, seq: this.#lastSeq };
  }

  /** The tree that it took. */
  get lastTree(): number {
    return this.#lastTree;
  }

  /** The neighbours that we push one tree's messages to. */
  eagerPeers(tree: number): NodeName[] {
    return this.#eager(this.#trees[tree] as SpanningTree, undefined);
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
        this.#neighbourDown(event.peer, now);
        break;
      case "undelivered":
        this.#undelivered(event.peer, now);
        break;
      case "tick":
        this.#tick(now);
        break;
    }
    for (const { peer, message } of this.#batch.take(MAX_IDS)) {
      this.#out.push({ type: "send", peer, message });
    }
    const out = this.#out;
    this.#out = [];
    return out;
  }

  // ---- messages

  #publish(topic: string, payload: Bytes, now: number): void {
    const seq = ++this.#lastSeq;
    const tree = this.#chooseTree(now);
    this.#lastTree = tree.index;
    const gossip = { origin: this.#origin, seq, tree: tree.index, hops: 0, topic, payload };
    this.#seen.add(gossip);
    this.#keep(keyOf(gossip), gossip, undefined, undefined, now);
  }

  /**
   * The tree whose root is nearest: the way of a message is the way to the root and down again. The
   * first sender of each tree becomes its root, and so does one that speaks alone.
   */
  #chooseTree(now: number): SpanningTree {
    const home = this.#trees[homeTreeOf(this.#origin)] as SpanningTree;
    home.claim(now);
    if (++this.#alone === 1) this.#aloneSince = now;
    const isAlone = this.#alone >= LONE_MESSAGES && now - this.#aloneSince >= LONE_MS;
    if (isAlone && !home.isRoot && now - this.#claimedAt >= LONE_PAUSE_MS) {
      this.#claimedAt = now;
      home.claim(now, "force");
    }
    let best = home;
    for (const tree of this.#trees) {
      if (!tree.isUsable(now)) continue;
      if (!best.isUsable(now) || tree.hops < best.hops) best = tree;
    }
    return best;
  }

  #gossip(from: NodeName, received: Gossip, now: number): void {
    const tree = this.#trees[received.tree] as SpanningTree;
    const neighbour = this.#neighbours.get(from);
    const key = keyOf(received);
    if (!this.#seen.add(received)) return this.#duplicate(neighbour, tree, key, now);

    this.#alone = 0;
    const missing = this.#missing.delete(key);
    this.#learnWait(missing, tree, from, now);
    this.#out.push({ type: "deliver", gossip: received, from });
    const isRescued = missing?.grafted === true && missing.asked === from;
    if (isRescued) {
      this.#count("rescued");
      // The tree is late for those behind it, too.
      this.#missing.hurry(received.tree, now);
    }
    tree.brought(from, isRescued, now);
    neighbour?.lazy.delete(key);
    const gossip = { ...received, hops: Math.min(MAX_HOPS, received.hops + 1) };
    this.#keep(key, gossip, from, missing, now, isRescued);
  }

  /** Keeps a new message, pushes it on and has it announced. */
  #keep(
    key: string,
    gossip: Gossip,
    from: NodeName | undefined,
    missing: Missing | undefined,
    now: number,
    isRescued: boolean = false,
  ): void {
    const tree = this.#trees[gossip.tree] as SpanningTree;
    tree.used(now);
    this.#cache.add(key, { gossip, from, isRescued, at: now, grafts: 0 });
    const peers = this.#eager(tree, from);
    if (peers.length > 0) this.#out.push({ type: "push", peers, gossip });
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.name === from || tree.isEager(neighbour.name)) continue;
      // Departure: who announced it to us has it, and need not hear it from us.
      if (missing?.announcers.includes(neighbour.name) || missing?.asked === neighbour.name) {
        continue;
      }
      this.#announce(neighbour, key, gossip, now);
    }
  }

  /**
   * Departure: the paper prunes on every duplicate. Here the edges between parents and children
   * stay, whatever comes; given up are those which were only lent, or which the peer alone takes
   * for edges.
   */
  #duplicate(
    neighbour: Neighbour | undefined,
    tree: SpanningTree,
    key: string,
    now: number,
  ): void {
    this.#count("duplicate");
    if (neighbour === undefined) return;
    neighbour.lazy.delete(key);
    const cached = this.#cache.get(key);
    // The same peer's again: an answer to a request that crossed the push. No sign of a cycle.
    if (cached === undefined || cached.from === neighbour.name || !tree.isUsable(now)) return;
    if (tree.doubled(neighbour.name, cached.from, now)) return;
    if (!cached.isRescued || cached.from === undefined || neighbour.name !== tree.parent) return;
    // We asked too early, the tree was only late. A child's copy says nothing of that: it may have
    // asked as we did, and were both to rely on the other, neither would get anything.
    cached.isRescued = false;
    this.#count("impatient");
    tree.dropBorrowed(cached.from);
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
        for (const tree of this.#masked(message.trees)) tree.grafted(from);
        for (const id of message.ids) this.#serve(from, neighbour, id);
        return;
      case "prune":
        for (const tree of this.#masked(message.trees)) tree.pruned(from);
        return;
      case "shape":
        for (const shape of message.shapes) this.#trees[shape.tree]?.shaped(from, shape, now);
        return;
      case "reshape":
        for (const tree of this.#masked(message.trees)) tree.asked(from, now);
        return;
      case "hello":
        if (neighbour !== undefined) this.#greeted(neighbour, message.origin, now);
        return;
    }
  }

  /** Its broadcast was started anew while the link stood: for the trees it is another node. */
  #greeted(neighbour: Neighbour, origin: number, now: number): void {
    const before = neighbour.origin;
    if (before === origin || now - neighbour.greetedAt < HELLO_PAUSE_MS) return;
    neighbour.origin = origin;
    neighbour.greetedAt = now;
    if (before === undefined) return;
    for (const tree of this.#trees) {
      tree.neighbourDown(neighbour.name, now);
      tree.neighbourUp(neighbour.name);
    }
    this.#reannounce(neighbour, now);
  }

  #masked(trees: number): SpanningTree[] {
    return this.#trees.filter(({ index }) => trees & (1 << index));
  }

  #announced(
    from: NodeName,
    neighbour: Neighbour | undefined,
    entry: Announcement,
    now: number,
  ): void {
    neighbour?.lazy.delete(keyOf(entry));
    if (this.#seen.has(entry)) return;
    const dueAt = now + (1 + randomFraction(this.#random)) * this.#treeWait.timeoutMs;
    if (!this.#missing.announce(entry, from, now, dueAt)) this.#count("announcement_refused");
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
    this.#trees[cached.gossip.tree]?.lend(from);
    this.#out.push({ type: "push", peers: [from], gossip: cached.gossip });
  }

  // ---- time

  #tick(now: number): void {
    for (const tree of this.#trees) if (tree.wakeAt <= now) tree.tick(now);
    for (const neighbour of this.#neighbours.values()) {
      if (neighbour.repeatAt <= now) this.#repeat(neighbour, now);
    }
    if (this.#announceAt <= now) {
      this.#announceAt = Infinity;
      for (const neighbour of this.#neighbours.values()) this.#flush(neighbour);
    }
    for (let due = this.#missing.takeDue(now); due; due = this.#missing.takeDue(now)) {
      const neighbour = this.#nextAnnouncer(due.announcers);
      if (neighbour === undefined) {
        this.#missing.delete(keyOf(due.id));
        this.#count("missed");
        continue;
      }
      due.asked = neighbour.name;
      due.askedAt = now;
      due.grafted = this.#trees[due.tree]?.isEager(neighbour.name) === false;
      this.#missing.postpone(due, now + neighbour.rto.timeoutMs);
      this.#batch.request(neighbour.name, due.id);
    }
  }

  #nextAnnouncer(announcers: NodeName[]): Neighbour | undefined {
    for (let name = announcers.shift(); name !== undefined; name = announcers.shift()) {
      const neighbour = this.#neighbours.get(name);
      if (neighbour !== undefined) return neighbour;
    }
    return undefined;
  }

  #announce(neighbour: Neighbour, key: string, gossip: Gossip, now: number): void {
    const { origin, seq, tree } = gossip;
    neighbour.lazy.set(key, { origin, seq, tree });
    if (neighbour.lazy.size >= MAX_IDS) this.#flush(neighbour);
    else if (this.#announceAt === Infinity) this.#announceAt = now + ANNOUNCE_MS;
  }

  #flush(neighbour: Neighbour): void {
    if (neighbour.lazy.size === 0) return;
    const message: Control = { type: "ihave", entries: [...neighbour.lazy.values()] };
    neighbour.lazy.clear();
    this.#out.push({ type: "send", peer: neighbour.name, message });
  }

  /** How late the tree is behind announcements, mostly not at all; and how fast an announcer answers. */
  #learnWait(
    missing: Missing | undefined,
    tree: SpanningTree,
    from: NodeName,
    now: number,
  ): void {
    if (missing === undefined) {
      // Large messages may be late each time, and small ones between them never.
      if (tree.isFirm(from) && ++this.#inTime % IN_TIME === 0) this.#treeWait.sample(0);
    } else if (missing.asked === from) {
      this.#neighbours.get(from)?.rto.sample(now - missing.askedAt);
    } else if (tree.isFirm(from)) this.#treeWait.sample(now - missing.announcedAt);
  }

  // ---- neighbours

  #neighbourUp(peer: NodeName, now: number): void {
    if (this.#neighbours.has(peer)) return;
    const neighbour: Neighbour = {
      name: peer,
      lazy: new Map(),
      rto: new Rto(...GRAFT_WAIT_MS),
      origin: undefined,
      greetedAt: -Infinity,
      repeatedAt: now,
      repeatAt: Infinity,
    };
    this.#neighbours.set(peer, neighbour);
    this.#greet(peer);
    for (const tree of this.#trees) tree.neighbourUp(peer);
    this.#reannounce(neighbour, now);
  }

  #neighbourDown(peer: NodeName, now: number): void {
    if (!this.#neighbours.delete(peer)) return;
    for (const tree of this.#trees) tree.neighbourDown(peer, now);
    this.#batch.forget(peer);
  }

  #undelivered(peer: NodeName, now: number): void {
    const neighbour = this.#neighbours.get(peer);
    if (neighbour === undefined) return;
    const at = neighbour.repeatedAt + REPEAT_MS;
    if (at <= now) this.#repeat(neighbour, now);
    else neighbour.repeatAt = at;
  }

  #greet(peer: NodeName): void {
    this.#out.push({ type: "send", peer, message: { type: "hello", origin: this.#origin } });
  }

  #repeat(neighbour: Neighbour, now: number): void {
    neighbour.repeatAt = Infinity;
    neighbour.repeatedAt = now;
    this.#greet(neighbour.name);
    for (const tree of this.#trees) tree.undelivered(neighbour.name);
    this.#reannounce(neighbour, now);
  }

  #reannounce(neighbour: Neighbour, now: number): void {
    for (const { gossip } of this.#cache.recent(now - RECENT_MS, MAX_RECENT)) {
      this.#announce(neighbour, keyOf(gossip), gossip, now);
    }
  }

  #eager(tree: SpanningTree, except: NodeName | undefined): NodeName[] {
    const peers: NodeName[] = [];
    for (const name of this.#neighbours.keys()) {
      if (name !== except && tree.isEager(name)) peers.push(name);
    }
    return peers;
  }
}
