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
import { utf8 } from "../base/bytes.ts";
import { BarrelError, ConflictError, ProtocolError } from "../base/errors.ts";
import type { Random } from "../base/random.ts";
import type { NodeName } from "../wire/node_name.ts";
import { AntiEntropy } from "./anti_entropy.ts";
import { headMessage, originOf } from "./head.ts";
import type { OriginId } from "./head.ts";
import { MAX_STORE_NAME_BYTES, MAX_STORES } from "./limits.ts";
import { decodeControl, decodeData, encodeControl, encodeDelta } from "./messages.ts";
import type { DataMessage } from "./messages.ts";
import { deltaBytes } from "./origin_rows.ts";
import type { Delta } from "./origin_rows.ts";
import { PullServer } from "./pull_server.ts";
import { Puller } from "./puller.ts";
import type { Sha256 } from "./set_hash.ts";
import { StoreState } from "./store_state.ts";
import type { Change, Outcome, Validate } from "./store_state.ts";
import type { SyncContext } from "./sync_context.ts";
import { Verifier } from "./verifier.ts";
import type { VerifyJob } from "./verifier.ts";

/** What happens to a replica. */
export type ReplicaEvent =
  | { readonly type: "createStore"; readonly name: string; readonly validate: Validate }
  | { readonly type: "put"; readonly store: string; readonly key: string; readonly value: Bytes }
  | { readonly type: "remove"; readonly store: string; readonly key: string }
  /** The turn in which something was written is over. */
  | { readonly type: "turnEnded" }
  /** The answer to a `sign` effect; undefined when it failed. */
  | { readonly type: "signed"; readonly store: string; readonly signature: Bytes | undefined }
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
  | { readonly type: "tick" };

/** What a replica wants done. */
export type ReplicaEffect =
  | { readonly type: "sendControl"; readonly to: NodeName; readonly body: Bytes }
  | { readonly type: "sendData"; readonly to: NodeName; readonly body: Bytes }
  | { readonly type: "publish"; readonly body: Bytes }
  | { readonly type: "sign"; readonly store: string; readonly message: Bytes }
  | ({ readonly type: "verify" } & VerifyJob)
  | { readonly type: "change"; readonly store: string; readonly change: Change }
  | { readonly type: "applied"; readonly store: string; readonly via: "broadcast" | "pull" }
  /** A peer, or an author, broke a rule. */
  | { readonly type: "refused"; readonly reason: string; readonly store: string | undefined }
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
}

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

/** The machine. */
export class Replica {
  readonly #options: ReplicaOptions;
  readonly #stores = new Map<string, StoreState>();
  readonly #neighbours = new Set<NodeName>();
  readonly #verifier = new Verifier<Offer>();
  readonly #puller: Puller;
  readonly #server: PullServer;
  readonly #antiEntropy: AntiEntropy;
  /** Our last head in a store that was published. */
  readonly #published = new Map<string, number>();
  #signAgainAt = Infinity;
  #effects: ReplicaEffect[] = [];

  constructor(options: ReplicaOptions, now: number) {
    const { self, random, sha256, intervalMs } = options;
    this.#options = options;
    const context: SyncContext = {
      self,
      random,
      stores: this.#stores,
      neighbours: this.#neighbours,
      sendControl: (to, message) =>
        this.#effects.push({ type: "sendControl", to, body: encodeControl(message) }),
      sendData: (to, body) => this.#effects.push({ type: "sendData", to, body }),
      refuse: (reason, store) => this.#refuse(reason, store),
    };
    this.#puller = new Puller(context, (author) => originOf(author, sha256));
    this.#server = new PullServer(context);
    this.#antiEntropy = new AntiEntropy(context, this.#puller, sha256, intervalMs, now);
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
        return this.#createStore(event.name, event.validate);
      case "put":
        return this.#storeOf(event.store).put(event.key, event.value);
      case "remove":
        return void this.#storeOf(event.store).remove(event.key);
      case "turnEnded":
        return this.#cutAll();
      case "signed":
        return this.#signed(this.#storeOf(event.store), event.signature, now);
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
      case "tick":
        if (now >= this.#signAgainAt) this.#cutAll();
        return;
    }
  }

  // ---- our own writes

  #createStore(name: string, validate: Validate): void {
    if (this.#stores.has(name)) throw new ConflictError(`there is a store named ${name} already`);
    const bytes = name.isWellFormed() ? utf8(name).length : 0;
    if (bytes < 1 || bytes > MAX_STORE_NAME_BYTES) {
      throw new BarrelError(
        "replica_limit",
        `a store's name has 1 to ${MAX_STORE_NAME_BYTES} bytes of UTF-8`,
      );
    }
    if (this.#stores.size >= MAX_STORES) {
      throw new BarrelError("replica_limit", `there are ${MAX_STORES} stores already`);
    }
    const state = new StoreState(name, this.#options, validate, this.#options.sha256, {
      changed: (change) => this.#effects.push({ type: "change", store: name, change }),
      invalidRow: (reason) => this.#refuse(`invalid_row:${reason}`, name),
    });
    this.#stores.set(name, state);
  }

  #cutAll(): void {
    this.#signAgainAt = Infinity;
    for (const store of this.#stores.values()) this.#cut(store);
  }

  #cut(store: StoreState): void {
    const batch = store.own.cut(store.signedRows, this.#options.sha256);
    if (batch === undefined) return;
    const message = headMessage(store.name, batch.body);
    this.#effects.push({ type: "sign", store: store.name, message });
  }

  #signed(store: StoreState, signature: Bytes | undefined, now: number): void {
    if (signature === undefined) {
      store.own.settle(false);
      this.#signAgainAt = now + SIGN_AGAIN_MS;
      return;
    }
    const delta = store.signed(signature);
    if (delta !== undefined && this.#neighbours.size > 0) this.#publish(store, delta);
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
    const store = this.#stores.get(message.store);
    if (store !== undefined) this.#offer(store, message.delta, undefined, now);
  }

  #offer(store: StoreState, delta: Delta, from: NodeName | undefined, now: number): void {
    const origin = originOf(delta.head.author, this.#options.sha256);
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
    if (store.isImpostor(delta.head)) {
      this.#effects.push({ type: "impostor", store: store.name, epoch: delta.head.epoch });
      return;
    }
    const [first, ...later] = store.apply(origin, delta);
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
        if (!outcome.isKept) this.#refuse("gap_overflow", store.name);
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
