/**
 * HyParView and Plumtree machines of many nodes on virtual time: discrete events, one seed, no
 * sockets and no bytes. Links behave like the real ones: dialled on demand, in order, lost frames
 * sent again, broken by crashes and by partitions that outlast the silence limit.
 */
import { Heap } from "../../src/base/heap.ts";
import { EMPTY } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { randomBelow, randomFraction, sample, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { keyOf, MAX_CACHED, MAX_CACHED_BYTES } from "../../src/broadcast/message_cache.ts";
import { MAX_MISSING } from "../../src/broadcast/missing.ts";
import type { Control, Gossip } from "../../src/broadcast/messages.ts";
import { Plumtree } from "../../src/broadcast/plumtree.ts";
import type { PlumtreeEffect, PlumtreeEvent } from "../../src/broadcast/events.ts";
import type { LinkDownReason } from "../../src/link/ports.ts";
import { HyParView } from "../../src/membership/hyparview.ts";
import type { HyParViewEffect, HyParViewEvent } from "../../src/membership/events.ts";
import type { Message } from "../../src/membership/messages.ts";
import { membershipDefaults } from "../../src/membership/options.ts";
import type { MembershipOptions } from "../../src/membership/options.ts";
import type { PeerEntry } from "../../src/membership/peer_entry.ts";

/** The world of a simulation. */
export interface OverlayOptions {
  readonly seed: number;
  /** One-way latency of a frame, milliseconds, uniform between the two. @default [10, 50] */
  readonly latencyMs?: readonly [number, number];
  /** Chance of a frame to be lost and sent again. @default 0 */
  readonly loss?: number;
  /** Chance of a frame to overtake others, which real links never let happen. @default 0 */
  readonly reorder?: number;
  /** Chance of a frame to come twice, which real links never let happen. @default 0 */
  readonly duplicate?: number;
  /** A link whose peer is silent for this long is lost. @default 12,000 */
  readonly silenceMs?: number;
  /** A dial that nobody answers fails after this long. @default 5,000 */
  readonly dialTimeoutMs?: number;
  readonly membership?: Partial<MembershipOptions>;
  /** The views are checked after so many steps; thousands of nodes take half as long with more. @default 1 */
  readonly checkEvery?: number;
}

type Packet =
  | { readonly protocol: "hyparview"; readonly message: Message }
  | { readonly protocol: "control"; readonly message: Control }
  | { readonly protocol: "gossip"; readonly message: Gossip };

interface Link {
  readonly a: SimNode;
  readonly b: SimNode;
  up: boolean;
  closed: boolean;
  /** When the last frame towards `a`, or `b`, arrives: the next arrives no earlier. */
  toA: number;
  toB: number;
  /** Frames that wait for the dial, or for the end of a partition. */
  waiting: { to: SimNode; packet: Packet }[];
}

/** One message that was published, as the observer sees it. */
export interface Broadcast {
  readonly at: number;
  /** Delivery of each node: hops and time. */
  readonly delivered: Map<SimNode, { hops: number; at: number; epoch: number }>;
}

/** One node of the simulation. */
export class SimNode {
  readonly index: number;
  readonly name: string;
  epoch: number = 1;
  alive: boolean = true;
  hyparview: HyParView;
  plumtree: Plumtree;
  /** The active view as told by events alone. */
  readonly view: Set<string> = new Set();
  /** Each membership event, newest last. */
  readonly events: string[] = [];
  readonly links: Map<SimNode, Link> = new Map();
  wakeAt: number = Infinity;
  /** Frames towards this node take so much longer, milliseconds: it reads slowly. */
  lagMs: number = 0;
  /** Nodes of different sides cannot reach each other. */
  side: number = 0;
  readonly sim: OverlaySim;

  constructor(sim: OverlaySim, index: number) {
    this.sim = sim;
    this.index = index;
    this.name = `n${index}@sim`;
    this.hyparview = sim.newHyParView(this);
    this.plumtree = sim.newPlumtree(this);
  }

  get entry(): PeerEntry {
    return { name: this.name, epoch: this.epoch, addresses: [this.address], record: EMPTY };
  }

  get address(): string {
    return `sim://${this.index}`;
  }
}

/** All nodes, the network and the clock. */
export class OverlaySim {
  readonly nodes: SimNode[] = [];
  now: number = 0;
  /** Events executed. */
  steps: number = 0;
  /** Frames of these types are not sent, such as `shuffle`: a world without cycles. */
  readonly muted: Set<string> = new Set();
  /** Hash of all that happened, in order. */
  trace: number = 0;
  readonly counts: Map<string, number> = new Map();
  readonly broadcasts: Map<string, Broadcast> = new Map();
  readonly options: Required<OverlayOptions>;
  readonly membership: MembershipOptions;

  readonly #random: Random;
  readonly #byName = new Map<string, SimNode>();
  #order = 0;
  readonly #queue = new Heap<{ at: number; order: number; run: () => void }>(
    (x, y) => x.at < y.at || (x.at === y.at && x.order < y.order),
  );

  constructor(options: OverlayOptions) {
    this.options = {
      latencyMs: [10, 50],
      loss: 0,
      reorder: 0,
      duplicate: 0,
      silenceMs: 12_000,
      dialTimeoutMs: 5_000,
      membership: {},
      checkEvery: 1,
      ...options,
    };
    this.membership = { ...membershipDefaults, ...this.options.membership };
    this.#random = seededRandom(options.seed);
  }

  /** A random number generator for the test's own choices. */
  get random(): Random {
    return this.#random;
  }

  /** Adds a started node. */
  add(): SimNode {
    const node = new SimNode(this, this.nodes.length);
    this.nodes.push(node);
    this.#byName.set(node.name, node);
    this.membershipEvent(node, { type: "start" });
    return node;
  }

  newHyParView(node: SimNode): HyParView {
    const random = seededRandom(this.#random.uint32());
    return new HyParView(node.entry, this.membership, random, this.now);
  }

  newPlumtree(node: SimNode): Plumtree {
    const origin = (this.#random.uint32() % 2 ** 16) * 2 ** 32 + this.#random.uint32();
    void node;
    return new Plumtree(origin, seededRandom(this.#random.uint32()));
  }

  /** Runs until `ms` from now. */
  run(ms: number): void {
    const end = this.now + ms;
    for (let next = this.#queue.peek(); next && next.at <= end; next = this.#queue.peek()) {
      this.#queue.pop();
      this.now = next.at;
      this.steps++;
      next.run();
    }
    this.now = end;
  }

  /** Runs until `condition`, checked every `everyMs`; throws when `ms` pass in vain. */
  runUntil(condition: () => boolean, ms: number, what: string, everyMs = 100): number {
    const start = this.now;
    while (!condition()) {
      if (this.now - start >= ms) throw new Error(`${ms} virtual ms in vain for: ${what}`);
      this.run(everyMs);
    }
    return this.now - start;
  }

  at(ms: number, run: () => void): void {
    this.#queue.push({ at: this.now + ms, order: this.#order++, run });
  }

  join(node: SimNode, contact: SimNode): void {
    this.membershipEvent(node, { type: "join", contact: contact.address });
  }

  leave(node: SimNode): void {
    this.membershipEvent(node, { type: "leave" });
  }

  /** The node stops. `detected`: its host refuses, so peers learn at once; else only silence tells. */
  crash(node: SimNode, detected = true): void {
    node.alive = false;
    for (const [peer, link] of node.links) {
      if (detected) this.#breakLink(link, "lost");
      else this.at(this.#silence(), () => this.#breakLink(link, "lost"));
      void peer;
    }
    node.view.clear();
  }

  /** A new life of a node that crashed or left. */
  restart(node: SimNode): void {
    for (const link of [...node.links.values()]) this.#breakLink(link, "lost");
    node.epoch++;
    node.alive = true;
    node.view.clear();
    node.hyparview = this.newHyParView(node);
    node.plumtree = this.newPlumtree(node);
    node.wakeAt = Infinity;
    this.membershipEvent(node, { type: "start" });
  }

  /** Cuts the nodes of `side` off from all others. */
  partition(side: readonly SimNode[]): void {
    for (const node of side) node.side = 1;
    for (const node of side) {
      for (const [peer, link] of node.links) {
        if (peer.side === node.side) continue;
        this.at(this.#silence(), () => {
          if (this.#cut(link)) this.#breakLink(link, "lost");
        });
      }
    }
  }

  heal(): void {
    for (const node of this.nodes) node.side = 0;
    for (const node of this.nodes) {
      for (const link of node.links.values()) {
        if (link.a !== node || !link.up) continue;
        const waiting = link.waiting;
        link.waiting = [];
        for (const { to, packet } of waiting) this.#transmit(link, to, packet);
      }
    }
  }

  /** Publishes from `node`; the result fills up as the message arrives. */
  publish(node: SimNode, payload: Bytes = EMPTY): Broadcast {
    const broadcast: Broadcast = { at: this.now, delivered: new Map() };
    broadcast.delivered.set(node, { hops: 0, at: this.now, epoch: node.epoch });
    const effects = node.plumtree.handle({ type: "publish", topic: "test", payload }, this.now);
    this.broadcasts.set(keyOf(node.plumtree.lastId), broadcast);
    this.#performPlumtree(node, effects);
    this.#wind(node);
    return broadcast;
  }

  /** A connection from `node` to `peer`'s machines is broken by hand, both ends told. */
  cutLink(node: SimNode, peer: SimNode): void {
    const link = node.links.get(peer);
    if (link !== undefined) this.#breakLink(link, "lost");
  }

  // ---- machines

  membershipEvent(node: SimNode, event: HyParViewEvent): void {
    if (!node.alive) return;
    this.#perform(node, node.hyparview.handle(event, this.now));
    this.#check(node);
    this.#wind(node);
  }

  plumtreeEvent(node: SimNode, event: PlumtreeEvent): void {
    if (!node.alive) return;
    this.#performPlumtree(node, node.plumtree.handle(event, this.now));
    this.#checkCaches(node);
    this.#wind(node);
  }

  // What must hold after every step: bounds, nobody twice, not itself, one event a transition.
  #check(node: SimNode): void {
    if (this.steps % this.options.checkEvery !== 0) return;
    const { activeSize, passiveSize } = this.membership;
    const { activeView, passiveView } = node.hyparview;
    const all = new Set([...activeView, ...passiveView]);
    const holds = activeView.length <= activeSize && passiveView.length <= passiveSize &&
      all.size === activeView.length + passiveView.length && !all.has(node.name) &&
      activeView.length === node.view.size && activeView.every((name) => node.view.has(name));
    if (holds) return;
    throw new Error(
      `seed ${this.options.seed}, at ${this.now} ms, ${node.name}: active ${activeView}, ` +
        `passive ${passiveView}, told ${[...node.view]}`,
    );
  }

  #checkCaches(node: SimNode): void {
    const { cached, cachedBytes, missing } = node.plumtree.sizes;
    if (cached <= MAX_CACHED && cachedBytes <= MAX_CACHED_BYTES && missing <= MAX_MISSING) return;
    throw new Error(
      `seed ${this.options.seed}, at ${this.now} ms, ${node.name}: ${cached} cached, ` +
        `${cachedBytes} bytes, ${missing} missing`,
    );
  }

  #wind(node: SimNode): void {
    const at = Math.min(node.hyparview.wakeAt, node.plumtree.wakeAt);
    if (at >= node.wakeAt) return;
    node.wakeAt = at;
    const { epoch } = node;
    this.at(Math.max(0, at - this.now), () => {
      if (node.wakeAt !== at || node.epoch !== epoch || !node.alive) return;
      node.wakeAt = Infinity;
      if (node.hyparview.wakeAt <= this.now) this.membershipEvent(node, { type: "tick" });
      if (node.plumtree.wakeAt <= this.now) this.plumtreeEvent(node, { type: "tick" });
      this.#wind(node);
    });
  }

  #perform(node: SimNode, effects: HyParViewEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case "send":
          if (this.muted.has(effect.message.type)) break;
          this.#count(`hyparview.${effect.message.type}`);
          this.#send(node, effect.peer, { protocol: "hyparview", message: effect.message });
          break;
        case "seek": {
          // The roster knows everybody, and has not heard yet who is dead.
          const peers = sample(this.#random, this.nodes, effect.count).map(({ entry }) => entry);
          this.at(0, () => this.membershipEvent(node, { type: "known", peers }));
          break;
        }
        case "connectAddress":
          this.#connectAddress(node, effect.address);
          break;
        case "disconnect":
          this.#release(node, effect.peer);
          break;
        case "emit":
          this.#observe(node, effect.event);
          break;
      }
    }
  }

  #performPlumtree(node: SimNode, effects: PlumtreeEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case "push": {
          for (const peer of effect.peers) {
            this.#count("payload");
            this.#send(node, peer, { protocol: "gossip", message: effect.gossip });
          }
          break;
        }
        case "send":
          this.#count(`plumtree.${effect.message.type}`);
          if (effect.message.type === "ihave") {
            this.#count("announcements", effect.message.entries.length);
          }
          this.#send(node, effect.peer, { protocol: "control", message: effect.message });
          break;
        case "deliver": {
          const key = keyOf(effect.gossip);
          const broadcast = this.broadcasts.get(key);
          const before = broadcast?.delivered.get(node);
          // Another life may hear it again.
          if (before?.epoch === node.epoch) throw new Error(`${key} twice at ${node.name}`);
          const { epoch } = node;
          broadcast?.delivered.set(node, { hops: effect.gossip.hops + 1, at: this.now, epoch });
          this.#note(node.index, 7);
          break;
        }
        case "count":
          this.#count(`plumtree.${effect.what}`);
          break;
      }
    }
  }

  #observe(node: SimNode, event: { type: string; node?: string; reason?: string }): void {
    node.events.push(`${event.type} ${event.node ?? ""} ${event.reason ?? ""}`);
    this.#count(`event.${event.type}${event.reason ? `.${event.reason}` : ""}`);
    this.#note(node.index, event.type === "peerUp" ? 5 : 6);
    if (event.type === "peerUp") {
      const peer = event.node as string;
      if (node.view.has(peer)) throw new Error(`${node.name}: ${peer} came up twice`);
      if (peer === node.name) throw new Error(`${node.name} is its own neighbour`);
      node.view.add(peer);
      if (node.view.size > this.membership.activeSize) {
        throw new Error(`${node.name}: view too big`);
      }
      this.plumtreeEvent(node, { type: "neighbourUp", peer });
    } else if (event.type === "peerDown") {
      const peer = event.node as string;
      if (!node.view.delete(peer)) throw new Error(`${node.name}: ${peer} went down twice`);
      this.plumtreeEvent(node, { type: "neighbourDown", peer });
    }
  }

  // ---- network

  #latency(): number {
    const [min, max] = this.options.latencyMs;
    let ms = min + (max - min) * randomFraction(this.#random);
    // A lost frame is noticed after about a round trip and sent again.
    while (this.options.loss > 0 && randomFraction(this.#random) < this.options.loss) {
      ms += 2 * max + min;
    }
    return ms;
  }

  #silence(): number {
    return this.options.silenceMs * (0.8 + 0.4 * randomFraction(this.#random));
  }

  #cut(link: Link): boolean {
    return link.a.side !== link.b.side || !link.a.alive || !link.b.alive;
  }

  #send(from: SimNode, peer: string, packet: Packet): void {
    const to = this.#byName.get(peer);
    const known = from.links.get(to as SimNode);
    if (to !== undefined && known !== undefined) return this.#transmit(known, to, packet);
    const address = from.hyparview.entryOf(peer)?.addresses[0];
    const target = address === undefined ? undefined : this.nodes[Number(address.slice(6))];
    if (target === undefined || target !== to) {
      this.#count("undelivered.unknown");
      this.at(0, () => this.#undelivered(from, peer));
      return;
    }
    this.#dial(from, to).waiting.push({ to, packet });
  }

  #undelivered(node: SimNode, peer: string): void {
    this.membershipEvent(node, { type: "undelivered", peer });
    this.plumtreeEvent(node, { type: "undelivered", peer });
  }

  #dial(from: SimNode, to: SimNode): Link {
    const link: Link = { a: from, b: to, up: false, closed: false, toA: 0, toB: 0, waiting: [] };
    from.links.set(to, link);
    to.links.set(from, link);
    this.#count("dials");
    const fail = () => {
      if (link.closed || link.up) return;
      link.closed = true;
      from.links.delete(to);
      to.links.delete(from);
      for (const end of [from, to]) {
        const other = end === from ? to : from;
        if (link.waiting.some((waiting) => waiting.to === other) || end === from) {
          this.#undelivered(end, other.name);
        }
      }
      const contact = this.#dialled.get(link);
      if (contact !== undefined) {
        this.membershipEvent(from, { type: "contactFailed", address: contact });
      }
    };
    const roundTrip = this.#latency() + this.#latency();
    if (!to.alive && from.side === to.side) this.at(roundTrip, fail);
    else if (from.side !== to.side) this.at(this.options.dialTimeoutMs, fail);
    else {
      this.at(roundTrip * 1.5, () => {
        if (link.closed) return;
        if (this.#cut(link)) return this.at(this.options.dialTimeoutMs, fail);
        link.up = true;
        for (const [end, other] of [[from, to], [to, from]] as const) {
          this.membershipEvent(end, { type: "linkUp", peer: other.entry });
        }
        const contact = this.#dialled.get(link);
        if (contact !== undefined) {
          this.membershipEvent(from, { type: "contactUp", address: contact, peer: to.entry });
        }
        const waiting = link.waiting;
        link.waiting = [];
        for (const { to: target, packet } of waiting) this.#transmit(link, target, packet);
      });
    }
    return link;
  }
  readonly #dialled = new Map<Link, string>();

  #connectAddress(node: SimNode, address: string): void {
    const to = this.nodes[Number(address.slice(6))];
    if (to === undefined || to === node) {
      this.at(1, () => this.membershipEvent(node, { type: "contactFailed", address }));
      return;
    }
    const link = node.links.get(to);
    if (link?.up) {
      this.at(1, () => this.membershipEvent(node, { type: "contactUp", address, peer: to.entry }));
    } else if (link !== undefined) {
      this.at(100, () => this.#connectAddress(node, address));
    } else this.#dialled.set(this.#dial(node, to), address);
  }

  #transmit(link: Link, to: SimNode, packet: Packet): void {
    if (!link.up || link.a.side !== link.b.side) {
      link.waiting.push({ to, packet });
      return;
    }
    const from = to === link.a ? link.b : link.a;
    const { epoch: fromEpoch, entry } = from;
    const sentAt = this.now + to.lagMs;
    const { reorder, duplicate } = this.options;
    const soonest = sentAt + this.#latency();
    let arrival = Math.max(soonest, to === link.a ? link.toA : link.toB);
    if (reorder > 0 && randomFraction(this.#random) < reorder) arrival = soonest;
    else if (to === link.a) link.toA = arrival;
    else link.toB = arrival;
    const arrive = () => {
      if (link.closed || !to.alive) return;
      if (link.a.side !== link.b.side) {
        link.waiting.push({ to, packet });
        return;
      }
      this.#note(from.index * 65_536 + to.index, fromEpoch);
      if (packet.protocol === "hyparview") {
        this.membershipEvent(to, { type: "message", from: entry, message: packet.message });
      } else if (packet.protocol === "control") {
        this.plumtreeEvent(to, { type: "control", from: from.name, message: packet.message });
      } else {
        this.plumtreeEvent(to, { type: "gossip", from: from.name, gossip: packet.message });
      }
    };
    this.at(arrival - this.now, arrive);
    if (duplicate > 0 && randomFraction(this.#random) < duplicate) {
      this.at(arrival - this.now + this.#latency(), arrive);
    }
  }

  #breakLink(link: Link, reason: LinkDownReason): void {
    if (link.closed) return;
    link.closed = true;
    for (const [end, other] of [[link.a, link.b], [link.b, link.a]] as const) {
      end.links.delete(other);
      const peer = other.entry;
      if (!link.up) this.at(this.#latency(), () => this.#undelivered(end, other.name));
      else {this.at(this.#latency(), () =>
          this.membershipEvent(end, { type: "linkDown", peer, reason }));}
    }
  }

  /** Closes a link in good order once neither end needs it. */
  #release(node: SimNode, peer: string): void {
    const link = node.links.get(this.#byName.get(peer) as SimNode);
    if (link === undefined) return;
    const quiet = () => {
      const end = Math.max(link.toA, link.toB);
      if (link.closed || !link.up || this.#cut(link)) return;
      if (link.a.view.has(link.b.name) || link.b.view.has(link.a.name)) return;
      if (end + 5_000 > this.now) return this.at(end + 5_001 - this.now, quiet);
      this.#breakLink(link, "idle");
    };
    quiet();
  }

  // ---- observation

  #count(name: string, by = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + by);
  }

  /** How often `name` was counted since the last call. */
  takeCount(name: string): number {
    const count = this.counts.get(name) ?? 0;
    this.counts.set(name, 0);
    return count;
  }

  #note(a: number, b: number): void {
    let hash = this.trace ^ Math.floor(this.now * 1000);
    hash = Math.imul(hash ^ a, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ b, 0x85ebca6b);
    this.trace = (hash ^ (hash >>> 13)) >>> 0;
  }

  get live(): SimNode[] {
    return this.nodes.filter((node) => node.alive);
  }

  node(name: string): SimNode | undefined {
    return this.#byName.get(name);
  }

  pick(from: readonly SimNode[] = this.live): SimNode {
    return from[randomBelow(this.#random, from.length)] as SimNode;
  }
}
