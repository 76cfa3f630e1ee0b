/**
 * HyParView and Plumtree machines of ten thousand nodes on virtual time: discrete events, one seed,
 * no sockets. After every step the invariants are checked; what does not hold is an error that
 * names the seed.
 */
import { EMPTY } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { messageOf } from "../base/errors.ts";
import { randomBelow, sample, seededRandom } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { PlumtreeEffect, PlumtreeEvent } from "../broadcast/events.ts";
import { keyOf } from "../broadcast/message_cache.ts";
import { encodeControl, encodeGossip } from "../broadcast/messages.ts";
import { Plumtree } from "../broadcast/plumtree.ts";
import type { HyParViewEffect, HyParViewEvent } from "../membership/events.ts";
import { HyParView } from "../membership/hyparview.ts";
import { encodeMessage } from "../membership/messages.ts";
import { membershipDefaults } from "../membership/options.ts";
import type { MembershipOptions } from "../membership/options.ts";
import { EventQueue } from "./event_queue.ts";
import { HistoryHash } from "./history_hash.ts";
import { flawOfCaches, flawOfViews } from "./overlay_invariants.ts";
import { OverlayNetwork } from "./overlay_network.ts";
import type { OverlayHost, OverlayNetworkOptions, Packet } from "./overlay_network.ts";
import { SimNode } from "./overlay_node.ts";
import { Symmetry } from "./symmetry.ts";

export type { SimNode } from "./overlay_node.ts";

/** The world of a simulation. */
export interface OverlayOptions extends Partial<OverlayNetworkOptions> {
  readonly seed: number;
  readonly membership?: Partial<MembershipOptions>;
  /** How far the clock of the node with this number is ahead, ms. @default 0 */
  readonly clockOffsetMs?: (index: number) => number;
  /** The views are checked after so many steps; thousands of nodes are faster with more. @default 1 */
  readonly checkEvery?: number;
}

/** One message that was published, as the observer sees it. */
export interface Broadcast {
  readonly at: number;
  /** Delivery of each node: hops and time. */
  readonly delivered: Map<SimNode, { hops: number; at: number; epoch: number }>;
}

/** An edge may be one-sided for so long while nothing disturbs it, ms. */
const ONE_SIDED_MS = 60_000;

const NETWORK: OverlayNetworkOptions = {
  latencyMs: [10, 50],
  loss: 0,
  reorder: 0,
  duplicate: 0,
  silenceMs: 12_000,
  dialTimeoutMs: 5_000,
};

/** All nodes, the network and the clock. */
export class OverlaySim implements OverlayHost {
  readonly nodes: SimNode[] = [];
  /** Frames of these types are not sent, such as `shuffle`: a world without cycles. */
  readonly muted: Set<string> = new Set();
  readonly counts: Map<string, number> = new Map();
  readonly broadcasts: Map<string, Broadcast> = new Map();
  readonly membership: MembershipOptions;
  /** For the test's own choices too. */
  readonly random: Random;

  readonly #seed: number;
  readonly #clockOffsetMs: (index: number) => number;
  readonly #checkEvery: number;
  readonly #queue = new EventQueue();
  readonly #network: OverlayNetwork;
  readonly #byName = new Map<string, SimNode>();
  readonly #history = new HistoryHash();
  readonly #symmetry = new Symmetry();
  readonly #stalled = new Set<SimNode>();
  #violation: Error | undefined;

  constructor(options: OverlayOptions) {
    const { seed, membership, clockOffsetMs = () => 0, checkEvery = 1, ...network } = options;
    this.#seed = seed;
    this.#clockOffsetMs = clockOffsetMs;
    this.#checkEvery = checkEvery;
    this.membership = { ...membershipDefaults, ...membership };
    this.random = seededRandom(seed);
    const how = { ...NETWORK, ...network };
    this.#network = new OverlayNetwork(how, this.#queue, this.random, this);
  }

  // ---- time

  /** Virtual milliseconds since the start. */
  get now(): number {
    return this.#queue.now;
  }

  /** Events executed. */
  get steps(): number {
    return this.#queue.steps;
  }

  /** A hash of every frame to the byte, every event and delivery, with their times, in order. */
  get trace(): number {
    return this.#history.value;
  }

  /** Runs until `ms` from now. @throws Error with the seed and the time, at the first mistake */
  run(ms: number): void {
    try {
      this.#queue.run(ms);
    } catch (cause) {
      if (cause === this.#violation) throw cause;
      throw this.#broken(messageOf(cause), cause);
    }
  }

  /** Runs until `condition`, checked every `everyMs`; throws when `ms` pass in vain. */
  runUntil(condition: () => boolean, ms: number, what: string, everyMs = 100): number {
    const start = this.now;
    while (!condition()) {
      if (this.now - start >= ms) throw this.#broken(`${ms} virtual ms in vain for: ${what}`);
      this.run(everyMs);
    }
    return this.now - start;
  }

  /** Runs `run` in so many milliseconds. */
  at(ms: number, run: () => void): void {
    this.#queue.in(ms, run);
  }

  // ---- nodes

  /** Adds a started node. */
  add(): SimNode {
    const index = this.nodes.length;
    const node = new SimNode(index, this.#clockOffsetMs(index));
    this.nodes.push(node);
    this.#byName.set(node.name, node);
    this.#begin(node);
    return node;
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
    node.held = [];
    this.#stalled.delete(node);
    node.stalledUntil = -Infinity;
    if (!detected) this.#network.fellSilent(node);
    else for (const link of node.links.values()) this.#network.break(link, "lost");
    this.#symmetry.gone(node.name, this.now);
    node.view.clear();
  }

  /** A new life of a node that crashed or left. */
  restart(node: SimNode): void {
    for (const link of [...node.links.values()]) this.#network.break(link, "lost");
    this.#symmetry.gone(node.name, this.now);
    node.epoch++;
    node.alive = true;
    node.view.clear();
    node.wakeAt = Infinity;
    this.#begin(node);
  }

  #begin(node: SimNode): void {
    const random = seededRandom(this.random.uint32());
    node.hyparview = new HyParView(node.entry, this.membership, random, this.#clockOf(node));
    const origin = (this.random.uint32() % 2 ** 16) * 2 ** 32 + this.random.uint32();
    node.plumtree = new Plumtree(origin, seededRandom(this.random.uint32()));
    this.membershipEvent(node, { type: "start" });
  }

  #clockOf(node: SimNode): number {
    return node.clock = Math.max(node.clock, this.now + node.clockOffsetMs);
  }

  // ---- faults

  /** Cuts the nodes of `side` off from all others. */
  partition(side: readonly SimNode[]): void {
    this.#network.partition(side);
  }

  /** Nothing passes from one to the other any more; the way back stays open. */
  cut(from: SimNode, to: SimNode): void {
    this.#network.cut(from, to);
  }

  /** The link that there is carries nothing from one to the other any more; neither is told. */
  halfOpen(from: SimNode, to: SimNode): void {
    this.#network.halfOpen(from, to);
    this.#symmetry.disturbed(this.now);
  }

  /** The node stands still for a while: its timers fire late, what is sent to it waits. */
  stall(node: SimNode, forMs: number): void {
    this.#stalled.add(node);
    this.#network.stall(node, forMs);
  }

  /** Ends all cuts. */
  heal(): void {
    this.#network.heal();
    this.#symmetry.disturbed(this.now);
  }

  /** A connection from `node` to `peer`'s machines is broken by hand, both ends told. */
  cutLink(node: SimNode, peer: SimNode): void {
    const link = node.links.get(peer);
    if (link !== undefined) this.#network.break(link, "lost");
  }

  // ---- machines

  /** Publishes from `node`; the result fills up as the message arrives. */
  publish(node: SimNode, payload: Bytes = EMPTY): Broadcast {
    if (node.stalledUntil > this.now) throw new Error(`${node.name} stands still`);
    const broadcast: Broadcast = { at: this.now, delivered: new Map() };
    broadcast.delivered.set(node, { hops: 0, at: this.now, epoch: node.epoch });
    const event: PlumtreeEvent = { type: "publish", topic: "test", payload };
    const effects = node.plumtree.handle(event, this.#clockOf(node));
    this.broadcasts.set(keyOf(node.plumtree.lastId), broadcast);
    this.#performPlumtree(node, effects);
    this.#wind(node);
    return broadcast;
  }

  membershipEvent(node: SimNode, event: HyParViewEvent): void {
    if (!node.alive) return;
    if (node.stalledUntil > this.now) {
      node.held.push(() => this.membershipEvent(node, event));
      return;
    }
    this.#perform(node, node.hyparview.handle(event, this.#clockOf(node)));
    this.#check(node);
    this.#wind(node);
  }

  plumtreeEvent(node: SimNode, event: PlumtreeEvent): void {
    if (!node.alive) return;
    if (node.stalledUntil > this.now) {
      node.held.push(() => this.plumtreeEvent(node, event));
      return;
    }
    this.#performPlumtree(node, node.plumtree.handle(event, this.#clockOf(node)));
    const flaw = flawOfCaches(node.plumtree.sizes);
    if (flaw !== undefined) throw this.#broken(`${node.name}: ${flaw}`);
    this.#wind(node);
  }

  #wind(node: SimNode): void {
    const ownDue = Math.min(node.hyparview.wakeAt, node.plumtree.wakeAt);
    const due = ownDue - node.clockOffsetMs;
    if (due >= node.wakeAt) return;
    node.wakeAt = due;
    const { epoch } = node;
    const wake = () => {
      if (node.wakeAt !== due || node.epoch !== epoch || !node.alive) return;
      if (node.stalledUntil > this.now) {
        node.held.push(wake);
        return;
      }
      node.wakeAt = Infinity;
      // The sum of time and offset may round to just before the moment that has come.
      node.clock = Math.max(node.clock, ownDue);
      const now = this.#clockOf(node);
      if (node.hyparview.wakeAt <= now) this.membershipEvent(node, { type: "tick" });
      if (node.plumtree.wakeAt <= now) this.plumtreeEvent(node, { type: "tick" });
      this.#wind(node);
    };
    this.#queue.in(Math.max(0, due - this.now), wake);
  }

  #perform(node: SimNode, effects: HyParViewEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case "send":
          if (this.muted.has(effect.message.type)) break;
          this.count(`hyparview.${effect.message.type}`);
          this.#send(node, effect.peer, { protocol: "hyparview", message: effect.message });
          break;
        case "seek": {
          // The roster knows everybody, and has not heard yet who is dead.
          const peers = sample(this.random, this.nodes, effect.count).map(({ entry }) => entry);
          this.#queue.in(0, () => this.membershipEvent(node, { type: "known", peers }));
          break;
        }
        case "connectAddress":
          this.#network.connect(node, effect.address);
          break;
        case "disconnect":
          this.#network.release(node, this.#byName.get(effect.peer) as SimNode);
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
            this.count("payload");
            this.#send(node, peer, { protocol: "gossip", message: effect.gossip });
          }
          break;
        }
        case "send":
          this.count(`plumtree.${effect.message.type}`);
          if (effect.message.type === "ihave") {
            this.count("announcements", effect.message.entries.length);
          }
          this.#send(node, effect.peer, { protocol: "control", message: effect.message });
          break;
        case "deliver": {
          const key = keyOf(effect.gossip);
          const broadcast = this.broadcasts.get(key);
          const before = broadcast?.delivered.get(node);
          const { epoch } = node;
          // Another life may hear it again.
          if (before?.epoch === epoch) throw this.#broken(`${key} twice at ${node.name}`);
          broadcast?.delivered.set(node, { hops: effect.gossip.hops + 1, at: this.now, epoch });
          this.#note("delivered", node.index, effect.gossip.origin, effect.gossip.seq);
          break;
        }
        case "count":
          this.count(`plumtree.${effect.what}`);
          break;
      }
    }
  }

  #send(from: SimNode, peer: string, packet: Packet): void {
    this.#network.send(from, this.#byName.get(peer), peer, packet);
  }

  arrived(from: SimNode, epoch: number, to: SimNode, packet: Packet): void {
    this.#note(packet.protocol, to.index, from.index, epoch);
    switch (packet.protocol) {
      case "hyparview": {
        const { message } = packet;
        this.#history.bytes(encodeMessage(message));
        return this.membershipEvent(to, { type: "message", from: from.entry, message });
      }
      case "control": {
        const { message } = packet;
        this.#history.bytes(encodeControl(message));
        return this.plumtreeEvent(to, { type: "control", from: from.name, message });
      }
      case "gossip": {
        this.#history.bytes(encodeGossip(packet.message));
        return this.plumtreeEvent(to, { type: "gossip", from: from.name, gossip: packet.message });
      }
    }
  }

  #observe(node: SimNode, event: { type: string; node?: string; reason?: string }): void {
    const { type, node: peer = "", reason = "" } = event;
    node.events.push(`${type} ${peer} ${reason}`);
    this.count(`event.${type}${reason === "" ? "" : `.${reason}`}`);
    this.#note("event", node.index, this.#byName.get(peer)?.index ?? 0, type.length);
    if (type === "peerUp") {
      if (node.view.has(peer)) throw this.#broken(`${node.name}: ${peer} came up twice`);
      node.view.add(peer);
      this.#symmetry.up(node.name, peer, this.now);
      this.plumtreeEvent(node, { type: "neighbourUp", peer });
    } else if (type === "peerDown") {
      if (!node.view.delete(peer)) throw this.#broken(`${node.name}: ${peer} went down twice`);
      this.#symmetry.down(node.name, peer, this.now);
      this.plumtreeEvent(node, { type: "neighbourDown", peer });
    }
  }

  // ---- invariants

  #check(node: SimNode): void {
    this.#checkSymmetry();
    if (this.steps % this.#checkEvery !== 0) return;
    const flaw = flawOfViews(node, this.membership);
    if (flaw !== undefined) throw this.#broken(`${node.name}: ${flaw}`);
  }

  // Faults that last disturb everything: a cut may stand between any two.
  #checkSymmetry(): void {
    if (this.#stalled.size > 0) this.#disturbWhileStalled();
    if (this.#network.hasCuts) this.#symmetry.disturbed(this.now);
    const ms = this.#symmetry.oneSidedMs(this.now);
    if (ms <= ONE_SIDED_MS) return;
    throw this.#broken(`${this.#symmetry.oldest} is one-sided, in quiet for ${ms} ms`);
  }

  #disturbWhileStalled(): void {
    this.#symmetry.disturbed(this.now);
    for (const node of this.#stalled) {
      if (node.stalledUntil < this.now) this.#stalled.delete(node);
    }
  }

  #broken(what: string, cause?: unknown): Error {
    this.#violation = new Error(`seed ${this.#seed}, at ${this.now} ms: ${what}`, { cause });
    return this.#violation;
  }

  // ---- observation

  count(name: string, by = 1): void {
    this.counts.set(name, (this.counts.get(name) ?? 0) + by);
  }

  /** How often `name` was counted since the last call. */
  takeCount(name: string): number {
    const count = this.counts.get(name) ?? 0;
    this.counts.set(name, 0);
    return count;
  }

  #note(what: keyof typeof NOTES, node: number, other: number, number: number): void {
    this.#history.time(this.now);
    this.#history.integer(NOTES[what] * 2 ** 20 + node);
    this.#history.integer(other);
    this.#history.integer(number);
  }

  get live(): SimNode[] {
    return this.nodes.filter((node) => node.alive);
  }

  node(name: string): SimNode | undefined {
    return this.#byName.get(name);
  }

  pick(from: readonly SimNode[] = this.live): SimNode {
    return from[randomBelow(this.random, from.length)] as SimNode;
  }
}

/** What the hash takes in, by number. */
const NOTES = { hyparview: 1, control: 2, gossip: 3, delivered: 4, event: 5 };
