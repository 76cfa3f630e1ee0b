/**
 * A hybrid logical clock (Kulkarni et al., "Logical Physical Clocks", OPODIS 2014): stamps that
 * grow with causality and stay close to wall time. 48 bits of milliseconds, 16 bits of counter.
 *
 * The paper's clock follows any remote stamp, so one bad node pushes every clock for ever. Ours
 * follows only up to `maxDriftMs` ahead of its own wall; a stamp further ahead is reported to the
 * caller, who decides what to do with the write that carries it.
 */
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { ProtocolError } from "../base/errors.ts";

/** A point in hybrid time; compare with {@link compareStamps}. */
export interface Stamp {
  /** Wall-clock part: milliseconds since the Unix epoch, below 2^48. */
  readonly wallMs: number;
  /** Logical part: orders stamps of one millisecond, below 2^16. */
  readonly counter: number;
}

/** What {@link HybridLogicalClock.update} found. */
export interface StampVerdict {
  /** Whether the stamp is too far ahead to be believed; then our clock did not move. */
  readonly isTooFarAhead: boolean;
  /** How far the stamp is ahead of our wall clock, in milliseconds; negative when behind. */
  readonly aheadMs: number;
}

/** The length of a stamp in its binary form. */
const STAMP_BYTES: number = 8;

const MAX_WALL = 2 ** 48 - 1;
const MAX_COUNTER = 2 ** 16 - 1;

/** Issues stamps and follows those of others. */
export class HybridLogicalClock {
  readonly #clock: Pick<Clock, "wall">;
  readonly #maxDriftMs: number;
  #wallMs = 0;
  #counter = 0;

  /** `maxDriftMs`: how far ahead of our wall clock a remote stamp may be and still move ours. */
  constructor(clock: Pick<Clock, "wall">, maxDriftMs: number) {
    this.#clock = clock;
    this.#maxDriftMs = maxDriftMs;
  }

  /** A stamp for an event here, greater than every one issued or followed before. */
  now(): Stamp {
    this.#advance(this.#wall());
    return { wallMs: this.#wallMs, counter: this.#counter };
  }

  /** Follows the stamp of a message that arrived, unless it is too far ahead. */
  update(remote: Stamp): StampVerdict {
    const wall = this.#wall();
    const aheadMs = remote.wallMs - wall;
    if (aheadMs > this.#maxDriftMs) return { isTooFarAhead: true, aheadMs };
    if (remote.wallMs > this.#wallMs) {
      this.#wallMs = remote.wallMs;
      this.#counter = remote.counter;
    } else if (remote.wallMs === this.#wallMs && remote.counter > this.#counter) {
      this.#counter = remote.counter;
    }
    this.#advance(wall);
    return { isTooFarAhead: false, aheadMs };
  }

  #advance(wallMs: number): void {
    if (wallMs > this.#wallMs) {
      this.#wallMs = wallMs;
      this.#counter = 0;
    } else if (this.#counter < MAX_COUNTER) {
      this.#counter++;
    } else {
      // 65,536 stamps in one millisecond: borrow the next one, as the paper's successors do.
      this.#wallMs++;
      this.#counter = 0;
    }
  }

  #wall(): number {
    return Math.min(MAX_WALL - 1, Math.max(0, Math.floor(this.#clock.wall())));
  }
}

/** The order of stamps: negative, zero or positive. */
export function compareStamps(a: Stamp, b: Stamp): number {
  return a.wallMs - b.wallMs || a.counter - b.counter;
}

/** The 64-bit big-endian form; its byte order is the order of stamps. */
export function stampToBytes(stamp: Stamp): Bytes {
  const bytes = new Uint8Array(STAMP_BYTES);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, Math.floor(stamp.wallMs / 2 ** 32));
  view.setUint32(2, stamp.wallMs >>> 0);
  view.setUint16(6, stamp.counter);
  return bytes;
}

/** Reads {@link stampToBytes}. @throws ProtocolError `bad_stamp` unless there are 8 bytes. */
export function stampFromBytes(bytes: Uint8Array): Stamp {
  if (bytes.length !== STAMP_BYTES) {
    throw new ProtocolError("bad_stamp", `a stamp has ${STAMP_BYTES} bytes, not ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, STAMP_BYTES);
  return {
    wallMs: view.getUint16(0) * 2 ** 32 + view.getUint32(2),
    counter: view.getUint16(6),
  };
}
