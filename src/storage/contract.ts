/**
 * What the library asks of a disk: small tables of bytes, changed in batches that are applied whole
 * or not at all. `sqlite.ts` is the durable one, `memory.ts` forgets with the process; a host may
 * inject its own.
 */
import type { Bytes } from "../base/bytes.ts";

/** One change of a batch; without a value the entry goes. */
export interface Write {
  readonly table: string;
  readonly key: string;
  readonly value: Bytes | undefined;
}

/** An entry as it was read. */
export type Entry = readonly [
  key: string,
  value: Bytes,
  /**
   * What the store has to say of it. `isUnproven`: it was written before the store could tell damaged
   * entries from others, so nothing but its meaning speaks for it.
   */
  says?: { readonly isUnproven: boolean },
];

/** A store of small entries. */
export interface DurableStore {
  /** Whether what is committed outlives the process. */
  readonly isDurable: boolean;
  /** The entries of a table, in the order of their keys. @throws StorageError */
  entries(table: string): readonly Entry[];
  /**
   * Applies a batch: all of it is durable when the promise resolves, none of it happened when it
   * rejects. Batches take effect in the order of the calls.
   *
   * @throws StorageError `full`, `read_only`, `closed`, `io`
   */
  commit(batch: readonly Write[]): Promise<void>;
  /**
   * Keeps a copy of all there is, before somebody takes entries away whose meaning is damaged; returns
   * its name. A store that keeps none leaves this out. @throws StorageError
   */
  setAside?(): string;
  /** Applies what was handed in and closes. Idempotent. */
  close(): Promise<void>;
}
