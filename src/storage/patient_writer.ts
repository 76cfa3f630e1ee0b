/**
 * Writes that nobody waits for. What the disk refuses is kept and tried again, whole and with what came
 * meanwhile, so that the file never holds half of what belongs together: a disk may be full or read-only
 * for a while.
 */
import type { Clock, Timer } from "../base/clock.ts";
import type { DurableStore, Write } from "./contract.ts";

/** From a refusal to the next attempt, milliseconds: each takes all that waits. */
const AGAIN_MS = 5_000;
/** Entries that wait for the disk at most: as many as one origin may have rows. */
const MAX_WAITING = 65_536;

/** What {@link PatientWriter} needs. */
export interface PatientOptions {
  readonly disk: DurableStore;
  readonly clock: Clock;
  /** The disk has refused a batch; `isLost` when so much waits that it is given up. */
  readonly refused: (error: Error, isLost: boolean) => void;
}

/** The writer of some tables of a store. */
export class PatientWriter {
  readonly #options: PatientOptions;
  #waiting = new Map<string, Write>();
  #isUnderWay = false;
  #isClosed = false;
  #timer: Timer | undefined;

  constructor(options: PatientOptions) {
    this.#options = options;
  }

  /** Writes a batch, with what waits. */
  write(batch: readonly Write[]): void {
    for (const write of batch) this.#waiting.set(`${write.table}\n${write.key}`, write);
    if (!this.#isUnderWay && this.#timer === undefined) this.#attempt();
  }

  /** A last attempt; call it before the store is closed. */
  close(): void {
    this.#attempt();
    this.#isClosed = true;
  }

  #attempt(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#isClosed || this.#waiting.size === 0) return;
    const batch = this.#waiting;
    this.#waiting = new Map();
    this.#isUnderWay = true;
    this.#options.disk.commit([...batch.values()]).then(
      () => {
        this.#isUnderWay = false;
        this.#attempt();
      },
      (error: Error) => {
        this.#isUnderWay = false;
        if (!this.#isClosed) this.#keep(batch, error);
      },
    );
  }

  #keep(batch: Map<string, Write>, error: Error): void {
    // What came meanwhile is later than what was refused.
    for (const [key, write] of this.#waiting) batch.set(key, write);
    const isLost = batch.size > MAX_WAITING;
    this.#waiting = isLost ? new Map() : batch;
    this.#options.refused(error, isLost);
    if (!isLost) this.#timer = this.#options.clock.after(AGAIN_MS, () => this.#attempt());
  }
}
