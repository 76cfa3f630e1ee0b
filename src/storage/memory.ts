import type { Bytes } from "../base/bytes.ts";
import { StorageError } from "../base/errors.ts";
import type { DurableStore, Write } from "./contract.ts";

/** A store that lives as long as the process. */
export function memoryStore(): DurableStore {
  const tables = new Map<string, Map<string, Bytes>>();
  let isClosed = false;
  return {
    isDurable: false,
    entries(table) {
      const found = [...tables.get(table) ?? []];
      return found.sort(([a], [b]) => a < b ? -1 : 1).map(([key, value]) => [key, value.slice()]);
    },
    commit(batch: readonly Write[]) {
      if (isClosed) return Promise.reject(new StorageError("closed", "the store is closed"));
      for (const { table, key, value } of batch) {
        const entries = tables.get(table) ?? new Map<string, Bytes>();
        tables.set(table, entries);
        if (value === undefined) entries.delete(key);
        else entries.set(key, value.slice());
      }
      return Promise.resolve();
    },
    close() {
      isClosed = true;
      return Promise.resolve();
    },
  };
}
