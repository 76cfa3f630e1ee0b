/**
 * Writes that nobody waits for. What the disk refuses is kept and tried again with what came meanwhile:
 * a disk may be full or read-only for a while.
 *
 * Entries whose keys begin alike, up to the first slash, belong together: they reach the file in one
 * batch, as they were between two calls of {@link PatientWriter.write}, so that it never holds half
 * of what was written at once.
 *
 * Nothing is given up. An entry waits in one place however often it changes, and not at all once it
 * is gone before the file had it; so no more waits than the entries there are and those in the file.
 */
import type { Clock, Timer } from "../base/clock.ts";
import type { DurableStore, Write } from "./contract.ts";

/** From a refusal to the next attempt, milliseconds. */
const AGAIN_MS = 5_000;
/** Entries of one batch, beside those that belong together. */
const MAX_BATCH = 4_096;

/** A change that may have to wait. */
export interface PatientWrite extends Write {
  /**
   * It has a value, and the file has no such entry, unless from a change before this one. Who takes
   * such an entry away while it waits leaves nothing to be done.
   */
  readonly isNew?: boolean;
}

/** What {@link PatientWriter} needs. */
export interface PatientOptions {
  readonly disk: DurableStore;
  readonly clock: Clock;
  /** The disk has refused a batch. */
  readonly refused: (error: Error) => void;
}

interface Waiting {
  readonly write: PatientWrite;
  /** Whether the file may have an entry of this key. */
  readonly isOnDisk: boolean;
}

/** What belongs together, by key. */
type Group = Map<string, Waiting>;

/** The writer of some tables of a store. */
export class PatientWriter {
  readonly #options: PatientOptions;
  readonly #waiting = new Map<string, Group>();
  /** What the disk is writing. */
  #underWay: ReadonlyMap<string, Group> | undefined;
  #isClosed = false;
  #timer: Timer | undefined;

  constructor(options: PatientOptions) {
    this.#options = options;
  }

  /** Writes a batch, with what waits. What it reads of a write may be read as late as that. */
  write(batch: readonly PatientWrite[]): void {
    if (this.#isClosed) return;
    for (const write of batch) {
      const name = groupOf(write);
      const group: Group = this.#waiting.get(name) ?? new Map();
      add(group, { write, isOnDisk: write.isNew !== true });
      if (group.size > 0) this.#waiting.set(name, group);
      else this.#waiting.delete(name);
    }
    if (this.#underWay === undefined && this.#timer === undefined) this.#attempt();
  }

  /** A last attempt; call it before the store is closed. Idempotent. */
  close(): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#timer?.cancel();
    // What is under way may be refused yet: what belongs to it takes it along.
    for (const [name, group] of this.#underWay ?? []) {
      if (!this.#waiting.has(name)) continue;
      const both: Group = new Map();
      for (const { write } of group.values()) add(both, { write, isOnDisk: true });
      this.#addWaiting(name, both);
    }
    while (this.#waiting.size > 0) {
      this.#options.disk.commit(writesOf(this.#take())).catch(this.#options.refused);
    }
  }

  #attempt(): void {
    this.#timer?.cancel();
    this.#timer = undefined;
    if (this.#isClosed || this.#waiting.size === 0) return;
    const groups = this.#underWay = this.#take();
    this.#options.disk.commit(writesOf(groups)).then(
      () => {
        this.#underWay = undefined;
        this.#attempt();
      },
      (error: Error) => {
        this.#underWay = undefined;
        if (!this.#isClosed) this.#again(groups);
        this.#options.refused(error);
      },
    );
  }

  // Behind what else waits: for that there may be room.
  #again(groups: ReadonlyMap<string, Group>): void {
    for (const [name, group] of groups) this.#addWaiting(name, group);
    this.#timer = this.#options.clock.after(AGAIN_MS, () => this.#attempt());
  }

  // What waits is later than what is in `group`.
  #addWaiting(name: string, group: Group): void {
    for (const later of this.#waiting.get(name)?.values() ?? []) add(group, later);
    this.#waiting.delete(name);
    if (group.size > 0) this.#waiting.set(name, group);
  }

  #take(): Map<string, Group> {
    const taken = new Map<string, Group>();
    let entries = 0;
    for (const [name, group] of this.#waiting) {
      if (entries > 0 && entries + group.size > MAX_BATCH) break;
      entries += group.size;
      taken.set(name, group);
      this.#waiting.delete(name);
    }
    return taken;
  }
}

function groupOf({ table, key }: Write): string {
  return `${table}\n${key.split("/", 1)[0]}`;
}

function writesOf(groups: ReadonlyMap<string, Group>): Write[] {
  const writes: Write[] = [];
  for (const group of groups.values()) for (const { write } of group.values()) writes.push(write);
  return writes;
}

// The change takes the place of one before it.
function add(group: Group, { write, isOnDisk }: Waiting): void {
  const mayBeThere = group.get(write.key)?.isOnDisk ?? isOnDisk;
  const isPut = write.isNew === true || write.value !== undefined;
  if (isPut || mayBeThere) group.set(write.key, { write, isOnDisk: mayBeThere });
  else group.delete(write.key);
}
