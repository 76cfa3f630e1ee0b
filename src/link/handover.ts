import type { Clock, Timer } from "../base/clock.ts";
import { isSameLife, judgeArrival } from "./arrival.ts";
import type { Link } from "./link.ts";
import type { LinkDownReason, LinkEvent, PeerIdentity } from "./ports.ts";

/** How long the link in use has to show that it lives when the peer dials anew, milliseconds. */
const CHALLENGE_MS = 1_500;
/** How much later than another connection a link may answer when the peer was asleep, milliseconds. */
const WAKING_MS = 500;
/** How long a link may be gone for its successor before that is told, milliseconds. */
const HANDOVER_MS = 5_000;

/** The links that lead to one peer. */
export interface PeerLinks {
  /** The one in use. */
  link: Link | undefined;
  /** Links that were replaced and still drain: nothing may overtake what they carry. */
  readonly draining: Set<Link>;
  /** A link that waits until it is known whether the one that is in use still lives. */
  challenger: Link | undefined;
  /** A link that went because another takes over, which is not here yet. */
  handover:
    | { readonly peer: Link["peer"]; readonly isKept: boolean; readonly timer: Timer }
    | undefined;
}

/** What the hand-over needs of its surroundings. */
export interface HandoverPorts<Links extends PeerLinks> {
  readonly self: PeerIdentity;
  readonly clock: Clock;
  readonly isClosed: () => boolean;
  readonly emit: (event: LinkEvent) => void;
  /** Another link is in use, or one has drained: what waits may be sent. */
  readonly onUsable: (links: Links) => void;
  /** A link to this peer that went is told as lost: no other took over. */
  readonly onForsaken: (links: Links) => void;
}

/** Decides which link to a peer is used, and tells of it what others need to know. */
export interface Handover<Links extends PeerLinks> {
  /** A link whose pipes stand: it is used, or has to wait, or goes. */
  adopt(links: Links, link: Link): void;
  /** A link that was replaced carries nothing more. */
  drained(links: Links, link: Link): void;
  /** The link in use has ended, and is none of the peer's any more. */
  vacated(links: Links, link: Link, reason: LinkDownReason): void;
}

/** The links that lead to a peer that there is none to yet. */
export function noLinks(): PeerLinks {
  return { link: undefined, draining: new Set(), challenger: undefined, handover: undefined };
}

/** Creates the hand-over between the links of each peer. */
export function createHandover<Links extends PeerLinks>(
  ports: HandoverPorts<Links>,
): Handover<Links> {
  const { self, clock, isClosed, emit, onUsable, onForsaken } = ports;

  const adopt = (links: Links, link: Link) => {
    const old = links.link;
    if (isClosed()) return link.close("left");
    if (old === undefined) return install(links, link);
    const arrival = judgeArrival(old, link, self.publicKey);
    switch (arrival) {
      case "staleLife":
        return link.abort("replaced", "an older life");
      case "newLife":
      case "reconnect":
        return supersede(links, link, arrival === "newLife" ? "replaced" : "lost");
      case "takeOver":
        links.link = link;
        link.isKept ||= old.isKept;
        links.draining.add(old);
        old.close("replaced");
        return whenDead(old, link, () => old.abort("lost", "does not answer"));
      case "yield":
        return challenge(links, link);
    }
  };

  // The old link is of no use any more: what waited on it is lost, and its users are told.
  const supersede = (links: Links, link: Link, reason: "lost" | "replaced") => {
    const old = links.link as Link;
    links.link = link;
    old.abort("replaced", reason === "lost" ? "a newer connection" : "a newer life");
    emit({ type: "linkDown", peer: old.peer, reason });
    install(links, link);
  };

  // The peer may have lost the link that would stay, without our knowing: it has to answer first.
  const challenge = (links: Links, link: Link) => {
    const old = links.link as Link;
    links.challenger?.close("replaced");
    links.challenger = link;
    const settle = (isAlive: boolean) => {
      if (links.challenger !== link) return;
      links.challenger = undefined;
      if (links.link !== old) return adopt(links, link);
      if (isAlive) link.close("replaced");
      else supersede(links, link, "lost");
    };
    whenDead(old, link, () => settle(false), () => settle(true));
  };

  // A peer that stands still for a moment is silent everywhere: `witness`, another connection to it,
  // has to show that it is awake before the silence of one counts.
  const whenDead = (link: Link, witness: Link, dead: () => void, alive = () => {}) => {
    const { heard } = link;
    const isSilent = () => link.heard === heard;
    const ask = () => {
      if (link.isOver || witness.isOver || isClosed()) return alive();
      link.ping(CHALLENGE_MS).then(alive, () => {
        if (!isSilent()) return alive();
        witness.ping(CHALLENGE_MS).then(
          () => clock.after(WAKING_MS, () => isSilent() ? dead() : alive()),
          () => clock.after(WAKING_MS, ask),
        );
      });
    };
    ask();
  };

  const install = (links: Links, link: Link) => {
    links.link = link;
    const { handover } = links;
    const isSuccessor = handover !== undefined && isSameLife(handover.peer, link.peer);
    if (!isSuccessor) endHandover(links);
    handover?.timer.cancel();
    links.handover = undefined;
    if (isSuccessor) link.isKept ||= handover.isKept;
    if (!isSuccessor) emit({ type: "linkUp", peer: link.peer });
    onUsable(links);
  };

  const endHandover = (links: Links) => {
    const { handover } = links;
    if (handover === undefined) return;
    links.handover = undefined;
    handover.timer.cancel();
    emit({ type: "linkDown", peer: handover.peer, reason: "lost" });
  };

  return {
    adopt,
    drained(links, link) {
      links.draining.delete(link);
      // What it still carried is lost: those who rely on it hear of it, as if it had not drained.
      if (!link.isDrained && links.link !== undefined) {
        emit({ type: "linkDown", peer: link.peer, reason: "lost" });
        emit({ type: "linkUp", peer: links.link.peer });
      }
      onUsable(links);
    },
    vacated(links, link, reason) {
      if (reason === "replaced") {
        const timer = clock.after(HANDOVER_MS, () => {
          endHandover(links);
          onForsaken(links);
        });
        links.handover = { peer: link.peer, isKept: link.isKept, timer };
      } else emit({ type: "linkDown", peer: link.peer, reason });
      const { challenger } = links;
      links.challenger = undefined;
      if (challenger !== undefined) adopt(links, challenger);
    },
  };
}
