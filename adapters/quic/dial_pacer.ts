import type { Connection, DialOptions } from "../../src/transport/contract.ts";
import { formatAddress } from "./address.ts";
import type { QuicAddress } from "./address.ts";
import { Deadline } from "./deadline.ts";

/** Dials one IP address. */
export type DialTarget = (target: QuicAddress, options: DialOptions) => Promise<Connection>;

/** Handshakes that may be under way at once, and for how long one counts, milliseconds. */
const MOST = 16;
const COUNTS_MS = 200;

/**
 * The same, but a burst of dials goes out in turns. A server answers a first packet of 1,200 bytes
 * with three times as many, and a socket of the kernel's default size (208 KiB, which Deno and Bun
 * offer no way to change) holds a few dozen of them: of 200 dials at once between two Buns some lost
 * packet after packet. A dial that has had no answer for a while holds nobody up. What is waited
 * counts as part of the dial's time.
 */
export function paced(dial: DialTarget): DialTarget {
  const waiting = new Set<() => void>();
  let underWay = 0;

  const begin = (options: DialOptions): () => void => {
    underWay++;
    let counts = true;
    const over = () => {
      if (!counts) return;
      counts = false;
      timer.cancel();
      underWay--;
      const [next] = waiting;
      if (next === undefined) return;
      waiting.delete(next);
      next();
    };
    const timer = options.clock.after(COUNTS_MS, over);
    return over;
  };

  return async (target, options) => {
    // What carries these packets is no socket of the kernel's.
    if (options.datagrams !== undefined) return await dial(target, options);
    let over: () => void;
    let { timeoutMs } = options;
    if (underWay < MOST) over = begin(options);
    else {
      const startedAt = options.clock.now();
      const deadline = new Deadline(formatAddress(target.host, target.port), options);
      let turn: () => void = () => {};
      const begun = new Promise<() => void>((resolve) => {
        turn = () => resolve(begin(options));
        waiting.add(turn);
      });
      try {
        over = await deadline.race(begun);
      } catch (error) {
        // Its turn may have come in the same moment.
        if (!waiting.delete(turn)) void begun.then((end) => end());
        throw error;
      } finally {
        deadline.stop();
      }
      timeoutMs = Math.max(1, timeoutMs - (options.clock.now() - startedAt));
    }
    try {
      return await dial(target, { ...options, timeoutMs });
    } finally {
      over();
    }
  };
}
