/**
 * Finds a service that this node does not know (yet), as a pure machine. The query floods the
 * overlay in growing rings; whoever knows names the node, back along the way; that node is asked
 * itself, so nobody can lead us to a process of another node's choosing.
 */
import type { Random } from "../base/random.ts";
import type { NodeName } from "../wire/node_name.ts";
import { MAX_TTL, QUERY_ID_BYTES } from "./router_messages.ts";
import type { RouterMessage } from "./router_messages.ts";

/** Who sent a frame: its name and the life it is in. */
export interface RouterPeer {
  readonly name: NodeName;
  readonly epoch: number;
}

/** What happens to a router. */
export type RouterEvent =
  /** Search for a name; `retries` more rings after the first. */
  | { readonly type: "search"; readonly name: string; readonly retries: number }
  /** Nobody wants the answer any more. */
  | { readonly type: "cancel"; readonly name: string }
  | { readonly type: "message"; readonly from: RouterPeer; readonly message: RouterMessage }
  | { readonly type: "undelivered"; readonly peer: NodeName }
  | { readonly type: "tick" };

/** What a router wants done. */
export type RouterEffect =
  | { readonly type: "send"; readonly to: NodeName; readonly message: RouterMessage }
  | {
    readonly type: "found";
    readonly name: string;
    readonly node: NodeName;
    readonly epoch: number;
    readonly process: number;
  }
  | { readonly type: "missing"; readonly name: string }
  | { readonly type: "refused"; readonly reason: string };

/** What a router is made of. */
export interface RouterOptions {
  readonly self: NodeName;
  readonly random: Random;
  readonly neighbours: () => readonly NodeName[];
  /** The number of a process of this node that has the name. */
  readonly localProcess: (name: string) => number | undefined;
  /** Nodes that are known to have the name. */
  readonly knownNodes: (name: string) => readonly NodeName[];
}

/** Searches of our own at once, and queries that one peer has under way through us. */
export const MAX_IN_FLIGHT = 256;
/** Queries of others under way through us. */
const MAX_RELAYED = 4096;
/** How long a query of others is remembered, in milliseconds. */
const RELAY_MS = 5_000;
/** How long the first ring has to answer; doubled with each. */
const RING_MS = 300;
const MAX_RING_MS = 2_000;
/** How long a node that is named has to answer, dialling included. */
const ASK_MS = 2_000;
/** Nodes that one search asks. */
const MAX_ASKED = 32;
/**
 * Nodes that one query carries back, and that a ring of a search asks because of one neighbour: who
 * makes names up must leave room for what others know.
 */
const MAX_FOUND = 3;
/** Of those that a query carries back, because of one neighbour. */
const MAX_FOUND_EACH = 2;

interface Search {
  readonly name: string;
  retries: number;
  ring: number;
  id: string;
  deadline: number;
  readonly asked: Set<NodeName>;
  /** How many of these each neighbour named to this ring. */
  readonly namedBy: Map<NodeName, number>;
}

interface Relayed {
  readonly from: NodeName;
  readonly until: number;
  /** Nodes that were named back, by the neighbour that named each. */
  readonly found: NodeName[];
}

/** The machine. */
export class Router {
  readonly #options: RouterOptions;
  readonly #searches = new Map<string, Search>();
  readonly #byId = new Map<string, Search>();
  readonly #asks = new Map<number, { readonly search: Search; readonly node: NodeName }>();
  // In the order of their end.
  readonly #relayed = new Map<string, Relayed>();
  readonly #relayedFor = new Map<NodeName, number>();
  #lastRequest = 0;
  #effects: RouterEffect[] = [];

  constructor(options: RouterOptions) {
    this.#options = options;
  }

  /** Searches under way. */
  get inFlight(): number {
    return this.#searches.size;
  }

  /** When `tick` is wanted next. */
  wakeAt(): number {
    let at = Infinity;
    for (const { deadline } of this.#searches.values()) at = Math.min(at, deadline);
    const first = this.#relayed.values().next().value;
    return Math.min(at, first?.until ?? Infinity);
  }

  /** Takes one event. */
  handle(event: RouterEvent, now: number): RouterEffect[] {
    this.#take(event, now);
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #take(event: RouterEvent, now: number): void {
    switch (event.type) {
      case "search":
        return this.#search(event.name, event.retries, now);
      case "cancel": {
        const search = this.#searches.get(event.name);
        if (search !== undefined) this.#end(search);
        return;
      }
      case "message":
        return this.#message(event.from, event.message, now);
      case "undelivered":
        for (const [request, { node }] of this.#asks) {
          if (node === event.peer) this.#asks.delete(request);
        }
        return;
      case "tick":
        return this.#tick(now);
    }
  }

  #search(name: string, retries: number, now: number): void {
    const known = this.#searches.get(name);
    if (known !== undefined) {
      known.retries = Math.max(known.retries, retries);
      return;
    }
    const search: Search = {
      name,
      retries,
      ring: 0,
      id: "",
      deadline: now,
      asked: new Set(),
      namedBy: new Map(),
    };
    this.#searches.set(name, search);
    this.#sendRing(search, now);
  }

  #sendRing(search: Search, now: number): void {
    const neighbours = this.#options.neighbours();
    if (neighbours.length === 0) return this.#missing(search);
    const id = this.#options.random.bytes(QUERY_ID_BYTES);
    this.#byId.delete(search.id);
    search.id = keyOf(id);
    this.#byId.set(search.id, search);
    search.namedBy.clear();
    search.deadline = now + Math.min(MAX_RING_MS, RING_MS * 2 ** search.ring);
    const ttl = Math.min(MAX_TTL, 2 ** search.ring);
    for (const to of neighbours) this.#send(to, { type: "query", id, ttl, name: search.name });
  }

  #message(from: RouterPeer, message: RouterMessage, now: number): void {
    switch (message.type) {
      case "query":
        return this.#query(from.name, message, now);
      case "found":
        return this.#found(from.name, message, now);
      case "ask": {
        const process = this.#options.localProcess(message.name) ?? 0;
        return this.#send(from.name, { type: "answer", request: message.request, process });
      }
      case "answer":
        return this.#answer(from, message.request, message.process);
    }
  }

  #query(from: NodeName, query: RouterMessage & { type: "query" }, now: number): void {
    const key = keyOf(query.id);
    if (this.#relayed.has(key) || this.#byId.has(key)) return;
    const underWay = this.#relayedFor.get(from) ?? 0;
    if (underWay >= MAX_IN_FLIGHT || this.#relayed.size >= MAX_RELAYED) {
      this.#effects.push({ type: "refused", reason: "too_many_queries" });
      return;
    }
    this.#relayed.set(key, { from, until: now + RELAY_MS, found: [] });
    this.#relayedFor.set(from, underWay + 1);
    const nodes = this.#options.localProcess(query.name) !== undefined
      ? [this.#options.self]
      : this.#options.knownNodes(query.name).slice(0, MAX_FOUND);
    for (const node of nodes) this.#send(from, { type: "found", id: query.id, node });
    if (nodes.length > 0 || query.ttl === 1) return;
    const ttl = query.ttl - 1;
    for (const to of this.#options.neighbours()) {
      if (to !== from) this.#send(to, { ...query, ttl });
    }
  }

  #found(from: NodeName, message: RouterMessage & { type: "found" }, now: number): void {
    const search = this.#byId.get(keyOf(message.id));
    if (search === undefined) {
      const relayed = this.#relayed.get(keyOf(message.id));
      if (relayed === undefined || relayed.found.length >= MAX_FOUND) return;
      if (relayed.found.filter((by) => by === from).length >= MAX_FOUND_EACH) return;
      relayed.found.push(from);
      return this.#send(relayed.from, message);
    }
    const { node } = message;
    const { asked } = search;
    if (node === this.#options.self || asked.has(node) || asked.size >= MAX_ASKED) return;
    const named = search.namedBy.get(from) ?? 0;
    if (named >= MAX_FOUND) return;
    search.namedBy.set(from, named + 1);
    asked.add(node);
    const request = ++this.#lastRequest;
    this.#asks.set(request, { search, node });
    search.deadline = Math.max(search.deadline, now + ASK_MS);
    this.#send(node, { type: "ask", request, name: search.name });
  }

  #answer(from: RouterPeer, request: number, process: number): void {
    const ask = this.#asks.get(request);
    if (ask?.node !== from.name) return;
    this.#asks.delete(request);
    if (process === 0) return;
    const { name } = ask.search;
    this.#end(ask.search);
    this.#effects.push({ type: "found", name, node: from.name, epoch: from.epoch, process });
  }

  #tick(now: number): void {
    for (const search of [...this.#searches.values()]) {
      if (search.deadline > now) continue;
      if (search.ring >= search.retries) this.#missing(search);
      else {
        search.ring++;
        this.#sendRing(search, now);
      }
    }
    for (const [key, { from, until }] of this.#relayed) {
      if (until > now) break;
      this.#relayed.delete(key);
      const left = (this.#relayedFor.get(from) ?? 1) - 1;
      if (left === 0) this.#relayedFor.delete(from);
      else this.#relayedFor.set(from, left);
    }
  }

  #missing(search: Search): void {
    this.#end(search);
    this.#effects.push({ type: "missing", name: search.name });
  }

  #end(search: Search): void {
    this.#searches.delete(search.name);
    this.#byId.delete(search.id);
    for (const [request, ask] of this.#asks) {
      if (ask.search === search) this.#asks.delete(request);
    }
  }

  #send(to: NodeName, message: RouterMessage): void {
    this.#effects.push({ type: "send", to, message });
  }
}

function keyOf(id: Uint8Array): string {
  return String.fromCharCode(...id);
}
