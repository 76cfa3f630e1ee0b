/**
 * The links between the machines of an {@link OverlaySim}. They behave like the real ones: dialled
 * on demand, in order, lost frames sent again, broken by silence when a crash, a cut or a stall
 * lasts, and half-open when one way is lost and nobody is told.
 */
import { randomFraction } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { Control, Gossip } from "../broadcast/messages.ts";
import type { PlumtreeEvent } from "../broadcast/events.ts";
import type { LinkDownReason } from "../link/ports.ts";
import type { HyParViewEvent } from "../membership/events.ts";
import type { Message } from "../membership/messages.ts";
import type { EventQueue } from "./event_queue.ts";
import type { SimNode } from "./overlay_node.ts";

/** How the links are. */
export interface OverlayNetworkOptions {
  /** One-way latency of a frame, milliseconds, uniform between the two. */
  readonly latencyMs: readonly [number, number];
  /** Chance of a frame to be lost and sent again. */
  readonly loss: number;
  /** Chance of a frame to overtake others, which real links never let happen. */
  readonly reorder: number;
  /** Chance of a frame to come twice, which real links never let happen. */
  readonly duplicate: number;
  /** A link whose peer is silent for this long is lost. */
  readonly silenceMs: number;
  /** A dial that nobody answers fails after this long. */
  readonly dialTimeoutMs: number;
}

/** A frame between two machines. */
export type Packet =
  | { readonly protocol: "hyparview"; readonly message: Message }
  | { readonly protocol: "control"; readonly message: Control }
  | { readonly protocol: "gossip"; readonly message: Gossip };

/** A link between two nodes, up or being dialled. */
export interface OverlayLink {
  readonly a: SimNode;
  readonly b: SimNode;
  up: boolean;
  closed: boolean;
  /** When the last frame towards `a`, or `b`, arrives: the next arrives no earlier. */
  toA: number;
  toB: number;
  /** The ends that nothing reaches any more over this link. */
  readonly deaf: Set<SimNode>;
  /** Frames that wait for the dial, or for the end of a cut. */
  waiting: { to: SimNode; packet: Packet }[];
  /** The address that was dialled, if it was a contact's. */
  contact: string | undefined;
}

/** What the network needs of the simulation. */
export interface OverlayHost {
  readonly nodes: readonly SimNode[];
  membershipEvent(node: SimNode, event: HyParViewEvent): void;
  plumtreeEvent(node: SimNode, event: PlumtreeEvent): void;
  count(name: string): void;
  /** A frame arrives. */
  arrived(from: SimNode, epoch: number, to: SimNode, packet: Packet): void;
}

/** All links, and what stands in their way. */
export class OverlayNetwork {
  readonly #options: OverlayNetworkOptions;
  readonly #queue: EventQueue;
  readonly #random: Random;
  readonly #host: OverlayHost;
  /** One-way cuts, and since when. */
  readonly #cuts = new Map<SimNode, Map<SimNode, number>>();
  #isSplit = false;

  constructor(
    options: OverlayNetworkOptions,
    queue: EventQueue,
    random: Random,
    host: OverlayHost,
  ) {
    this.#options = options;
    this.#queue = queue;
    this.#random = random;
    this.#host = host;
  }

  // ---- frames

  /** Sends a frame, over a new link where there is none. */
  send(from: SimNode, to: SimNode | undefined, peer: string, packet: Packet): void {
    const known = from.links.get(to as SimNode);
    if (to !== undefined && known !== undefined) return this.#transmit(known, to, packet);
    const address = from.hyparview.entryOf(peer)?.addresses[0];
    const target = address === undefined ? undefined : this.#at(address);
    if (target === undefined || target !== to) {
      this.#host.count("undelivered.unknown");
      this.#queue.in(0, () => this.#undelivered(from, peer));
      return;
    }
    this.#dial(from, to, undefined).waiting.push({ to, packet });
  }

  /** Sees to a link to whoever is at an address. */
  connect(node: SimNode, address: string): void {
    const to = this.#at(address);
    const tell = (event: HyParViewEvent) =>
      this.#queue.in(1, () => this.#host.membershipEvent(node, event));
    if (to === undefined || to === node) return tell({ type: "contactFailed", address });
    const link = node.links.get(to);
    if (link?.up) tell({ type: "contactUp", address, peer: to.entry });
    else if (link !== undefined) this.#queue.in(100, () => this.connect(node, address));
    else this.#dial(node, to, address);
  }

  /** Closes a link in good order once neither end needs it. */
  release(node: SimNode, to: SimNode): void {
    const link = node.links.get(to);
    if (link === undefined) return;
    const quiet = () => {
      const end = Math.max(link.toA, link.toB);
      if (link.closed || !link.up || this.#isCut(link)) return;
      if (link.a.view.has(link.b.name) || link.b.view.has(link.a.name)) return;
      const { now } = this.#queue;
      if (end + 5_000 > now) return this.#queue.in(end + 5_001 - now, quiet);
      this.break(link, "idle");
    };
    quiet();
  }

  #transmit(link: OverlayLink, to: SimNode, packet: Packet): void {
    const from = to === link.a ? link.b : link.a;
    if (!link.up || this.#isBlocked(from, to)) {
      link.waiting.push({ to, packet });
      return;
    }
    const { epoch } = from;
    const { reorder, duplicate } = this.#options;
    const { now } = this.#queue;
    const soonest = now + to.lagMs + this.#latency();
    let arrival = Math.max(soonest, to === link.a ? link.toA : link.toB);
    if (reorder > 0 && randomFraction(this.#random) < reorder) arrival = soonest;
    else if (to === link.a) link.toA = arrival;
    else link.toB = arrival;
    const arrive = () => {
      if (link.closed || !to.alive) return;
      if (link.deaf.has(to)) return this.#host.count("lost.halfOpen");
      if (this.#isBlocked(from, to)) {
        link.waiting.push({ to, packet });
        return;
      }
      if (to.stalledUntil > this.#queue.now) {
        to.held.push(arrive);
        return;
      }
      this.#host.arrived(from, epoch, to, packet);
    };
    this.#queue.in(arrival - now, arrive);
    if (duplicate > 0 && randomFraction(this.#random) < duplicate) {
      this.#queue.in(arrival - now + this.#latency(), arrive);
    }
  }

  #latency(): number {
    const { latencyMs: [min, max], loss } = this.#options;
    let ms = min + (max - min) * randomFraction(this.#random);
    // A lost frame is noticed after about a round trip and sent again.
    while (loss > 0 && randomFraction(this.#random) < loss) ms += 2 * max + min;
    return ms;
  }

  // ---- links

  #at(address: string): SimNode | undefined {
    return this.#host.nodes[Number(address.slice(6))];
  }

  #undelivered(node: SimNode, peer: string): void {
    this.#host.membershipEvent(node, { type: "undelivered", peer });
    this.#host.plumtreeEvent(node, { type: "undelivered", peer });
  }

  #dial(from: SimNode, to: SimNode, contact: string | undefined): OverlayLink {
    const link: OverlayLink = {
      a: from,
      b: to,
      up: false,
      closed: false,
      toA: 0,
      toB: 0,
      deaf: new Set(),
      waiting: [],
      contact,
    };
    from.links.set(to, link);
    to.links.set(from, link);
    this.#host.count("dials");
    const { dialTimeoutMs } = this.#options;
    const roundTrip = this.#latency() + this.#latency();
    const fail = () => this.#dialFailed(link);
    if (this.#isBlocked(from, to) || this.#isBlocked(to, from)) {
      this.#queue.in(dialTimeoutMs, fail);
    } else if (!to.alive) this.#queue.in(roundTrip, fail);
    else this.#queue.in(roundTrip * 1.5, () => this.#dialled(link, dialTimeoutMs));
    return link;
  }

  #dialled(link: OverlayLink, patienceMs: number): void {
    const { a: from, b: to } = link;
    if (link.closed) return;
    if (this.#isCut(link)) return this.#queue.in(patienceMs, () => this.#dialFailed(link));
    // The handshake waits for who stands still.
    const stalledMs = Math.max(from.stalledUntil, to.stalledUntil) - this.#queue.now;
    if (stalledMs >= patienceMs) return this.#queue.in(patienceMs, () => this.#dialFailed(link));
    if (stalledMs > 0) {
      return this.#queue.in(stalledMs, () => this.#dialled(link, patienceMs - stalledMs));
    }
    link.up = true;
    for (const [end, other] of [[from, to], [to, from]] as const) {
      this.#host.membershipEvent(end, { type: "linkUp", peer: other.entry });
    }
    this.#tellContact(link);
    this.#retransmit(link);
  }

  #dialFailed(link: OverlayLink): void {
    const { a: from, b: to } = link;
    if (link.closed || link.up) return;
    link.closed = true;
    from.links.delete(to);
    to.links.delete(from);
    for (const [end, other] of [[from, to], [to, from]] as const) {
      if (end === from || link.waiting.some((waiting) => waiting.to === other)) {
        this.#undelivered(end, other.name);
      }
    }
    this.#tellContact(link);
  }

  #tellContact({ a, b, up, contact: address }: OverlayLink): void {
    if (address === undefined) return;
    if (up) this.#host.membershipEvent(a, { type: "contactUp", address, peer: b.entry });
    else this.#host.membershipEvent(a, { type: "contactFailed", address });
  }

  #retransmit(link: OverlayLink): void {
    const { waiting } = link;
    link.waiting = [];
    for (const { to, packet } of waiting) this.#transmit(link, to, packet);
  }

  /** Ends a link; both ends are told a latency later. */
  break(link: OverlayLink, reason: LinkDownReason): void {
    if (link.closed) return;
    link.closed = true;
    for (const [end, other] of [[link.a, link.b], [link.b, link.a]] as const) {
      end.links.delete(other);
      const peer = other.entry;
      this.#queue.in(this.#latency(), () => {
        if (link.up) this.#host.membershipEvent(end, { type: "linkDown", peer, reason });
        else this.#undelivered(end, other.name);
      });
    }
  }

  // ---- faults

  /** Nothing comes from the host of `node` any more; its peers find out by silence. */
  fellSilent(node: SimNode): void {
    for (const link of node.links.values()) this.#breakAfterSilence(link, () => true);
  }

  /** Cuts the nodes of `side` off from all others. */
  partition(side: readonly SimNode[]): void {
    this.#isSplit = true;
    for (const node of side) node.side = 1;
    for (const node of side) {
      for (const [peer, link] of node.links) {
        if (peer.side !== node.side) this.#breakAfterSilence(link, () => this.#isCut(link));
      }
    }
  }

  /** Nothing passes from one to the other any more; the way back stays open. */
  cut(from: SimNode, to: SimNode): void {
    const { now } = this.#queue;
    const cuts = this.#cuts.get(from) ?? new Map<SimNode, number>();
    this.#cuts.set(from, cuts.set(to, now));
    const link = from.links.get(to);
    if (link === undefined) return;
    this.#breakAfterSilence(link, () => this.#cuts.get(from)?.get(to) === now);
  }

  /**
   * The link that there is carries nothing from one to the other any more, and neither is told
   * until silence tells; a new one works. `heal` does not bring it back.
   */
  halfOpen(from: SimNode, to: SimNode): void {
    const link = from.links.get(to);
    if (link === undefined) return;
    link.deaf.add(to);
    this.#breakAfterSilence(link, () => true);
  }

  /** The node stands still: what comes and what it has planned waits. */
  stall(node: SimNode, forMs: number): void {
    const until = this.#queue.now + forMs;
    if (until <= node.stalledUntil) return;
    node.stalledUntil = until;
    for (const link of node.links.values()) {
      this.#breakAfterSilence(link, () => node.stalledUntil === until && until > this.#queue.now);
    }
    this.#queue.in(forMs, () => {
      if (node.stalledUntil !== until) return;
      node.stalledUntil = -Infinity;
      const { held } = node;
      node.held = [];
      for (const run of held) run();
    });
  }

  /** Whether anything is cut. */
  get hasCuts(): boolean {
    return this.#cuts.size > 0 || this.#isSplit;
  }

  /** Everything passes again, and what was held up arrives. */
  heal(): void {
    this.#cuts.clear();
    this.#isSplit = false;
    for (const node of this.#host.nodes) node.side = 0;
    for (const node of this.#host.nodes) {
      for (const link of node.links.values()) {
        if (link.a === node && link.up) this.#retransmit(link);
      }
    }
  }

  #breakAfterSilence(link: OverlayLink, isStill: () => boolean): void {
    const ms = this.#options.silenceMs * (0.8 + 0.4 * randomFraction(this.#random));
    this.#queue.in(ms, () => {
      if (isStill()) this.break(link, "lost");
    });
  }

  #isBlocked(from: SimNode, to: SimNode): boolean {
    if (from.side !== to.side) return true;
    return this.#cuts.size > 0 && this.#cuts.get(from)?.has(to) === true;
  }

  #isCut({ a, b }: OverlayLink): boolean {
    return !a.alive || !b.alive || this.#isBlocked(a, b) || this.#isBlocked(b, a);
  }
}
