import type { NodeName } from "../wire/node_name.ts";
import type { Link } from "./link.ts";

/** A row of `node.links.list()`. */
export interface LinkInfo {
  readonly node: NodeName;
  /** The URL scheme of the connection. */
  readonly transport: string;
  readonly address: string;
  /** Smoothed round trip, milliseconds; `undefined` before the first measurement. */
  readonly rttMs: number | undefined;
  /** How long ago a frame other than a ping was sent or received, milliseconds. */
  readonly idleMs: number;
  /** Bytes that wait to be sent. */
  readonly bufferedBytes: number;
  /** Tagged streams that are open. */
  readonly streams: number;
}

/** What `node.links.stats(name)` tells; absent fields are unknown to the runtime's QUIC. */
export interface LinkStats extends LinkInfo {
  /** The last round trip that was measured over the control pipe, milliseconds. */
  readonly latestRttMs: number | undefined;
  /** Bytes of the pipes sent and received, without the transport's own overhead. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
  /** Whether data waits for the peer's credit or for the transport. */
  readonly isCongested: boolean;
  /** Which end dialled: we (`client`) or the peer. */
  readonly role: "client" | "server";
  /** Bytes that may be under way unacknowledged (RFC 9002 §7). */
  readonly congestionWindow?: number;
  readonly packetsLost?: number;
}

/** Describes a link for an operator. */
export function linkInfo(link: Link, now: number): LinkInfo {
  const address = link.connection.remoteAddress;
  return {
    node: link.peer.name,
    transport: address.slice(0, address.indexOf(":")),
    address,
    rttMs: link.rtt.smoothedMs ?? link.connection.stats?.().rttMs,
    idleMs: Math.max(0, now - link.usedAt),
    bufferedBytes: link.buffered,
    streams: link.streams.count,
  };
}

/** Describes a link with all that is known of it. */
export function linkStats(link: Link, now: number): LinkStats {
  const { congestionWindow, packetsLost } = link.connection.stats?.() ?? {};
  return {
    ...linkInfo(link, now),
    latestRttMs: link.rtt.latestMs,
    bytesSent: link.bytesSent,
    bytesReceived: link.bytesReceived,
    isCongested: link.isCongested,
    role: link.connection.role,
    ...(congestionWindow === undefined ? {} : { congestionWindow }),
    ...(packetsLost === undefined ? {} : { packetsLost }),
  };
}
