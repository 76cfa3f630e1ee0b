/**
 * QUIC by the `node:quic` module, as Bun has it (lsquic) and Node builds with QUIC compiled in.
 * Reading is not flow controlled on Bun: what bounds memory is the credit that `link/` grants.
 */
import { createPrivateKey } from "node:crypto";
import { equalBytes } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { messageOf, TransportError } from "../../src/base/errors.ts";
import { syncHashes } from "../../src/base/noble_crypto.ts";
import { CERTIFICATE_NAME } from "../../src/identity/certificate.ts";
import type {
  CloseInfo,
  Connection,
  ConnectionOptions,
  ConnectionStats,
  DialOptions,
  Listener,
  ListenOptions,
  Pipe,
  TlsIdentity,
  Transport,
} from "../../src/transport/contract.ts";
import {
  addressInUse,
  formatAddress,
  parseAddress,
  resolveAddress,
  socketIsOwn,
  systemNames,
} from "./address.ts";
import type { QuicAddress, ResolveName } from "./address.ts";
import { ALPN } from "./alpn.ts";
import { tuneBunSocket } from "./bun_socket.ts";
import { noAnswer } from "./deadline.ts";
import { dialEach } from "./dial_each.ts";
import { paced } from "./dial_pacer.ts";
import { DialPorts } from "./dial_ports.ts";
import { DRAINABLE } from "./node_quic_types.ts";
import type { NodeQuic, QuicEndpoint, QuicSession, QuicStream } from "./node_quic_types.ts";
import { Incoming } from "./incoming.ts";
import { Outgoing, WRITE_LIMIT } from "./outgoing.ts";
import { probeUdp } from "./udp_probe.ts";

/** A connection's flow control window per stream, bytes; link credit is smaller. */
const STREAM_WINDOW = 2 * 1024 * 1024;
const CONNECTION_WINDOW = 16 * 1024 * 1024;

interface EndpointListener extends Listener {
  readonly endpoint: QuicEndpoint;
  readonly isIpv6: boolean;
}
const listeners = new WeakSet<Listener>();

/**
 * How long no port is opened after one was closed, milliseconds: on Bun 1.4 a socket that takes a
 * closed one's number in the same turn of the event loop may never hear a packet.
 */
const SETTLE_MS = 5;
let portsSettled: Promise<void> = Promise.resolve();

function closePort(port: QuicEndpoint): void {
  port.destroy();
  portsSettled = new Promise((resolve) => setTimeout(resolve, SETTLE_MS));
}

/** QUIC over the host's `node:quic`. */
export async function nodeQuicTransport(
  resolve: ResolveName = systemNames,
): Promise<Transport> {
  const name = "node:quic"; // not a literal: type checkers of other runtimes do not know it
  const quic = await import(name) as NodeQuic;
  const ports = new DialPorts<QuicEndpoint>({
    maxIdle: Infinity, // as many as there ever were at once
    open(isIpv6) {
      const port = new quic.QuicEndpoint({ address: isIpv6 ? "[::]:0" : "0.0.0.0:0" });
      port.closed.catch(() => {});
      return port;
    },
    close: closePort,
  });
  return {
    scheme: "quic",
    listen: (address, options) => listen(quic, address, options),
    dial: dialEach(paced((target, options) => dial(quic, ports, target, options)), resolve),
    probe: probeUdp,
  };
}

async function listen(quic: NodeQuic, address: string, options: ListenOptions): Promise<Listener> {
  const { host, isIpv6, port } = (await resolveAddress(parseAddress(address)))[0];
  let binding = syncHashes.sha256(options.identity.certificate);
  const open = new Set<QuicConnection>();
  let pending = 0;
  const accept = async (session: QuicSession) => {
    if (open.size + pending >= options.maxConnections) return refuse(session);
    pending++;
    try {
      const connection = new QuicConnection("server", session, binding);
      await session.opened;
      open.add(connection);
      void connection.closed.then(() => open.delete(connection));
      options.onConnection(connection);
    } catch {
      // The handshake failed: a stranger that hung up or speaks something else.
      session.destroy();
    } finally {
      pending--;
    }
  };
  await portsSettled;
  const endpoint = await quic.listen((session) => void accept(session), {
    ...sessionOptions(options),
    endpoint: { address: isIpv6 ? `[${host}]:${port}` : `${host}:${port}` },
    sni: sniOf(options.identity),
    alpn: [ALPN],
  }).catch((error: unknown) => {
    throw listenError(address, error);
  });
  endpoint.closed.catch(() => {});
  if (endpoint.address === undefined) {
    // Bun resolves although the bind failed, and says so here.
    throw listenError(address, await endpoint.closed.then(() => undefined, (error) => error));
  }
  await tune(endpoint, options);
  const listener: EndpointListener = {
    endpoint,
    isIpv6,
    address: formatAddress(endpoint.address.address, endpoint.address.port),
    setIdentity(identity) {
      binding = syncHashes.sha256(identity.certificate);
      endpoint.setSNIContexts(sniOf(identity), { replace: true });
    },
    async close() {
      const closing = [...open].map((connection) => {
        connection.close(1, "listener closed");
        return connection.closed;
      });
      await Promise.all(closing);
      closePort(endpoint);
      await portsSettled;
    },
  };
  listeners.add(listener);
  return listener;
}

// Once for each: it has a socket when it listens or has dialled.
const tuned = new WeakSet<QuicEndpoint>();

async function tune(endpoint: QuicEndpoint, { logger }: ConnectionOptions): Promise<void> {
  if (!("Bun" in globalThis) || endpoint.address === undefined || tuned.has(endpoint)) return;
  tuned.add(endpoint);
  await tuneBunSocket(endpoint.address.port, logger);
}

function sniOf(identity: TlsIdentity): object {
  return {
    "*": {
      keys: [createPrivateKey(identity.privateKeyPem)],
      certs: [new TextEncoder().encode(identity.certificatePem)],
    },
  };
}

async function dial(
  quic: NodeQuic,
  ports: DialPorts<QuicEndpoint>,
  { host, isIpv6, port }: QuicAddress,
  options: DialOptions,
): Promise<Connection> {
  if (options.datagrams !== undefined) throw socketIsOwn();
  const address = formatAddress(host, port);
  const via = options.via && listeners.has(options.via)
    ? options.via as EndpointListener
    : undefined;
  const { signal } = options;
  await portsSettled;
  if (signal?.aborted) throw new TransportError("aborted", "the dial was aborted");
  let session: QuicSession | undefined;
  let gaveUp: TransportError | undefined;
  const giveUp = (error: TransportError) => {
    gaveUp ??= error;
    session?.destroy();
  };
  const timer = options.clock.after(options.timeoutMs, () => {
    giveUp(noAnswer(address, options.timeoutMs));
  });
  const aborted = () => giveUp(new TransportError("aborted", "the dial was aborted"));
  signal?.addEventListener("abort", aborted, { once: true });
  const shared = via !== undefined && via.isIpv6 === isIpv6 ? via.endpoint : undefined;
  const endpoint = shared ?? ports.take(isIpv6);
  try {
    session = await quic.connect(isIpv6 ? `[${host}]:${port}` : `${host}:${port}`, {
      ...sessionOptions(options),
      endpoint,
      alpn: ALPN,
      servername: CERTIFICATE_NAME,
      ca: [new TextEncoder().encode(options.identity.issuerPem)],
      // The leaf is compared below, and its key by the handshake.
      verifyPeer: "manual",
      handshakeTimeout: options.timeoutMs,
    });
    session.opened.catch(() => {});
    session.closed.catch(() => {});
    if (gaveUp) session.destroy();
    await tune(endpoint, options);
    await session.opened;
    if (gaveUp) throw gaveUp;
    const connection = clientConnection(session, address, options);
    // The stack never closes a port by itself.
    if (!shared) void connection.closed.then(() => ports.give(endpoint, isIpv6));
    return connection;
  } catch (error) {
    // It may be the port that hears nothing.
    if (!shared) ports.give(endpoint, isIpv6, true);
    throw gaveUp ?? (error instanceof TransportError ? error : dialError(address, error));
  } finally {
    timer.cancel();
    signal?.removeEventListener("abort", aborted);
  }
}

function clientConnection(
  session: QuicSession,
  address: string,
  options: DialOptions,
): QuicConnection {
  const leaf = session.peerCertificate?.raw;
  const expected = options.expectedCertificate;
  if (leaf === undefined || (expected !== undefined && !equalBytes(leaf, expected))) {
    session.destroy();
    throw new TransportError("tls", `${address} does not show the certificate of the expected key`);
  }
  const connection = new QuicConnection("client", session, syncHashes.sha256(leaf));
  return connection;
}

function sessionOptions(options: ConnectionOptions): object {
  return {
    ...(options.keepAliveMs > 0 ? { keepAlive: options.keepAliveMs } : {}),
    transportParams: {
      maxIdleTimeout: Math.max(1, Math.ceil(options.idleTimeoutMs / 1000)), // seconds
      initialMaxStreamsBidi: options.maxPipes,
      initialMaxStreamsUni: options.maxPipes,
      initialMaxStreamDataBidiLocal: STREAM_WINDOW,
      initialMaxStreamDataBidiRemote: STREAM_WINDOW,
      initialMaxStreamDataUni: STREAM_WINDOW,
      initialMaxData: CONNECTION_WINDOW,
    },
  };
}

function refuse(session: QuicSession): void {
  session.opened.catch(() => {});
  session.closed.catch(() => {});
  session.destroy();
}

function listenError(address: string, error: unknown): TransportError {
  const text = messageOf(error);
  if (/\(98\)|\(48\)|EADDRINUSE|in use/.test(text)) return addressInUse(address, error);
  return new TransportError("bad_address", `cannot listen on ${address}: ${text}`, {
    cause: error,
  });
}

function dialError(address: string, error: unknown): TransportError {
  const text = messageOf(error);
  const reason = /timed? ?out/i.test(text)
    ? "timeout"
    : /tls|certificate|crypto/i.test(text)
    ? "tls"
    : /refused/i.test(text)
    ? "refused"
    : "unreachable";
  return new TransportError(reason, `cannot reach ${address}: ${text}`, { cause: error });
}

class QuicConnection implements Connection {
  readonly role: "client" | "server";
  readonly mode = "direct";
  readonly channelBinding: Bytes;
  readonly closed: Promise<CloseInfo>;
  #remoteAddress = "quic://0.0.0.0:0";
  readonly #session: QuicSession;
  readonly #pipes = new Set<QuicPipe>();
  #local: CloseInfo | undefined;
  #early: Pipe[] = [];
  #onPipe: ((pipe: Pipe) => void) | undefined;

  constructor(role: "client" | "server", session: QuicSession, binding: Bytes) {
    this.role = role;
    this.#session = session;
    this.channelBinding = binding;
    session.opened.catch(() => {});
    session.onstream = (stream) => this.#arrived(stream);
    this.closed = session.closed.then(
      (): CloseInfo => this.#local ?? { code: 0, reason: "idle timeout", by: "lost" },
      (error): CloseInfo => this.#local ?? closeInfo(error),
    ).then((info) => {
      for (const pipe of this.#pipes) pipe.connectionLost();
      return info;
    });
  }

  /** Where the peer is now: a client may have moved (RFC 9000 §9). */
  get remoteAddress(): string {
    const remote = this.#session.path?.remote;
    if (remote) this.#remoteAddress = formatAddress(remote.address, remote.port);
    return this.#remoteAddress;
  }

  get onPipe(): ((pipe: Pipe) => void) | undefined {
    return this.#onPipe;
  }
  set onPipe(handler: ((pipe: Pipe) => void) | undefined) {
    this.#onPipe = handler;
    const early = this.#early;
    this.#early = [];
    if (handler) { for (const pipe of early) handler(pipe); }
  }

  async openPipe(kind: "bidirectional" | "unidirectional"): Promise<Pipe> {
    try {
      const stream = kind === "bidirectional"
        ? await this.#session.createBidirectionalStream()
        : await this.#session.createUnidirectionalStream();
      if (stream.pending) {
        // At the peer's limit the stack would hold the stream back without a word.
        stream.closed.catch(() => {});
        stream.destroy();
        throw new TransportError("pipe_limit", `${this.remoteAddress} allows no further pipes`);
      }
      return this.#track(new QuicPipe(kind, true, stream));
    } catch (error) {
      if (error instanceof TransportError) throw error;
      throw new TransportError("closed", `no pipe to ${this.remoteAddress}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  close(code: number, reason: string): void {
    if (this.#local !== undefined) return;
    this.#local = { code, reason, by: "local" };
    if (this.#session.destroyed) return;
    // `close` waits for open streams; bare `destroy` would tell the peer nothing.
    for (const pipe of this.#pipes) pipe.destroy();
    this.#session.close({ code, type: "application", reason }).catch(() => {});
  }

  stats(): ConnectionStats {
    const { smoothedRtt, cwnd, bytesSent, bytesRecv, pktLost } = this.#session.stats;
    return {
      rttMs: Number(smoothedRtt) / 1e6,
      congestionWindow: Number(cwnd),
      bytesSent: Number(bytesSent),
      bytesReceived: Number(bytesRecv),
      packetsLost: Number(pktLost),
    };
  }

  #arrived(stream: QuicStream): void {
    const kind = stream.direction === "bidi" ? "bidirectional" : "unidirectional";
    const pipe = this.#track(new QuicPipe(kind, false, stream));
    if (this.#onPipe) this.#onPipe(pipe);
    else this.#early.push(pipe);
  }

  #track(pipe: QuicPipe): QuicPipe {
    this.#pipes.add(pipe);
    void pipe.over.then(() => this.#pipes.delete(pipe));
    return pipe;
  }
}

function closeInfo(error: unknown): CloseInfo {
  const { type, errorCode, reason } = error as {
    type?: string;
    errorCode?: bigint;
    reason?: string;
  };
  if (type !== "application") return { code: 0, reason: messageOf(error), by: "lost" };
  return { code: Number(errorCode ?? 0n), reason: reason ?? "", by: "peer" };
}

class QuicPipe extends Incoming implements Pipe {
  readonly kind: "bidirectional" | "unidirectional";
  readonly local: boolean;
  onDrain: (() => void) | undefined;
  /** Settles when both directions are over. */
  readonly over: Promise<unknown>;
  readonly #stream: QuicStream;
  readonly #writable: boolean;
  readonly #queue = new Outgoing();
  #waiting = false;
  #waited = false;
  #ending = false;
  #closed = false;

  constructor(kind: "bidirectional" | "unidirectional", local: boolean, stream: QuicStream) {
    super();
    this.kind = kind;
    this.local = local;
    this.#stream = stream;
    this.#writable = kind === "bidirectional" || local;
    const closed = stream.closed.catch(() => {}).then(() => this.connectionLost());
    const reads = kind === "bidirectional" || !local;
    this.over = Promise.all([closed, reads ? this.#read() : undefined]);
  }

  write(chunk: Uint8Array): boolean {
    if (this.#closed || this.#ending || !this.#writable) return false;
    if (!this.#waiting && this.#stream.writer.writeSync(chunk)) return true;
    this.#queue.push(chunk);
    if (!this.#waiting) this.#wait();
    const room = this.#queue.bytes < WRITE_LIMIT;
    if (!room) this.#waited = true;
    return room;
  }

  end(): void {
    if (this.#ending || !this.#writable) return;
    this.#ending = true;
    if (!this.#waiting) this.#finish();
  }

  destroy(): void {
    if (this.#closed) return;
    this.connectionLost();
    this.#stream.destroy();
  }

  connectionLost(): void {
    this.#closed = true;
    this.#queue.clear();
  }

  #finish(): void {
    if (this.#closed) return;
    this.#closed = true;
    try {
      this.#stream.writer.endSync();
    } catch {
      // The stream is over already.
    }
  }

  // The stack's buffer is full: its promise tells when it takes data again.
  #wait(): void {
    const drained = this.#stream.writer[DRAINABLE]();
    if (drained === null) return this.connectionLost();
    this.#waiting = true;
    drained.then((alive) => {
      this.#waiting = false;
      if (alive) this.#pump();
      else this.connectionLost();
    }, () => this.connectionLost());
  }

  #pump(): void {
    if (this.#closed) return;
    const { writer } = this.#stream;
    while (this.#queue.bytes > 0 && (writer.desiredSize ?? 0) > 0) {
      // It takes a whole chunk while there is any room, as seen on Bun 1.4.
      writer.writeSync(this.#queue.take() as Uint8Array);
    }
    if (this.#queue.bytes > 0) this.#wait();
    else if (this.#ending) this.#finish();
    if (this.#waited && this.#queue.bytes < WRITE_LIMIT) {
      this.#waited = false;
      this.onDrain?.();
    }
  }

  async #read(): Promise<void> {
    let clean = true;
    try {
      for await (const batch of this.#stream) {
        for (const chunk of batch) {
          this.deliver(chunk);
        }
      }
    } catch {
      clean = false;
    }
    this.deliverEnd(clean);
  }
}
