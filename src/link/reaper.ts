import type { Clock } from "../base/clock.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Link } from "./link.ts";
import type { LinkSettings } from "./options.ts";
import type { Outbox } from "./outbox.ts";

/** Links that we dialled and only protocols have used close so soon: a question costs no link. */
const LINGER_MS = 3_000;
const LINGER_SWEEP_MS = 1_000;

/** What keeps the links to a peer alive. */
export interface Held {
  readonly link: Link | undefined;
  /** Monitors and process links that cross it. */
  readonly holds: number;
  readonly outbox: Outbox;
}

/** What the reaper needs of the table. */
export interface ReaperPorts {
  readonly settings: Pick<LinkSettings, "idleAfterMs" | "idleSweepMs">;
  readonly clock: Clock;
  readonly entries: ReadonlyMap<NodeName, Held>;
  /** Whether the overlay needs the link to this peer. */
  readonly isNeeded: (name: NodeName) => boolean;
  readonly isClosed: () => boolean;
}

/** Closes links that nobody uses. */
export interface Reaper {
  /** Closes the link to `name` that we dialled, unless the overlay or more than protocols uses it. */
  letGo(name: NodeName): void;
}

/** Starts the reaper; it ends with the table. */
export function startReaper(ports: ReaperPorts): Reaper {
  const { settings, clock, entries, isNeeded, isClosed } = ports;

  const isUsed = ({ link, holds, outbox }: Held) =>
    holds > 0 || (link !== undefined && link.streams.count > 0) || !outbox.isEmpty;

  // Only the end that dialled knows what for; the other may be about to be used.
  const letGo = (name: NodeName) => {
    const held = entries.get(name);
    if (held?.link === undefined || held.link.role === "server" || held.link.isKept) return;
    // What is in the outbox waits for the link before it to drain.
    if (isUsed(held) || isNeeded(name)) return;
    held.link.close("idle");
  };

  const closeIdle = () => {
    const now = clock.now();
    for (const [name, held] of entries) {
      const { link } = held;
      if (link === undefined || isUsed(held) || now - link.usedAt < settings.idleAfterMs) continue;
      if (!isNeeded(name)) link.close("idle");
    }
  };

  const closeLingering = () => {
    const now = clock.now();
    for (const [name, { link }] of entries) {
      if (link !== undefined && now - link.usedAt >= LINGER_MS) letGo(name);
    }
  };

  const every = (ms: number, run: () => void) => {
    clock.after(ms, () => {
      if (isClosed()) return;
      run();
      every(ms, run);
    });
  };
  every(settings.idleSweepMs, closeIdle);
  every(LINGER_SWEEP_MS, closeLingering);
  return { letGo };
}
