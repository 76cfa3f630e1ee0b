/**
 * Roster machines of many nodes on virtual time. The overlay stands still, a random regular graph;
 * rows travel over it hop by hop, as broadcasts do; probes, pings and dials take the time that real
 * ones take. In large clusters only some nodes have a machine, the observers: every neighbour of
 * those that fail, and others at random. The rest answer and pass on.
 */
import { EMPTY } from "../../src/base/bytes.ts";
import { Heap } from "../../src/base/heap.ts";
import { randomBelow, randomFraction, sample, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import type { Accusation, Evidence } from "../../src/roster/messages.ts";
import { LIVENESS_DEFAULTS } from "../../src/roster/options.ts";
import { Roster, TICK_MS } from "../../src/roster/roster.ts";
import type { Member, RosterChange, RosterEffect, RosterEvent } from "../../src/roster/roster.ts";

const DEGREE = 5;
/** One-way latency of a frame, milliseconds. */
const LATENCY_MS = [10, 50] as const;
const DIAL_TIMEOUT_MS = 5_000;
const PING_TIMEOUT_MS = 2_000;

/** How a simulation is made. */
export interface LivenessOptions {
  readonly seed: number;
  readonly nodes: number;
  /** How many nodes have a machine; all by default. */
  readonly observers?: number;
  /** Chance of a frame to be lost and sent again. @default 0 */
  readonly loss?: number;
  /** Of three nodes so many can ask a host whether a port is bound (Node and Bun can). @default 2 */
  readonly probing?: number;
}

/** A transition that an observer told. */
export interface Told {
  readonly at: number;
  readonly observer: number;
  readonly change: RosterChange;
}

interface SimNode {
  readonly index: number;
  readonly name: string;
  readonly key: Uint8Array<ArrayBuffer>;
  readonly neighbours: number[];
  roster: Roster | undefined;
  epoch: number;
  incarnation: number;
  isAlive: boolean;
  /** Whether its machine answers that nothing is bound there once it is dead. */
  hostRefuses: boolean;
  stalledUntil: number;
  readonly heard: Set<string>;
}

/** See the module. */
export class LivenessSim {
  now = 0;
  /** A hash of all that was told, in order. */
  trace = 0;
  readonly nodes: SimNode[] = [];
  readonly told: Told[] = [];
  /** Probes sent so far: of the silent, and now and then of anybody. */
  probes = 0;
  readonly #options: Required<LivenessOptions>;
  readonly #random: Random;
  readonly #byName = new Map<string, SimNode>();
  /** From one to another nothing passes. */
  readonly #cuts = new Set<string>();
  #order = 0;
  readonly #queue = new Heap<{ at: number; order: number; run: () => void }>(
    (x, y) => x.at < y.at || (x.at === y.at && x.order < y.order),
  );

  constructor(options: LivenessOptions) {
    this.#options = { observers: options.nodes, loss: 0, probing: 2, ...options };
    this.#random = seededRandom(options.seed);
    for (let index = 0; index < options.nodes; index++) this.#add(index);
    this.#wire();
  }

  /** Gives machines to the observers, `needed` and their neighbours among them, and lets them settle. */
  start(needed: readonly number[] = []): void {
    const { observers } = this.#options;
    const chosen = new Set<number>();
    for (const index of needed) {
      for (const peer of (this.nodes[index] as SimNode).neighbours) chosen.add(peer);
      chosen.add(index);
    }
    const others = this.nodes.map(({ index }) => index).filter((index) => !chosen.has(index));
    const more = Math.max(0, Math.min(others.length, observers - chosen.size));
    for (const index of sample(this.#random, others, more)) chosen.add(index);
    for (const index of [...chosen].sort((a, b) => a - b)) {
      this.#observe(this.nodes[index] as SimNode);
    }
    this.run(10_000);
    this.told.length = 0;
  }

  get observers(): SimNode[] {
    return this.nodes.filter(({ roster }) => roster !== undefined);
  }

  get random(): Random {
    return this.#random;
  }

  run(ms: number): void {
    const end = this.now + ms;
    for (let next = this.#queue.peek(); next && next.at <= end; next = this.#queue.peek()) {
      this.#queue.pop();
      this.now = next.at;
      next.run();
    }
    this.now = end;
  }

  /** The process ends without a word; `hostRefuses`: its machine stays. */
  crash(index: number, hostRefuses: boolean): void {
    const node = this.nodes[index] as SimNode;
    node.isAlive = false;
    node.hostRefuses = hostRefuses;
    const { epoch } = node;
    for (const peer of node.neighbours) {
      // QUIC gives up.
      const silenceMs = LIVENESS_DEFAULTS.silenceMs * (0.9 + 0.2 * randomFraction(this.#random));
      this.#at(silenceMs, () => {
        if (node.isAlive && node.epoch === epoch) return;
        const event = {
          type: "linkDown",
          peer: this.#identity(node, epoch),
          reason: "lost",
        } as const;
        this.#feed(this.nodes[peer] as SimNode, event);
        this.#feed(this.nodes[peer] as SimNode, { type: "neighbourDown", peer: node.name });
      });
    }
  }

  /** The next life of a node that crashed, back among its neighbours. */
  restart(index: number): void {
    const node = this.nodes[index] as SimNode;
    node.isAlive = true;
    node.epoch++;
    node.incarnation = 0;
    for (const peer of node.neighbours) {
      this.#at(this.#latency() * 3, () => {
        const other = this.nodes[peer] as SimNode;
        this.#feed(other, { type: "linkUp", peer: this.#identity(node, node.epoch) });
        this.#feed(other, { type: "neighbourUp", peer: node.name });
      });
    }
    this.#publish(node);
  }

  stall(index: number, ms: number): void {
    (this.nodes[index] as SimNode).stalledUntil = this.now + ms;
  }

  /** Nothing passes from one to the other any more. */
  cut(from: number, to: number): void {
    this.#cuts.add(`${from}>${to}`);
  }

  /** What an old copy of a node's row, kept by somebody, does when it turns up again. */
  replay(index: number, epoch: number, incarnation: number): void {
    for (const observer of this.observers) {
      this.#feed(observer, this.#record(this.nodes[index] as SimNode, epoch, incarnation));
    }
  }

  statusAt(observer: SimNode, index: number): Member | undefined {
    return observer.roster?.member((this.nodes[index] as SimNode).name);
  }

  // ---- nodes

  #add(index: number): void {
    const key = new Uint8Array(32);
    new DataView(key.buffer).setUint32(0, index + 1);
    const name = `n${index}@sim`;
    const node: SimNode = {
      index,
      name,
      key,
      neighbours: [],
      roster: undefined,
      epoch: 1,
      incarnation: 0,
      isAlive: true,
      hostRefuses: true,
      stalledUntil: 0,
      heard: new Set(),
    };
    this.nodes.push(node);
    this.#byName.set(name, node);
  }

  // A ring, and random pairs until all have their degree, as far as that goes.
  #wire(): void {
    const { nodes } = this;
    const connect = (a: SimNode, b: SimNode) => {
      if (a === b || a.neighbours.includes(b.index)) return;
      a.neighbours.push(b.index);
      b.neighbours.push(a.index);
    };
    for (const node of nodes) connect(node, nodes[(node.index + 1) % nodes.length] as SimNode);
    for (let round = 0; round < 20; round++) {
      const short = sample(
        this.#random,
        nodes.filter(({ neighbours }) => neighbours.length < DEGREE),
        nodes.length,
      );
      for (let i = 0; i + 1 < short.length; i += 2) {
        connect(short[i] as SimNode, short[i + 1] as SimNode);
      }
    }
  }

  #observe(node: SimNode): void {
    const roster = new Roster({
      self: this.#identity(node, node.epoch),
      liveness: LIVENESS_DEFAULTS,
      random: seededRandom(this.#random.uint32()),
      isAcceptable: () => true,
      hasFollowed: () => false,
    });
    node.roster = roster;
    for (const peer of node.neighbours) {
      this.#feed(node, { type: "neighbourUp", peer: (this.nodes[peer] as SimNode).name });
    }
    for (const other of this.nodes) {
      if (other !== node) this.#feed(node, this.#record(other, 1, 0));
    }
    const tick = () => {
      if (node.isAlive && node.stalledUntil > this.now) {
        return this.#at(node.stalledUntil - this.now, tick);
      }
      if (node.isAlive) {
        const heard = [...node.heard];
        node.heard.clear();
        this.#feed(node, { type: "tick", heard });
      }
      this.#at(TICK_MS, tick);
    };
    this.#at(randomFraction(this.#random) * TICK_MS, tick);
  }

  #identity(node: SimNode, epoch: number) {
    return { name: node.name, publicKey: node.key, epoch, addresses: [`sim://${node.index}`] };
  }

  #record(node: SimNode, epoch: number, incarnation: number): RosterEvent {
    const record = {
      name: node.name,
      incarnation,
      addresses: [`sim://${node.index}`],
      ephemeral: false,
      left: false,
      successions: EMPTY,
    };
    return { type: "record", author: node.key, epoch, record };
  }

  // ---- machines

  #feed(node: SimNode, event: RosterEvent): void {
    if (node.roster === undefined || !node.isAlive) return;
    for (const effect of node.roster.handle(event, this.now)) this.#carryOut(node, effect);
  }

  #carryOut(node: SimNode, effect: RosterEffect): void {
    switch (effect.type) {
      case "emit":
        this.told.push({ at: this.now, observer: node.index, change: effect.change });
        this.#note(node.index, effect.change.type.length);
        return;
      case "publish":
        node.incarnation = effect.incarnation;
        return this.#publish(node);
      case "accuse": {
        const { accusation } = effect;
        return this.#spread(node, (to) => this.#accuse(to, node, accusation), accusation.target);
      }
      case "withdraw": {
        const { target } = effect;
        return this.#spread(node, (to) => {
          this.#feed(to, { type: "withdrawn", author: node.key, target });
        });
      }
      case "ping":
        return this.#ping(node, this.#byName.get(effect.peer) as SimNode);
      case "probe":
        this.probes++;
        return this.#probe(node, this.#byName.get(effect.member.name) as SimNode, effect.connect);
      case "askProbe": {
        const { request } = effect;
        const to = this.#byName.get(effect.to) as SimNode;
        return this.#deliver(node, to, () => this.#feed(to, { type: "probeRequest", request }), 3);
      }
    }
  }

  #accuse(to: SimNode, author: SimNode, accusation: Accusation): void {
    if (to !== author) this.#feed(to, { type: "accusation", author: author.key, accusation });
    const isOver = accusation.epoch !== to.epoch || accusation.incarnation < to.incarnation;
    if (to.roster !== undefined || to.name !== accusation.target || isOver) return;
    // Without a machine it answers all the same.
    to.incarnation = accusation.incarnation + 1;
    this.#publish(to);
  }

  #publish(node: SimNode): void {
    const record = this.#record(node, node.epoch, node.incarnation);
    this.#spread(node, (to) => to !== node && this.#feed(to, record));
  }

  // ---- network

  #latency(): number {
    let ms = LATENCY_MS[0] + (LATENCY_MS[1] - LATENCY_MS[0]) * randomFraction(this.#random);
    while (this.#options.loss > 0 && randomFraction(this.#random) < this.#options.loss) {
      ms += 2 * LATENCY_MS[1] + LATENCY_MS[0];
    }
    return ms;
  }

  #at(ms: number, run: () => void): void {
    this.#queue.push({ at: this.now + ms, order: this.#order++, run });
  }

  // Runs at the receiver, when it is there: a stalled one takes it afterwards, a dead one never.
  #deliver(from: SimNode, to: SimNode, run: () => void, frames = 1): void {
    if (this.#cuts.has(`${from.index}>${to.index}`)) return;
    if (frames > 1 && this.#cuts.has(`${to.index}>${from.index}`)) return;
    let ms = 0;
    for (let i = 0; i < frames; i++) ms += this.#latency();
    const arrive = () => {
      if (!to.isAlive) return;
      if (to.stalledUntil > this.now) return this.#at(to.stalledUntil - this.now, arrive);
      run();
    };
    this.#at(ms, arrive);
  }

  #ping(node: SimNode, peer: SimNode): void {
    this.#deliver(node, peer, () => {
      peer.heard.add(node.name);
      this.#deliver(peer, node, () => void node.heard.add(peer.name));
    });
  }

  // First the host, then a connection: the link that there is, or a new one.
  #probe(node: SimNode, target: SimNode, connect: boolean): void {
    const answer = (result: "alive" | Evidence) => {
      this.#feed(node, { type: "probed", peer: target.name, result });
    };
    const canProbe = node.index % 3 < this.#options.probing;
    const isRefused = !target.isAlive && target.hostRefuses;
    if (canProbe && isRefused) return this.#at(2 * this.#latency(), () => answer("refused"));
    if (!connect) return;
    const isNeighbour = node.neighbours.includes(target.index);
    const timeoutMs = isNeighbour ? PING_TIMEOUT_MS : DIAL_TIMEOUT_MS;
    let isOver = false;
    const finish = (result: "alive" | Evidence) => {
      if (isOver) return;
      isOver = true;
      answer(result);
    };
    const { epoch } = target;
    this.#deliver(node, target, () => {
      this.#deliver(target, node, () => finish(target.epoch === epoch ? "alive" : "silent"));
    }, isNeighbour ? 1 : 3);
    this.#at(timeoutMs, () => finish("silent"));
  }

  // Over the overlay of the living, hop by hop; the stalled pass nothing on until they are back.
  #spread(from: SimNode, deliver: (to: SimNode) => void, about?: string): void {
    const at = new Map<number, number>([[from.index, 0]]);
    const waiting = new Heap<{ node: SimNode; ms: number }>((x, y) => x.ms < y.ms);
    waiting.push({ node: from, ms: 0 });
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop()) {
      if ((at.get(next.node.index) as number) < next.ms) continue;
      for (const index of next.node.neighbours) {
        const peer = this.nodes[index] as SimNode;
        if (!peer.isAlive || this.#cuts.has(`${next.node.index}>${index}`)) continue;
        const held = Math.max(0, peer.stalledUntil - (this.now + next.ms));
        const ms = next.ms + this.#latency() + held;
        if ((at.get(index) ?? Infinity) <= ms) continue;
        at.set(index, ms);
        waiting.push({ node: peer, ms });
      }
    }
    for (const [index, ms] of at) {
      const to = this.nodes[index] as SimNode;
      if (to.roster !== undefined || to.name === about) this.#at(ms, () => deliver(to));
    }
  }

  #note(a: number, b: number): void {
    let hash = this.trace ^ Math.floor(this.now * 1000);
    hash = Math.imul(hash ^ a, 0x9e3779b1);
    hash = Math.imul(hash ^ (hash >>> 15) ^ b, 0x85ebca6b);
    this.trace = (hash ^ (hash >>> 13)) >>> 0;
  }

  /** One of the nodes. */
  pick(): SimNode {
    return this.nodes[randomBelow(this.#random, this.nodes.length)] as SimNode;
  }
}
