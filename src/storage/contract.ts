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

/** A store of small entries. */
export interface DurableStore {
  /** Whether what is committed outlives the process. */
  readonly isDurable: boolean;
  /** The entries of a table, in the order of their keys. @throws StorageError */
  entries(table: string): readonly (readonly [key: string, value: Bytes])[];
  /**
   * Applies a batch: all of it is durable when the promise resolves, none of it happened when it
   * rejects. Batches take effect in the order of the calls.
   *
   * @throws StorageError `full`, `read_only`, `closed`, `io`
   */
  commit(batch: readonly Write[]): Promise<void>;
  /** Applies what was handed in and closes. Idempotent. */
  close(): Promise<void>;
}
