import type { Timer } from "../../src/base/clock.ts";
import { TransportError } from "../../src/base/errors.ts";
import type { Connection, DialOptions, Transport } from "../../src/transport/contract.ts";
import { parseAddress, resolveAddress } from "./address.ts";
import type { QuicAddress, ResolveName } from "./address.ts";
import { Deadline, noAnswer } from "./deadline.ts";
import type { DialTarget } from "./dial_pacer.ts";

/** For how long one address is tried before the next joins it, milliseconds (RFC 8305 §5). */
const NEXT_AFTER_MS = 250;
/** Of more addresses only the first are tried: a name is somebody else's word. */
const MOST = 8;
const CLOSE_CODE = 1;

/**
 * Dials an address whose host may be a name with several IP addresses, of both families: one after
 * the other, a little apart, and the first connection counts ("happy eyeballs", RFC 8305). An address
 * that waits for its turn is joined by no other, and its time is not up. `dial` has to call `onBegin`.
 *
 * The result throws TransportError: what `dial` threw, of several failures that of TLS, as somebody
 * was there, else the first; `unreachable` when the name does not resolve; `timeout`, `aborted`.
 */
export function dialEach(dial: DialTarget, resolve: ResolveName): Transport["dial"] {
  return async (address, options) => {
    const startedAt = options.clock.now();
    const deadline = new Deadline(options, () => noAnswer(address, options.timeoutMs));
    let targets: readonly QuicAddress[];
    try {
      const parsed = parseAddress(address);
      if (parsed.port === 0) {
        throw new TransportError("bad_address", "nobody can be dialled at port 0");
      }
      targets = await deadline.race(resolveAddress(parsed, resolve));
    } catch (error) {
      options.datagrams?.close();
      throw error;
    } finally {
      deadline.stop();
    }
    const leftMs = Math.max(1, options.timeoutMs - (options.clock.now() - startedAt));
    // A carrier is of one connection.
    const count = options.datagrams === undefined ? MOST : 1;
    return await race(byTurns(targets).slice(0, count), dial, { ...options, timeoutMs: leftMs });
  };
}

// The best address first, then one of each family in turn (RFC 8305 §4).
function byTurns(targets: readonly QuicAddress[]): readonly QuicAddress[] {
  const isFirstKind = ({ isIpv6 }: QuicAddress) => isIpv6 === targets[0]?.isIpv6;
  const own = targets.filter(isFirstKind);
  const others = targets.filter((target) => !isFirstKind(target));
  return targets.flatMap((_, i) => [own[i], others[i]].filter((target) => target !== undefined));
}

function race(
  targets: readonly QuicAddress[],
  dial: DialTarget,
  options: DialOptions,
): Promise<Connection> {
  const [only] = targets;
  if (only !== undefined && targets.length === 1) return dial(only, options);
  const { clock, signal, timeoutMs } = options;
  return new Promise((resolve, reject) => {
    const others = new AbortController();
    const abort = () => others.abort();
    signal?.addEventListener("abort", abort, { once: true });
    const failures: unknown[] = [];
    // What is tried, in their order; the last of them may wait for its turn.
    let left = targets;
    let pending = 0;
    let isWaiting = false;
    let beganAt: number | undefined;
    let isOver = false;
    let timer: Timer | undefined;
    const finish = (settle: () => void) => {
      isOver = true;
      timer?.cancel();
      signal?.removeEventListener("abort", abort);
      settle();
      others.abort();
    };
    const next = () => {
      timer?.cancel();
      const [target] = left;
      const spentMs = beganAt === undefined ? 0 : clock.now() - beganAt;
      if (isOver || isWaiting || target === undefined || spentMs >= timeoutMs) return;
      left = left.slice(1);
      pending++;
      isWaiting = true;
      let hasBegun = false;
      const onBegin = () => {
        hasBegun = true;
        isWaiting = false;
        if (isOver) return;
        timer = clock.after(NEXT_AFTER_MS, next);
        if (beganAt !== undefined) return;
        beganAt = clock.now();
        options.onBegin?.();
      };
      const attempt = {
        ...options,
        signal: others.signal,
        timeoutMs: timeoutMs - spentMs,
        onBegin,
      };
      dial(target, attempt).then(
        (connection) => {
          if (isOver) connection.close(CLOSE_CODE, "another address was faster");
          else finish(() => resolve(connection));
        },
        (error) => {
          if (isOver) return;
          failures.push(error);
          pending--;
          if (!hasBegun) isWaiting = false;
          // No other address would get a turn.
          if (isA(error, "overloaded")) left = [];
          next();
          if (pending === 0) finish(() => reject(worthiest(failures)));
        },
      );
    };
    if (signal?.aborted) others.abort();
    next();
  });
}

function worthiest(failures: readonly unknown[]): unknown {
  return failures.find((error) => isA(error, "tls")) ?? failures[0];
}

function isA(error: unknown, reason: string): boolean {
  return error instanceof TransportError && error.reason === reason;
}
