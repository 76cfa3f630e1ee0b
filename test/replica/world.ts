/**
 * Replicas on virtual time over a network that loses, doubles, delays and reorders, beside a model
 * that is correct by inspection: each author's own map, and a snapshot of it for each head signed.
 * After every event, what a replica shows of an author must be one of that author's snapshots, and
 * the changes it told must add up to what it shows.
 */
import assert from "node:assert/strict";
import { concat, EMPTY, equalBytes, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { Heap } from "../../src/base/heap.ts";
import { syncHashes } from "../../src/base/noble_crypto.ts";
import { randomFraction, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { encodeGossip } from "../../src/broadcast/messages.ts";
import { frameBytes } from "../../src/link/frame_writer.ts";
import type { Sha256 } from "../../src/replica/set_hash.ts";
import { originOf } from "../../src/replica/head.ts";
import { Replica } from "../../src/replica/replica.ts";
import type { ReplicaEffect, ReplicaEvent } from "../../src/replica/replica.ts";
import type { Row, StoreState } from "../../src/replica/store_state.ts";
import { traced } from "../trace.ts";

export const sha256: Sha256 = syncHashes.sha256;
export const STORE = "test";
export const INTERVAL_MS = 10_000;

/** What a broadcast carries around its payload, bytes: of a sender's 128th to 16,383rd. */
const ENVELOPE_BYTES = encodeGossip({
  tree: 0,
  hops: 1,
  origin: 1,
  seq: 1_000,
  topic: "barrel:replica",
  payload: EMPTY,
}).length;

/** A stand-in for Ed25519: fast, and nobody here forges it. */
export function signAs(publicKey: Bytes, message: Bytes): Bytes {
  const half = sha256(concat([utf8("sign"), publicKey, message]));
  return concat([half, half]);
}

export interface Node {
  readonly name: string;
  readonly publicKey: Bytes;
  readonly origin: string;
  epoch: number;
  isUp: boolean;
  replica: Replica;
  /** What the author wrote: the model. */
  truth: Map<string, Bytes>;
  /** What the changes told so far add up to. */
  told: Map<string, string>;
  /** The versions that were checked last, by origin. */
  checked: Map<string, string>;
  wakeAt: number;
  /** Stores whose signature is on its way. */
  signing: Set<string>;
  refusals: Map<string, number>;
}

/** Thrown inside a replica, in place of a mistake of ours. */
export class Mistake extends Error {}

export interface Network {
  loss: number;
  duplication: number;
  minDelayMs: number;
  maxDelayMs: number;
  /** Whether what one node sends another on one pipe arrives in order, as on a real link. */
  inOrder?: boolean;
}

type Kind = "control" | "data" | "broadcast";

interface Scheduled {
  readonly at: number;
  readonly order: number;
  readonly run: () => void;
}

export class World {
  readonly random: Random;
  readonly nodes: Node[] = [];
  readonly network: Network;
  now = 0;
  /** What a frame becomes on its way; undefined drops it. */
  tamper: ((kind: Kind, from: Node, to: Node, body: Bytes) => Bytes | undefined) | undefined;
  /** Bytes of bodies. */
  readonly sent: Record<Kind, number> = { control: 0, data: 0, broadcast: 0 };
  /** The same with the frame's header around each body, and a broadcast's envelope. */
  readonly onWire: Record<Kind, number> = { control: 0, data: 0, broadcast: 0 };
  readonly frames: Record<Kind, number> = { control: 0, data: 0, broadcast: 0 };
  events = 0;
  /** A hash of the frames that arrived: when, from whom, at whom, and all their bytes. */
  trace = 0;
  /** Whether a replica handles an event. */
  isInside = false;
  /** Whether what is told and shown is held against the model; without, worlds may be large. */
  checks = true;
  /** Whom the nodes know by other means than rows. */
  isMember: (author: Bytes) => boolean = () => true;
  readonly #queue = new Heap<Scheduled>((a, b) =>
    a.at - b.at < 0 || (a.at === b.at && a.order < b.order)
  );
  readonly #history = new Map<string, Map<number, string>>();
  readonly #cut = new Set<string>();
  readonly #links = new Set<string>();
  /** When the last frame of a pipe arrives, where they arrive in order. */
  readonly #lastArrival = new Map<string, number>();
  #order = 0;

  readonly #sha256: Sha256;

  /** `hash` may stand in for SHA-256 where the host has a faster one. */
  constructor(seed: number, network: Network, hash: Sha256 = sha256) {
    this.#sha256 = hash;
    this.random = seededRandom(seed);
    this.network = network;
  }

  addNode(): Node {
    const publicKey = this.random.bytes(32);
    const node: Node = {
      name: `n${String(this.nodes.length).padStart(4, "0")}@test`,
      publicKey,
      origin: originOf(publicKey, sha256),
      epoch: 0,
      isUp: false,
      replica: undefined as unknown as Replica,
      truth: new Map(),
      told: new Map(),
      checked: new Map(),
      wakeAt: Infinity,
      signing: new Set(),
      refusals: new Map(),
    };
    this.nodes.push(node);
    this.start(node);
    return node;
  }

  /** A new life: nothing survives but the key. */
  start(node: Node): void {
    node.epoch++;
    node.isUp = true;
    node.truth = new Map();
    node.told = new Map();
    node.checked = new Map();
    node.wakeAt = Infinity;
    node.signing = new Set();
    node.replica = new Replica({
      self: node.name,
      publicKey: node.publicKey,
      epoch: node.epoch,
      random: seededRandom(this.random.uint32()),
      sha256: this.#sha256,
      intervalMs: INTERVAL_MS,
      admission: { isMember: (author) => this.isMember(author) },
    }, this.now);
    this.feed(node, { type: "createStore", name: STORE, validate: () => undefined });
    this.feed(node, { type: "turnEnded" });
  }

  crash(node: Node): void {
    node.isUp = false;
    for (const peer of this.nodes) this.unlink(node, peer);
  }

  state(node: Node): StoreState {
    return node.replica.store(STORE) as StoreState;
  }

  put(node: Node, key: string, value: Bytes): void {
    node.truth.set(key, value);
    this.feed(node, { type: "put", store: STORE, key, value });
    this.#later(0, node, () => this.feed(node, { type: "turnEnded" }));
  }

  remove(node: Node, key: string): void {
    node.truth.delete(key);
    this.feed(node, { type: "remove", store: STORE, key });
    this.#later(0, node, () => this.feed(node, { type: "turnEnded" }));
  }

  link(a: Node, b: Node): void {
    if (a === b || !a.isUp || !b.isUp || this.#links.has(pair(a, b)) || this.isCut(a, b)) return;
    this.#links.add(pair(a, b));
    this.feed(a, { type: "neighbourUp", peer: b.name });
    this.feed(b, { type: "neighbourUp", peer: a.name });
  }

  unlink(a: Node, b: Node): void {
    if (!this.#links.delete(pair(a, b))) return;
    if (a.isUp) this.feed(a, { type: "neighbourDown", peer: b.name });
    if (b.isUp) this.feed(b, { type: "neighbourDown", peer: a.name });
  }

  /** The two ends of each link. */
  edges(): (readonly [Node, Node])[] {
    return [...this.#links].map((ends) => {
      const [a = "", b = ""] = ends.split(" ");
      return [this.#named(a), this.#named(b)] as const;
    });
  }

  /** Splits the nodes in two: no link and no broadcast crosses. */
  split(side: ReadonlySet<Node>): void {
    for (const a of this.nodes) {
      for (const b of this.nodes) {
        if (!side.has(a) || side.has(b)) continue;
        this.#cut.add(pair(a, b));
        this.unlink(a, b);
      }
    }
  }

  heal(): void {
    this.#cut.clear();
  }

  isCut(a: Node, b: Node): boolean {
    return this.#cut.has(pair(a, b));
  }

  /** Gives a node an event and does what it wants done. */
  feed(node: Node, event: ReplicaEvent): void {
    if (!node.isUp) return;
    this.events++;
    let effects: ReplicaEffect[];
    try {
      this.isInside = true;
      effects = node.replica.handle(event, this.now);
    } catch (error) {
      if (error instanceof Mistake) {
        count(node.refusals, "mistake");
        return this.feed(node, { type: "resumed", underWay: node.signing });
      }
      if (!(error instanceof ProtocolError)) throw error;
      count(node.refusals, error.reason);
      return;
    } finally {
      this.isInside = false;
    }
    for (const effect of effects) this.#perform(node, effect);
    if (this.checks) this.check(node, effects.some((effect) => effect.type === "change"));
    this.#wake(node);
  }

  /** Runs for `ms` of virtual time. */
  run(ms: number): void {
    const end = this.now + ms;
    for (;;) {
      const next = this.#queue.peek();
      if (next === undefined || next.at > end) break;
      this.#queue.pop();
      this.now = Math.max(this.now, next.at);
      next.run();
    }
    this.now = end;
  }

  /** What every replica must show of an author at a head. */
  snapshot(node: Node, epoch: number, seq: number): string | undefined {
    return this.#history.get(`${node.name}/${epoch}`)?.get(seq);
  }

  check(node: Node, hasChanged: boolean): void {
    const state = this.state(node);
    if (hasChanged) {
      const shown = new Map<string, string>();
      for (const row of state.rows()) shown.set(idOf(row), valueOf(row));
      assert.deepEqual(sorted(node.told), sorted(shown), `${node.name}: the changes told`);
    }
    for (const author of this.nodes) {
      const { epoch, seq } = state.version(author.origin);
      const version = `${epoch}/${seq}`;
      if (author === node || (!hasChanged && node.checked.get(author.origin) === version)) continue;
      node.checked.set(author.origin, version);
      const rows = [...state.rowsBy(author.publicKey)];
      if (rows.length === 0) continue;
      assert.equal(
        snapshotOf(rows.map((row) => [row.key, row.value])),
        this.snapshot(author, epoch, seq),
        `${node.name} shows of ${author.name} what it never signed at ${version}`,
      );
    }
  }

  #perform(node: Node, effect: ReplicaEffect): void {
    switch (effect.type) {
      case "sign": {
        const seq = this.state(node).own.batch?.body.seq as number;
        const lives = this.#history.get(`${node.name}/${node.epoch}`) ?? new Map();
        this.#history.set(`${node.name}/${node.epoch}`, lives);
        lives.set(seq, snapshotOf(node.truth));
        const signature = signAs(node.publicKey, effect.message);
        assert.ok(!node.signing.has(effect.store), "one signature is awaited at a time");
        node.signing.add(effect.store);
        this.#later(this.#delay(), node, () => {
          node.signing.delete(effect.store);
          this.feed(node, { type: "signed", store: effect.store, signature });
        });
        return;
      }
      case "verify": {
        const isGood = equalBytes(effect.signature, signAs(effect.publicKey, effect.message));
        this.#later(
          randomFraction(this.random) * 3,
          node,
          () => this.feed(node, { type: "verified", id: effect.id, isGood }),
        );
        return;
      }
      case "sendControl":
        return this.#send("control", node, this.#named(effect.to), effect.body);
      case "sendData":
        return this.#send("data", node, this.#named(effect.to), effect.body);
      case "publish":
        for (const to of this.nodes) {
          if (to !== node) this.#send("broadcast", node, to, effect.body);
        }
        return;
      case "change": {
        if (!this.checks) return;
        const { type, row } = effect.change;
        const id = idOf(row);
        if (type === "put") node.told.set(id, valueOf(row));
        else if (type === "restored") {
          assert.ok(!node.told.has(id), "restored what was not hidden");
          node.told.set(id, valueOf(row));
        } else {
          assert.equal(node.told.get(id), valueOf(row), `${type} what was not there`);
          node.told.delete(id);
        }
        return;
      }
      case "refused":
        return count(node.refusals, effect.reason);
      case "impostor":
        return count(node.refusals, "impostor");
      case "applied":
        return;
    }
  }

  #send(kind: Kind, from: Node, to: Node, body: Bytes): void {
    this.sent[kind] += body.length;
    this.onWire[kind] += frameBytes(body.length + (kind === "broadcast" ? ENVELOPE_BYTES : 0));
    this.frames[kind]++;
    if (this.isCut(from, to)) return;
    const { loss, duplication } = this.network;
    const copies = randomFraction(this.random) < duplication ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      if (randomFraction(this.random) < loss) continue;
      const arrived = this.tamper === undefined ? body : this.tamper(kind, from, to, body);
      if (arrived === undefined) continue;
      const event: ReplicaEvent = kind === "broadcast"
        ? { type: "broadcast", body: arrived }
        : { type: kind, from: from.name, body: arrived };
      this.#later(this.#arrival(kind, from, to) - this.now, to, () => {
        if (this.isCut(from, to)) return;
        this.trace = traced(this.trace, this.now, indexOf(from), indexOf(to), arrived);
        this.feed(to, event);
      });
    }
  }

  #arrival(kind: Kind, from: Node, to: Node): number {
    const at = this.now + this.#delay();
    if (kind === "broadcast" || this.network.inOrder !== true) return at;
    const pipe = `${kind} ${from.name} ${to.name}`;
    const inOrder = Math.max(at, this.#lastArrival.get(pipe) ?? 0);
    this.#lastArrival.set(pipe, inOrder);
    return inOrder;
  }

  #wake(node: Node): void {
    const at = node.replica.wakeAt();
    if (at === Infinity || (node.wakeAt <= at && node.wakeAt > this.now)) return;
    node.wakeAt = at;
    this.#later(Math.max(0, at - this.now), node, () => {
      if (node.wakeAt > this.now) return;
      node.wakeAt = Infinity;
      this.feed(node, { type: "tick" });
    });
  }

  // Nothing meant for one life reaches the next.
  #later(ms: number, node: Node, run: () => void): void {
    const { epoch } = node;
    this.#queue.push({
      at: this.now + ms,
      order: this.#order++,
      run: () => {
        if (node.isUp && node.epoch === epoch) run();
      },
    });
  }

  #delay(): number {
    const { minDelayMs, maxDelayMs } = this.network;
    return minDelayMs + randomFraction(this.random) * (maxDelayMs - minDelayMs);
  }

  #named(name: string): Node {
    return this.nodes[indexOf({ name })] as Node;
  }
}

function indexOf({ name }: Pick<Node, "name">): number {
  return Number(name.slice(1, 5));
}

function pair(a: Node, b: Node): string {
  return a.name < b.name ? `${a.name} ${b.name}` : `${b.name} ${a.name}`;
}

function idOf(row: Row): string {
  return `${String.fromCharCode(...row.author.subarray(0, 6))}/${row.key}`;
}

function valueOf(row: Row): string {
  return `${row.epoch}/${row.value.length}/${String(row.value.subarray(0, 8))}`;
}

export function snapshotOf(rows: Iterable<readonly [string, Bytes]>): string {
  return [...rows].map(([key, value]) => `${key}=${value.length}:${String(value.subarray(0, 8))}`)
    .sort().join(" ");
}

function sorted(map: ReadonlyMap<string, string>): [string, string][] {
  return [...map].sort(([a], [b]) => a < b ? -1 : 1);
}

function count(counts: Map<string, number>, what: string): void {
  counts.set(what, (counts.get(what) ?? 0) + 1);
}
