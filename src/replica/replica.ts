/**
 * Replication of single-writer stores as one pure machine: local writes, deltas that arrive by
 * broadcast or in answer to a pull, and anti-entropy. Every row belongs to the node that wrote it;
 * its signed heads (`head.ts`) are the only thing that makes the others' copies move.
 *
 * A write becomes visible here at once. At the end of the turn all writes of a store are signed as
 * one head and published as one delta. Whoever misses it finds out from a later delta, or when it
 * compares digests with a neighbour (`anti_entropy.ts`), and pulls what it lacks.
 */
import type { Bytes } from "../base/bytes.ts";
import { utf8Length } from "../base/bytes.ts";
import { BarrelError, ConflictError, ProtocolError } from "../base/errors.ts";
import type { Random } from "../base/random.ts";
import { NO_VERSION } from "../crdt/version_vector.ts";
import type { NodeName } from "../wire/node_name.ts";
import { AntiEntropy } from "./anti_entropy.ts";
import type { PatientWrite } from "../storage/patient_writer.ts";
import { headMessage, originIn } from "./head.ts";
import type { Head, OriginId } from "./head.ts";
import {
  MAX_OPEN_STORES,
  MAX_ORIGINS,
  MAX_OWN_STORES,
  MAX_RELAYED_BYTES,
  MAX_RELAYED_STORES,
  MAX_STORE_NAME_BYTES,
} from "./limits.ts";
import { decodeControl, decodeData, encodeControl, encodeDelta } from "./messages.ts";
import type { DataMessage } from "./messages.ts";
import { deltaBytes } from "./origin_rows.ts";
import type { Delta } from "./origin_rows.ts";
import { PullServer } from "./pull_server.ts";
import { Puller } from "./puller.ts";
import type { Sha256 } from "./set_hash.ts";
import { loadSaved } from "./load_saved.ts";
import type { Damage } from "./load_saved.ts";
import { savedLife, savedMove } from "./saved_rows.ts";
import type { Saved } from "./saved_rows.ts";
import { kindOf } from "./store_kind.ts";
import { StoreState } from "./store_state.ts";
import type { Admission, Change, Outcome, StoreSink, Validate } from "./store_state.ts";
import type { SyncContext } from "./sync_context.ts";
import { Verifier } from "./verifier.ts";
import type { VerifyJob } from "./verifier.ts";

/** What happens to a replica. */
export type ReplicaEvent =
  | {
    readonly type: "createStore";
    readonly name: string;
    readonly validate: Validate;
    /** Who may write to it. @default that of the replica */
    readonly admission?: Admission | undefined;
    /** What the disk has of it; such a store says with `save` what the disk should have. */
    readonly saved?: Saved;
  }
  | { readonly type: "put"; readonly store: string; readonly key: string; readonly value: Bytes }
  | { readonly type: "remove"; readonly store: string; readonly key: string }
  /** Our key has changed; signatures asked for from now on are the new one's. */
  | { readonly type: "rekey"; readonly publicKey: Bytes }
  /** The turn in which something was written is over. */
  | { readonly type: "turnEnded" }
  /** The answer to a `sign` effect; undefined when it failed. */
  | { readonly type: "signed"; readonly store: string; readonly signature: Bytes | undefined }
  /** The answer to a `save` effect with an `id`. */
  | {
    readonly type: "saved";
    readonly store: string;
    readonly id: number;
    readonly isSaved: boolean;
  }
  /** The answer to a `verify` effect. */
  | { readonly type: "verified"; readonly id: number; readonly isGood: boolean }
  | { readonly type: "control"; readonly from: NodeName; readonly body: Bytes }
  | { readonly type: "data"; readonly from: NodeName; readonly body: Bytes }
  /** A delta that somebody published. */
  | { readonly type: "broadcast"; readonly body: Bytes }
  | { readonly type: "neighbourUp"; readonly peer: NodeName }
  | { readonly type: "neighbourDown"; readonly peer: NodeName }
  /** Frames to this peer cannot be delivered. */
  | { readonly type: "undelivered"; readonly peer: NodeName }
  | {
    readonly type: "retire" | "restore" | "forget";
    readonly store: string;
    readonly publicKey: Bytes;
    readonly epoch: number;
  }
  /** What became of a node's life, for all rows that go with their node. */
  | {
    readonly type: "life";
    readonly what: "retire" | "restore" | "forget";
    readonly publicKey: Bytes;
    readonly epoch: number;
  }
  /**
   * Goes on after an event that was left half done, or an effect that was not carried out. The
   * batches of the stores in `underWay` still get their answers.
   */
  | { readonly type: "resumed"; readonly underWay: ReadonlySet<string> }
  | { readonly type: "tick" };

/** What a replica wants done. */
export type ReplicaEffect =
  | { readonly type: "sendControl"; readonly to: NodeName; readonly body: Bytes }
  | { readonly type: "sendData"; readonly to: NodeName; readonly body: Bytes }
  | { readonly type: "publish"; readonly body: Bytes }
  /** Sign with the key of ours that is behind `author`. */
  | {
    readonly type: "sign";
    readonly store: string;
    readonly author: Bytes;
    readonly message: Bytes;
  }
  | ({ readonly type: "verify" } & VerifyJob)
  /** Keep this on the disk; with an `id` it is ours, and published after the answer only. */
  | {
    readonly type: "save";
    readonly store: string;
    readonly writes: readonly PatientWrite[];
    readonly id: number | undefined;
  }
  | { readonly type: "change"; readonly store: string; readonly change: Change }
  | { readonly type: "applied"; readonly store: string; readonly via: "broadcast" | "pull" }
  /** A peer, or an author, broke a rule. */
  | { readonly type: "refused"; readonly reason: string; readonly store: string | undefined }
  /** A delta came long before those that it builds on, and nothing is left to keep it in: it is pulled. */
  | { readonly type: "overtook"; readonly store: string }
  /** What the disk has of a store does not add up; told before anything is taken from it. */
  | { readonly type: "damaged"; readonly store: string; readonly damage: Damage }
  /** Others know more of our rows than our disk does, so we go on as another life. */
  | { readonly type: "outdated"; readonly store: string }
  /** A good head of our own key that we never signed: another process uses our identity. */
  | { readonly type: "impostor"; readonly store: string; readonly epoch: number };

/** What a replica is made of. */
export interface ReplicaOptions {
  readonly self: NodeName;
  readonly publicKey: Bytes;
  readonly epoch: number;
  readonly random: Random;
  readonly sha256: Sha256;
  /** Mean time between comparisons with a random neighbour, in milliseconds. */
  readonly intervalMs: number;
  /** Who may write. @default everybody is a member */
  readonly admission?: Admission | undefined;
}

const OPEN_TO_ALL: Admission = { isMember: () => true };

/** A broadcast that would fill the gap may be on its way for this long, in milliseconds. */
const GAP_MS = 200;
/** A signature that failed is asked for again after this long, in milliseconds. */
const SIGN_AGAIN_MS = 1_000;
/** The largest delta published; what is larger is pulled. */
const MAX_PUBLISH_BYTES = 48 * 1024;

interface Offer {
  readonly store: StoreState;
  readonly origin: OriginId;
  readonly delta: Delta;
  /** The peer that we pulled it from; undefined for a broadcast. */
  readonly from: NodeName | undefined;
}

interface Saving {
  /** The signature of our batch that the disk is writing, and the number of that write. */
  under: { readonly signature: Bytes; readonly id: number } | undefined;
  isLifeSaved: boolean;
}

/** The machine. */
export class Replica {
  readonly #options: ReplicaOptions;
  readonly #stores = new Map<string, StoreState>();
  readonly #neighbours = new Set<NodeName>();
  readonly #verifier = new Verifier<Offer>();
  readonly #context: SyncContext;
  #puller: Puller;
  #server: PullServer;
  #antiEntropy: AntiEntropy;
  /** Our last head in a store that was published. */
  readonly #published = new Map<string, number>();
  /** Stores that only others opened. */
  readonly #relayed = new Set<string>();
  /** Stores that are kept on the disk; the signature of a batch waits for it. */
  readonly #saving = new Map<string, Saving>();
  /** Stores that wait for a signature which is of no use any more. */
  readonly #outdated = new Set<string>();
  /** The lives that were declared over, for stores that come later. */
  readonly #lives = new Map<string, { readonly publicKey: Bytes; readonly epoch: number }>();
  /** Stores that take our new key when the signature of the old one is there. */
  readonly #rekeyed = new Set<StoreState>();
  #publicKey: Bytes;
  #signAgainAt = Infinity;
  #lastSave = 0;
  #effects: ReplicaEffect[] = [];

  constructor(options: ReplicaOptions, now: number) {
    this.#options = options;
    this.#publicKey = options.publicKey;
    this.#context = {
      self: options.self,
      random: options.random,
      stores: this.#stores,
      neighbours: this.#neighbours,
      relay: (name) => this.#storeFor(name),
      sendControl: (to, message) =>
        this.#effects.push({ type: "sendControl", to, body: encodeControl(message) }),
      sendData: (to, body) => this.#effects.push({ type: "sendData", to, body }),
      refuse: (reason, store) => this.#refuse(reason, store),
    };
    this.#puller = this.#newPuller();
    this.#server = new PullServer(this.#context);
    this.#antiEntropy = this.#newAntiEntropy(now);
  }

  #newPuller(lastRequest: number = 0): Puller {
    const { sha256 } = this.#options;
    return new Puller(
      this.#context,
      (store, author, epoch) => originIn(store, author, epoch, sha256),
      lastRequest,
    );
  }

  #newAntiEntropy(now: number): AntiEntropy {
    const { sha256, intervalMs } = this.#options;
    return new AntiEntropy(this.#context, this.#puller, sha256, intervalMs, now);
  }

  /** A store, for reading. */
  store(name: string): StoreState | undefined {
    return this.#stores.get(name);
  }

  /** When `tick` is wanted next. */
  wakeAt(): number {
    return Math.min(
      this.#puller.wakeAt(),
      this.#server.wakeAt(),
      this.#antiEntropy.wakeAt(),
      this.#signAgainAt,
    );
  }

  /**
   * Takes one event.
   *
   * @throws ProtocolError when a `control` or `data` frame breaks the protocol, before it has any
   * effect.
   * @throws ConflictError, BarrelError `replica_limit`, `invalid_row` when a local call is refused.
   */
  handle(event: ReplicaEvent, now: number): ReplicaEffect[] {
    this.#take(event, now);
    for (const peer of this.#puller.tick(now)) this.#antiEntropy.shun(peer, now);
    this.#server.tick(now);
    this.#antiEntropy.tick(now);
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #take(event: ReplicaEvent, now: number): void {
    switch (event.type) {
      case "createStore":
        return this.#createStore(event, now);
      case "put":
        return this.#storeOf(event.store).put(event.key, event.value);
      case "remove":
        return void this.#storeOf(event.store).remove(event.key);
      case "rekey":
        return this.#rekey(event.publicKey);
      case "turnEnded":
        return this.#cutAll();
      case "signed":
        return this.#signed(this.#storeOf(event.store), event.signature, now);
      case "saved":
        return this.#saved(this.#storeOf(event.store), event.id, event.isSaved);
      case "verified":
        for (const offer of this.#verifier.verdict(event.id, event.isGood)) {
          this.#judged(offer, event.isGood, now);
        }
        return;
      case "control":
        return this.#control(event.from, event.body, now);
      case "data":
        return this.#data(event.from, decodeData(event.body), event.body.length, now);
      case "broadcast":
        return this.#broadcast(event.body, now);
      case "neighbourUp":
        return this.#neighbourUp(event.peer, now);
      case "neighbourDown":
        this.#neighbours.delete(event.peer);
        return this.#peerGone(event.peer, now);
      case "undelivered":
        return this.#peerGone(event.peer, now);
      case "retire":
        return this.#storeOf(event.store).retire(event.publicKey, event.epoch);
      case "restore":
        return this.#storeOf(event.store).restore(event.publicKey, event.epoch);
      case "forget":
        return this.#storeOf(event.store).forget(event.publicKey, event.epoch);
      case "life":
        return this.#life(event.what, event.publicKey, event.epoch);
      case "resumed":
        return this.#resume(event.underWay, now);
      case "tick":
        if (now >= this.#signAgainAt) this.#cutAll();
        return;
    }
  }

  // ---- our own writes

  #createStore(
    { name, validate, saved, admission }: ReplicaEvent & { readonly type: "createStore" },
    now: number,
  ): void {
    if (this.#stores.has(name) && !this.#relayed.has(name)) {
      throw new ConflictError(`a replica named ${name} is open already`);
    }
    const bytes = name.isWellFormed() ? utf8Length(name) : 0;
    if (bytes < 1 || bytes > MAX_STORE_NAME_BYTES) {
      throw new BarrelError(
        "replica_limit",
        `a store's name has 1 to ${MAX_STORE_NAME_BYTES} bytes of UTF-8`,
      );
    }
    this.#checkRoom(name);
    const relayed = this.#stores.get(name);
    this.#relayed.delete(name);
    const { epoch } = this.#options;
    const publicKey = this.#publicKey;
    const author = { publicKey, epoch: saved?.epoch ?? epoch };
    const state = this.#newStore(name, author, validate, admission);
    if (saved !== undefined) this.#load(state, saved);
    // What we held for others while it was not open here.
    for (const { origin } of relayed?.heads() ?? []) {
      const delta = relayed?.deltaFrom(origin, NO_VERSION);
      if (delta !== undefined) this.#offerVerified(state, origin, delta, now);
    }
  }

  // @throws BarrelError `replica_limit`
  #checkRoom(name: string): void {
    const isOwn = kindOf(name) === "own";
    const open =
      [...this.#stores.keys()].filter((other) =>
        !this.#relayed.has(other) && (kindOf(other) === "own") === isOwn
      ).length;
    if (open < (isOwn ? MAX_OWN_STORES : MAX_OPEN_STORES)) return;
    throw new BarrelError(
      "replica_limit",
      isOwn
        ? `there are ${open} stores of nodes' own rows already`
        : `${open} maps and replicas are open on this node, and more cannot be until it is started ` +
          "again: keep the entries of several in one, under keys with a prefix",
    );
  }

  #load(state: StoreState, saved: Saved): void {
    const { name } = state;
    const { writes, damage, left } = loadSaved(state, saved, this.#publicKey);
    this.#saving.set(name, { under: undefined, isLifeSaved: saved.epoch !== undefined });
    if (damage !== undefined) this.#effects.push({ type: "damaged", store: name, damage });
    // Else what is bad would be among what comes in its place, for good.
    if (writes.length > 0) this.#save(name, writes, undefined);
    // An own life without its rows would be written a second time.
    if (saved.epoch !== undefined && state.signedRows.head === undefined) {
      // Nor may it be gone on with once it came back from others: they may not have all of it.
      if (this.#abandon(state)) this.#save(name, [savedLife(name, state.self.epoch)], undefined);
    }
    for (const { life, puts } of left) state.loadLeft(life, puts);
  }

  #newStore(
    name: string,
    author: { readonly publicKey: Bytes; readonly epoch: number },
    validate: Validate,
    admission: Admission = this.#options.admission ?? OPEN_TO_ALL,
  ): StoreState {
    const sink: StoreSink = {
      changed: (change) => this.#effects.push({ type: "change", store: name, change }),
      invalidRow: (reason) => this.#refuse(`invalid_row:${reason}`, name),
      moved: (origin, head, plan) => {
        // Most stores are kept in memory only.
        if (!this.#saving.has(name)) return;
        this.#save(name, savedMove(name, origin, head, plan), undefined);
      },
    };
    const { sha256 } = this.#options;
    const state = new StoreState(name, author, validate, sha256, sink, admission);
    this.#stores.set(name, state);
    if (state.kind === "live") {
      for (const life of this.#lives.values()) state.retire(life.publicKey, life.epoch);
    }
    return state;
  }

  // A store that others speak of: ours, or one that is held for them if it is of that kind.
  #storeFor(name: string): StoreState | undefined {
    const known = this.#stores.get(name);
    if (known !== undefined || kindOf(name) === "own" || name.length === 0) return known;
    if (this.#relayed.size >= MAX_RELAYED_STORES) {
      this.#refuse("too_many_relayed_stores", undefined);
      return undefined;
    }
    this.#relayed.add(name);
    const { epoch } = this.#options;
    return this.#newStore(name, { publicKey: this.#publicKey, epoch }, () => undefined);
  }

  #life(what: "retire" | "restore" | "forget", publicKey: Bytes, epoch: number): void {
    const key = `${String.fromCharCode(...publicKey)}/${epoch}`;
    this.#lives.delete(key);
    if (what === "retire") {
      const oldest = this.#lives.keys().next().value;
      if (this.#lives.size >= MAX_ORIGINS && oldest !== undefined) this.#lives.delete(oldest);
      this.#lives.set(key, { publicKey, epoch });
    }
    for (const store of this.#stores.values()) {
      if (store.kind === "live") store[what](publicKey, epoch);
    }
  }

  #rekey(publicKey: Bytes): void {
    this.#publicKey = publicKey;
    for (const store of this.#stores.values()) {
      // Shared rows are not replaced by what comes after them: this life goes on under its first key.
      if (store.kind !== "own") continue;
      this.#rekeyed.add(store);
      if (store.own.batch === undefined) this.#takeKey(store);
    }
  }

  #takeKey(store: StoreState): void {
    if (!this.#rekeyed.delete(store)) return;
    store.rekey(this.#publicKey);
    this.#published.delete(store.name);
    this.#cut(store);
  }

  #cutAll(): void {
    this.#signAgainAt = Infinity;
    for (const store of this.#stores.values()) this.#cut(store);
  }

  #cut(store: StoreState): void {
    if (this.#outdated.has(store.name)) return;
    const batch = store.own.cut(store.signedRows, this.#options.sha256);
    if (batch === undefined) return;
    const message = headMessage(store.name, batch.body);
    const { author } = batch.body;
    this.#effects.push({ type: "sign", store: store.name, author, message });
  }

  #signed(store: StoreState, signature: Bytes | undefined, now: number): void {
    if (this.#outdated.delete(store.name)) return this.#cut(store);
    if (signature === undefined) {
      store.own.settle(false);
      this.#takeKey(store);
      this.#signAgainAt = now + SIGN_AGAIN_MS;
      return;
    }
    const saving = this.#saving.get(store.name);
    const { batch } = store.own;
    if (saving === undefined || batch === undefined) return this.#commit(store, signature);
    const id = ++this.#lastSave;
    saving.under = { signature, id };
    const head: Head = { ...batch.body, signature };
    const writes = savedMove(store.name, store.self.origin, head, batch.plan);
    if (!saving.isLifeSaved) writes.push(savedLife(store.name, store.self.epoch));
    this.#save(store.name, writes, id);
  }

  // Rows stay; our own go on at the number after the last signed one. What is under way with others
  // begins anew, with a comparison with each neighbour.
  #resume(underWay: ReadonlySet<string>, now: number): void {
    // What was not asked for yet is asked for anew, so that no answer comes twice.
    this.#effects = this.#effects.filter((effect) =>
      effect.type !== "sign" && (effect.type !== "save" || effect.id === undefined)
    );
    for (const store of this.#stores.values()) {
      store.count();
      if (underWay.has(store.name)) continue;
      this.#outdated.delete(store.name);
      const saving = this.#saving.get(store.name);
      if (saving !== undefined) saving.under = undefined;
      store.own.settle(false);
      this.#takeKey(store);
    }
    this.#puller = this.#newPuller(this.#puller.lastRequest);
    this.#server = new PullServer(this.#context);
    this.#antiEntropy = this.#newAntiEntropy(now);
    this.#cutAll();
    for (const peer of this.#neighbours) this.#antiEntropy.neighbourUp(peer, now);
  }

  #save(store: string, writes: readonly PatientWrite[], id: number | undefined): void {
    if (this.#saving.has(store)) this.#effects.push({ type: "save", store, writes, id });
  }

  #saved(store: StoreState, id: number, isSaved: boolean): void {
    const saving = this.#saving.get(store.name);
    if (saving?.under?.id !== id) return;
    const { signature } = saving.under;
    saving.under = undefined;
    if (isSaved) {
      saving.isLifeSaved = true;
      return this.#commit(store, signature);
    }
    store.revert();
    this.#cut(store);
  }

  #commit(store: StoreState, signature: Bytes): void {
    const delta = store.signed(signature);
    if (delta !== undefined && this.#neighbours.size > 0) this.#publish(store, delta);
    this.#takeKey(store);
    this.#cut(store);
  }

  #publish(store: StoreState, delta: Delta): void {
    const [body, ...more] = encodeDelta(store.name, delta);
    this.#published.set(store.name, delta.head.seq);
    if (body === undefined || more.length > 0 || body.length > MAX_PUBLISH_BYTES) return;
    this.#effects.push({ type: "publish", body });
  }

  #neighbourUp(peer: NodeName, now: number): void {
    const wasAlone = this.#neighbours.size === 0;
    this.#neighbours.add(peer);
    this.#antiEntropy.neighbourUp(peer, now);
    if (!wasAlone) return;
    // What was written while there was nobody to tell.
    for (const store of this.#stores.values()) {
      const { head } = store.signedRows;
      const published = this.#published.get(store.name);
      if (head === undefined || published === head.seq) continue;
      const delta = store.signedRows.deltaFrom({ epoch: head.epoch, seq: published ?? 0 });
      if (delta !== undefined) this.#publish(store, delta);
    }
  }

  // ---- what others say

  #control(from: NodeName, body: Bytes, now: number): void {
    const message = decodeControl(body);
    if (message.type === "pull") this.#server.onPull(from, message, now);
    else this.#antiEntropy.onMessage(from, message, now);
  }

  #data(from: NodeName, message: DataMessage, bytes: number, now: number): void {
    if (message.type === "done") {
      return this.#puller.onDone(from, message.request, message.isPartial, now);
    }
    const delta = message.type === "delta"
      ? this.#puller.onDelta(from, message, bytes, now)
      : this.#puller.onMore(from, message, bytes, now);
    const store = this.#stores.get(message.store);
    if (delta !== undefined && store !== undefined) this.#offer(store, delta, from, now);
  }

  #broadcast(body: Bytes, now: number): void {
    let message: DataMessage;
    try {
      message = decodeData(body);
    } catch (error) {
      // Whoever relayed it could not know: that is the author's fault.
      if (!(error instanceof ProtocolError)) throw error;
      return this.#refuse(error.reason, undefined);
    }
    if (message.type !== "delta" || message.hasMore) {
      return this.#refuse("bad_broadcast", undefined);
    }
    const store = this.#storeFor(message.store);
    if (store !== undefined) this.#offer(store, message.delta, undefined, now);
  }

  #offer(store: StoreState, delta: Delta, from: NodeName | undefined, now: number): void {
    const origin = store.originOf(delta.head.author, delta.head.epoch);
    const offer: Offer = { store, origin, delta, from };
    const isImpostor = store.isImpostor(delta.head);
    if (!isImpostor && !store.isNews(origin, delta.head)) {
      if (from !== undefined) this.#puller.resolved(store.name, origin, from);
      return;
    }
    const verdict = this.#verifier.judge(store.name, delta.head, offer, deltaBytes(delta));
    if (typeof verdict === "boolean") this.#judged(offer, verdict, now);
    else if (typeof verdict === "object") this.#effects.push({ type: "verify", ...verdict });
    else if (verdict === "full") {
      this.#refuse("verify_backlog", store.name);
      if (from !== undefined) this.#puller.resolved(store.name, origin, from);
    }
  }

  #judged({ store, origin, delta, from }: Offer, isGood: boolean, now: number): void {
    if (!isGood) {
      this.#refuse("bad_signature", store.name);
      if (from === undefined) return;
      this.#puller.failed(store.name, origin, from, now);
      return this.#antiEntropy.shun(from, now);
    }
    // It waited for its verdict while the store was opened here.
    const opened = this.#stores.get(store.name) ?? store;
    if (opened !== store) return this.#judged({ store: opened, origin, delta, from }, isGood, now);
    const isImpostor = store.isImpostor(delta.head);
    if (isImpostor && this.#abandon(store)) {
      this.#effects.push({ type: "outdated", store: store.name });
    } else if (isImpostor) {
      if (from !== undefined) this.#puller.resolved(store.name, origin, from);
      this.#effects.push({ type: "impostor", store: store.name, epoch: delta.head.epoch });
      return;
    }
    let outcomes: Outcome[];
    if (this.#relayed.has(store.name) && this.#relayedBytes() > MAX_RELAYED_BYTES) {
      outcomes = [{ type: "refused", reason: "too_many_bytes" }];
    } else outcomes = store.apply(origin, delta);
    const [first, ...later] = outcomes;
    if (from === undefined) this.#outcome(store, origin, first as Outcome, now);
    else this.#pulled(store, origin, first as Outcome, from, now);
    for (const outcome of later) this.#outcome(store, origin, outcome, now);
  }

  #pulled(
    store: StoreState,
    origin: OriginId,
    outcome: Outcome,
    from: NodeName,
    now: number,
  ): void {
    if (outcome.type === "gap" || outcome.type === "refused") {
      // A gap is a lie too: we said what we have.
      this.#refuse(outcome.type === "gap" ? "not_what_was_asked" : outcome.reason, store.name);
      return this.#puller.failed(store.name, origin, from, now);
    }
    const isDiscovery = this.#puller.resolved(store.name, origin, from);
    if (outcome.type === "stale") return;
    this.#effects.push({ type: "applied", store: store.name, via: "pull" });
    if (isDiscovery) this.#antiEntropy.learned(from, now);
  }

  #outcome(store: StoreState, origin: OriginId, outcome: Outcome, now: number): void {
    switch (outcome.type) {
      case "applied":
        this.#effects.push({ type: "applied", store: store.name, via: "broadcast" });
        return this.#puller.satisfied(store.name, origin);
      case "gap":
        // News overtake each other where the tree changes: that is nobody's fault.
        if (!outcome.isKept) this.#effects.push({ type: "overtook", store: store.name });
        return this.#puller.want(
          store.name,
          origin,
          { isProven: true, notBefore: now + GAP_MS },
          now,
        );
      case "refused":
        this.#refuse(outcome.reason, store.name);
        return this.#puller.want(store.name, origin, { isProven: true, isFull: true }, now);
      case "stale":
        return;
    }
  }

  #offerVerified(store: StoreState, origin: OriginId, delta: Delta, now: number): void {
    if (!store.isImpostor(delta.head) && !store.isNews(origin, delta.head)) return;
    this.#judged({ store, origin, delta, from: undefined }, true, now);
  }

  // Shared rows can go on under a new life of ours; whether there is one.
  #abandon(store: StoreState): boolean {
    const { epoch } = this.#options;
    if (store.kind === "own" || store.self.epoch === epoch) return false;
    const saving = this.#saving.get(store.name);
    if (store.own.batch !== undefined && saving?.under === undefined) {
      this.#outdated.add(store.name);
    }
    if (saving?.under !== undefined) this.#undo(store);
    store.abandon(epoch);
    if (saving !== undefined) {
      saving.under = undefined;
      saving.isLifeSaved = false;
    }
    this.#cut(store);
    return true;
  }

  // The disk may take the batch that it has been given; what it is to have of us is without it.
  #undo(store: StoreState): void {
    const { head } = store.signedRows;
    const plan = store.own.batch?.plan;
    if (head === undefined || plan === undefined) return;
    const rows = { gone: [...plan.added, ...plan.gone], added: plan.gone };
    this.#save(store.name, savedMove(store.name, store.self.origin, head, rows), undefined);
  }

  #relayedBytes(): number {
    let bytes = 0;
    for (const name of this.#relayed) bytes += this.#stores.get(name)?.bytes ?? 0;
    return bytes;
  }

  // ---- small things

  #peerGone(peer: NodeName, now: number): void {
    this.#puller.peerGone(peer, now);
    this.#server.peerGone(peer);
    this.#antiEntropy.peerGone(peer);
  }

  #refuse(reason: string, store: string | undefined): void {
    this.#effects.push({ type: "refused", reason, store });
  }

  #storeOf(name: string): StoreState {
    const store = this.#stores.get(name);
    if (store === undefined) throw new Error(`there is no store named ${name}`);
    return store;
  }
}
