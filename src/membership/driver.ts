/** Runs a {@link HyParView}: frames, links, the alarm, and its events to whoever listens. */
import { Alarm } from "../base/alarm.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf } from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import { Ring } from "../base/ring.ts";
import { sample } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { Links } from "../link/ports.ts";
import type { Meter } from "../metrics/meter.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { HyParView } from "./hyparview.ts";
import type { HyParViewEffect, HyParViewEvent, MembershipEvent } from "./events.ts";
import { decodeMessage, encodeMessage } from "./messages.ts";
import type { MembershipOptions } from "./options.ts";
import { entryOf } from "./peer_entry.ts";
import type { Peer } from "./peer_entry.ts";

/** What membership needs of the node. */
export interface MembershipDriverOptions {
  readonly links: Links;
  readonly options: MembershipOptions;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly meter: Meter;
  /** Whether somebody else still needs the link to a peer that the overlay is done with. */
  readonly isNeeded: (peer: NodeName) => boolean;
  /** Members that are not down. */
  readonly members: () => readonly Peer[];
  /** Told what was thrown where nobody else is: for a connection that has come. */
  readonly failed: (error: unknown) => void;
}

/** The overlay of one node. */
export interface MembershipDriver {
  /** Joins through an address or a node name; tried for ever in the background. */
  join(contact: string): void;
  /** Tells the neighbours that we leave. */
  leave(): void;
  activeView(): NodeName[];
  passiveView(): NodeName[];
  /** Where a peer that messages named can be reached; empty when we do not know it. */
  addressesOf(name: NodeName): readonly string[];
  /** The cluster's verdict on one life of a node. */
  nodeDown(name: NodeName, epoch: number): void;
  /** Begins with the members that are known, after another one in this node that went down. */
  turnToMembers(): void;
  /** A member that others cannot reach has a link with us. `isCut`: the overlay may be in two. */
  returned(peer: Peer, isCut: boolean): void;
  on(listener: (event: MembershipEvent) => void): () => void;
  close(): void;
}

/** Starts the overlay; it accepts peers at once. */
export function createMembership(options: MembershipDriverOptions): MembershipDriver {
  const { links, clock, logger, meter, random } = options;
  const machine = new HyParView(entryOf(links.self), options.options, random, clock.now());
  const channel = links.channel(FrameType.HYPARVIEW);
  const listeners = new Set<(event: MembershipEvent) => void>();
  const once = logOnce(logger, 256);
  const queue = new Ring<HyParViewEffect>();
  let isDraining = false;
  let isClosed = false;

  const feed = (event: HyParViewEvent) => {
    if (isClosed) return;
    for (const effect of machine.handle(event, clock.now())) queue.push(effect);
    // A listener may cause further events: their effects come behind those of this one.
    if (isDraining) return;
    isDraining = true;
    try {
      for (let effect = queue.shift(); effect !== undefined; effect = queue.shift()) {
        carryOut(effect);
      }
    } finally {
      isDraining = false;
      if (!isClosed) alarm.set(machine.wakeAt);
    }
  };

  const carryOut = (effect: HyParViewEffect): void => {
    switch (effect.type) {
      case "send":
        meter.count("barrel_membership_sent_total", { type: effect.message.type });
        return channel.send(effect.peer, encodeMessage(effect.message));
      case "connectAddress":
        return void connect(effect.address);
      case "seek": {
        return tellKnown(sample(random, options.members(), effect.count));
      }
      case "disconnect":
        if (!options.isNeeded(effect.peer)) void links.disconnect(effect.peer);
        return;
      case "emit":
        return emit(effect.event);
    }
  };

  const tellKnown = (peers: readonly Peer[]) =>
    feed({ type: "known", peers: peers.map((peer) => entryOf(peer)) });

  const emit = (event: MembershipEvent) => {
    meter.gauge("barrel_active_view", machine.activeView.length);
    meter.gauge("barrel_passive_view", machine.passiveView.length);
    for (const listener of [...listeners]) {
      try {
        listener(event);
      } catch (error) {
        logger.log("error", `a listener of membership events threw: ${messageOf(error)}`);
      }
    }
  };

  const connect = async (address: string) => {
    let outcome: HyParViewEvent;
    try {
      outcome = { type: "contactUp", address, peer: await links.connectAddress(address) };
    } catch (error) {
      if (isClosed) return;
      once(
        address,
        "warn",
        `contact ${address}: ${messageOf(error)}; trying again in the background`,
      );
      outcome = { type: "contactFailed", address };
    }
    try {
      feed(outcome);
    } catch (error) {
      options.failed(error);
    }
  };

  channel.onFrame = (body, from) => {
    feed({ type: "message", from, message: decodeMessage(body) });
  };
  channel.onUndelivered = (peer) => feed({ type: "undelivered", peer });
  const offLinks = links.on((event) => {
    if (event.type === "linkUp") feed({ type: "linkUp", peer: event.peer });
    else feed({ type: "linkDown", peer: event.peer, reason: event.reason });
  });
  const alarm = new Alarm(clock, () => feed({ type: "tick" }));
  feed({ type: "start" });

  return {
    join: (contact) => feed({ type: "join", contact }),
    leave: () => feed({ type: "leave" }),
    activeView: () => machine.activeView,
    passiveView: () => machine.passiveView,
    addressesOf: (name) => machine.entryOf(name)?.addresses ?? [],
    nodeDown: (peer, epoch) => feed({ type: "nodeDown", peer, epoch }),
    turnToMembers: () => tellKnown(options.members()),
    returned: (peer, isCut) => feed({ type: "returned", peer: entryOf(peer), isCut }),
    on(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close() {
      isClosed = true;
      alarm.cancel();
      offLinks();
      // Handlers stay, and do nothing: links that say goodbye still receive, and a frame that nobody
      // handles would end them before they have delivered.
      listeners.clear();
    },
  };
}
