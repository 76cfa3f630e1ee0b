/**
 * A transport without a network: nodes of one process, or of one simulation, talk over queues.
 * Time and chance are injected, so that a seed decides every latency and every loss. Packets
 * behave as under QUIC: a lost one is sent again later, order is kept per connection, and a peer
 * that vanished is noticed by silence alone.
 */
import type { Bytes } from "../base/bytes.ts";
import { equalBytes } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { TransportError } from "../base/errors.ts";
import { syncHashes } from "../base/noble_crypto.ts";
import { Ring } from "../base/ring.ts";
import { randomFraction } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type {
  CloseInfo,
  Connection,
  ConnectionOptions,
  DialOptions,
  Listener,
  ListenOptions,
  Pipe,
  Transport,
} from "./contract.ts";

/** How a network behaves. */
export interface MemoryNetworkOptions {
  readonly clock: Clock;
  readonly random: Random;
  /** One-way latency, ms, uniform between the two. @default [0, 0] */
  readonly latencyMs?: readonly [number, number];
  /** Chance that a packet is lost and sent again. @default 0 */
  readonly loss?: number;
  /** Told of each packet as it arrives: for traces. */
  readonly onPacket?: (from: string, to: string, what: string, bytes: Bytes) => void;
}

/** One machine of the network. */
export interface MemoryHost {
  readonly name: string;
  readonly transport: Transport;
  /** It is gone, and nobody is told. */
  crash(): void;
  /** It neither sends nor receives for a while. */
  stall(forMs: number): void;
}

/** The network, with its faults. */
export interface MemoryNetwork {
  /** Adds a machine. */
  host(name: string): MemoryHost;
  /** From now on nothing passes between the two sides. */
  partition(a: readonly MemoryHost[], b: readonly MemoryHost[]): void;
  /** From now on nothing passes from one to the other; the way back stays open. */
  cut(from: MemoryHost, to: MemoryHost): void;
  /** Everything passes again; what was held up arrives. */
  heal(): void;
}

/** Bytes under way in one pipe above which `write` says to wait. */
const WRITE_LIMIT = 256 * 1024;
/** What a lost packet costs at least, ms. */
const RESEND_MS = 20;

interface Host extends MemoryHost {
  isGone: boolean;
  stalledUntil: number;
}

interface Packet {
  /** Arrives no earlier. */
  readonly at: number;
  readonly what: string;
  readonly bytes: Bytes;
  readonly arrive: () => void;
}

interface Bound {
  readonly host: Host;
  readonly address: string;
  readonly options: ListenOptions;
  readonly connections: Set<MemoryConnection>;
}

/** Makes a network with no machine on it yet. */
export function createMemoryNetwork(options: MemoryNetworkOptions): MemoryNetwork {
  const { clock, random, loss = 0, latencyMs: [least, most] = [0, 0] } = options;
  const bound = new Map<string, Bound>();
  const cuts = new Set<string>();
  const directions = new Set<Direction>();
  let nextPort = 1;

  const isBlocked = (from: Host, to: Host) =>
    from.isGone || to.isGone || cuts.has(`${from.name}>${to.name}`);

  // A direction of a connection: packets arrive in the order in which they were sent, whatever the
  // clock makes of timers that are due at almost the same time.
  class Direction {
    readonly from: Host;
    readonly to: Host;
    readonly #queue = new Ring<Packet>();
    #lastAt = 0;
    #timer: Timer | undefined;
    #isOver = false;

    constructor(from: Host, to: Host) {
      this.from = from;
      this.to = to;
      directions.add(this);
    }

    send(what: string, bytes: Bytes, arrive: () => void): void {
      if (this.#isOver) return;
      const latency = least + (most - least) * randomFraction(random);
      let delay = latency;
      while (loss > 0 && randomFraction(random) < loss) delay += Math.max(2 * latency, RESEND_MS);
      this.#lastAt = Math.max(this.#lastAt, clock.now() + delay);
      this.#queue.push({ at: this.#lastAt, what, bytes, arrive });
      if (this.#timer === undefined) this.#wait();
    }

    /** Nothing that is under way arrives any more. */
    end(): void {
      this.#isOver = true;
      this.#timer?.cancel();
      this.#queue.clear();
      directions.delete(this);
    }

    /** Looks again: a cut may be over. */
    release(): void {
      if (this.#timer === undefined) this.#wait();
    }

    #wait(): void {
      const next = this.#queue.at(0);
      if (next === undefined || isBlocked(this.from, this.to)) return;
      const at = Math.max(next.at, this.from.stalledUntil, this.to.stalledUntil);
      this.#timer = clock.after(Math.max(0, at - clock.now()), () => {
        this.#timer = undefined;
        this.#deliver();
      });
    }

    #deliver(): void {
      // A host's timers fire up to a millisecond early.
      const now = clock.now() + 1;
      while (!isBlocked(this.from, this.to)) {
        const packet = this.#queue.at(0);
        const stalledUntil = Math.max(this.from.stalledUntil, this.to.stalledUntil);
        if (packet === undefined || packet.at > now || stalledUntil > now) break;
        this.#queue.shift();
        options.onPacket?.(this.from.name, this.to.name, packet.what, packet.bytes);
        packet.arrive();
      }
      if (this.#timer === undefined) this.#wait();
    }
  }

  const listen = (host: Host, address: string, listenOptions: ListenOptions): Listener => {
    if (!/^mem:\/\/[A-Za-z0-9._-]+(:\d+)?$/.test(address)) throw badAddress(address);
    const actual = address.endsWith(":0") ? `${address.slice(0, -1)}${nextPort++}` : address;
    if (bound.has(actual)) {
      throw new TransportError("address_in_use", `${actual} is taken; choose another name`);
    }
    const place: Bound = { host, address: actual, options: listenOptions, connections: new Set() };
    bound.set(actual, place);
    return {
      address: actual,
      close() {
        bound.delete(actual);
        for (const connection of [...place.connections]) connection.close(1, "listener closed");
        return Promise.resolve();
      },
    };
  };

  const dial = (host: Host, address: string, dialOptions: DialOptions): Promise<Connection> => {
    if (!/^mem:\/\/[A-Za-z0-9._-]+(:\d+)?$/.test(address)) {
      return Promise.reject(badAddress(address));
    }
    const { signal, timeoutMs, via, expectedCertificate } = dialOptions;
    return new Promise((resolve, reject) => {
      const settle = (finish: () => void) => {
        timer.cancel();
        signal?.removeEventListener("abort", aborted);
        finish();
      };
      const fail = (reason: string, text: string) =>
        settle(() => reject(new TransportError(reason, text)));
      const aborted = () => fail("aborted", "the dial was aborted");
      let isOver = false;
      const timer = clock.after(timeoutMs, () => {
        isOver = true;
        fail("timeout", `${address} did not answer in ${timeoutMs} ms`);
      });
      if (signal?.aborted) return aborted();
      signal?.addEventListener("abort", () => {
        isOver = true;
        aborted();
      }, { once: true });
      const target = bound.get(address);
      // Nobody is bound there: the name alone says on which host.
      const remote = target?.host ?? host;
      const there = new Direction(host, remote);
      const back = new Direction(remote, host);
      const hangUp = () => {
        there.end();
        back.end();
      };
      there.send("dial", NOTHING, () => {
        const place = bound.get(address);
        back.send("answer", NOTHING, () => {
          if (isOver) return hangUp();
          const isFull = place !== undefined &&
            place.connections.size >= place.options.maxConnections;
          if (place === undefined || isFull) {
            hangUp();
            return fail("refused", `nobody listens at ${address}`);
          }
          const { certificate } = place.options.identity;
          if (expectedCertificate !== undefined && !equalBytes(expectedCertificate, certificate)) {
            hangUp();
            return fail("tls", `${address} does not show the certificate of the expected key`);
          }
          const binding = syncHashes.sha256(certificate);
          const from = via?.address ?? `mem://${host.name}.client:${nextPort++}`;
          const client = new MemoryConnection("client", address, binding, there, dialOptions);
          const server = new MemoryConnection("server", from, binding, back, place.options);
          client.pair(server);
          server.pair(client);
          place.connections.add(server);
          void server.closed.then(() => place.connections.delete(server));
          settle(() => resolve(client));
          there.send("connected", NOTHING, () => {
            server.start();
            client.start();
            place.options.onConnection(server);
          });
        });
      });
    });
  };

  return {
    host(name) {
      const host: Host = {
        name,
        isGone: false,
        stalledUntil: 0,
        crash: () => void (host.isGone = true),
        stall: (forMs) => void (host.stalledUntil = clock.now() + forMs),
        transport: {
          scheme: "mem",
          // Promised, so that what `listen` throws is a rejection.
          listen: (address, listenOptions) =>
            new Promise((resolve) => resolve(listen(host, address, listenOptions))),
          dial: (address, dialOptions) => dial(host, address, dialOptions),
          probe(address) {
            const isRefused = !bound.has(address);
            return Promise.resolve(isRefused ? "refused" : "unknown");
          },
        },
      };
      return host;
    },
    partition(a, b) {
      for (const one of a) {
        for (const other of b) {
          cuts.add(`${one.name}>${other.name}`);
          cuts.add(`${other.name}>${one.name}`);
        }
      }
    },
    cut: (from, to) => void cuts.add(`${from.name}>${to.name}`),
    heal() {
      cuts.clear();
      for (const direction of [...directions]) direction.release();
    },
  };
}

interface Way {
  send(what: string, bytes: Bytes, arrive: () => void): void;
  end(): void;
}

class MemoryConnection implements Connection {
  readonly role: "client" | "server";
  readonly mode = "direct";
  readonly remoteAddress: string;
  readonly channelBinding: Bytes;
  readonly closed: Promise<CloseInfo>;
  /** Packets to the peer. */
  readonly way: Way;
  readonly options: ConnectionOptions;
  #peer: MemoryConnection | undefined;
  #settle: (info: CloseInfo) => void = () => {};
  #isOver = false;
  #onPipe: ((pipe: Pipe) => void) | undefined;
  #early: MemoryPipe[] = [];
  readonly #pipes = new Set<MemoryPipe>();
  readonly #opened = { bidirectional: 0, unidirectional: 0 };
  #idle: Timer | undefined;
  #keepAlive: Timer | undefined;
  #heardAt: number;

  constructor(
    role: "client" | "server",
    remoteAddress: string,
    binding: Bytes,
    way: Way,
    options: ConnectionOptions,
  ) {
    this.role = role;
    this.remoteAddress = remoteAddress;
    this.channelBinding = binding;
    this.way = way;
    this.options = options;
    this.#heardAt = options.clock.now();
    this.closed = new Promise((resolve) => (this.#settle = resolve));
  }

  pair(peer: MemoryConnection): void {
    this.#peer = peer;
  }

  start(): void {
    if (this.#isOver) return;
    this.#watchSilence(this.options.idleTimeoutMs);
    this.#sendKeepAlives();
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

  openPipe(kind: "bidirectional" | "unidirectional"): Promise<Pipe> {
    const peer = this.#peer;
    if (this.#isOver || peer === undefined) {
      const text = `the connection to ${this.remoteAddress} is closed`;
      return Promise.reject(new TransportError("closed", text));
    }
    if (this.#opened[kind] >= peer.options.maxPipes) {
      const text = `${this.remoteAddress} allows no further pipes`;
      return Promise.reject(new TransportError("pipe_limit", text));
    }
    this.#opened[kind]++;
    const ours = new MemoryPipe(kind, true, this);
    const theirs = new MemoryPipe(kind, false, peer);
    ours.pair(theirs);
    theirs.pair(ours);
    this.#pipes.add(ours);
    this.transmit("pipe", NOTHING, () => peer.#arrived(theirs));
    return Promise.resolve(ours);
  }

  close(code: number, reason: string): void {
    if (this.#isOver) return;
    const peer = this.#peer as MemoryConnection;
    this.#end({ code, reason, by: "local" });
    // What is still under way is lost, as on two of the three QUIC stacks.
    if (!peer.isOver) this.way.send("close", NOTHING, () => peer.#end({ code, reason, by: "peer" }));
  }

  /** Sends a packet of this connection; what comes after its end is dropped. */
  transmit(what: string, bytes: Bytes, arrive: () => void): void {
    const peer = this.#peer;
    this.way.send(what, bytes, () => {
      if (peer === undefined || peer.#isOver || this.#isOver) return;
      peer.#heardAt = peer.options.clock.now();
      arrive();
    });
  }

  /** The pipe needs no further attention. */
  forget(pipe: MemoryPipe): void {
    if (!this.#pipes.delete(pipe) || !pipe.local) return;
    this.#opened[pipe.kind]--;
  }

  #arrived(pipe: MemoryPipe): void {
    this.#pipes.add(pipe);
    if (this.#onPipe) this.#onPipe(pipe);
    else this.#early.push(pipe);
  }

  #watchSilence(ms: number): void {
    this.#idle = this.options.clock.after(ms, () => {
      const silent = this.options.clock.now() - this.#heardAt;
      const left = this.options.idleTimeoutMs - silent;
      if (left > 0) return this.#watchSilence(left);
      this.#end({ code: 0, reason: "idle timeout", by: "lost" });
    });
  }

  #sendKeepAlives(): void {
    const { clock, keepAliveMs } = this.options;
    if (keepAliveMs === 0) return;
    this.#keepAlive = clock.after(keepAliveMs, () => {
      if (this.#isOver) return;
      // Acknowledged, so that both ends hear something.
      const peer = this.#peer;
      this.transmit("ping", NOTHING, () => peer?.transmit("ack", NOTHING, () => {}));
      this.#sendKeepAlives();
    });
  }

  #end(info: CloseInfo): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#idle?.cancel();
    this.#keepAlive?.cancel();
    for (const pipe of [...this.#pipes]) pipe.lost();
    this.#pipes.clear();
    this.#settle(info);
    if (this.#peer?.isOver !== true) return;
    this.way.end();
    this.#peer.way.end();
  }

  get isOver(): boolean {
    return this.#isOver;
  }
}

class MemoryPipe implements Pipe {
  readonly kind: "bidirectional" | "unidirectional";
  readonly local: boolean;
  onDrain: (() => void) | undefined;
  onEnd: ((clean: boolean) => void) | undefined;
  readonly #connection: MemoryConnection;
  #peer: MemoryPipe | undefined;
  #onData: ((chunk: Bytes) => void) | undefined;
  #early: Bytes[] = [];
  #end: boolean | undefined;
  #isLive = false;
  #underWay = 0;
  #hasWaited = false;
  #writeOver: boolean;
  #readOver: boolean;

  constructor(
    kind: "bidirectional" | "unidirectional",
    local: boolean,
    connection: MemoryConnection,
  ) {
    this.kind = kind;
    this.local = local;
    this.#connection = connection;
    this.#writeOver = kind === "unidirectional" && !local;
    this.#readOver = kind === "unidirectional" && local;
  }

  pair(peer: MemoryPipe): void {
    this.#peer = peer;
  }

  get onData(): ((chunk: Bytes) => void) | undefined {
    return this.#onData;
  }
  set onData(handler: ((chunk: Bytes) => void) | undefined) {
    this.#onData = handler;
    if (handler === undefined || this.#isLive) return;
    queueMicrotask(() => {
      this.#isLive = true;
      const early = this.#early;
      this.#early = [];
      for (const chunk of early) this.#onData?.(chunk);
      if (this.#end !== undefined) this.onEnd?.(this.#end);
    });
  }

  write(chunk: Uint8Array): boolean {
    if (this.#writeOver) return false;
    const bytes = chunk as Bytes;
    const peer = this.#peer as MemoryPipe;
    this.#underWay += bytes.length;
    this.#connection.transmit("data", bytes, () => {
      peer.#deliver(bytes);
      this.#underWay -= bytes.length;
      if (!this.#hasWaited || this.#underWay >= WRITE_LIMIT || this.#writeOver) return;
      this.#hasWaited = false;
      this.onDrain?.();
    });
    const hasRoom = this.#underWay < WRITE_LIMIT;
    if (!hasRoom) this.#hasWaited = true;
    return hasRoom;
  }

  end(): void {
    if (this.#writeOver) return;
    this.#writeOver = true;
    const peer = this.#peer as MemoryPipe;
    this.#connection.transmit("end", NOTHING, () => peer.#deliverEnd(true));
    this.#forgetWhenOver();
  }

  destroy(): void {
    const wasOpen = !this.#writeOver || !this.#readOver;
    this.#writeOver = true;
    this.#readOver = true;
    if (wasOpen) {
      const peer = this.#peer as MemoryPipe;
      this.#connection.transmit("reset", NOTHING, () => {
        peer.#writeOver = true;
        peer.#deliverEnd(false);
      });
    }
    this.#connection.forget(this);
  }

  /** The connection is gone. */
  lost(): void {
    this.#writeOver = true;
    this.#deliverEnd(false);
  }

  #deliver(chunk: Bytes): void {
    if (this.#readOver) return;
    if (this.#isLive) this.#onData?.(chunk);
    else this.#early.push(chunk);
  }

  #deliverEnd(clean: boolean): void {
    if (this.#readOver) return;
    this.#readOver = true;
    this.#end = clean;
    if (this.#isLive) this.onEnd?.(clean);
    this.#forgetWhenOver();
  }

  #forgetWhenOver(): void {
    if (this.#writeOver && this.#readOver) this.#connection.forget(this);
  }
}

function badAddress(address: string): TransportError {
  return new TransportError("bad_address", `${address} is not mem://name or mem://name:port`);
}

const NOTHING: Bytes = new Uint8Array(0);
