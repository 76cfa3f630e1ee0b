/**
 * A transport without a network: nodes of one process, or of one simulation, talk over queues.
 * Time and chance are injected, so that a seed decides every latency and every loss. Packets
 * behave as under QUIC: a lost one is sent again later, order is kept per connection, and a peer
 * that vanished is noticed by silence alone.
 *
 * @module
 */
import type { Bytes } from "../base/bytes.ts";
import { equalBytes } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { TransportError } from "../base/errors.ts";
import { syncHashes } from "../base/noble_crypto.ts";
import { Ring } from "../base/ring.ts";
import { randomFraction } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import { realClock, realRandom } from "../base/real.ts";
import type {
  Connection,
  DialOptions,
  Listener,
  ListenOptions,
  TlsIdentity,
  Transport,
} from "./contract.ts";
import { MemoryConnection, NOTHING } from "./memory_connection.ts";
import type { Way } from "./memory_connection.ts";

/** How a network behaves. */
export interface MemoryNetworkOptions {
  /** @default the host's */
  readonly clock?: Clock;
  /** @default the host's */
  readonly random?: Random;
  /** One-way latency, ms, uniform between the two. @default [0, 0] */
  readonly latencyMs?: readonly [number, number];
  /** Chance that a packet is lost and sent again. @default 0 */
  readonly loss?: number;
  /**
   * `edge`: TLS ends somewhere on the way, so that no certificate of the peer is seen, and what
   * crosses is not secret. @default "direct"
   */
  readonly mode?: "direct" | "edge";
  /** Told of each packet as it arrives: for traces. */
  readonly onPacket?: (from: string, to: string, what: string, bytes: Bytes) => void;
}

/** One machine of the network. */
export interface MemoryHost {
  readonly name: string;
  readonly transport: Transport;
  /** It is gone for good, and nobody is told. Its addresses may be taken over by another host. */
  crash(): void;
  /** It neither sends nor receives for a while. */
  stall(forMs: number): void;
}

/** The network, with its faults. */
export interface MemoryNetwork {
  /** Adds a machine. Names must differ. */
  host(name: string): MemoryHost;
  /** From now on nothing passes between the two sides. */
  partition(a: readonly MemoryHost[], b: readonly MemoryHost[]): void;
  /** From now on nothing passes from one to the other; the way back stays open. */
  cut(from: MemoryHost, to: MemoryHost): void;
  /**
   * The connections that there are carry nothing from one to the other any more, and neither is
   * told; new ones work. `heal` does not bring them back.
   */
  halfOpen(from: MemoryHost, to: MemoryHost): void;
  /** Everything passes again; what was held up arrives. */
  heal(): void;
}

/** What a lost packet costs at least, ms. */
const RESEND_MS = 20;
const ADDRESS = /^mem:\/\/[A-Za-z0-9._-]+(:\d+)?$/;

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
  readonly options: ListenOptions;
  identity: TlsIdentity;
  /** Those that were accepted, and those that are about to be. */
  readonly accepted: Set<MemoryConnection>;
  /** Those dialled from this address. */
  readonly dialled: Set<MemoryConnection>;
}

/** Makes a network with no machine on it yet. */
export function createMemoryNetwork(options: MemoryNetworkOptions = {}): MemoryNetwork {
  const { clock = realClock, random = realRandom, loss = 0, mode = "direct" } = options;
  const { latencyMs: [least, most] = [0, 0] } = options;
  const bound = new Map<string, Bound>();
  // Where an address leads, also after its listener has closed or its host has crashed.
  const owners = new Map<string, Host>();
  const cuts = new Set<string>();
  const directions = new Set<Direction>();
  let nextPort = 1;

  const isBlocked = (from: Host, to: Host) =>
    from.isGone || to.isGone || cuts.has(`${from.name}>${to.name}`);

  // Timers of hosts take a millisecond for nothing; a turn of the event loop is enough.
  const soon = (fn: () => void): Timer => {
    let isCancelled = false;
    clock.nextTurn(() => {
      if (!isCancelled) fn();
    });
    return { cancel: () => void (isCancelled = true) };
  };

  // A direction of a connection: packets arrive in the order in which they were sent, whatever the
  // clock makes of timers that are due at almost the same time.
  class Direction implements Way {
    readonly from: Host;
    readonly to: Host;
    readonly #queue = new Ring<Packet>();
    #lastAt = 0;
    #timer: Timer | undefined;
    #isOver = false;
    #isMute = false;

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

    end(): void {
      this.#isOver = true;
      this.#timer?.cancel();
      this.#queue.clear();
      directions.delete(this);
    }

    /** From now on nothing gets through, and nobody is told. */
    mute(): void {
      this.#isMute = true;
      this.#timer?.cancel();
      this.#timer = undefined;
    }

    /** Looks again: a cut may be over. */
    release(): void {
      if (this.#timer === undefined) this.#wait();
    }

    #wait(): void {
      const next = this.#queue.at(0);
      if (next === undefined || this.#isMute || isBlocked(this.from, this.to)) return;
      const at = Math.max(next.at, this.from.stalledUntil, this.to.stalledUntil);
      const left = at - clock.now();
      const due = () => {
        this.#timer = undefined;
        this.#deliver();
      };
      this.#timer = left > 0 ? clock.after(left, due) : soon(due);
    }

    #deliver(): void {
      // A host's timers fire up to a millisecond early.
      const now = clock.now() + 1;
      while (!this.#isMute && !isBlocked(this.from, this.to)) {
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
    if (!ADDRESS.test(address)) throw badAddress(address);
    let actual = address;
    if (address.endsWith(":0")) {
      do actual = `${address.slice(0, -1)}${nextPort++}`; while (bound.has(actual));
    }
    if (bound.has(actual)) {
      throw new TransportError("address_in_use", `${actual} is taken; choose another name`);
    }
    const place: Bound = {
      host,
      options: listenOptions,
      identity: listenOptions.identity,
      accepted: new Set(),
      dialled: new Set(),
    };
    bound.set(actual, place);
    owners.set(actual, host);
    return {
      address: actual,
      setIdentity: (identity) => void (place.identity = identity),
      close() {
        if (bound.get(actual) === place) bound.delete(actual);
        for (const connection of [...place.accepted, ...place.dialled]) {
          connection.close(1, "listener closed");
        }
        return Promise.resolve();
      },
    };
  };

  const dial = (host: Host, address: string, dialOptions: DialOptions): Promise<Connection> => {
    const { signal, timeoutMs, via, expectedCertificate } = dialOptions;
    return new Promise((resolve, reject) => {
      if (!ADDRESS.test(address)) return reject(badAddress(address));
      const remote = owners.get(address) ?? host;
      const there = new Direction(host, remote);
      const back = new Direction(remote, host);
      let client: MemoryConnection | undefined;
      const settled = () => {
        timer.cancel();
        signal?.removeEventListener("abort", aborted);
      };
      const fail = (reason: string, text: string) => {
        settled();
        client?.abandon();
        there.end();
        back.end();
        reject(new TransportError(reason, text));
      };
      const aborted = () => fail("aborted", "the dial was aborted");
      const timer = dialOptions.clock.after(
        timeoutMs,
        () => fail("timeout", `${address} did not answer in ${timeoutMs} ms`),
      );
      if (signal?.aborted) return aborted();
      signal?.addEventListener("abort", aborted);

      there.send("dial", NOTHING, () => {
        const place = bound.get(address);
        if (
          place === undefined || place.host !== remote ||
          place.accepted.size >= place.options.maxConnections
        ) {
          const text = place === undefined
            ? `nobody listens at ${address}`
            : `${address} takes no further connections`;
          return back.send("refused", NOTHING, () => fail("refused", text));
        }
        const { certificate } = place.identity;
        const binding = mode === "edge" ? undefined : syncHashes.sha256(certificate);
        const own = via && bound.get(via.address);
        const shared = own?.host === host ? own : undefined;
        const from = shared && via ? via.address : `mem://${host.name}.client:${nextPort++}`;
        const ours = new MemoryConnection("client", address, mode, binding, there, dialOptions);
        const theirs = new MemoryConnection("server", from, mode, binding, back, place.options);
        MemoryConnection.pair(ours, theirs);
        client = ours;
        enlist(theirs, place.accepted);
        // A client that is never heard of again must not keep its place for ever.
        theirs.start();
        back.send("answer", certificate, () => {
          const isShown = mode === "direct" && expectedCertificate !== undefined;
          if (isShown && !equalBytes(expectedCertificate, certificate)) {
            return fail("tls", `${address} does not show the certificate of the expected key`);
          }
          settled();
          if (shared) enlist(ours, shared.dialled);
          ours.start();
          there.send("connected", NOTHING, () => {
            if (!theirs.isOver) place.options.onConnection(theirs);
          });
          resolve(ours);
        });
      });
    });
  };

  const probe = (host: Host, address: string, timeoutMs: number) =>
    new Promise<"refused" | "unknown">((resolve) => {
      const remote = owners.get(address) ?? host;
      const there = new Direction(host, remote);
      const back = new Direction(remote, host);
      const finish = (answer: "refused" | "unknown") => {
        timer.cancel();
        there.end();
        back.end();
        resolve(answer);
      };
      const timer = clock.after(timeoutMs, () => finish("unknown"));
      there.send("probe", NOTHING, () => {
        // A host says nothing about a port that is served.
        if (bound.get(address)?.host === remote) return;
        back.send("unreachable", NOTHING, () => finish("refused"));
      });
    });

  return {
    host(name) {
      const host: Host = {
        name,
        isGone: false,
        stalledUntil: 0,
        crash() {
          host.isGone = true;
          for (const [address, place] of bound) if (place.host === host) bound.delete(address);
          for (const direction of [...directions]) {
            if (direction.from === host || direction.to === host) direction.end();
          }
        },
        stall: (forMs) => void (host.stalledUntil = clock.now() + forMs),
        transport: {
          scheme: "mem",
          // Promised, so that what `listen` throws is a rejection.
          listen: (address, listenOptions) =>
            new Promise((resolve) => resolve(listen(host, address, listenOptions))),
          dial(address, dialOptions) {
            dialOptions.onBegin?.();
            return dial(host, address, dialOptions);
          },
          probe: (address, timeoutMs) => probe(host, address, timeoutMs),
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
    halfOpen(from, to) {
      for (const direction of directions) {
        if (direction.from === from && direction.to === to) direction.mute();
      }
    },
    heal() {
      cuts.clear();
      for (const direction of [...directions]) direction.release();
    },
  };
}

let processNetwork: MemoryNetwork | undefined;
let processHosts = 0;

/**
 * A transport between nodes of this process, without latency or loss: each call makes one for one
 * node, and all of them reach each other at `mem://name`. What a listener at `mem://name:0` got is
 * in its `address`.
 */
export function memory(): Transport {
  processNetwork ??= createMemoryNetwork({ clock: realClock, random: realRandom });
  return processNetwork.host(`process.${processHosts++}`).transport;
}

function enlist(connection: MemoryConnection, set: Set<MemoryConnection>): void {
  set.add(connection);
  void connection.closed.then(() => set.delete(connection));
}

function badAddress(address: string): TransportError {
  return new TransportError("bad_address", `${address} is not mem://name or mem://name:port`);
}
