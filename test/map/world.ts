/**
 * Maps over real replicas on virtual time and a network that loses, doubles, delays and reorders,
 * beside a model that is correct by inspection: each write has a number and knows the numbers of
 * all writes to its key that its replica had heard of. A value is dead once some write that is
 * known of knew it; of the others the one with the greatest stamp is the truth. What a replica
 * writes since only its memory hides a value is a write without a value that knew what its row
 * names, no more; beside it the row says again what it said before, if that was a value.
 *
 * After every change, a replica must not show what a write it has heard of replaced.
 */
import assert from "node:assert/strict";
import { concat, equalBytes, utf8 } from "../../src/base/bytes.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { Heap } from "../../src/base/heap.ts";
import { syncHashes } from "../../src/base/noble_crypto.ts";
import { randomFraction, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { compareStamps, HybridLogicalClock } from "../../src/crdt/hlc.ts";
import type { Stamp } from "../../src/crdt/hlc.ts";
import { decodeEntry } from "../../src/map/entry.ts";
import { LwwState } from "../../src/map/lww_state.ts";
import type { LwwEffect } from "../../src/map/lww_state.ts";
import { readReplaced, saveReplaced } from "../../src/map/replaced.ts";
import { Replica } from "../../src/replica/replica.ts";
import type { ReplicaEffect, ReplicaEvent } from "../../src/replica/replica.ts";
import { readSaved } from "../../src/replica/saved_rows.ts";
import type { Change, Row, StoreState } from "../../src/replica/store_state.ts";
import { traced } from "../trace.ts";

const { sha256 } = syncHashes;
export const STORE = "kept/map/test";
const MAX_DRIFT_MS = 5_000;
const START_MS = 1_700_000_000_000;

function signAs(publicKey: Bytes, message: Bytes): Bytes {
  const half = sha256(concat([utf8("sign"), publicKey, message]));
  return concat([half, half]);
}

/** One write, as the model sees it. */
export interface Write {
  readonly id: number;
  readonly key: string;
  /** Without a stamp it is a deletion. */
  readonly stamp: Stamp | undefined;
  readonly origin: string;
  /** The writes to this key that its replica had heard of, and those that they had heard of. */
  readonly past: ReadonlySet<number>;
}

export interface Node {
  readonly name: string;
  readonly publicKey: Bytes;
  readonly isPersistent: boolean;
  /** How far its clock is off, milliseconds. */
  readonly skewMs: number;
  epoch: number;
  isUp: boolean;
  replica: Replica;
  map: LwwState;
  hlc: HybridLogicalClock;
  disk: Map<string, Bytes>;
  replaced: Map<string, Bytes>;
  /** The writes it has heard of, and which of them some other replaced. */
  known: Set<number>;
  dead: Set<number>;
  /** Of those, the ones that it had. */
  gone: Set<number>;
  /** Its own writes that no disk and no other node has. */
  unsaved: Set<number>;
  shown: Map<string, number>;
  wakeAt: number;
  refusals: Map<string, number>;
}

export interface Network {
  loss: number;
  duplication: number;
  maxDelayMs: number;
}

export type Verdict = "retire" | "restore" | "forget";
type Kind = "control" | "data" | "broadcast";

export class MapWorld {
  readonly random: Random;
  readonly store: string;
  readonly nodes: Node[] = [];
  readonly network: Network;
  readonly writes: Write[] = [];
  /** What a frame becomes on its way; undefined drops it. */
  tamper: ((kind: Kind, from: Node, to: Node, body: Bytes) => Bytes | undefined) | undefined;
  now = 0;
  /** A hash of the frames that arrived: when, from whom, at whom, and all their bytes. */
  trace = 0;
  /** How often a replica said what only its memory hid. */
  testimonies = 0;
  /** What each row says: a write and, of one that was written again, what else it knew. */
  readonly #byRow = new Map<string, readonly number[]>();
  /** By origin and key, the dots that its writes there were born with. */
  readonly #born = new Map<string, Map<number, number>>();
  readonly #queue = new Heap<{ at: number; order: number; run: () => void }>((a, b) =>
    a.at < b.at || (a.at === b.at && a.order < b.order)
  );
  readonly #cut = new Set<string>();
  readonly #links = new Set<string>();
  readonly #effects: ReplicaEffect[] = [];
  #isDraining = false;
  #order = 0;

  /** `store`: its name, which says whether the rows of a node go with it. */
  constructor(seed: number, network: Network, store: string = STORE) {
    this.random = seededRandom(seed);
    this.network = network;
    this.store = store;
  }

  addNode(isPersistent: boolean, skewMs = 0): Node {
    const node = {
      name: `n${String(this.nodes.length).padStart(4, "0")}@test`,
      publicKey: this.random.bytes(32),
      isPersistent,
      skewMs,
      epoch: 0,
      isUp: false,
      disk: new Map(),
      replaced: new Map(),
      known: new Set(),
      dead: new Set(),
      gone: new Set(),
      unsaved: new Set(),
      shown: new Map(),
      refusals: new Map(),
    } as unknown as Node;
    this.nodes.push(node);
    this.start(node);
    return node;
  }

  start(node: Node): void {
    node.epoch++;
    node.isUp = true;
    node.wakeAt = Infinity;
    node.shown = new Map();
    if (!node.isPersistent) {
      node.known = new Set();
      node.dead = new Set();
      node.gone = new Set();
    }
    node.replica = new Replica({
      self: node.name,
      publicKey: node.publicKey,
      epoch: node.epoch,
      random: seededRandom(this.random.uint32()),
      sha256,
      intervalMs: 10_000,
    }, this.now);
    node.hlc = new HybridLogicalClock({ wall: () => this.wall(node) }, MAX_DRIFT_MS);
    const store = () => node.replica.store(this.store) as StoreState;
    node.map = new LwwState(
      {
        get origin() {
          return store().self.origin;
        },
        dotOf: (key) => store().ownDot(key),
        knownUpTo: (origin) => store().knownUpTo(origin),
        isAway: (origin) => store().isAway(origin),
        judge: () => undefined,
      },
      MAX_DRIFT_MS,
      [...node.replaced].flatMap(([key, value]) => readReplaced(key, value) ?? []),
    );
    const create = { type: "createStore", name: this.store, validate: () => undefined } as const;
    const entries = [...node.disk].sort(([a], [b]) => a < b ? -1 : 1);
    this.feed(
      node,
      node.isPersistent ? { ...create, saved: readSaved(this.store, entries) } : create,
    );
    this.#act(node, node.map.loaded());
    this.feed(node, { type: "turnEnded" });
  }

  crash(node: Node): void {
    node.isUp = false;
    for (const id of node.unsaved) node.known.delete(id);
    node.unsaved.clear();
    // What a lost write replaced is not replaced.
    const gone = [...node.gone];
    node.dead = new Set();
    for (const id of node.known) this.#learnPast(node, id);
    node.gone = new Set(gone.filter((id) => node.dead.has(id)));
    for (const peer of this.nodes) this.unlink(node, peer);
  }

  /** What a node hears of another's life, within `maxMs`. */
  judge(at: Node, what: Verdict, { publicKey }: Node, epoch: number, maxMs: number): void {
    this.#later(randomFraction(this.random) * maxMs, at, () => {
      this.feed(at, { type: "life", what, publicKey, epoch });
    });
  }

  wall(node: Node): number {
    return START_MS + this.now + node.skewMs;
  }

  set(node: Node, key: string): void {
    const id = this.writes.length;
    const stamp = node.hlc.now();
    const row = node.map.set(key, utf8(String(id)), stamp);
    this.#wrote(node, { id, key, stamp }, row);
    this.#put(node, key, row);
  }

  delete(node: Node, key: string): void {
    const row = node.map.delete(key);
    if (row === undefined) return;
    const id = this.writes.length;
    this.#wrote(node, { id, key, stamp: undefined }, row === "none" ? utf8(`none ${id}`) : row);
    if (row !== "none") return this.#put(node, key, row);
    this.feed(node, { type: "remove", store: this.store, key });
    this.#later(0, node, () => this.feed(node, { type: "turnEnded" }));
  }

  #put(node: Node, key: string, value: Bytes): void {
    this.feed(node, { type: "put", store: this.store, key, value });
    this.#later(0, node, () => this.feed(node, { type: "turnEnded" }));
  }

  #wrote(node: Node, write: Pick<Write, "id" | "key" | "stamp">, row: Bytes): void {
    const { origin } = (node.replica.store(this.store) as StoreState).self;
    const past = new Set([...node.known].filter((id) => this.writes[id]?.key === write.key));
    for (const id of [...past]) for (const older of this.writes[id]?.past ?? []) past.add(older);
    this.#record(node, { ...write, origin, past });
    this.#byRow.set(rowName(origin, write.key, row), [write.id]);
  }

  #record(node: Node, write: Write): void {
    this.writes.push(write);
    node.known.add(write.id);
    node.unsaved.add(write.id);
    this.#learnPast(node, write.id);
  }

  #testify(node: Node, key: string, row: Bytes): void {
    const { origin } = (node.replica.store(this.store) as StoreState).self;
    const id = this.writes.length;
    const past = new Set<number>();
    for (const [author, last] of decodeEntry(row)?.over ?? []) {
      for (const [born, older] of this.#born.get(rowName(author, key)) ?? []) {
        if (born <= last) past.add(older);
      }
    }
    this.testimonies++;
    this.#record(node, { id, key, stamp: undefined, origin, past });
    const own = node.replica.store(this.store)?.own.values.get(key);
    const isPut = decodeEntry(row)?.type === "put";
    const said = isPut ? this.#byRow.get(rowName(origin, key, own as Bytes))?.[0] : undefined;
    this.#byRow.set(rowName(origin, key, row), said === undefined ? [id] : [said, id]);
    this.#put(node, key, row);
  }

  #learnPast(node: Node, id: number): void {
    for (const older of this.writes[id]?.past ?? []) {
      node.dead.add(older);
      // Had it come later, on the way of a slow word of its writer, nobody here could know.
      if (node.known.has(older)) node.gone.add(older);
    }
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

  sweep(node: Node): void {
    if (node.isUp) this.#act(node, node.map.tick(this.wall(node)));
    this.feed(node, { type: "turnEnded" });
  }

  feed(node: Node, event: ReplicaEvent): void {
    if (!node.isUp) return;
    let effects: ReplicaEffect[];
    try {
      effects = node.replica.handle(event, this.now);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      node.refusals.set(error.reason, (node.refusals.get(error.reason) ?? 0) + 1);
      return;
    }
    // As the driver does it: what follows from a change waits until the effects before it are done.
    this.#effects.push(...effects);
    if (this.#isDraining) return;
    this.#isDraining = true;
    try {
      for (let next = this.#effects.shift(); next; next = this.#effects.shift()) {
        this.#perform(node, next);
      }
    } finally {
      this.#isDraining = false;
    }
    for (const id of node.shown.values()) {
      assert.ok(!node.gone.has(id), `${node.name} shows ${id} again, which it knows is replaced`);
    }
    const at = node.replica.wakeAt();
    if (at === Infinity || (node.wakeAt <= at && node.wakeAt > this.now)) return;
    node.wakeAt = at;
    this.#later(Math.max(0, at - this.now), node, () => {
      if (node.wakeAt > this.now) return;
      node.wakeAt = Infinity;
      this.feed(node, { type: "tick" });
    });
  }

  #perform(node: Node, effect: ReplicaEffect): void {
    switch (effect.type) {
      case "sign": {
        const signature = signAs(node.publicKey, effect.message);
        const { store } = effect;
        this.#later(this.#delay(), node, () => {
          this.feed(node, { type: "signed", store, signature });
          if (!node.isPersistent && node.replica.store(this.store)?.own.batch === undefined) {
            node.unsaved.clear();
          }
        });
        return;
      }
      case "save": {
        const apply = () => {
          for (const { key, value } of effect.writes) {
            if (value === undefined) node.disk.delete(key);
            else node.disk.set(key, value.slice());
          }
        };
        const { id, store } = effect;
        if (id === undefined) return apply();
        this.#later(this.#delay() / 4, node, () => {
          // What was written since the batch was cut is not in it.
          const covered = node.replica.store(this.store)?.own.batch?.taken;
          for (const write of [...node.unsaved]) {
            const { key } = this.writes[write] as Write;
            const last = Math.max(...[...node.unsaved].filter((w) => this.writes[w]?.key === key));
            if (covered?.has(key) === true && write <= this.#lastCut(node, key, last)) {
              node.unsaved.delete(write);
            }
          }
          apply();
          this.feed(node, { type: "saved", store, id, isSaved: true });
        });
        return;
      }
      case "verify": {
        const isGood = equalBytes(effect.signature, signAs(effect.publicKey, effect.message));
        const { id } = effect;
        this.#later(
          randomFraction(this.random) * 3,
          node,
          () => this.feed(node, { type: "verified", id, isGood }),
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
      case "change":
        return this.#changed(node, effect.change);
      case "refused":
        node.refusals.set(effect.reason, (node.refusals.get(effect.reason) ?? 0) + 1);
        return;
      case "impostor":
        node.refusals.set("impostor", 1);
        return;
      case "applied":
        return;
    }
  }

  // The write of the value that the batch under way holds.
  #lastCut(node: Node, key: string, last: number): number {
    const store = node.replica.store(this.store) as StoreState;
    const put = store.own.batch?.delta.puts.find((one) => one.key === key);
    if (put === undefined) return store.own.values.has(key) ? -1 : last;
    return Math.max(-1, ...this.#byRow.get(rowName(store.self.origin, key, put.value)) ?? []);
  }

  #changed(node: Node, { type, row }: Change): void {
    if (type === "put" || type === "restored") {
      const ids = this.#byRow.get(rowName(row.origin, row.key, row.value));
      assert.ok(ids !== undefined, `${node.name} has a row that nobody wrote`);
      this.#bear(row, ids[0] as number);
      const effects = node.map.put(row, this.wall(node));
      for (const id of ids) {
        node.known.add(id);
        // From the future it replaces nothing yet.
        if (effects.every((effect) => effect.type !== "hidden")) this.#learnPast(node, id);
      }
      return this.#act(node, effects);
    }
    if (type === "removed") this.#act(node, node.map.remove(row));
    else this.#act(node, node.map.setAway(row));
  }

  #bear({ origin, key, seq, value }: Row, id: number): void {
    const entry = decodeEntry(value);
    const dots = this.#born.get(rowName(origin, key)) ?? new Map<number, number>();
    this.#born.set(rowName(origin, key), dots);
    // One of its own that is not signed has no dot yet.
    if (seq > 0) dots.set(entry?.type === "put" ? entry.born ?? seq : seq, id);
  }

  #act(node: Node, effects: readonly LwwEffect[]): void {
    for (const effect of effects) {
      switch (effect.type) {
        case "drop":
          this.feed(node, { type: "remove", store: this.store, key: effect.key });
          this.#later(0, node, () => this.feed(node, { type: "turnEnded" }));
          break;
        case "shown": {
          if (effect.value === undefined) node.shown.delete(effect.key);
          else {
            const id = Number(new TextDecoder().decode(effect.value));
            node.shown.set(effect.key, id);
          }
          break;
        }
        case "replaced": {
          const { key, value } = saveReplaced(effect);
          if (value === undefined) node.replaced.delete(key);
          else if (node.isPersistent) node.replaced.set(key, value);
          break;
        }
        case "follow":
          node.hlc.update(effect.stamp);
          break;
        case "testify":
          this.#testify(node, effect.key, effect.value);
          break;
        case "hidden":
          break;
      }
    }
  }

  /** The writes that anybody who is up has heard of and that none of them replaced. */
  alive(): Write[] {
    const known = new Set(this.nodes.flatMap((node) => node.isUp ? [...node.known] : []));
    const dead = new Set<number>();
    for (const id of known) for (const older of this.writes[id]?.past ?? []) dead.add(older);
    return [...known].filter((id) => !dead.has(id)).map((id) => this.writes[id] as Write);
  }

  /** What must be shown, of all those. */
  truth(): Map<string, number> {
    const truth = new Map<string, Write>();
    for (const write of this.alive()) {
      if (write.stamp === undefined) continue;
      const best = truth.get(write.key);
      const order = best === undefined ? 1 : compareStamps(write.stamp, best.stamp as Stamp);
      if (order > 0 || (order === 0 && write.origin > (best as Write).origin)) {
        truth.set(write.key, write);
      }
    }
    return new Map([...truth].map(([key, { id }]) => [key, id]));
  }

  #send(kind: Kind, from: Node, to: Node, body: Bytes): void {
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
      this.#later(this.#delay(), to, () => {
        if (this.isCut(from, to)) return;
        this.trace = traced(this.trace, this.now, indexOf(from), indexOf(to), arrived);
        this.feed(to, event);
      });
    }
  }

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
    return randomFraction(this.random) * this.network.maxDelayMs;
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

function rowName(origin: string, key: string, value?: Bytes): string {
  return `${origin}/${key}/${String(value)}`;
}
