/**
 * The real world: the one place in `src` where time, chance and cryptography come from the host, and
 * where something is printed.
 */
import type { Clock } from "./clock.ts";
import type { Crypto } from "./crypto.ts";
import type { Logger } from "./logger.ts";
import { nobleCrypto } from "./noble_crypto.ts";
import type { Random } from "./random.ts";
import { knowsEd25519, webCrypto } from "./web_crypto.ts";

// `unref` where timers have it: a node is kept alive by its sockets, never by its timers.
const unref = (timer: unknown) => {
  if (typeof timer === "object") return (timer as { unref?: () => void }).unref?.();
  const { Deno } = globalThis as { Deno?: { unrefTimer(id: number): void } };
  Deno?.unrefTimer(timer as number);
};

const immediate = (globalThis as { setImmediate?: (fn: () => void) => void }).setImmediate;

const LONGEST_MS = 2 ** 31 - 1;

/** The host's clock. */
export const realClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after(ms, fn) {
    let timer: ReturnType<typeof setTimeout>;
    // Longer timeouts would fire at once: hosts count the milliseconds in 31 bits.
    const wind = (left: number) => {
      timer = left > LONGEST_MS
        ? setTimeout(() => wind(left - LONGEST_MS), LONGEST_MS)
        : setTimeout(fn, left);
      unref(timer);
    };
    wind(ms);
    return { cancel: () => clearTimeout(timer) };
  },
  nextTurn: immediate ? (fn) => void immediate(fn) : (fn) => void setTimeout(fn, 0),
};

/** The operating system's randomness. */
export const realRandom: Random = {
  bytes(length) {
    const bytes = new Uint8Array(length);
    // getRandomValues refuses more than 64 KiB at once.
    for (let i = 0; i < length; i += 65_536) {
      crypto.getRandomValues(bytes.subarray(i, Math.min(length, i + 65_536)));
    }
    return bytes;
  },
  uint32: pooledUint32(),
};

/** WebCrypto where it knows Ed25519, plain JavaScript otherwise. */
export async function realCrypto(): Promise<Crypto> {
  return await knowsEd25519(crypto.subtle) ? webCrypto(crypto.subtle) : nobleCrypto(realRandom);
}

// One call to the host fills the pool: a call per number would show at gossip rates.
function pooledUint32(): () => number {
  const pool = new Uint32Array(1024);
  let next = pool.length;
  return () => {
    if (next === pool.length) {
      crypto.getRandomValues(pool);
      next = 0;
    }
    return pool[next++] as number;
  };
}

/**
 * Prints errors to `console.error`, one line each, and drops the rest: a person must act on an error,
 * also one who has not asked for a log.
 */
export const errorLogger: Logger = {
  log(level, message, fields = {}) {
    if (level === "error") console.error(`barrel: ${onOneLine(message)} ${asText(fields)}`);
  },
};

// A peer may have a say in what went wrong: it must not write lines of its own, or to the terminal.
function onOneLine(text: string): string {
  return text.replace(
    /\p{Cc}/gu,
    (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`,
  );
}

function asText(fields: object): string {
  try {
    return JSON.stringify(fields, printable);
  } catch {
    return "{}";
  }
}

function printable(_key: string, value: unknown): unknown {
  if (value instanceof Error) return value.message;
  return typeof value === "bigint" ? String(value) : value;
}
