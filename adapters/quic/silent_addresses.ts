/** For how long an address counts as silent, milliseconds. */
const COUNTS_MS = 60_000;
/** Of more addresses those that were noted first are forgotten. */
const MOST = 4_096;

/** Addresses that gave no answer lately. Bounded, as addresses are somebody else's word. */
export class SilentAddresses {
  readonly #until = new Map<string, number>();

  /** A dial to `address` timed out. */
  note(address: string, now: number): void {
    this.#until.delete(address);
    this.#until.set(address, now + COUNTS_MS);
    if (this.#until.size <= MOST) return;
    const [oldest] = this.#until.keys();
    if (oldest !== undefined) this.#until.delete(oldest);
  }

  /** Somebody at `address` answered. */
  forget(address: string): void {
    this.#until.delete(address);
  }

  /** Whether a dial to `address` is likely to be in vain. */
  has(address: string, now: number): boolean {
    const until = this.#until.get(address);
    if (until === undefined) return false;
    if (now < until) return true;
    this.#until.delete(address);
    return false;
  }
}
