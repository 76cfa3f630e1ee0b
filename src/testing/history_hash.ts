/**
 * A rolling hash of all that has happened, in order: 53 bits, fast, and no protection against
 * anybody who looks for collisions.
 */
export class HistoryHash {
  #high = 0x9e3779b1;
  #low = 0x85ebca6b;

  /** The hash of what was added so far; below 2^53. */
  get value(): number {
    return (this.#high >>> 11) * 2 ** 32 + (this.#low >>> 0);
  }

  /** Adds a time in milliseconds, to the microsecond. */
  time(ms: number): void {
    const whole = Math.floor(ms);
    this.#mix(whole);
    this.#mix(Math.floor((ms - whole) * 1_000));
  }

  /** Adds an integer; of one above 2^32, the lower 32 bits. */
  integer(value: number): void {
    this.#mix(value);
  }

  /** Adds bytes, and how many there are. */
  bytes(bytes: Uint8Array): void {
    this.#mix(bytes.length);
    let word = 0;
    for (let i = 0; i < bytes.length; i++) {
      word = word << 8 | (bytes[i] as number);
      if ((i & 3) === 3) this.#mix(word);
    }
    if ((bytes.length & 3) !== 0) this.#mix(word);
  }

  /** Adds 32 bits. */
  #mix(word: number): void {
    const high = Math.imul(this.#high ^ word, 0x9e3779b1);
    const low = Math.imul(this.#low ^ word, 0x5f356495);
    // Each lane takes in the other, so that both remember every bit.
    this.#high = high ^ high >>> 15 ^ low;
    this.#low = low ^ low >>> 13 ^ high >>> 7;
  }
}
