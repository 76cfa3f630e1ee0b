import { TransportError } from "../../src/base/errors.ts";
import type { Connection, DialOptions } from "../../src/transport/contract.ts";
import { formatAddress } from "./address.ts";
import type { QuicAddress } from "./address.ts";
import { Deadline } from "./deadline.ts";
import { DialQueue } from "./dial_queue.ts";
import { SilentAddresses } from "./silent_addresses.ts";

/** Dials one IP address. */
export type DialTarget = (target: QuicAddress, options: DialOptions) => Promise<Connection>;

/** Handshakes that may be under way at once, and for how long one counts, milliseconds. */
const MOST = 16;
const COUNTS_MS = 200;
/** Dials of each class that may wait for their turn, and for how long, milliseconds. */
const MOST_WAITING = 2_048;
const LONGEST_WAIT_MS = 15_000;

/**
 * The same, but a burst of dials goes out in turns. A server answers a first packet of 1,200 bytes
 * with three times as many, and a socket of the kernel's default size (208 KiB, which Deno and Bun
 * offer no way to change) holds a few dozen of them: of 200 dials at once between two Buns some lost
 * packet after packet. A dial that has had no answer for a while holds nobody up, which makes 80
 * turns a second where nobody answers at all. Retries, and dials to addresses that were silent
 * lately, get one turn of four while others wait. `timeoutMs` begins with the turn, and `onBegin` tells of it.
 *
 * The result throws what `dial` throws, and TransportError `overloaded` when too many wait already,
 * or the turn does not come in 15 s: nothing was sent then.
 */
export function paced(dial: DialTarget): DialTarget {
  const queue = new DialQueue(MOST_WAITING);
  const silent = new SilentAddresses();
  let underWay = 0;

  const begin = (options: DialOptions): () => void => {
    underWay++;
    let counts = true;
    const over = () => {
      if (!counts) return;
      counts = false;
      timer.cancel();
      underWay--;
      queue.next()?.();
    };
    const timer = options.clock.after(COUNTS_MS, over);
    return over;
  };

  const turnOf = async (address: string, options: DialOptions): Promise<() => void> => {
    if (underWay < MOST) return begin(options);
    let turn: () => void = () => {};
    const begun = new Promise<() => void>((resolve) => (turn = () => resolve(begin(options))));
    const isSecondClass = options.isRetry === true || silent.has(address, options.clock.now());
    if (!queue.add(turn, isSecondClass)) {
      throw overloaded(address, `${queue.size} dials wait for their turn already`);
    }
    const wait = { ...options, timeoutMs: LONGEST_WAIT_MS };
    const deadline = new Deadline(wait, () =>
      overloaded(
        address,
        `its turn among ${queue.size} waiting dials did not come in ${LONGEST_WAIT_MS} ms`,
      ));
    try {
      return await deadline.race(begun);
    } catch (error) {
      // Its turn may have come in the same moment.
      if (!queue.delete(turn)) void begun.then((end) => end());
      throw error;
    } finally {
      deadline.stop();
    }
  };

  return async (target, options) => {
    // What carries these packets is no socket of the kernel's.
    if (options.datagrams !== undefined) {
      options.onBegin?.();
      return await dial(target, options);
    }
    const address = formatAddress(target.host, target.port);
    const over = await turnOf(address, options);
    try {
      options.onBegin?.();
      const connection = await dial(target, options);
      silent.forget(address);
      return connection;
    } catch (error) {
      if (error instanceof TransportError && error.reason === "timeout") {
        silent.note(address, options.clock.now());
      }
      throw error;
    } finally {
      over();
    }
  };
}

function overloaded(address: string, why: string): TransportError {
  return new TransportError("overloaded", `${address} was not dialled: ${why}`);
}
