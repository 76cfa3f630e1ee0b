import type { Timer } from "../../src/base/clock.ts";
import { TransportError } from "../../src/base/errors.ts";
import type { Connection, DialOptions, Transport } from "../../src/transport/contract.ts";
import { parseAddress, resolveAddress } from "./address.ts";
import type { QuicAddress, ResolveName } from "./address.ts";
import { Deadline } from "./deadline.ts";
import type { DialTarget } from "./dial_pacer.ts";

/** How long one address is tried before the next joins it, milliseconds (RFC 8305 §5). */
const NEXT_AFTER_MS = 250;
/** Of more addresses only the first are tried: a name is somebody else's word. */
const MOST = 8;
const CLOSE_CODE = 1;

/**
 * Dials an address whose host may be a name with several IP addresses, of both families: one after
 * the other, a little apart, and the first connection counts ("happy eyeballs", RFC 8305).
 *
 * The result throws TransportError: what `dial` threw, of several failures that of TLS, as somebody
 * was there, else the first; `unreachable` when the name does not resolve; `timeout`, `aborted`.
 */
export function dialEach(dial: DialTarget, resolve: ResolveName): Transport["dial"] {
  return async (address, options) => {
    const startedAt = options.clock.now();
    const deadline = new Deadline(address, options);
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
  const startedAt = clock.now();
  return new Promise((resolve, reject) => {
    const others = new AbortController();
    const abort = () => others.abort();
    signal?.addEventListener("abort", abort, { once: true });
    const failures: unknown[] = [];
    let begun = 0;
    let isOver = false;
    let timer: Timer | undefined;
    const finish = (settle: () => void) => {
      isOver = true;
      timer?.cancel();
      signal?.removeEventListener("abort", abort);
      settle();
      others.abort();
    };
    const failed = (error: unknown) => {
      if (isOver) return;
      failures.push(error);
      if (failures.length === targets.length) finish(() => reject(worthiest(failures)));
      else next();
    };
    const next = () => {
      const target = targets[begun];
      timer?.cancel();
      if (isOver || target === undefined) return;
      begun++;
      timer = clock.after(NEXT_AFTER_MS, next);
      const leftMs = Math.max(1, timeoutMs - (clock.now() - startedAt));
      dial(target, { ...options, signal: others.signal, timeoutMs: leftMs }).then(
        (connection) => {
          if (isOver) connection.close(CLOSE_CODE, "another address was faster");
          else finish(() => resolve(connection));
        },
        failed,
      );
    };
    if (signal?.aborted) others.abort();
    next();
  });
}

function worthiest(failures: readonly unknown[]): unknown {
  const isTls = (error: unknown) => error instanceof TransportError && error.reason === "tls";
  return failures.find(isTls) ?? failures[0];
}
