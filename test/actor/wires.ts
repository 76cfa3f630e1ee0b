/**
 * Actor systems over wires that a test moves by hand: each frame arrives when it is told to, in the
 * order of its pipe; connections break, and each side learns of it by itself. Nothing here waits
 * for anything: processes run no function, and what reaches them is written down.
 */
import { concat } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import type { Clock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { ActorSystem } from "../../src/actor/system.ts";
import type { Process } from "../../src/actor/process.ts";
import type { LinkEvent, PeerIdentity, SignalPort } from "../../src/link/ports.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import type { FrameType } from "../../src/wire/frame_types.ts";

interface Frame {
  readonly type: FrameType;
  readonly body: Bytes;
}

/** One way between two nodes: four pipes, as between real ones. */
class Way {
  readonly from: WiredNode;
  readonly to: WiredNode;
  readonly pipes: Frame[][] = [[], [], [], []];
  /** The sender has not heard yet that the connection is gone: what it sends is lost. */
  isLost = false;

  constructor(from: WiredNode, to: WiredNode) {
    this.from = from;
    this.to = to;
  }

  get isEmpty(): boolean {
    return this.pipes.every((pipe) => pipe.length === 0);
  }
}

/** A node on the wires. */
export interface WiredNode {
  readonly identity: PeerIdentity;
  readonly system: ActorSystem;
  readonly port: SignalPort;
  readonly listeners: Set<(event: LinkEvent) => void>;
  /** How often the link to each peer is held. */
  readonly holds: Map<string, number>;
}

/** A process without a function, and everything that reached it. */
export interface Puppet {
  readonly node: WiredNode;
  readonly process: Process;
  readonly got: unknown[];
}

const still: Clock = {
  now: () => 0,
  wall: () => 0,
  after: () => ({ cancel() {} }),
  nextTurn() {},
};

/** The nodes and what is on its way between them. */
export class Wires {
  readonly nodes: WiredNode[] = [];
  readonly #ways = new Map<string, Way>();
  /** Frames that arrived so far. */
  delivered = 0;

  constructor(names: readonly string[]) {
    for (const name of names) this.#add(name);
    for (const from of this.nodes) {
      for (const to of this.nodes) {
        if (from !== to) this.#ways.set(keyOf(from, to), new Way(from, to));
      }
    }
  }

  #add(name: string): void {
    const identity: PeerIdentity = {
      name,
      epoch: 1,
      publicKey: new Uint8Array(32),
      addresses: [],
    };
    const listeners = new Set<(event: LinkEvent) => void>();
    const holds = new Map<string, number>();
    const port: SignalPort = {
      onSignal: undefined,
      onUndelivered: undefined,
      send: (peer, _epoch, key, type, head, payload) => {
        const way = this.#ways.get(`${name}>${peer}`);
        if (way === undefined || way.isLost) return;
        way.pipes[key % 4]?.push({ type, body: concat([head, payload]) });
      },
      connected: () => true,
      hold: (peer) => void holds.set(peer, (holds.get(peer) ?? 0) + 1),
      release: (peer) => void holds.set(peer, (holds.get(peer) ?? 0) - 1),
      onLink(listener) {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    };
    const system = new ActorSystem({
      node: name,
      epoch: 1,
      port,
      clock: still,
      logger: silentLogger,
      meter: memoryMeter(),
      maxMessageBytes: 1 << 16,
      mailboxHighWater: 1 << 20,
      resolveName: () => Promise.resolve(undefined),
      isMember: () => true,
    });
    this.nodes.push({ identity, system, port, listeners, holds });
  }

  /** A new process on a node. */
  puppet(index: number, trapExit = false): Puppet {
    const node = this.nodes[index] as WiredNode;
    const process = node.system.create();
    process.trapExit = trapExit;
    const got: unknown[] = [];
    process.mailbox.trace((type, message) => {
      if (type === "arrived" && process.isAlive) got.push(message);
    });
    return { node, process, got };
  }

  /** Lets one frame arrive, `pick` choosing among the pipes; false when none is on its way. */
  step(pick: number): boolean {
    const pipes = [...this.#ways.values()].flatMap((way) => {
      const { from, to } = way;
      // Nothing passes before both have heard of the break.
      if (way.isLost || this.#way(to, from).isLost) return [];
      return way.pipes.filter((pipe) => pipe.length > 0).map((pipe) => ({ pipe, from, to }));
    });
    const chosen = pipes[pick % Math.max(1, pipes.length)];
    const frame = chosen?.pipe.shift();
    if (chosen === undefined || frame === undefined) return false;
    this.delivered++;
    chosen.to.port.onSignal?.(frame.type, frame.body, chosen.from.identity);
    return true;
  }

  /** Breaks a connection: what is on its way is lost, and neither side has heard of it yet. */
  cut(a: WiredNode, b: WiredNode): void {
    for (const way of [this.#way(a, b), this.#way(b, a)]) {
      for (const pipe of way.pipes) pipe.length = 0;
      way.isLost = true;
    }
  }

  /** One side hears of the break, if there was one; what it sends from now on waits. */
  hear(node: WiredNode, peer: WiredNode): void {
    const way = this.#way(node, peer);
    if (!way.isLost) return;
    way.isLost = false;
    for (const listener of node.listeners) {
      listener({ type: "linkDown", peer: peer.identity, reason: "lost" });
    }
  }

  /** Everything arrives, and everybody hears of everything. */
  settle(): void {
    for (const { from, to } of this.#ways.values()) this.hear(from, to);
    while (this.step(0));
  }

  #way(from: WiredNode, to: WiredNode): Way {
    return this.#ways.get(keyOf(from, to)) as Way;
  }
}

function keyOf(from: WiredNode, to: WiredNode): string {
  return `${from.identity.name}>${to.identity.name}`;
}
