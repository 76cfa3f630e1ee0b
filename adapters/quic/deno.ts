/**
 * QUIC by Deno's own stack (quinn). Deno shows no peer certificate: a client pins the leaf that it
 * computes from the peer's key, or, when it does not know the key yet, accepts any leaf of the
 * well-known issuer and then has no channel binding.
 */
import type { Bytes } from "../../src/base/bytes.ts";
import { messageOf, TransportError } from "../../src/base/errors.ts";
import { syncHashes } from "../../src/base/noble_crypto.ts";
import { CERTIFICATE_NAME } from "../../src/identity/certificate.ts";
import type {
  CloseInfo,
  Connection,
  ConnectionOptions,
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
import { noAnswer } from "./deadline.ts";
import { dialEach } from "./dial_each.ts";
import { paced } from "./dial_pacer.ts";
import { DialPorts } from "./dial_ports.ts";
import { Incoming } from "./incoming.ts";
import { Outgoing, WRITE_LIMIT } from "./outgoing.ts";

// The part of Deno's unstable QUIC that is used here: a library cannot ask for its types.
interface NetAddr {
  readonly hostname: string;
  readonly port: number;
}
interface QuicCloseInfo {
  closeCode: number;
  reason: string;
}
interface QuicStream {
  readonly readable: ReadableStream<Bytes>;
  readonly writable: WritableStream<Uint8Array>;
}
interface QuicConn {
  close(info: QuicCloseInfo): void;
  createBidirectionalStream(): Promise<QuicStream>;
  createUnidirectionalStream(): Promise<WritableStream<Uint8Array>>;
  readonly remoteAddr: NetAddr;
  readonly closed: Promise<QuicCloseInfo>;
  readonly incomingBidirectionalStreams: ReadableStream<QuicStream>;
  readonly incomingUnidirectionalStreams: ReadableStream<ReadableStream<Bytes>>;
}
interface QuicIncoming {
  accept(): Promise<QuicConn>;
  refuse(): void;
}
interface QuicEndpoint {
  readonly addr: NetAddr;
  listen(options: object): AsyncIterable<QuicIncoming> & { stop(): void };
  close(info?: QuicCloseInfo): void;
}
interface DenoQuic {
  QuicEndpoint: new (options: { hostname: string; port: number }) => QuicEndpoint;
  connectQuic(options: object): Promise<QuicConn>;
}
const host = (globalThis as unknown as { Deno: DenoQuic }).Deno;

interface DenoListener extends Listener {
  readonly endpoint: QuicEndpoint;
  readonly isIpv6: boolean;
}
const listeners = new WeakSet<Listener>();
const ports = new DialPorts<QuicEndpoint>({
  maxIdle: 8,
  open: (isIpv6) => new host.QuicEndpoint({ hostname: isIpv6 ? "::" : "0.0.0.0", port: 0 }),
  close: (port) => port.close(),
});

/** QUIC on Deno; needs `"unstable": ["net"]` in the program's `deno.json`, or `--unstable-net`. */
export function denoQuicTransport(resolve: ResolveName = systemNames): Transport {
  return { scheme: "quic", listen, dial: dialEach(paced(dial), resolve) };
}

async function listen(address: string, options: ListenOptions): Promise<Listener> {
  const { host: hostname, port, isIpv6 } = (await resolveAddress(parseAddress(address)))[0];
  let endpoint: QuicEndpoint;
  try {
    endpoint = new host.QuicEndpoint({ hostname, port });
  } catch (error) {
    throw listenError(address, error);
  }
  let binding = syncHashes.sha256(options.identity.certificate);
  const open = new Set<DenoConnection>();
  let pending = 0;
  const accept = async (peer: QuicIncoming) => {
    pending++;
    try {
      const shown = binding;
      const connection = new DenoConnection("server", await peer.accept(), shown);
      open.add(connection);
      void connection.closed.then(() => open.delete(connection));
      options.onConnection(connection);
      connection.start();
    } catch {
      // The handshake failed: a stranger that hung up or speaks something else.
    } finally {
      pending--;
    }
  };
  const serve = async (peers: AsyncIterable<QuicIncoming>) => {
    try {
      for await (const peer of peers) {
        if (open.size + pending >= options.maxConnections) peer.refuse();
        else void accept(peer);
      }
    } catch {
      // The endpoint was closed.
    }
  };
  const loops: Promise<void>[] = [];
  // Listening anew changes the certificate of the endpoint; what comes goes to either loop.
  const begin = (identity: TlsIdentity) => {
    const peers = endpoint.listen({
      ...transportOptions(options),
      key: identity.privateKeyPem,
      cert: identity.certificatePem,
    });
    loops.push(serve(peers));
    return peers;
  };
  let incoming = begin(options.identity);
  const listener: DenoListener = {
    endpoint,
    isIpv6,
    address: formatAddress(endpoint.addr.hostname, endpoint.addr.port),
    setIdentity(identity) {
      binding = syncHashes.sha256(identity.certificate);
      incoming = begin(identity);
    },
    async close() {
      for (const connection of open) connection.close(1, "listener closed");
      incoming.stop();
      endpoint.close({ closeCode: 1, reason: "listener closed" });
      await Promise.all(loops);
    },
  };
  listeners.add(listener);
  return listener;
}

async function dial(target: QuicAddress, options: DialOptions): Promise<Connection> {
  if (options.datagrams !== undefined) throw socketIsOwn();
  const via = options.via && listeners.has(options.via) ? options.via as DenoListener : undefined;
  const shared = via !== undefined && via.isIpv6 === target.isIpv6;
  const endpoint = shared ? via.endpoint : ports.take(target.isIpv6);
  try {
    const conn = await connect(endpoint, target, options);
    const pinned = options.expectedCertificate;
    const binding = pinned === undefined ? undefined : syncHashes.sha256(pinned);
    const connection = new DenoConnection("client", conn, binding);
    connection.start();
    if (!shared) void connection.closed.then(() => ports.give(endpoint, target.isIpv6));
    return connection;
  } catch (error) {
    // Closing the port is what ends a dial that nobody waits for any more.
    if (!shared) ports.give(endpoint, target.isIpv6, true);
    throw error instanceof TransportError
      ? error
      : dialError(formatAddress(target.host, target.port), error);
  }
}

// `connectQuic` cannot be aborted: a connection that comes too late is closed.
function connect(
  endpoint: QuicEndpoint,
  target: QuicAddress,
  options: DialOptions,
): Promise<QuicConn> {
  const { expectedCertificate, signal } = options;
  return new Promise((resolve, reject) => {
    let over = false;
    const giveUp = (error: TransportError) => {
      over = true;
      timer.cancel();
      signal?.removeEventListener("abort", aborted);
      reject(error);
    };
    const aborted = () => giveUp(new TransportError("aborted", "the dial was aborted"));
    const timer = options.clock.after(options.timeoutMs, () => {
      giveUp(noAnswer(formatAddress(target.host, target.port), options.timeoutMs));
    });
    if (signal?.aborted) return aborted();
    signal?.addEventListener("abort", aborted, { once: true });
    host.connectQuic({
      ...transportOptions(options),
      endpoint,
      hostname: target.host,
      port: target.port,
      serverName: CERTIFICATE_NAME,
      ...(expectedCertificate === undefined
        ? { caCerts: [options.identity.issuerPem] }
        : { serverCertificateHashes: [pinOf(expectedCertificate)] }),
    }).then((conn) => {
      if (over) return conn.close({ closeCode: 1, reason: "too late" });
      timer.cancel();
      signal?.removeEventListener("abort", aborted);
      resolve(conn);
    }, (error) => {
      if (!over) giveUp(dialError(formatAddress(target.host, target.port), error));
    });
  });
}

// Honoured by `connectQuic` as in WebTransport, though its types do not say so.
function pinOf(certificate: Bytes): { algorithm: string; value: ArrayBuffer } {
  return { algorithm: "sha-256", value: syncHashes.sha256(certificate).buffer };
}

function transportOptions(options: ConnectionOptions): object {
  return {
    alpnProtocols: [ALPN],
    maxIdleTimeout: options.idleTimeoutMs,
    ...(options.keepAliveMs > 0 ? { keepAliveInterval: options.keepAliveMs } : {}),
    maxConcurrentBidirectionalStreams: options.maxPipes,
    maxConcurrentUnidirectionalStreams: options.maxPipes,
  };
}

function listenError(address: string, error: unknown): TransportError {
  if ((error as Error).name === "AddrInUse") return addressInUse(address, error);
  return new TransportError("bad_address", `cannot listen on ${address}: ${messageOf(error)}`, {
    cause: error,
  });
}

function dialError(address: string, error: unknown): TransportError {
  const text = messageOf(error);
  const reason = /certificate|crypto|tls|error 4\d|alert/i.test(text)
    ? "tls"
    : /timed? ?out/i.test(text)
    ? "timeout"
    : /refused/i.test(text)
    ? "refused"
    : "unreachable";
  return new TransportError(reason, `cannot reach ${address}: ${text}`, { cause: error });
}

class DenoConnection implements Connection {
  readonly role: "client" | "server";
  readonly mode = "direct";
  readonly channelBinding: Bytes | undefined;
  readonly closed: Promise<CloseInfo>;
  readonly #conn: QuicConn;
  readonly #pipes = new Set<DenoPipe>();
  #local: CloseInfo | undefined;
  #early: Pipe[] = [];
  #onPipe: ((pipe: Pipe) => void) | undefined;

  constructor(role: "client" | "server", conn: QuicConn, binding: Bytes | undefined) {
    this.role = role;
    this.#conn = conn;
    this.channelBinding = binding;
    this.closed = conn.closed.then(
      (info): CloseInfo => this.#local ?? closeInfo(info),
      (error): CloseInfo => this.#local ?? { code: 0, reason: messageOf(error), by: "lost" },
    ).then((info) => {
      for (const pipe of this.#pipes) pipe.connectionLost();
      return info;
    });
  }

  /** Where the peer is now: a client may have moved (RFC 9000 §9). */
  get remoteAddress(): string {
    const { hostname, port } = this.#conn.remoteAddr;
    return formatAddress(hostname, port);
  }

  /** Begins to accept pipes: once the handlers are set. */
  start(): void {
    const { incomingBidirectionalStreams, incomingUnidirectionalStreams } = this.#conn;
    void this.#accept(incomingBidirectionalStreams, (stream) => {
      this.#arrived(new DenoPipe("bidirectional", false, stream.readable, stream.writable));
    });
    void this.#accept(incomingUnidirectionalStreams, (readable) => {
      this.#arrived(new DenoPipe("unidirectional", false, readable, undefined));
    });
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
      if (kind === "bidirectional") {
        const { readable, writable } = await this.#conn.createBidirectionalStream();
        return this.#track(new DenoPipe(kind, true, readable, writable));
      }
      const writable = await this.#conn.createUnidirectionalStream();
      return this.#track(new DenoPipe(kind, true, undefined, writable));
    } catch (error) {
      const reason = error instanceof RangeError ? "pipe_limit" : "closed";
      throw new TransportError(reason, `no pipe to ${this.remoteAddress}: ${messageOf(error)}`, {
        cause: error,
      });
    }
  }

  close(code: number, reason: string): void {
    if (this.#local !== undefined) return;
    this.#local = { code, reason, by: "local" };
    this.#conn.close({ closeCode: code, reason });
  }

  async #accept<T>(streams: ReadableStream<T>, arrived: (stream: T) => void): Promise<void> {
    try {
      for await (const stream of streams) arrived(stream);
    } catch {
      // The connection ended; `closed` tells how.
    }
  }

  #arrived(pipe: DenoPipe): void {
    this.#track(pipe);
    if (this.#onPipe) this.#onPipe(pipe);
    else this.#early.push(pipe);
  }

  #track(pipe: DenoPipe): DenoPipe {
    this.#pipes.add(pipe);
    void pipe.over.then(() => this.#pipes.delete(pipe));
    return pipe;
  }
}

// An idle timeout and a reset come as a close that neither end asked for.
function closeInfo(info: QuicCloseInfo): CloseInfo {
  const lost = info.closeCode === 0;
  return { code: info.closeCode, reason: info.reason, by: lost ? "lost" : "peer" };
}

/** Buffers that the runtime reads into, bytes. */
const SMALLEST_READ = 2 * 1024;
const LARGEST_READ = 64 * 1024;

/** Microtasks in which who has been woken by a chunk writes its answer. */
const ANSWERED_WITHIN = 8;
const SETTLED = Promise.resolve();

class DenoPipe extends Incoming implements Pipe {
  readonly kind: "bidirectional" | "unidirectional";
  readonly local: boolean;
  onDrain: (() => void) | undefined;
  /** Settles when both directions are over. */
  readonly over: Promise<unknown>;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;
  readonly #reader: ReadableStreamBYOBReader | undefined;
  readonly #queue = new Outgoing();
  #writing = false;
  #inFlight = 0;
  #waited = false;
  #ending = false;
  #closed = false;
  #finishWriting: () => void = () => {};

  constructor(
    kind: "bidirectional" | "unidirectional",
    local: boolean,
    readable: ReadableStream<Bytes> | undefined,
    writable: WritableStream<Uint8Array> | undefined,
  ) {
    super();
    this.kind = kind;
    this.local = local;
    this.#writer = writable?.getWriter();
    this.#writer?.closed.catch(() => {});
    this.#writer?.ready.catch(() => {});
    this.#reader = readable?.getReader({ mode: "byob" });
    this.#reader?.closed.catch(() => {});
    const written = new Promise<void>((resolve) => (this.#finishWriting = resolve));
    if (this.#writer === undefined) this.#finishWriting();
    this.over = Promise.all([this.#reader ? this.#read(this.#reader) : undefined, written]);
  }

  write(chunk: Uint8Array): boolean {
    if (this.#closed || this.#ending || this.#writer === undefined) return false;
    this.#queue.push(chunk);
    if (!this.#writing) this.#pump();
    const room = this.#queue.bytes + this.#inFlight < WRITE_LIMIT;
    if (!room) this.#waited = true;
    return room;
  }

  end(): void {
    if (this.#ending || this.#writer === undefined) return;
    this.#ending = true;
    if (!this.#writing) this.#pump();
  }

  destroy(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#queue.clear();
    this.#writer?.abort().catch(() => {});
    this.#reader?.cancel().catch(() => {});
    this.#finishWriting();
  }

  connectionLost(): void {
    this.#closed = true;
    this.#queue.clear();
    this.#finishWriting();
  }

  #pump(): void {
    const chunk = this.#queue.take();
    const writer = this.#writer as WritableStreamDefaultWriter<Uint8Array>;
    if (chunk === undefined) {
      if (this.#ending && !this.#closed) {
        this.#closed = true;
        void writer.close().catch(() => {}).then(this.#finishWriting);
      }
      return;
    }
    this.#writing = true;
    this.#inFlight = chunk.length;
    writer.write(chunk).then(this.#written, this.#failed);
  }

  readonly #written = (): void => {
    this.#writing = false;
    this.#inFlight = 0;
    if (this.#closed) return;
    this.#pump();
    if (this.#waited && this.#queue.bytes + this.#inFlight < WRITE_LIMIT) {
      this.#waited = false;
      this.onDrain?.();
    }
  };

  // The peer stopped reading or the connection is gone: what waits is lost with it.
  readonly #failed = (): void => {
    this.#writing = false;
    this.connectionLost();
  };

  // A pipe at rest holds one buffer, so that is small; what fills it doubles the next.
  async #read(reader: ReadableStreamBYOBReader): Promise<void> {
    let clean = true;
    let size = SMALLEST_READ;
    let buffer: Bytes = new Uint8Array(size);
    try {
      for (;;) {
        const { done, value } = await reader.read(buffer);
        if (done) break;
        if (value.length === size) size = Math.min(LARGEST_READ, size * 2);
        else if (value.length < size / 4) size = Math.max(SMALLEST_READ, size / 2);
        const isFree = this.deliver(value as Bytes);
        // What a chunk wakes answers some microtasks later: to read on takes long, so that comes after.
        for (let i = 0; i < ANSWERED_WITHIN; i++) await SETTLED;
        const isOfSize = value.buffer.byteLength === size;
        buffer = isFree && isOfSize ? new Uint8Array(value.buffer) : new Uint8Array(size);
      }
    } catch {
      clean = false;
    }
    this.deliverEnd(clean);
  }
}
