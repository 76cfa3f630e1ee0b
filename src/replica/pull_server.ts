/**
 * Answers the PULLs of others. A few bytes of request can be worth megabytes of answer, so each
 * peer has an allowance; a request beyond it waits, and one peer has one request waiting.
 */
import type { NodeName } from "../wire/node_name.ts";
import { encodeDelta, encodeDone } from "./messages.ts";
import type { PullItem } from "./messages.ts";
import type { SyncContext } from "./sync_context.ts";

/** One answer stops after this many bytes and the origin under way. */
const ANSWER_BYTES = 1 << 20;
/** Answers to one peer, in bytes per second, after a burst of as much. */
const BYTES_PER_SECOND = 8 << 20;

interface Pull {
  readonly store: string;
  readonly request: number;
  readonly items: readonly PullItem[];
}

interface Allowance {
  bytes: number;
  at: number;
  waiting: Pull | undefined;
}

/** The answers to all peers. */
export class PullServer {
  readonly #context: SyncContext;
  readonly #allowances = new Map<NodeName, Allowance>();

  constructor(context: SyncContext) {
    this.#context = context;
  }

  /** Answers a request now or when the peer's allowance lets us. */
  onPull(from: NodeName, pull: Pull, now: number): void {
    const allowance = this.#refill(from, now);
    if (allowance.waiting !== undefined) this.#context.refuse("pull_flood", pull.store);
    allowance.waiting = pull;
    this.tick(now);
  }

  /** Answers what may be answered by now. */
  tick(now: number): void {
    for (const from of [...this.#allowances.keys()]) {
      const allowance = this.#refill(from, now);
      const { waiting } = allowance;
      if (waiting !== undefined && allowance.bytes > 0) {
        allowance.waiting = undefined;
        allowance.bytes -= this.#answer(from, waiting);
      } else if (waiting === undefined && allowance.bytes === BYTES_PER_SECOND) {
        this.#allowances.delete(from);
      }
    }
  }

  /** When `tick` has something to do. */
  wakeAt(): number {
    let at = Infinity;
    for (const allowance of this.#allowances.values()) {
      if (allowance.waiting === undefined) continue;
      at = Math.min(at, allowance.at + (1 - allowance.bytes) * 1000 / BYTES_PER_SECOND);
    }
    return at;
  }

  /** Nothing waits for a peer that is gone. */
  peerGone(peer: NodeName): void {
    this.#allowances.delete(peer);
  }

  #answer(to: NodeName, pull: Pull): number {
    const store = this.#context.stores.get(pull.store);
    let bytes = 0;
    let isPartial = false;
    for (const { origin, version } of pull.items) {
      if (bytes >= ANSWER_BYTES) {
        isPartial = true;
        break;
      }
      const delta = store?.deltaFrom(origin, version);
      if (delta === undefined) continue;
      for (const body of encodeDelta(pull.store, delta)) {
        bytes += body.length;
        this.#context.sendData(to, body);
      }
    }
    this.#context.sendData(to, encodeDone(pull.store, pull.request, isPartial));
    return bytes;
  }

  #refill(peer: NodeName, now: number): Allowance {
    const allowance = this.#allowances.get(peer) ??
      { bytes: BYTES_PER_SECOND, at: now, waiting: undefined };
    this.#allowances.set(peer, allowance);
    const earned = (now - allowance.at) * BYTES_PER_SECOND / 1000;
    allowance.bytes = Math.min(BYTES_PER_SECOND, allowance.bytes + earned);
    allowance.at = now;
    return allowance;
  }
}
