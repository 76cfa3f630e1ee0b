/**
 * Fetches what we lack. Each origin is fetched from one peer at a time, and each peer has one
 * request of ours to answer at a time. Whoever answers with rows that do not add up to the author's
 * head is passed over for another, who is asked for the origin in full.
 */
import { equalBytes } from "../base/bytes.ts";
import { pick } from "../base/random.ts";
import { NO_VERSION } from "../crdt/version_vector.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { OriginId } from "./head.ts";
import { MAX_ORIGIN_BYTES, MAX_ORIGINS, MAX_PULL, MAX_ROWS_PER_ORIGIN } from "./limits.ts";
import type { DeltaMessage, MoreMessage } from "./messages.ts";
import { rowBytes } from "./origin_rows.ts";
import type { Delta, Put } from "./origin_rows.ts";
import type { SyncContext } from "./sync_context.ts";

/** How long a peer may stay silent over a request, in milliseconds. */
const ANSWER_MS = 5_000;
/** An answer that has taken longer than this must have come at {@link LEAST_BYTES_PER_MS}. */
const GRACE_MS = 10_000;
const LEAST_BYTES_PER_MS = 64;
/** More than the largest honest answer: further bytes earn no further time. */
const MAX_ANSWER_BYTES = 2 * MAX_ORIGIN_BYTES;
/** Origins wanted in all. */
const MAX_WANTS = 8 * MAX_ORIGINS;
/** Wait before an origin that nobody could give us whole is wanted again; doubled each time. */
const DISTRUST_MS = 10_000;
const MAX_DISTRUST_MS = 300_000;
/** Further peers that are remembered to have an origin. */
const MAX_OTHERS = 8;

/** Why and how an origin is wanted. */
export interface WantOptions {
  /** Who says to have it; otherwise a random neighbour is asked. */
  readonly peer?: NodeName;
  /** A verified head says that there is more: ask others when one does not have it. */
  readonly isProven?: boolean;
  /** What we have is of no use: ask for all of it. */
  readonly isFull?: boolean;
  /** Not before this time, since it may be on its way. */
  readonly notBefore?: number;
}

/** The origin of a life in a store. */
type OriginIn = (store: string, author: Uint8Array, epoch: number) => OriginId;

interface Want {
  readonly store: string;
  readonly origin: OriginId;
  isProven: boolean;
  isFull: boolean;
  readonly tried: Set<NodeName>;
  /** Others who said to have it. */
  readonly others: Set<NodeName>;
  /** When it is to be given to a peer; Infinity once it is. */
  notBefore: number;
}

interface Staging {
  readonly store: string;
  readonly first: Delta;
  readonly puts: Put[];
  bytes: number;
  index: number;
}

interface Request {
  readonly id: number;
  readonly store: string;
  readonly items: Map<OriginId, Want>;
  readonly startedAt: number;
  bytes: number;
  deadline: number;
  staging: Staging | undefined;
}

interface PeerState {
  readonly queue: Set<Want>;
  request: Request | undefined;
  /** Deltas that came and whose fate is open. */
  judging: number;
}

/** The wants of all stores. */
export class Puller {
  readonly #context: SyncContext;
  readonly #originOf: OriginIn;
  readonly #wants = new Map<string, Want>();
  /** Those of the wants that no peer has been given yet. */
  readonly #waiting = new Set<Want>();
  readonly #peers = new Map<NodeName, PeerState>();
  readonly #distrusted = new Map<string, { failures: number; until: number }>();
  #lastRequest: number;

  /** `lastRequest`: that of the puller before, whose answers may yet come. */
  constructor(context: SyncContext, originOf: OriginIn, lastRequest: number = 0) {
    this.#context = context;
    this.#originOf = originOf;
    this.#lastRequest = lastRequest;
  }

  /** The number of the last request. */
  get lastRequest(): number {
    return this.#lastRequest;
  }

  /** Whether nothing is asked of a peer, or to be asked. */
  isIdle(peer: NodeName): boolean {
    const state = this.#peers.get(peer);
    return state === undefined || isIdle(state);
  }

  /** When `tick` has something to do. */
  wakeAt(): number {
    let at = Infinity;
    for (const { request } of this.#peers.values()) {
      if (request !== undefined) at = Math.min(at, request.deadline);
    }
    for (const want of this.#waiting) at = Math.min(at, want.notBefore);
    return at;
  }

  /** Notes that an origin is to be fetched, unless it is being fetched already. */
  want(store: string, origin: OriginId, options: WantOptions, now: number): void {
    const key = keyOf(store, origin);
    if ((this.#distrusted.get(key)?.until ?? 0) > now) return;
    const known = this.#wants.get(key);
    if (known !== undefined) {
      known.isProven ||= options.isProven === true;
      if (options.peer !== undefined && known.others.size < MAX_OTHERS) {
        known.others.add(options.peer);
      }
      return;
    }
    const queued = options.peer === undefined ? 0 : this.#peers.get(options.peer)?.queue.size ?? 0;
    if (this.#wants.size >= MAX_WANTS || queued >= MAX_ORIGINS) {
      return this.#context.refuse("too_many_wants", store);
    }
    const want: Want = {
      store,
      origin,
      isProven: options.isProven === true,
      isFull: options.isFull === true,
      tried: new Set(),
      others: new Set(),
      notBefore: options.notBefore ?? now,
    };
    this.#wants.set(key, want);
    if (options.peer !== undefined) this.#assign(want, options.peer);
    else this.#waiting.add(want);
  }

  /** Sends what can be sent, gives up on the silent. Call after any other method. */
  tick(now: number): NodeName[] {
    const silent: NodeName[] = [];
    for (const [peer, { request }] of this.#peers) {
      if (request !== undefined && request.deadline <= now) silent.push(peer);
    }
    for (const peer of silent) {
      this.#context.refuse("unanswered_pull");
      this.peerGone(peer, now);
    }
    for (const want of [...this.#waiting]) {
      if (want.notBefore <= now) this.#assignAny(want, now);
    }
    for (const [peer, state] of this.#peers) {
      if (state.request === undefined && state.queue.size > 0) this.#ask(peer, state, now);
      if (isIdle(state)) this.#peers.delete(peer);
    }
    return silent;
  }

  /** A peer that cannot or will not answer: others may. */
  peerGone(peer: NodeName, now: number): void {
    const state = this.#peers.get(peer);
    if (state === undefined) return;
    this.#peers.delete(peer);
    const lost = [...state.queue, ...state.request?.items.values() ?? []];
    for (const want of lost) this.#miss(want, peer, now);
  }

  /** A DELTA of `bytes` from a peer; returns it once it is whole, and asked for. */
  onDelta(from: NodeName, message: DeltaMessage, bytes: number, now: number): Delta | undefined {
    const { store, delta, hasMore } = message;
    const origin = this.#originOf(store, delta.head.author, delta.head.epoch);
    const state = this.#peers.get(from);
    const request = state?.request;
    if (state === undefined || request?.store !== store || !request.items.has(origin)) {
      this.#context.refuse("unasked", store);
      return undefined;
    }
    this.#progress(request, bytes, now);
    if (!hasMore) {
      request.staging = undefined;
      request.items.delete(origin);
      state.judging++;
      return delta;
    }
    request.staging = { store, first: delta, puts: [...delta.puts], bytes: 0, index: 0 };
    return undefined;
  }

  /** A MORE from a peer; returns the delta once it is whole. */
  onMore(from: NodeName, message: MoreMessage, bytes: number, now: number): Delta | undefined {
    const state = this.#peers.get(from);
    const request = state?.request;
    const staging = request?.staging;
    if (
      state === undefined || request === undefined || staging === undefined ||
      !continues(staging, message)
    ) {
      this.#context.refuse("unasked", message.store);
      return undefined;
    }
    this.#progress(request, bytes, now);
    for (const put of message.puts) {
      staging.puts.push(put);
      staging.bytes += rowBytes(put.key, put.value);
    }
    staging.index++;
    if (staging.puts.length > MAX_ROWS_PER_ORIGIN || staging.bytes > MAX_ORIGIN_BYTES) {
      request.staging = undefined;
      this.#context.refuse("too_many_rows", message.store);
      return undefined;
    }
    if (message.hasMore) return undefined;
    request.staging = undefined;
    request.items.delete(this.#originOf(staging.store, message.author, message.to.epoch));
    state.judging++;
    return { ...staging.first, puts: staging.puts };
  }

  /** The end of a peer's answer. */
  onDone(from: NodeName, requestId: number, isPartial: boolean, now: number): void {
    const state = this.#peers.get(from);
    const request = state?.request;
    if (state === undefined || request?.id !== requestId) return;
    state.request = undefined;
    const goesOn = isPartial && request.bytes > 0;
    for (const want of request.items.values()) {
      if (goesOn) state.queue.add(want);
      else this.#miss(want, from, now);
    }
  }

  /** The delta that a peer gave us is good. Returns whether no broadcast told us of it. */
  resolved(store: string, origin: OriginId, from: NodeName): boolean {
    this.#judged(from);
    const key = keyOf(store, origin);
    const want = this.#wants.get(key);
    this.#distrusted.delete(key);
    if (want !== undefined) this.#drop(want);
    return want?.isProven === false;
  }

  /** The delta that a peer gave us does not add up: another is asked for the whole origin. */
  failed(store: string, origin: OriginId, from: NodeName, now: number): void {
    this.#judged(from);
    const want = this.#wants.get(keyOf(store, origin));
    if (want === undefined) return;
    want.isFull = true;
    this.#miss(want, from, now);
  }

  /** We got it by other ways. */
  satisfied(store: string, origin: OriginId): void {
    const want = this.#wants.get(keyOf(store, origin));
    // One that was given to a peer is settled by that peer's answer.
    if (want !== undefined && this.#waiting.has(want)) this.#drop(want);
  }

  #judged(from: NodeName): void {
    const state = this.#peers.get(from);
    if (state !== undefined && state.judging > 0) state.judging--;
  }

  #miss(want: Want, peer: NodeName, now: number): void {
    want.tried.add(peer);
    for (const other of want.others) {
      if (!want.tried.has(other)) return this.#assign(want, other);
    }
    if (want.isProven || want.isFull) this.#assignAny(want, now);
    else this.#drop(want);
  }

  #assignAny(want: Want, now: number): void {
    const untried = [...this.#context.neighbours].filter((peer) => !want.tried.has(peer));
    const peer = pick(this.#context.random, untried);
    if (peer !== undefined) return this.#assign(want, peer);
    this.#drop(want);
    if (want.isFull) this.#distrust(want, now);
  }

  #assign(want: Want, peer: NodeName): void {
    this.#waiting.delete(want);
    want.notBefore = Infinity;
    const state = this.#peers.get(peer) ??
      { queue: new Set(), request: undefined, judging: 0 };
    this.#peers.set(peer, state);
    state.queue.add(want);
  }

  #drop(want: Want): void {
    this.#wants.delete(keyOf(want.store, want.origin));
    this.#waiting.delete(want);
  }

  #distrust(want: Want, now: number): void {
    const key = keyOf(want.store, want.origin);
    const failures = (this.#distrusted.get(key)?.failures ?? 0) + 1;
    this.#distrusted.delete(key);
    const oldest = this.#distrusted.keys().next().value;
    if (this.#distrusted.size >= MAX_ORIGINS && oldest !== undefined) {
      this.#distrusted.delete(oldest);
    }
    const until = now + Math.min(MAX_DISTRUST_MS, DISTRUST_MS * 2 ** (failures - 1));
    this.#distrusted.set(key, { failures, until });
  }

  #ask(peer: NodeName, state: PeerState, now: number): void {
    const items = new Map<OriginId, Want>();
    let name: string | undefined;
    for (const want of state.queue) {
      name ??= want.store;
      if (want.store !== name || items.size === MAX_PULL) continue;
      state.queue.delete(want);
      items.set(want.origin, want);
    }
    const store = name === undefined ? undefined : this.#context.stores.get(name);
    if (store === undefined) return;
    const id = ++this.#lastRequest;
    state.request = {
      id,
      store: store.name,
      items,
      startedAt: now,
      bytes: 0,
      deadline: now + ANSWER_MS,
      staging: undefined,
    };
    this.#context.sendControl(peer, {
      type: "pull",
      store: store.name,
      request: id,
      items: [...items.values()].map(({ origin, isFull }) => (
        { origin, version: isFull ? NO_VERSION : store.version(origin) }
      )),
    });
  }

  #progress(request: Request, bytes: number, now: number): void {
    request.bytes += bytes;
    const earnedMs = Math.min(request.bytes, MAX_ANSWER_BYTES) / LEAST_BYTES_PER_MS;
    const slowest = request.startedAt + GRACE_MS + earnedMs;
    request.deadline = Math.min(now + ANSWER_MS, slowest);
  }
}

function isIdle(state: PeerState): boolean {
  return state.request === undefined && state.queue.size === 0 && state.judging === 0;
}

function continues(staging: Staging, message: MoreMessage): boolean {
  const { head } = staging.first;
  return message.store === staging.store && message.index === staging.index + 1 &&
    message.to.epoch === head.epoch && message.to.seq === head.seq &&
    equalBytes(message.author, head.author) &&
    // Rows stay in order across parts.
    (message.puts[0]?.seq ?? Infinity) > (staging.puts[staging.puts.length - 1]?.seq ?? 0);
}

function keyOf(store: string, origin: OriginId): string {
  return origin + store;
}
