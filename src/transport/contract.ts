import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/random.ts";

/**
 * What an adapter gives and everything above relies on. The transport knows nothing of nodes: it
 * moves bytes over connections that carry many pipes. Passing the conformance suite
 * (`test/conformance`) on each runtime is what makes an adapter.
 */
export interface Transport {
  /** The URL scheme it serves, without the colon: `quic`, `mem`. */
  readonly scheme: string;
  /**
   * Binds and accepts. Port 0 asks for a free one. Dials made with `via` this listener leave from
   * its port.
   *
   * @throws TransportError `address_in_use`, `bad_address`, `unavailable` (host lacks the stack).
   */
  listen(address: string, options: ListenOptions): Promise<Listener>;
  /**
   * Opens a connection; resolves when TLS is done.
   *
   * @throws TransportError `timeout`, `refused`, `bad_address`, `unreachable`, `tls`, `aborted`,
   *   `overloaded` (it would have to wait for its turn, and too many do, or has waited too long).
   */
  dial(address: string, options: DialOptions): Promise<Connection>;
  /**
   * Asks the host at `address` whether anything is bound there: `refused` when the host itself says
   * that nothing is (ICMP port unreachable on UDP), `unknown` otherwise. Absent where the runtime
   * cannot tell.
   */
  probe?(address: string, timeoutMs: number): Promise<"refused" | "unknown">;
}

/** The TLS credential, derived from the node's identity key (`identity/certificate.ts`). */
export interface TlsIdentity {
  /** The leaf certificate, DER. */
  readonly certificate: Bytes;
  /** The leaf, PEM. */
  readonly certificatePem: string;
  /** The private key, PKCS#8 PEM. */
  readonly privateKeyPem: string;
  /** The well-known issuer's certificate, PEM. Its key is public; it carries no trust. */
  readonly issuerPem: string;
}

/** What both ends of a connection are configured with. */
export interface ConnectionOptions {
  readonly identity: TlsIdentity;
  /** Injected world: adapters take time and chance from here alone. */
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  /** A connection with no packet for so long is dead, milliseconds. */
  readonly idleTimeoutMs: number;
  /** How often to send a packet when idle, milliseconds; 0 = never. */
  readonly keepAliveMs: number;
  /** Concurrent pipes of each kind that the peer may have open. */
  readonly maxPipes: number;
}

/** Options of {@link Transport.listen}. */
export interface ListenOptions extends ConnectionOptions {
  /** Called once per accepted connection, after TLS. Set the connection's handlers before it returns. */
  readonly onConnection: (connection: Connection) => void;
  /** Connections that this listener holds at most; further ones are refused by the transport. */
  readonly maxConnections: number;
}

/** Options of {@link Transport.dial}. */
export interface DialOptions extends ConnectionOptions {
  /** Deadline of the dial from when it begins, milliseconds. Waiting for a turn does not count. */
  readonly timeoutMs: number;
  /**
   * Called once, when the first packet is about to leave: at once, or when the dial's turn comes
   * where a transport lets few begin at a time. A transport that calls it never has its dials joined
   * by others while they have no answer.
   */
  readonly onBegin?: () => void;
  /** A dial beside or after another in vain: where dials wait for turns, first ones go before it. */
  readonly isRetry?: boolean;
  /** Leave from this listener's port, where it is of the same transport. */
  readonly via?: Listener;
  /**
   * The leaf certificate the server must show, DER, when its key is known. Transports that show the
   * peer's certificate check it; Deno pins its hash; a mismatch is a `tls` failure. In mode `edge`
   * TLS is not the peer's, and this is left out of account.
   */
  readonly expectedCertificate?: Bytes;
  readonly signal?: AbortSignal;
  /**
   * Carries this dial's packets in place of the UDP socket. Only quiche takes it: other transports
   * refuse with `unavailable`.
   */
  readonly datagrams?: DatagramTransport;
}

/**
 * Carries the packets of one connection between us and the peer, in place of the UDP socket: a
 * relay, a tunnel. It may lose, double and reorder them, as UDP does; TLS and the handshake are
 * with the peer itself, so it need not be trusted. Whatever it throws is a lost packet.
 */
export interface DatagramTransport {
  /** Takes one packet to the peer, 1,200 bytes at most, which is the callee's from then on. */
  send(packet: Uint8Array): void;
  /** Set by the dial; to be called with each packet of the peer. Garbage is dropped. */
  onMessage: ((packet: Uint8Array) => void) | undefined;
  /** Called once, when the connection is over or the dial has failed. */
  close(): void;
}

/** A bound address. */
export interface Listener {
  /** The URL with the actual port: `quic://127.0.0.1:41233`. IPv6 hosts are bracketed. */
  readonly address: string;
  /** Connections that come from now on are shown this certificate; those there are go on. */
  setIdentity(identity: TlsIdentity): void;
  /** Stops accepting and closes every connection that uses the port. Idempotent. */
  close(): Promise<void>;
}

/** How a connection ended. */
export interface CloseInfo {
  /** The application's code (RFC 9000 §20.2) from whoever closed; 0 when none was given. */
  readonly code: number;
  /** The closer's words, at most 255 bytes of UTF-8. */
  readonly reason: string;
  /** Who ended it: this end, the peer, or nobody (idle timeout, reset, crash). */
  readonly by: "local" | "peer" | "lost";
}

/** Numbers of a connection where the stack offers them; absent fields are unknown. */
export interface ConnectionStats {
  readonly rttMs?: number;
  readonly congestionWindow?: number;
  readonly bytesSent?: number;
  readonly bytesReceived?: number;
  readonly packetsLost?: number;
}

/**
 * One secure connection. Handlers are properties: `onPipe` must be set synchronously when the
 * connection is handed over; pipes that arrive are held back until then.
 */
export interface Connection {
  readonly role: "client" | "server";
  /** The peer's URL as seen on the wire: `quic://127.0.0.1:9100`. */
  readonly remoteAddress: string;
  /**
   * SHA-256 of the server's leaf certificate **as TLS verified it on this connection**. `undefined`
   * on an unpinned dial where the runtime shows no certificate (Deno): the client then may learn
   * the peer's key but must not prove itself. In mode `edge` it means nothing and is not read.
   */
  readonly channelBinding: Bytes | undefined;
  /**
   * `direct`: TLS ends at the peer. `edge`: it ends at somebody's proxy (WebSocket), so the link
   * agrees on keys of its own and seals all that crosses.
   */
  readonly mode: "direct" | "edge";
  /** Opens a pipe. @throws TransportError `closed`, `pipe_limit`. */
  openPipe(kind: "bidirectional" | "unidirectional"): Promise<Pipe>;
  /** Called with each pipe the peer opens, before any of its data. Set its handlers at once. */
  onPipe: ((pipe: Pipe) => void) | undefined;
  /**
   * Closes at once, telling the peer `code` (1 to 2^30) and `reason`. What is still unsent may be
   * lost: say goodbye first. Idempotent; never rejects.
   */
  close(code: number, reason: string): void;
  /** Settles when the connection has ended, however; never rejects. */
  readonly closed: Promise<CloseInfo>;
  /** Numbers from the stack, where it has them. */
  stats?(): ConnectionStats;
  /**
   * Moves the live connection to a new local path, where the stack can.
   *
   * @throws TransportError `migration_disabled` where the peer forbids it; `migration_impossible`
   *   where this connection cannot; `timeout`; `closed`; `unreachable`
   */
  migrate?(timeoutMs: number): Promise<void>;
}

/** What `Pipe.onData` returns when nothing of the chunk will be looked at any more. */
export const SPENT: unique symbol = Symbol("spent");

/**
 * An ordered byte stream in one or both directions. The three stacks have no more in common than
 * this: reset codes, flow control of an idle reader and a clean end are framed above (`link/`).
 */
export interface Pipe {
  readonly kind: "bidirectional" | "unidirectional";
  /** Whether this end opened it. */
  readonly local: boolean;
  /**
   * Takes all of `chunk` (ownership passes to the pipe: do not touch it again), which may be a part
   * of a buffer that is in use elsewhere: an adapter detaches no buffer. Returns `true` when more
   * may be written at once; `false` when the stack's buffer is full: wait for `onDrain`.
   * After the pipe has ended it does nothing and returns `false`.
   */
  write(chunk: Uint8Array): boolean;
  /** Called when a pipe that returned `false` takes data again. */
  onDrain: (() => void) | undefined;
  /**
   * Ends our direction after what was written. Idempotent. quiche sends an end that travels alone
   * once: when the packet is lost, the peer never hears of it. In one turn with a `write` it is safe.
   */
  end(): void;
  /**
   * Called with each chunk received; the chunk belongs to the callee, for good, unless it returns
   * {@link SPENT}: the pipe may then use its memory for what comes next.
   */
  onData: ((chunk: Bytes) => unknown) | undefined;
  /**
   * Called once when the peer's direction is over. `clean` is the stack's opinion only (a killed
   * peer may look clean on some): never take it for success without an END frame.
   */
  onEnd: ((clean: boolean) => void) | undefined;
  /** Stops both directions without ceremony; the peer sees an end or an error. Idempotent. */
  destroy(): void;
}
