/** Registries over real replication and real actors, on virtual time and a network of this file. */
import { concat } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import type { Clock } from "../../src/base/clock.ts";
import { Heap } from "../../src/base/heap.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { nobleCrypto } from "../../src/base/noble_crypto.ts";
import { seededRandom } from "../../src/base/random.ts";
import { createCalls } from "../../src/actor/calls.ts";
import type { Calls } from "../../src/actor/calls.ts";
import { ActorSystem } from "../../src/actor/system.ts";
import type { Channel, LinkEvent, PeerIdentity, SignalPort } from "../../src/link/ports.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import type { MemoryMeter } from "../../src/metrics/meter.ts";
import { createReplication } from "../../src/replica/driver.ts";
import type { Replication } from "../../src/replica/driver.ts";
import { createRegistry } from "../../src/registry/registry.ts";
import type { RegistryDriver, RegistryEvent } from "../../src/registry/registry.ts";
import type { FrameType } from "../../src/wire/frame_types.ts";

export interface TestNode {
  readonly identity: PeerIdentity;
  readonly system: ActorSystem;
  readonly replication: Replication;
  readonly registry: RegistryDriver;
  readonly calls: Calls;
  readonly meter: MemoryMeter;
  readonly neighbours: Set<TestNode>;
  /** Every registry event, printed. */
  readonly events: string[];
  isUp: boolean;
  /** Whose keys this node's roster knows; undefined = everybody's. */
  knows: Set<string> | undefined;
  readonly named: Set<() => void>;
  /** Who has said to it that they leave. */
  readonly left: Set<string>;
}

interface Wire {
  readonly identity: PeerIdentity;
  readonly channels: Map<FrameType, Channel>;
  readonly port: SignalPort;
}

export class Cluster {
  now = 0;
  readonly nodes: TestNode[] = [];
  /** Drops a frame when it returns false; broadcasts have no type. */
  passes: (type: FrameType | undefined, from: TestNode, to: TestNode) => boolean = () => true;
  readonly sent: Map<FrameType | undefined, number> = new Map();
  readonly clock: Clock;
  readonly #random = seededRandom(7);
  readonly #crypto = nobleCrypto(this.#random);
  readonly #wires = new Map<string, Wire>();
  #order = 0;
  readonly #timers = new Heap<{ at: number; order: number; fn: (() => void) | undefined }>(
    (a, b) => a.at < b.at || (a.at === b.at && a.order < b.order),
  );

  constructor() {
    const after = (ms: number, fn: () => void) => {
      const timer: { at: number; order: number; fn: (() => void) | undefined } = {
        at: this.now + ms,
        order: this.#order++,
        fn,
      };
      this.#timers.push(timer);
      return { cancel: () => void (timer.fn = undefined) };
    };
    this.clock = {
      now: () => this.now,
      wall: () => 1_790_000_000_000 + this.now,
      after,
      nextTurn: (fn) => void after(0, fn),
    };
  }

  async add(name: string, epoch = 1, keyOf?: TestNode): Promise<TestNode> {
    const keys = this.#keys.get(keyOf?.identity.name ?? "") ?? await this.#crypto.generateKeyPair();
    const identity: PeerIdentity = { name, publicKey: keys.publicKey, epoch, addresses: [] };
    this.#keys.set(name, keys);
    const wire: Wire = { identity, channels: new Map(), port: this.#port(identity) };
    this.#wires.set(name, wire);
    const meter = memoryMeter();
    const { clock } = this;
    const random = seededRandom(this.#random.uint32());
    const links = {
      self: identity,
      channel: (type: FrameType) => this.#channel(wire, type),
    };
    const system: ActorSystem = new ActorSystem({
      node: name,
      epoch,
      port: wire.port,
      clock,
      logger: silentLogger,
      meter,
      maxMessageBytes: 1 << 20,
      mailboxHighWater: 10_000,
      resolveName: (wanted) => node.registry.whereis(wanted),
      isMember: () => true,
    });
    const calls = createCalls(system, {
      register: (wanted, pid, meta) => node.registry.register(wanted, pid, meta),
    });
    const replication = createReplication({
      links,
      keysOf: () => keys,
      clock,
      random,
      crypto: this.#crypto,
      logger: silentLogger,
      meter,
      publish: (body) => this.#publish(node, body),
    });
    const named = new Set<() => void>();
    const registry = createRegistry({
      system,
      replication,
      links,
      clock,
      random,
      logger: silentLogger,
      meter,
      neighbours: () => [...node.neighbours].map((peer) => peer.identity.name),
      roster: {
        nameOf: (key) => this.#nameOf(node, key),
        hasLeft: (name) => node.left.has(name),
        on(listener) {
          named.add(listener);
          return () => void named.delete(listener);
        },
      },
    });
    const node: TestNode = {
      identity,
      system,
      replication,
      registry,
      calls,
      meter,
      neighbours: new Set(),
      events: [],
      isUp: true,
      knows: undefined,
      named,
      left: new Set(),
    };
    registry.on((event) => node.events.push(print(event)));
    this.nodes.push(node);
    return node;
  }

  link(a: TestNode, b: TestNode): void {
    for (const [from, to] of [[a, b], [b, a]] as const) {
      from.neighbours.add(to);
      from.replication.neighbourUp(to.identity.name);
    }
  }

  unlink(a: TestNode, b: TestNode): void {
    for (const [from, to] of [[a, b], [b, a]] as const) {
      if (from.neighbours.delete(to)) from.replication.neighbourDown(to.identity.name);
    }
  }

  /** The node vanishes without a word. */
  kill(node: TestNode): void {
    node.isUp = false;
    for (const peer of [...node.neighbours]) this.unlink(node, peer);
  }

  /** Runs for `ms` of virtual time, or until `promise` settles. */
  async run<T>(ms: number, promise?: Promise<T>): Promise<T | undefined> {
    let result: { value: T } | { error: unknown } | undefined;
    promise?.then((value) => result = { value }, (error) => result = { error });
    const end = this.now + ms;
    for (;;) {
      // Promises settle in microtasks; a few turns carry every chain of this library.
      for (let i = 0; i < 40; i++) await Promise.resolve();
      if (result !== undefined) {
        if ("error" in result) throw result.error;
        return result.value;
      }
      const next = this.#timers.peek();
      if (next === undefined || next.at > end) break;
      this.#timers.pop();
      this.now = Math.max(this.now, next.at);
      next.fn?.();
    }
    this.now = end;
    if (promise !== undefined) throw new Error(`still pending after ${ms} ms`);
    return undefined;
  }

  /** Hands a frame to a node as if `from` had sent it. */
  inject(type: FrameType, from: TestNode, to: TestNode, body: Bytes): void {
    this.#wires.get(to.identity.name)?.channels.get(type)?.onFrame?.(body, from.identity);
  }

  close(): void {
    for (const node of this.nodes) {
      node.system.close();
      node.registry.close();
      node.replication.close();
    }
  }

  readonly #keys = new Map<string, { publicKey: Bytes; secretKey: Bytes }>();

  #nameOf(node: TestNode, key: Uint8Array): string | undefined {
    const owner = this.nodes.find(({ identity }) => String(identity.publicKey) === String(key));
    const name = owner?.identity.name;
    return name !== undefined && (node.knows?.has(name) ?? true) ? name : undefined;
  }

  #live(name: string): TestNode | undefined {
    return this.nodes.findLast((node) => node.identity.name === name && node.isUp);
  }

  #channel(wire: Wire, type: FrameType): Channel {
    const from = wire.identity;
    const channel: Channel = {
      room() {},
      onFrame: undefined,
      onUndelivered: undefined,
      send: (peer, body) => {
        this.sent.set(type, (this.sent.get(type) ?? 0) + body.length);
        this.clock.after(1, () => {
          const [source, target] = [this.#live(from.name), this.#live(peer)];
          if (source === undefined) return;
          if (target === undefined) return channel.onUndelivered?.(peer, "no link");
          if (!this.passes(type, source, target)) return;
          this.#wires.get(peer)?.channels.get(type)?.onFrame?.(body, from);
        });
      },
    };
    wire.channels.set(type, channel);
    return channel;
  }

  #publish(from: TestNode, body: Bytes): void {
    for (const to of this.nodes) {
      if (to === from) continue;
      this.sent.set(undefined, (this.sent.get(undefined) ?? 0) + body.length);
      this.clock.after(2, () => {
        if (from.isUp && to.isUp && this.passes(undefined, from, to)) to.replication.receive(body);
      });
    }
  }

  #port(from: PeerIdentity): SignalPort {
    const listeners = new Set<(event: LinkEvent) => void>();
    const port: SignalPort = {
      onSignal: undefined,
      onUndelivered: undefined,
      send: (peer, epoch, _key, type, head, payload) => {
        const body = concat([head, payload]);
        this.clock.after(1, () => {
          const target = this.#live(peer);
          if (target === undefined || (epoch !== 0 && epoch !== target.identity.epoch)) {
            return port.onUndelivered?.(peer, epoch, "no link");
          }
          this.#wires.get(peer)?.port.onSignal?.(type, body, from);
        });
      },
      connected: (peer) => this.#live(peer) !== undefined,
      hold() {},
      release() {},
      onLink(listener) {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    };
    return port;
  }
}

function print({ type, name, node, pid, reason }: RegistryEvent): string {
  const why = reason === undefined
    ? ""
    : ` (${typeof reason === "string" ? reason : JSON.stringify(reason)})`;
  return `${type} ${name} ${node}#${pid.id}/${pid.epoch}${why}`;
}
