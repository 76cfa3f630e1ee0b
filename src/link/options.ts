import type { DatagramTransport } from "../transport/contract.ts";

/** Settings of the links; `links` of the node's options. */
export interface LinkSettings {
  /** A link outside the active view that nothing uses closes after so long, ms. @default 300_000 */
  readonly idleAfterMs: number;
  /** How often to look for such links, ms. @default 60_000 */
  readonly idleSweepMs: number;
  /** Data pipes per link, chosen by the destination process; the dialling end decides. @default 4 */
  readonly dataStreams: number;
  /** Bytes that may wait towards a peer before `send` returns a promise. @default 1 MiB */
  readonly highWaterMark: number;
  /** Bytes that may wait before `send` throws `OverloadedError`. @default 64 MiB */
  readonly maxBufferedBytes: number;
}

/** The defaults of {@link LinkSettings}. */
export const LINK_DEFAULTS: LinkSettings = Object.freeze({
  idleAfterMs: 300_000,
  idleSweepMs: 60_000,
  dataStreams: 4,
  highWaterMark: 1 << 20,
  maxBufferedBytes: 64 << 20,
});

/** How to reach one peer, where that is known better than by its own word. */
export interface ConnectOptions {
  /** Dialled instead of the addresses that the peer tells. */
  readonly address?: string;
  /**
   * Carries the packets of the connection in place of a UDP socket: through a relay, for one. Called
   * once for each dial.
   */
  readonly datagrams?: () => DatagramTransport | Promise<DatagramTransport>;
}

/** Connections that may be authenticating at once, in all and from one address. */
export const MAX_UNAUTHENTICATED = 256;
export const MAX_UNAUTHENTICATED_PER_ADDRESS = 64;
/** How long one dial may take, ms: TLS only, the handshake has its own deadline. */
export const DIAL_TIMEOUT_MS = 5_000;
