/**
 * One spanning tree over the active views, as short as the overlay allows: the way of each node to
 * the tree's root takes the fewest hops.
 *
 * Departure from Plumtree, where the first copy of each message makes the tree and later ones mend
 * it: the shape of ours comes from *waves* that carry no payload. A root starts a wave; each node
 * tells all neighbours how far it is from the root, and takes the one that is nearest as its
 * parent (the distributed Bellman-Ford method, with numbered waves as in DSDV, Perkins and Bhagwat
 * 1994). Within a wave distances only shrink, so parents never form a cycle. What this gives that
 * duplicates cannot: a tree before the first payload takes it, no payload twice while it is mended,
 * ways of the fewest hops after one wave, and no two messages that cut one cycle in two places.
 *
 * A node whose parent goes takes a neighbour that is nearer to the root than itself, which cannot
 * close a cycle either. Where there is none it is an *orphan*: it asks its neighbours to have the
 * root start a wave, and when none comes, becomes the root itself, with a higher term. The wish
 * goes up the tree, and down from an orphan that has only its children around it, until one of those
 * below it knows somebody outside: else who lost its edge to the root would take its place.
 */
import { randomFraction } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { NodeName } from "../wire/node_name.ts";
import { MAX_HOPS } from "./messages.ts";
import type { Shape } from "./messages.ts";

/** Distances wait so long for company before neighbours are told, milliseconds. */
const TELL_MS = 50;
/** From the first word of a wave until a new parent is taken: nearer ones may still speak up, ms. */
const SETTLE_MS = 300;
/** From then until borrowed edges are given up, ms: the others have a parent by then, too. */
const GIVE_UP_MS = 500;
/** So long a borrowed edge stays, ms, though the tree brings messages sooner. */
const BORROW_MS = 2_000;
/** From then until senders choose the tree, ms: the wave has to reach all. */
const USABLE_MS = 1_000;
/** A root starts a wave so soon after it is asked, ms, for others may ask as well… */
const WAVE_DELAY_MS = 150;
/** …and so long after the last one at least. */
const WAVE_PAUSE_MS = 2_000;
/** While messages use the tree, a wave comes so often without being asked for. */
const ROUTINE_WAVE_MS = 300_000;
/** One request for a wave is passed on in this time, ms. */
const ASK_PAUSE_MS = 1_000;
/** An orphan asks again after this time, ms. */
const ORPHAN_PAUSE_MS = 2_000;
/** It becomes the root itself after so long: next to the lost root, and elsewhere; up to twice it. */
const CLAIM_NEAR_MS = 3_000;
const CLAIM_MS = 6_000;
/** Who tells its distance so long after the first neighbour did, ms, would be a slow parent. */
const LATE_MS = 1_000;
/** So many messages in a row that others brought sooner: the parent is no good. */
const MAX_RESCUES = 3;
/** Waves taken in at once, and later one each so many milliseconds: more are not the root's. */
const WAVE_BURST = 8;
const WAVE_REFILL_MS = 500;

/** What a tree says to neighbours; it leaves at the end of the turn. */
export interface TreeVoice {
  /** Tells a distance from the root. */
  shape(peer: NodeName, shape: Shape): void;
  /** Asks for this tree's messages. */
  graft(peer: NodeName, tree: number): void;
  /** Wants no more of them pushed. */
  prune(peer: NodeName, tree: number): void;
  /** Asks for a wave. */
  reshape(peer: NodeName, tree: number): void;
}

/** What a tree counts. */
export type TreeCount = "claimed" | "wave" | "reparented" | "orphaned" | "shape_refused";

interface Edge {
  /** The neighbour's distance from the root in the current wave; `Infinity` when not told. */
  hops: number;
  /** It has chosen us as its parent. */
  isChild: boolean;
  /** We gave it a message that the tree had not brought, and push later ones until further notice. */
  isLent: boolean;
  /** It did so to us, and when last. */
  isBorrowed: boolean;
  borrowedAt: number;
  /** It brought something first that the tree was to bring: it may have lent what we did not borrow. */
  pushes: boolean;
  /** It has said something of this tree; before, everything is pushed to it. */
  hasSpoken: boolean;
}

interface Wave {
  readonly term: number;
  readonly root: number;
  wave: number;
}

/** The machine of one node in one tree. Pure: time goes in, words come out through the voice. */
export class SpanningTree {
  readonly index: number;
  readonly #own: number;
  readonly #random: Random;
  readonly #voice: TreeVoice;
  readonly #count: (what: TreeCount) => void;
  readonly #edges = new Map<NodeName, Edge>();

  #latest: Wave | undefined;
  /** Our distance from the root; while we have no parent, the bound below which one may be. */
  #hops = Infinity;
  #parent: NodeName | undefined;
  /** Who is to be the parent once the wave has settled. */
  #nearest: NodeName | undefined;
  /** Since when the tree serves; `Infinity` while it is not known. */
  #usableAt = Infinity;
  #rescues = 0;
  #isOrphan = false;

  /** When each thing is to be done next. */
  #tellAt = Infinity;
  #settleAt = Infinity;
  #giveUpAt = Infinity;
  #waveAt = Infinity;
  #askAt = Infinity;
  #claimAt = Infinity;
  #askedAt = -Infinity;
  #askedFurtherAt = -Infinity;
  /** When the current wave began, here. */
  #wavedAt = -Infinity;
  #waveTokens = WAVE_BURST;
  #refilledAt = 0;

  /** `own`: our number as a sender, which is our name as a root. */
  constructor(
    index: number,
    own: number,
    random: Random,
    voice: TreeVoice,
    count: (what: TreeCount) => void,
  ) {
    this.index = index;
    this.#own = own;
    this.#random = random;
    this.#voice = voice;
    this.#count = count;
  }

  /** When a {@link tick} is due; `Infinity` when none is. */
  get wakeAt(): number {
    return Math.min(
      this.#tellAt,
      this.#settleAt,
      this.#giveUpAt,
      this.#waveAt,
      this.#askAt,
      this.#claimAt,
    );
  }

  /** Whether anybody is known to have made a tree. */
  get isKnown(): boolean {
    return this.#latest !== undefined;
  }

  /** Whether we are its root. */
  get isRoot(): boolean {
    return this.#latest?.root === this.#own;
  }

  /** Hops from the root; `Infinity` when there is no way. */
  get hops(): number {
    return this.#isOrphan ? Infinity : this.#hops;
  }

  /** Our neighbour on the way to the root. */
  get parent(): NodeName | undefined {
    return this.#parent;
  }

  /** Whether a sender may choose the tree. */
  isUsable(now: number): boolean {
    return now >= this.#usableAt;
  }

  /**
   * Whether messages are pushed along this edge. Who has said nothing yet may be a child, or be
   * where the tree is not known: it is flooded.
   */
  isEager(peer: NodeName): boolean {
    const edge = this.#edges.get(peer);
    if (edge === undefined) return false;
    return peer === this.#parent || edge.isChild || edge.isLent || !edge.hasSpoken;
  }

  /** Whether the edge is one of the tree itself: between a parent and its child. */
  isFirm(peer: NodeName): boolean {
    return peer === this.#parent || this.#edges.get(peer)?.isChild === true;
  }

  // ---- neighbours

  /** A new neighbour: it hears how far we are, and shows us a way if we have none. */
  neighbourUp(peer: NodeName): void {
    this.#edges.set(peer, {
      hops: Infinity,
      isChild: false,
      isLent: false,
      isBorrowed: false,
      borrowedAt: -Infinity,
      pushes: false,
      hasSpoken: false,
    });
    this.#tell(peer);
    if (this.#isOrphan) this.#voice.reshape(peer, this.index);
  }

  neighbourDown(peer: NodeName, now: number): void {
    const edge = this.#edges.get(peer);
    this.#edges.delete(peer);
    if (this.#edges.size === 0) return this.#forget();
    if (peer === this.#nearest || peer === this.#parent) {
      this.#lostParent(peer, edge?.hops === 0, now);
    }
  }

  /** Frames did not reach a neighbour: what it must know is said again. */
  undelivered(peer: NodeName): void {
    this.#tell(peer);
    if (peer === this.#parent) this.#voice.graft(peer, this.index);
  }

  // ---- words of neighbours

  /** A neighbour tells its distance from the root. */
  shaped(peer: NodeName, shape: Shape, now: number): void {
    const edge = this.#edges.get(peer);
    if (edge === undefined) return;
    edge.hasSpoken = true;
    const order = this.#latest === undefined ? 1 : compareWaves(shape, this.#latest);
    if (order < 0) {
      // It lives in the time of an earlier root. One in an earlier wave will hear of ours.
      if (!isSameRoot(shape, this.#latest as Wave)) this.#tell(peer);
      return;
    }
    if (shape.root === this.#own) return this.#outdated(shape, order, now);
    if (order > 0 && !this.#beginWave(shape, now)) return;
    edge.hops = shape.hops >= MAX_HOPS ? Infinity : shape.hops;
    this.#consider(now);
  }

  /** A neighbour has chosen us as its parent. */
  grafted(peer: NodeName): void {
    const edge = this.#edges.get(peer);
    if (edge !== undefined) edge.isChild = edge.hasSpoken = true;
  }

  /** A neighbour wants no more pushed. */
  pruned(peer: NodeName): void {
    const edge = this.#edges.get(peer);
    if (edge === undefined) return;
    edge.isChild = edge.isLent = false;
    edge.hasSpoken = true;
    // It left us as its parent, or does not know that it is ours.
    if (peer === this.#parent) this.#voice.graft(peer, this.index);
  }

  /** A neighbour lacks a way: its wish goes up to the root, or away from our parent. */
  asked(peer: NodeName, now: number): void {
    if (!this.#edges.has(peer)) return;
    if (this.isRoot) return this.#planWave(now + WAVE_DELAY_MS, now);
    if (this.#parent === undefined) return;
    if (this.#parent === peer) return this.#askFurther(now);
    if (now - this.#askedAt < ASK_PAUSE_MS) return;
    this.#askedAt = now;
    this.#voice.reshape(this.#parent, this.index);
  }

  // Our parent lost its way, and may have nobody around it but its children: the wish goes on over
  // every other edge, until it leaves the part that is cut off.
  #askFurther(now: number): void {
    if (now - this.#askedFurtherAt < ASK_PAUSE_MS) return;
    this.#askedFurtherAt = now;
    for (const peer of this.#edges.keys()) {
      if (peer !== this.#parent) this.#voice.reshape(peer, this.index);
    }
  }

  // ---- messages

  /** Makes the tree ours, unless somebody else did; `by`: although somebody did. */
  claim(now: number, by: "right" | "force" = "right"): void {
    if (by === "right" && this.isKnown) return;
    this.#becomeRoot({ term: next(this.#latest?.term ?? 0), root: this.#own, wave: 0 });
    if (this.#usableAt === Infinity) this.#usableAt = now + SETTLE_MS + USABLE_MS;
    this.#count("claimed");
    this.#startWave(now);
  }

  /** A message takes this tree. */
  used(now: number): void {
    if (this.isRoot) this.#planWave(this.#wavedAt + ROUTINE_WAVE_MS, now);
  }

  /**
   * `peer` brought a message first. If it is none of ours, the edge serves from now on; and a parent
   * that is behind again and again, dead or slow, is left for a better one.
   */
  brought(peer: NodeName, isRescue: boolean, now: number): void {
    const edge = this.#edges.get(peer);
    if (edge === undefined) return;
    if (!this.isFirm(peer)) edge.pushes = true;
    if (!this.isUsable(now)) return;
    if (this.isFirm(peer)) {
      this.#rescues = 0;
      return;
    }
    if (isRescue) {
      edge.isBorrowed = true;
      edge.borrowedAt = now;
    }
    if (this.#parent === undefined || ++this.#rescues < MAX_RESCUES) return;
    this.#rescues = 0;
    if (edge.hops < this.#hops) return this.#take(peer);
    this.#voice.graft(this.#parent, this.index);
    if (now - this.#askedAt < ASK_PAUSE_MS) return;
    this.#askedAt = now;
    this.#voice.reshape(peer, this.index);
  }

  /** Pushes to a neighbour what comes after a message that it asked for. */
  lend(peer: NodeName): void {
    const edge = this.#edges.get(peer);
    if (edge !== undefined && !this.isFirm(peer)) edge.isLent = true;
  }

  /**
   * `peer` brought what `first` had brought. Gives the edge up, if it is none of the tree itself; whether
   * it is none. A borrowed one stays for a while unless the other is borrowed as well: whom the tree
   * connects to us may get messages only as we do, and were all of them to rely on the others, nobody
   * would get any. Who was neither may have been given up while this was on its way.
   */
  doubled(peer: NodeName, first: NodeName | undefined, now: number): boolean {
    const edge = this.#edges.get(peer);
    if (edge?.isBorrowed === true && first !== undefined && !this.isFirm(peer)) {
      const isFirm = this.isFirm(first);
      if (isFirm && now - edge.borrowedAt < BORROW_MS) return true;
      if (!isFirm && this.#edges.get(first)?.isBorrowed !== true) return true;
    }
    return this.dropBorrowed(peer);
  }

  /** Asks a neighbour to push no more, unless the edge is one of the tree itself; whether it is none. */
  dropBorrowed(peer: NodeName): boolean {
    const edge = this.#edges.get(peer);
    if (edge === undefined || this.isFirm(peer)) return false;
    edge.isBorrowed = edge.pushes = false;
    edge.hasSpoken = true;
    this.#voice.prune(peer, this.index);
    return true;
  }

  // ---- time

  tick(now: number): void {
    if (this.#settleAt <= now) this.#settle(now);
    if (this.#giveUpAt <= now) this.#giveUpBorrowed();
    if (this.#claimAt <= now) this.claim(now, "force");
    if (this.#waveAt <= now) {
      this.#waveAt = Infinity;
      if (this.isRoot) this.#startWave(now);
    }
    if (this.#askAt <= now) this.#askAround(now, true);
    if (this.#tellAt <= now) {
      this.#tellAt = Infinity;
      for (const peer of this.#edges.keys()) if (peer !== this.#nearest) this.#tell(peer);
    }
  }

  // ---- waves

  #startWave(now: number): void {
    const latest = this.#latest as Wave;
    latest.wave = next(latest.wave);
    this.#wavedAt = now;
    this.#count("wave");
    for (const edge of this.#edges.values()) edge.hops = Infinity;
    this.#settleAt = now + SETTLE_MS;
    for (const peer of this.#edges.keys()) this.#tell(peer);
  }

  #planWave(at: number, now: number): void {
    this.#waveAt = Math.min(this.#waveAt, Math.max(now, at, this.#wavedAt + WAVE_PAUSE_MS));
  }

  /** Somebody tells of a wave of ours that we did not start: ours must be the later one. */
  #outdated(shape: Shape, order: number, now: number): void {
    if (order === 0) return;
    const { term, root, wave } = shape;
    this.#becomeRoot({ term, root, wave });
    // No sooner than any other wave: who invents them must not make us say more.
    this.#planWave(now, now);
  }

  #becomeRoot(wave: Wave): void {
    this.#latest = wave;
    this.#hops = 0;
    this.#leave();
    this.#parent = this.#nearest = undefined;
    this.#isOrphan = false;
    this.#askAt = this.#claimAt = this.#settleAt = Infinity;
  }

  #beginWave({ term, root, wave }: Shape, now: number): boolean {
    const refill = Math.floor((now - this.#refilledAt) / WAVE_REFILL_MS);
    if (refill > 0) {
      this.#waveTokens = Math.min(WAVE_BURST, this.#waveTokens + refill);
      this.#refilledAt += refill * WAVE_REFILL_MS;
    }
    if (this.#waveTokens === 0) {
      this.#count("shape_refused");
      return false;
    }
    this.#waveTokens--;
    this.#latest = { term, root, wave };
    for (const edge of this.#edges.values()) edge.hops = Infinity;
    this.#hops = Infinity;
    this.#nearest = undefined;
    this.#isOrphan = false;
    this.#wavedAt = now;
    this.#askAt = this.#claimAt = this.#waveAt = Infinity;
    this.#settleAt = now + SETTLE_MS;
    return true;
  }

  /** Looks for the neighbour nearest to the root; of two, the parent, then who was found first. */
  #consider(now: number): void {
    // Late word serves when the parent goes. Its distance may be the least because of its slowness.
    if (this.#parent !== undefined && now - this.#wavedAt > LATE_MS) return;
    let nearest: NodeName | undefined;
    let least = Infinity;
    for (const [peer, { hops }] of this.#edges) {
      if (hops > least || hops === Infinity) continue;
      if (hops === least && peer !== this.#parent && nearest !== undefined) continue;
      least = hops;
      nearest = peer;
    }
    // Within a wave our distance must not grow: only then are there no cycles.
    if (nearest === undefined || least + 1 > this.#hops || least + 1 >= MAX_HOPS) return;
    if (least + 1 < this.#hops || this.#isOrphan) {
      this.#tellAt = Math.min(this.#tellAt, now + TELL_MS);
    }
    this.#hops = least + 1;
    const before = this.#nearest;
    this.#nearest = nearest;
    this.#isOrphan = false;
    // It was left out when the others were told, for a parent hears it by our GRAFT.
    if (before !== undefined && before !== nearest && this.#tellAt === Infinity) this.#tell(before);
    this.#askAt = this.#claimAt = Infinity;
    if (nearest === this.#parent || this.#settleAt < Infinity) return;
    if (this.#parent === undefined) this.#take(nearest);
    else this.#settleAt = now + SETTLE_MS;
  }

  #settle(now: number): void {
    this.#settleAt = Infinity;
    if (this.#usableAt === Infinity) this.#usableAt = now + USABLE_MS;
    if (this.#nearest !== undefined) this.#take(this.#nearest);
    this.#giveUpAt = now + GIVE_UP_MS;
  }

  // The wave reached both ends of each edge that was borrowed: who needs one has a parent now.
  #giveUpBorrowed(): void {
    this.#giveUpAt = Infinity;
    for (const [peer, edge] of this.#edges) {
      if (!edge.isBorrowed && !edge.pushes) continue;
      if (!this.dropBorrowed(peer)) edge.isBorrowed = edge.pushes = false;
    }
  }

  #take(peer: NodeName): void {
    const edge = this.#edges.get(peer);
    if (edge === undefined || peer === this.#parent) return;
    this.#leave();
    this.#parent = this.#nearest = peer;
    this.#hops = edge.hops + 1;
    this.#rescues = 0;
    edge.isChild =
      edge.isLent =
      edge.isBorrowed =
      edge.pushes =
        false;
    this.#voice.graft(peer, this.index);
    this.#count("reparented");
  }

  #leave(): void {
    const left = this.#parent === undefined ? undefined : this.#edges.get(this.#parent);
    // Who has become our child meanwhile stays one.
    if (left !== undefined && !left.isChild) {
      this.#voice.prune(this.#parent as NodeName, this.index);
    }
  }

  // ---- without a parent

  /** `gone`, whom we had as the parent or were about to take, went. */
  #lostParent(gone: NodeName, wasRoot: boolean, now: number): void {
    if (gone === this.#parent) this.#parent = undefined;
    let nearest: NodeName | undefined;
    let least = this.#hops;
    for (const [peer, { hops }] of this.#edges) {
      if (hops > least || hops >= this.#hops || (hops === least && peer !== this.#parent)) continue;
      least = hops;
      nearest = peer;
    }
    if (nearest !== undefined && nearest === this.#parent) {
      this.#nearest = nearest;
      this.#hops = least + 1;
      return;
    }
    if (nearest !== undefined) return this.#take(nearest);
    this.#leave();
    this.#parent = this.#nearest = undefined;
    this.#isOrphan = true;
    this.#count("orphaned");
    const patience = wasRoot ? CLAIM_NEAR_MS : CLAIM_MS;
    this.#claimAt = now + (1 + randomFraction(this.#random)) * patience;
    this.#askAround(now);
    this.#tellAt = Math.min(this.#tellAt, now);
  }

  /**
   * Without neighbours there is no tree. Above all nobody makes itself the root of one: it would
   * come back with a higher term than the root of all others, and turn their tree to itself.
   */
  #forget(): void {
    this.#latest = this.#parent = this.#nearest = undefined;
    this.#hops = this.#usableAt = Infinity;
    this.#isOrphan = false;
    this.#tellAt =
      this.#settleAt =
      this.#giveUpAt =
      this.#waveAt =
      this.#askAt =
      this.#claimAt =
        Infinity;
  }

  #askAround(now: number, isAgain: boolean = false): void {
    this.#askAt = now + ORPHAN_PAUSE_MS;
    // Children know no way but ours; through them the wish comes to those who do.
    const others = [...this.#edges].filter(([, { isChild }]) => !isChild);
    for (const [peer] of isAgain || others.length === 0 ? this.#edges : others) {
      this.#voice.reshape(peer, this.index);
    }
  }

  #tell(peer: NodeName): void {
    if (this.#latest === undefined) return;
    const hops = this.#isOrphan ? MAX_HOPS : Math.min(MAX_HOPS, this.#hops);
    const { term, root, wave } = this.#latest;
    this.#voice.shape(peer, { tree: this.index, term, root, wave, hops });
  }
}

function isSameRoot(a: Wave, b: Wave): boolean {
  return a.term === b.term && a.root === b.root;
}

/** The term or wave after this one. */
function next(number: number): number {
  return (number + 1) >>> 0;
}

/**
 * Above 0 when `a` comes later than `b`: by term, then the root's number, then the wave. Terms and
 * waves go round (RFC 1982), so that none is the last: who claims one that is far ahead holds the
 * tree no longer than it is there.
 */
function compareWaves(a: Wave, b: Wave): number {
  return (a.term - b.term) | 0 || b.root - a.root || (a.wave - b.wave) | 0;
}
