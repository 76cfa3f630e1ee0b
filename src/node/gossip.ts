/** The services of a node that can be made anew while it lives: its overlay and its broadcast. */
import { createBroadcast } from "../broadcast/driver.ts";
import type { Broadcast, BroadcastOptions } from "../broadcast/driver.ts";
import { SeenIds } from "../broadcast/seen_ids.ts";
import type { Bytes } from "../base/bytes.ts";
import { inTurn } from "../base/in_turn.ts";
import { createMembership } from "../membership/driver.ts";
import type { MembershipDriver, MembershipDriverOptions } from "../membership/driver.ts";
import type { MembershipEvent } from "../membership/events.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Services } from "./services.ts";

/** Starts membership as a service. */
export function membershipService(
  services: Services,
  options: Omit<MembershipDriverOptions, "clock" | "links" | "failed">,
): Omit<MembershipDriver, "close" | "turnToMembers"> & { close(): void } {
  const contacts = new Set<string>();
  const listeners = new Set<(event: MembershipEvent) => void>();
  const neighbours = new Set<NodeName>();
  let hasJoined = false;
  let hasLeft = false;
  let isDown = false;
  const tell = inTurn((event: MembershipEvent) => {
    if (event.type === "peerUp") neighbours.add(event.node);
    else if (event.type === "peerDown") neighbours.delete(event.node);
    else hasJoined = event.type === "joined";
    for (const listener of [...listeners]) listener(event);
  });
  const service = services.add<MembershipDriver>({
    name: "membership",
    make(world) {
      const driver = createMembership({ ...options, ...world });
      driver.on(tell);
      return driver;
    },
    stop(current) {
      isDown = true;
      current.close();
    },
    renewed(now) {
      isDown = false;
      // The neighbours of the one that went down are not those of this one.
      for (const node of [...neighbours]) tell({ type: "peerDown", node, reason: "crashed" });
      if (hasJoined) tell({ type: "left" });
      for (const contact of contacts) now.join(contact);
      if (!hasLeft) now.turnToMembers();
    },
  });
  return {
    join(contact) {
      hasLeft = false;
      contacts.add(contact);
      service.current.join(contact);
    },
    leave() {
      hasLeft = true;
      contacts.clear();
      service.current.leave();
    },
    // While it is down: as was told. What it left half done counts no more.
    activeView: () => isDown ? [...neighbours] : service.current.activeView(),
    passiveView: () => isDown ? [] : service.current.passiveView(),
    addressesOf: (name) => service.current.addressesOf(name),
    returned: (peer, isCut) => service.run((current) => current.returned(peer, isCut)),
    nodeDown: (name, epoch) => service.run((current) => current.nodeDown(name, epoch)),
    on(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    close() {
      listeners.clear();
      service.current.close();
    },
  };
}

/** Starts broadcast as a service. `neighbours`: to whom the one that is made anew sends. */
export function broadcastService(
  services: Services,
  options: Omit<BroadcastOptions, "clock" | "links">,
  neighbours: () => readonly NodeName[],
): Broadcast {
  const subscriptions = new Set<
    { topic: string; handler: (payload: Bytes) => void; end(): void }
  >();
  let restarts = -1;
  const seen = new SeenIds();
  const service = services.add<Broadcast>({
    name: "broadcast",
    make: (world) => createBroadcast({ ...options, ...world, restarts: ++restarts, seen }),
    stop: (current) => current.close(),
    renewed(now) {
      for (const one of subscriptions) one.end = now.subscribe(one.topic, one.handler);
      for (const node of neighbours()) now.neighbourUp(node);
    },
  });
  return {
    publish: (topic, payload) => service.current.publish(topic, payload),
    offer: (topic, payload) => service.current.offer(topic, payload),
    subscribe(topic, handler) {
      const one = { topic, handler, end: service.current.subscribe(topic, handler) };
      subscriptions.add(one);
      return () => {
        subscriptions.delete(one);
        one.end();
      };
    },
    neighbourUp: (node) => service.run((current) => current.neighbourUp(node)),
    neighbourDown: (node) => service.run((current) => current.neighbourDown(node)),
    close: () => service.current.close(),
  };
}
