/** Source of randomness, injected. Production uses the operating system's; a simulation a seed. */
export interface Random {
  /** `length` fresh random bytes. */
  bytes(length: number): Uint8Array<ArrayBuffer>;
  /** A uniform integer in `[0, 2^32)`. */
  uint32(): number;
}

/** A uniform integer in `[0, bound)`. `bound` must be a positive integer up to 2^32. */
export function randomBelow(random: Random, bound: number): number {
  // Rejection sampling: the plain remainder would favour small numbers.
  const limit = 2 ** 32 - (2 ** 32 % bound);
  for (;;) {
    const value = random.uint32();
    if (value < limit) return value % bound;
  }
}

/** A uniform number in `[0, 1)`. */
export function randomFraction(random: Random): number {
  return random.uint32() / 2 ** 32;
}

/** One element of `items`, or `undefined` when there is none. */
export function pick<T>(random: Random, items: readonly T[]): T | undefined {
  return items.length === 0 ? undefined : items[randomBelow(random, items.length)];
}

/** Up to `count` different elements of `items` in random order (partial Fisher–Yates). */
export function sample<T>(random: Random, items: Iterable<T>, count: number): T[] {
  const pool = [...items];
  const size = Math.min(count, pool.length);
  for (let i = 0; i < size; i++) {
    const j = i + randomBelow(random, pool.length - i);
    const chosen = pool[j] as T;
    pool[j] = pool[i] as T;
    pool[i] = chosen;
  }
  pool.length = size;
  return pool;
}

/**
 * A seeded generator (xoshiro128**, Blackman and Vigna 2018): fast, equal on every runtime, and
 * not for secrets.
 */
export function seededRandom(seed: number): Random {
  // SplitMix32 spreads the seed over the state, as the authors advise.
  let mix = seed >>> 0;
  const next = () => {
    mix = (mix + 0x9e3779b9) >>> 0;
    let z = mix;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
  let a = next(), b = next(), c = next(), d = next();
  const uint32 = () => {
    const product = Math.imul(b, 5);
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0;
    const shifted = b << 9;
    c ^= a;
    d ^= b;
    b ^= c;
    a ^= d;
    c ^= shifted;
    d = (d << 11) | (d >>> 21);
    return result;
  };
  const bytes = (length: number) => {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) out[i] = uint32() & 0xff;
    return out;
  };
  return { bytes, uint32 };
}
