import type { QuicheHandle } from "./binding.ts";

/** How often the congestion window is looked at while packets leave, milliseconds. */
const LOOK_EVERY_MS = 100;
/** The shortest time between two marks, milliseconds: what a measured round trip may be wrong by. */
const MARK_EVERY_MS = 2;
/** Windows below so many of our largest packets need marks. */
const NARROW_PACKETS = 8;

/**
 * Keeps quiche 0.18 aware of the time. It stamps each packet with its pacer's time, and the pacer
 * looks at the clock only when ten of our largest packets' bytes have left, when as much time has
 * passed as they would take at the rate `1.25 × window / round trip`, or when a packet differs in
 * size from the one before. So while the window is small, packets of one size are dated back; round
 * trips seem longer; and the longer they seem, the rarer it looks: on a path that loses 2 % of the
 * packets a round trip of 20 ms grew to 16 s, and lost packets were repeated that much later. The
 * window is small after losses, and from the beginning where the peer takes smaller packets than
 * ours. What helps is a packet of another size now and then: a PING.
 */
export class TimeMarks {
  readonly #narrowBytes: number;
  #lookedAt = -Infinity;
  #markedAt = -Infinity;
  #isNarrow = false;

  /** For a connection whose packets were configured to be so large at most. */
  constructor(maxPacketBytes: number) {
    this.#narrowBytes = NARROW_PACKETS * maxPacketBytes;
  }

  /** Whether the packets that have just left, at `now` in milliseconds, call for a mark. */
  isDue(handle: QuicheHandle, now: number): boolean {
    if (now - this.#lookedAt >= LOOK_EVERY_MS) {
      this.#lookedAt = now;
      this.#isNarrow = handle.pathStats().some((path) => path.cwnd < this.#narrowBytes);
    }
    if (!this.#isNarrow || now - this.#markedAt < MARK_EVERY_MS) return false;
    this.#markedAt = now;
    return true;
  }
}
