import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import type { Crypto } from "../base/crypto.ts";
import { HandshakeError, messageOf, ProtocolError, TransportError } from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/random.ts";
import { certificateOf } from "../identity/certificate.ts";
import { REFUSALS } from "../identity/handshake_messages.ts";
import type { Hello } from "../identity/handshake_messages.ts";
import type { Meter } from "../metrics/meter.ts";
import type {
  Connection,
  ConnectionOptions,
  Listener,
  Pipe,
  TlsIdentity,
  Transport,
} from "../transport/contract.ts";
import { CloseCode } from "./close_codes.ts";
import { FramedPipe } from "./framed_pipe.ts";
import { hedgedDial } from "./hedged_dial.ts";
import type { DialAttempt } from "./hedged_dial.ts";
import { runHandshake } from "./handshake_driver.ts";
import type { HandshakeContext } from "./handshake_driver.ts";
import {
  DIAL_TIMEOUT_MS,
  MAX_UNAUTHENTICATED,
  MAX_UNAUTHENTICATED_PER_ADDRESS,
} from "./options.ts";
import type { ConnectOptions } from "./options.ts";
import { sealConnection } from "./sealed_connection.ts";

/** Whom to dial, and how; all may be left out. */
export interface DialRequest {
  /** Whom we expect. */
  readonly publicKey?: Uint8Array;
  /** The link that the new connection takes over from, by its `id`. */
  readonly replaces?: Bytes;
  /** Leave from a port of its own, not the listener's: a new path through the network. */
  readonly isNewPath?: boolean;
  /** Makes what carries the packets of each dial, in place of a UDP socket. */
  readonly datagrams?: ConnectOptions["datagrams"];
}

/** A connection whose peer has proved who it is; its control pipe is paused. */
export interface Authenticated {
  readonly connection: Connection;
  readonly control: FramedPipe;
  readonly peer: Hello;
  readonly cookieOnly: boolean;
  /** By this both ends name the connection. */
  readonly id: Bytes;
  /** Pipes that came during the handshake; later ones are added until `onPipe` is set anew. */
  readonly earlyPipes: readonly Pipe[];
}

/** What the connector is made of. */
export interface ConnectorOptions {
  readonly transports: readonly Transport[];
  readonly identity: () => TlsIdentity;
  readonly handshake: HandshakeContext;
  readonly clock: Clock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly maxMessageBytes: number;
  readonly idleTimeoutMs: number;
  readonly keepAliveMs: number;
  /** Connections that were accepted and have authenticated. */
  readonly onAccepted: (accepted: Authenticated) => void;
}

/** Makes authenticated connections: accepts them and dials them. */
export interface Connector {
  /** Binds an address. @throws TransportError */
  listen(address: string): Promise<Listener>;
  /** Connects to whoever answers at `address`. @throws TransportError, HandshakeError */
  dial(address: string, request?: DialRequest): Promise<Authenticated>;
  /** The identity has changed: shows the new one from now on. */
  rekey(): void;
  /** Whether the host says that nothing is bound at `address`. */
  probe(address: string, timeoutMs: number): Promise<"refused" | "unknown">;
  close(): Promise<void>;
}

const IGNORE = { onFrame() {}, onEnd() {}, onAbort() {}, onFailure() {}, onDrain() {} };
/** Pipes that may wait behind a handshake. */
const MAX_EARLY_PIPES = 64;
/** Above what a link allows, and not more: Deno keeps room for each from the beginning. */
const MAX_PIPES = 400;
const MAX_CONNECTIONS = 10_000;

/** Creates a connector; nothing is bound yet. */
export function createConnector(options: ConnectorOptions): Connector {
  const { handshake, clock, random, crypto, logger, meter } = options;
  const listeners: Listener[] = [];
  const once = logOnce(logger, 1_024);
  const authenticating = new Map<string, number>();
  let unauthenticated = 0;

  const closing = new AbortController();
  const connectionOptions = (): ConnectionOptions => ({
    identity: options.identity(),
    clock,
    random,
    logger,
    idleTimeoutMs: options.idleTimeoutMs,
    keepAliveMs: options.keepAliveMs,
    maxPipes: MAX_PIPES,
  });

  const transportOf = (address: string): Transport => {
    const scheme = address.slice(0, Math.max(0, address.indexOf("://")));
    const transport = options.transports.find((candidate) => candidate.scheme === scheme);
    if (transport !== undefined) return transport;
    const known = options.transports.map((candidate) => `${candidate.scheme}://`).join(", ");
    throw new TransportError(
      "bad_address",
      `no transport of this node serves ${address}; it has ${known || "none"}`,
    );
  };

  const authenticate = async (
    connection: Connection,
    pipe: Pipe,
    waiting: Pipe[] = [],
    replaces?: Bytes,
  ) => {
    const control = new FramedPipe(pipe, IGNORE, {
      maxMessageBytes: options.maxMessageBytes,
      autoConsume: true,
    });
    const early = (later: Pipe) => {
      if (waiting.length < MAX_EARLY_PIPES) waiting.push(later);
      else later.destroy();
    };
    connection.onPipe = early;
    const startedAt = clock.now();
    const took = (outcome: HandshakeEnd) =>
      countDuration(meter, connection.role, outcome, clock.now() - startedAt);
    try {
      const outcome = await runHandshake(connection, control, handshake, replaces);
      took(outcome.type === "established" ? "accepted" : "redial");
      if (outcome.type !== "established" || outcome.session === undefined) {
        return { connection, control, outcome, earlyPipes: waiting };
      }
      const sealed = sealConnection(connection, control, outcome.session, crypto);
      const earlyPipes = waiting.map((one) => sealed.accept(one));
      sealed.connection.onPipe = (later) => {
        if (earlyPipes.length < MAX_EARLY_PIPES) earlyPipes.push(later);
        else later.destroy();
      };
      return { connection: sealed.connection, control, outcome, earlyPipes };
    } catch (error) {
      const isRedial = error instanceof HandshakeError && error.reason === "redial";
      took(isRedial ? "redial" : "refused");
      refused(connection, error);
      throw error;
    }
  };

  const refused = (connection: Connection, error: unknown) => {
    const reason = error instanceof HandshakeError ? error.reason : "internal";
    // Not a refusal: the first of the two rounds of an unpinned dial.
    if (reason === "redial") return;
    const by = ((error as Error).cause as { by?: string } | undefined)?.by ?? "local";
    meter.count("barrel_handshake_refused_total", { role: connection.role, reason, by });
    const host = hostOf(connection.remoteAddress);
    once(`${connection.role} ${host} ${reason}`, "warn", messageOf(error), { reason });
    // The frame that names the reason has a moment to leave; the close code repeats it.
    clock.after(50, () => connection.close(CloseCode.HANDSHAKE, reason));
  };

  // Who answers says that it has this key, and TLS says that it has not.
  const inBetween = (address: string, cause: unknown): HandshakeError => {
    const reason = "channel_binding";
    meter.count("barrel_handshake_refused_total", { role: "client", reason, by: "local" });
    const text = `refused ${address}: ${reason} (${REFUSALS[reason]})`;
    once(`client ${hostOf(address)} ${reason}`, "warn", text, { reason });
    return new HandshakeError(reason, text, { cause });
  };

  const accept = (connection: Connection) => {
    const host = hostOf(connection.remoteAddress);
    const sameHost = authenticating.get(host) ?? 0;
    if (unauthenticated >= MAX_UNAUTHENTICATED || sameHost >= MAX_UNAUTHENTICATED_PER_ADDRESS) {
      meter.count("barrel_handshake_refused_total", {
        role: "server",
        reason: "too_many",
        by: "local",
      });
      once(
        `too_many ${host}`,
        "warn",
        `refused ${host}: too_many connections authenticate at once`,
      );
      return connection.close(CloseCode.TOO_MANY, "too_many");
    }
    unauthenticated++;
    authenticating.set(host, sameHost + 1);
    let isDone = false;
    const done = () => {
      if (isDone) return;
      isDone = true;
      unauthenticated--;
      const left = (authenticating.get(host) ?? 1) - 1;
      if (left > 0) authenticating.set(host, left);
      else authenticating.delete(host);
      deadline.cancel();
    };
    let hasBegun = false;
    // A stranger that opens no pipe would wait for ever, and one that opens it late twice as long.
    const deadline = clock.after(handshake.timeoutMs, () => {
      if (isDone) return;
      // A handshake that has begun tells of its end itself.
      if (!hasBegun) {
        const labels = { role: "server", reason: "timeout", by: "local" };
        meter.count("barrel_handshake_refused_total", labels);
        once(`server ${host} timeout`, "warn", `refused ${host}: timeout (it said nothing)`);
      }
      connection.close(CloseCode.HANDSHAKE, "timeout");
    });
    void connection.closed.then(done);
    connection.onPipe = (pipe) => {
      if (pipe.kind === "unidirectional") {
        return connection.close(CloseCode.HANDSHAKE, "malformed");
      }
      hasBegun = true;
      authenticate(connection, pipe).then(({ outcome, ...rest }) => {
        done();
        if (outcome.type !== "established") return;
        meter.count("barrel_handshake_accepted_total", { role: "server" });
        const { peer, cookieOnly, id } = outcome;
        options.onAccepted({ ...rest, peer, cookieOnly, id });
      }, done);
    };
  };

  const dialOnce = async (
    address: string,
    certificate: Bytes | undefined,
    { replaces, isNewPath = false, datagrams }: DialRequest,
  ) => {
    const transport = transportOf(address);
    const via = isNewPath
      ? undefined
      : listeners.find((listener) => listener.address.startsWith(`${transport.scheme}:`));
    const carrier = await datagrams?.();
    const dial = (attempt: DialAttempt) =>
      transport.dial(address, {
        ...connectionOptions(),
        ...attempt,
        ...(carrier === undefined ? {} : { datagrams: carrier }),
        ...(via === undefined ? {} : { via }),
        ...(certificate === undefined ? {} : { expectedCertificate: certificate }),
      });
    // A carrier is of one connection.
    const connection = carrier === undefined
      ? await hedgedDial(dial, { clock, signal: closing.signal, timeoutMs: DIAL_TIMEOUT_MS })
      : await dial({ signal: closing.signal, timeoutMs: DIAL_TIMEOUT_MS });
    const giveUp = () => connection.close(CloseCode.HANDSHAKE, "closing");
    closing.signal.addEventListener("abort", giveUp);
    void connection.closed.then(() => closing.signal.removeEventListener("abort", giveUp));
    const early: Pipe[] = [];
    connection.onPipe = (pipe) => early.push(pipe);
    let pipe: Pipe;
    try {
      pipe = await connection.openPipe("bidirectional");
    } catch (error) {
      connection.close(CloseCode.HANDSHAKE, "internal");
      throw error;
    }
    // What fails from here on closes the connection itself, when the reason has left.
    return await authenticate(connection, pipe, early, replaces);
  };

  return {
    async listen(address) {
      const listener = await transportOf(address).listen(address, {
        ...connectionOptions(),
        maxConnections: MAX_CONNECTIONS,
        onConnection: accept,
      });
      listeners.push(listener);
      return listener;
    },
    async dial(address, request = {}) {
      let key = request.publicKey;
      let expected: "pinned" | "told" = "pinned";
      // Up to three: TLS shows another key than we know, which may have been rotated; a client that
      // sees no certificate learns the key; it binds the channel to that key.
      for (let round = 0; round < 3; round++) {
        const certificate = key === undefined ? undefined : await certificateOf(key, crypto);
        let dialled: Awaited<ReturnType<typeof dialOnce>>;
        try {
          dialled = await dialOnce(address, certificate, request);
        } catch (error) {
          if (key === undefined || !isTlsFailure(error)) throw error;
          if (expected === "told") throw inBetween(address, error);
          key = undefined;
          continue;
        }
        const { outcome, ...rest } = dialled;
        const { peer } = outcome;
        if (outcome.type === "established") {
          meter.count("barrel_handshake_accepted_total", { role: "client" });
          return { ...rest, peer, cookieOnly: outcome.cookieOnly, id: outcome.id };
        }
        rest.connection.close(CloseCode.REDIAL, "redial");
        key = peer.publicKey;
        expected = "told";
      }
      throw new ProtocolError("internal", `${address} cannot be bound to its key`);
    },
    rekey() {
      for (const listener of listeners) listener.setIdentity(options.identity());
    },
    async probe(address, timeoutMs) {
      try {
        return await transportOf(address).probe?.(address, timeoutMs) ?? "unknown";
      } catch {
        return "unknown";
      }
    },
    async close() {
      // The node's clock ends with it: deadlines of dials under way would never come.
      closing.abort();
      await Promise.all(listeners.map((listener) => listener.close()));
    },
  };
}

function isTlsFailure(error: unknown): boolean {
  return error instanceof TransportError && error.reason === "tls";
}

type HandshakeEnd = "accepted" | "redial" | "refused";

/** Upper bounds of the classes of durations, milliseconds; what takes longer is in `+Inf`. */
const DURATION_CLASSES_MS = [5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000];

// From the first byte of ours to the end: TLS has ended before. Each class counts all that took no
// longer, as histograms of Prometheus do.
function countDuration(meter: Meter, role: string, outcome: HandshakeEnd, tookMs: number): void {
  const labels = { role, outcome };
  meter.count("barrel_handshake_ms_total", labels, tookMs);
  for (const le of DURATION_CLASSES_MS) {
    if (tookMs <= le) meter.count("barrel_handshakes_within_total", { ...labels, le: `${le}` });
  }
  meter.count("barrel_handshakes_within_total", { ...labels, le: "+Inf" });
}

function hostOf(address: string): string {
  return address.replace(/^[a-z]+:\/\//, "").replace(/:\d+$/, "");
}
