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
import type { Random } from "../base/random.ts";
import type { LinkDownReason } from "../link/ports.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Bridging } from "./bridging.ts";
import type { HyParViewEffect, HyParViewEvent } from "./events.ts";
import { Joining } from "./joining.ts";
import type { Message } from "./messages.ts";
import type { MembershipOptions } from "./options.ts";
import { entryOf } from "./peer_entry.ts";
import type { Peer, PeerEntry } from "./peer_entry.ts";
import { Shuffling } from "./shuffling.ts";
import { Views } from "./views.ts";

/** The machine of one node. Pure: events and time in, effects out. */
export class HyParView {
  readonly #out: HyParViewEffect[] = [];
  readonly #views: Views;
  readonly #joining: Joining;
  readonly #shuffling: Shuffling;
  readonly #bridging: Bridging;

  constructor(self: PeerEntry, options: MembershipOptions, random: Random, now: number) {
    const views = new Views(self, options, random, this.#out);
    const bridging = new Bridging(views, (at) => this.#joining.tryAny(at), now);
    this.#views = views;
    this.#bridging = bridging;
    this.#shuffling = new Shuffling(views);
    this.#joining = new Joining(
      views,
      (address) => this.#out.push({ type: "connectAddress", address }),
      (entry, at) => bridging.sendProbe(entry, at),
    );
    views.onDisaster = (at) => bridging.planSweep(at);
    views.onAdmitted = (name, isFirst, at) => {
      if (isFirst) {
        this.#joining.contacts.reset();
        bridging.planMixes(at);
      }
      bridging.keep(name);
    };
  }

  /** The neighbours' names. */
  get activeView(): NodeName[] {
    return this.#views.activeView;
  }

  /** The names of the peers kept in reserve. */
  get passiveView(): NodeName[] {
    return this.#views.passive.names();
  }

  /** Whether we have had a neighbour since the start or since `leave`. */
  get joined(): boolean {
    return this.#views.isJoined;
  }

  /** The time at which a `tick` is due; `Infinity` when nothing is. */
  get wakeAt(): number {
    const { beatAt, probeAt, mixAt } = this.#bridging;
    const views = this.#views;
    const at = Math.min(views.nextAt, this.#shuffling.shuffleAt, beatAt, probeAt, mixAt);
    const isAlone = views.isRunning && views.active.size === 0;
    return isAlone ? Math.min(at, this.#joining.contacts.nextAt) : at;
  }

  /** What we know of a peer that we may have sent to: for the one who dials. */
  entryOf(name: NodeName): PeerEntry | undefined {
    return this.#views.entryOf(name) ?? this.#joining.contacts.entryOf(name);
  }

  /** Takes one event in and says what is to be done about it. */
  handle(event: HyParViewEvent, now: number): HyParViewEffect[] {
    const views = this.#views;
    switch (event.type) {
      case "start":
        this.#start(now);
        break;
      case "join":
        this.#start(now);
        this.#joining.tryContact(this.#joining.contacts.add(event.contact), now);
        break;
      case "contactUp":
        this.#joining.contactUp(event.address, event.peer, now);
        break;
      case "contactFailed": {
        const contact = this.#joining.contacts.at(event.address);
        if (contact !== undefined) contact.dialling = false;
        break;
      }
      case "message":
        if (event.from.name !== views.self.name) this.#receive(event.from, event.message, now);
        break;
      case "linkUp":
        views.heard(event.peer, undefined, now);
        break;
      case "linkDown":
        this.#linkDown(event.peer, event.reason, now);
        break;
      case "undelivered":
        views.unreachable(event.peer, now);
        break;
      case "nodeDown":
        views.nodeDown(event.peer, event.epoch, now);
        break;
      case "forget":
        views.forget(event.peer, now);
        break;
      case "known":
        for (const peer of event.peers) {
          if (!views.isFull) views.learn(peer, now);
          // Before the next one takes its place in a small passive view.
          if (views.refillAt <= now) views.refill(now);
          if (!views.isKnown(peer.name)) views.strangers.add(peer, now);
        }
        break;
      case "returned":
        if (views.isRunning) this.#bridging.returned(event.peer, event.isCut, now);
        break;
      case "slowConsumer":
        views.slowConsumer(event.peer, now);
        break;
      case "self":
        views.self = event.entry;
        break;
      case "leave":
        this.#leave(now);
        break;
      case "tick":
        this.#tick(now);
        break;
    }
    if (views.refillAt <= now) views.refill(now);
    return this.#out.splice(0);
  }

  #start(now: number): void {
    if (this.#views.isRunning) return;
    this.#views.isRunning = true;
    // Not all nodes of a cluster that starts at once shuffle at once.
    const { shuffleIntervalMs } = this.#views.options;
    this.#shuffling.schedule(now + this.#views.jittered(shuffleIntervalMs / 4));
    this.#bridging.start(now);
  }

  #leave(now: number): void {
    if (!this.#views.isRunning) return;
    this.#views.leave(now);
    this.#shuffling.schedule(Infinity);
    this.#bridging.stop();
  }

  #tick(now: number): void {
    const { contacts } = this.#joining;
    this.#views.expire(now);
    if (!this.#views.isRunning) return;
    if (this.#shuffling.shuffleAt <= now) this.#shuffling.shuffle(now);
    if (this.#bridging.beatAt <= now) this.#bridging.beat(now);
    if (this.#bridging.probeAt <= now) this.#bridging.probe(this.#shuffling.calm, now);
    if (this.#bridging.mixAt <= now) this.#bridging.mix(now);
    if (this.#views.active.size > 0) return;
    for (const contact of contacts.due(now)) this.#joining.tryContact(contact, now);
  }

  #linkDown(peer: Peer, reason: LinkDownReason, now: number): void {
    const views = this.#views;
    const { name } = peer;
    const known = views.active.get(name) ?? views.asked.get(name)?.entry;
    // The end of an old life's link says nothing about the new life.
    if (known !== undefined && known.epoch > peer.epoch) return;
    if (reason === "replaced") {
      // Another link took over. What was on the old one may be lost: make sure both still agree.
      if (views.active.has(name)) this.#bridging.keep(name);
      return;
    }
    if (reason === "left") return views.peerLeft(peer, now);
    if (reason === "overloaded") {
      const slow = views.drop(name, "slow");
      if (slow !== undefined) views.failed(name, slow, now);
    }
    // Links to others come and go; only neighbours, and those we asked, concern us.
    if (views.active.has(name) || views.asked.has(name)) views.unreachable(name, now);
    else views.leaving.delete(name);
  }

  #receive(from: Peer, message: Message, now: number): void {
    const views = this.#views;
    const neighbour = views.active.get(from.name);
    // A frame of a life that has ended, still under way when the next one arrived.
    if (neighbour !== undefined && neighbour.epoch > from.epoch) return;
    views.heard(from, "record" in message ? message.record : undefined, now);
    if (!views.isRunning) return this.#receiveOutside(from, message, now);
    switch (message.type) {
      case "join": {
        const { request, urgent, record } = message;
        return this.#joining.join(from, request, urgent, record, now);
      }
      case "forwardJoin":
        return this.#joining.forwardJoin(from, message.peer, message.ttl, now);
      case "neighbour": {
        const { request, priority, record, offer } = message;
        views.decide(entryOf(from, record), request, priority, offer, now);
        return;
      }
      case "accept":
        return views.accepted(from, message.request, message.record, message.other, now);
      case "reject":
        return views.rejected(from, message.request, message.hint, now);
      case "disconnect":
        return views.disconnected(from, message.final, message.replacement, now);
      case "disconnectAck":
        return views.acknowledged(from.name, now);
      case "shuffle":
        return this.#shuffling.shuffled(from, message, now);
      case "shuffleReply":
        return this.#shuffling.replied(message.request, message.entries, now);
      case "keep":
        return this.#bridging.kept(from, message.mark, now);
      case "probe":
        return this.#bridging.probedBy(from, message, now);
      case "probeReply":
        return this.#bridging.probeReply(from, message, now);
    }
  }

  /** We have left, or not begun: nobody gets a slot, and those who hold an edge are told. */
  #receiveOutside(from: Peer, message: Message, now: number): void {
    const { name } = from;
    switch (message.type) {
      case "join":
      case "neighbour":
        this.#views.send(name, { type: "reject", request: message.request, hint: undefined });
        this.#views.send(name, { type: "disconnect", final: true, replacement: undefined });
        break;
      case "accept":
      case "keep":
      case "probe":
        this.#views.send(name, { type: "disconnect", final: true, replacement: undefined });
        break;
      case "disconnect":
        this.#views.send(name, { type: "disconnectAck" });
        break;
      case "disconnectAck":
        this.#views.acknowledged(name, now);
        break;
    }
  }
}
