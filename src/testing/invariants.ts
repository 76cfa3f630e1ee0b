/** What must hold on every node after every step of a simulation. */
import type { MemoryMeter } from "../metrics/meter.ts";
import { membershipDefaults } from "../membership/options.ts";
import type { MembershipOptions } from "../membership/options.ts";
import type { NodeEvent } from "../node/events.ts";
import type { Node } from "../node/node.ts";
import { flawOfCaches } from "./overlay_invariants.ts";

/** Watches one life of a node. */
export interface Watch {
  /**
   * @throws Error naming what does not hold: the bounds of the views, nobody twice and not itself
   * in them, exactly one event for each transition, and the caches of broadcast within their caps
   */
  check(): void;
}

/** A meter whose gauges can be read at once, without a snapshot of all that it keeps. */
export interface GaugeMeter extends MemoryMeter {
  /** The last value; 0 before the first. */
  read(name: string): number;
}

/** Passes everything on to `meter`. */
export function gaugeMeter(meter: MemoryMeter): GaugeMeter {
  const gauges = new Map<string, number>();
  return {
    count: (name, labels, by) => meter.count(name, labels, by),
    gauge(name, value, labels) {
      if (labels === undefined) gauges.set(name, value);
      meter.gauge(name, value, labels);
    },
    snapshot: () => meter.snapshot(),
    read: (name) => gauges.get(name) ?? 0,
  };
}

/** Begins with a node that has told nothing yet. `meter` is the node's own. */
export function watchNode(
  node: Node,
  meter: Pick<GaugeMeter, "read">,
  options: Partial<MembershipOptions> = {},
): Watch {
  const { activeSize, passiveSize } = { ...membershipDefaults, ...options };
  const { membership } = node;
  const peers = new Set(membership.activeView());
  const members = new Map<string, "alive" | "unreachable">();
  let broken: string | undefined;
  const assert = (holds: boolean, what: string) => {
    if (!holds) broken ??= `${node.name}: ${what}`;
  };

  const onEvent = (event: NodeEvent) => {
    switch (event.type) {
      case "peerUp":
        assert(!peers.has(event.node), `${event.node} became a neighbour twice`);
        peers.add(event.node);
        break;
      case "peerDown":
        assert(peers.delete(event.node), `${event.node} was no neighbour and is none any more`);
        break;
      case "nodeUp":
        assert(members.get(event.node) !== "alive", `${event.node} came up twice`);
        members.set(event.node, "alive");
        break;
      case "nodeUnreachable":
        assert(members.get(event.node) === "alive", `${event.node} unreachable, but not up before`);
        members.set(event.node, "unreachable");
        break;
      case "nodeDown":
        assert(members.delete(event.node), `${event.node} down, but not up before`);
        break;
    }
  };
  membership.on(onEvent);

  return {
    check() {
      const active = membership.activeView();
      const passive = membership.passiveView();
      assert(active.length <= activeSize, `${active.length} neighbours, ${activeSize} at most`);
      assert(passive.length <= passiveSize, `${passive.length} passive, ${passiveSize} at most`);
      const all = new Set(active);
      assert(all.size === active.length, "a neighbour twice");
      assert(
        active.length === peers.size && active.every((name) => peers.has(name)),
        `events tell of ${[...peers].join(" ")}, the view is ${active.join(" ")}`,
      );
      for (const name of passive) all.add(name);
      assert(all.size === active.length + passive.length, "somebody twice in the views");
      assert(!all.has(node.name), "itself in its views");
      const flaw = flawOfCaches({
        neighbours: activeSize,
        cached: meter.read("barrel_broadcast_kept"),
        cachedBytes: meter.read("barrel_broadcast_kept_bytes"),
        missing: meter.read("barrel_broadcast_missing"),
        waiting: meter.read("barrel_broadcast_waiting"),
      });
      assert(flaw === undefined, flaw ?? "");
      if (broken !== undefined) throw new Error(broken);
    },
  };
}
