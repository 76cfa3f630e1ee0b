import type { Bytes } from "./bytes.ts";

/**
 * A folder of small private files, injected so that rooms without a file system can keep keys and
 * pins. The durable one is `storage/files.ts` (mode 0600 before the first byte, temp then rename);
 * `memoryFiles` forgets with the process.
 */
export interface SecretFiles {
  /** The bytes at `path` (relative, `/`-separated), or `undefined` when there is no such file. */
  read(path: string): Promise<Bytes | undefined>;
  /** Replaces the file atomically and durably: after the promise it survives a crash. */
  write(path: string, bytes: Uint8Array): Promise<void>;
  /** Removes the file; nothing happens when it is missing. */
  remove(path: string): Promise<void>;
  /** Names of the files directly in `folder`; none when it is missing. */
  list(folder: string): Promise<string[]>;
  /** Whether what is written outlives the process. */
  readonly durable: boolean;
}

/** Files that live as long as the process. */
export function memoryFiles(): SecretFiles {
  const files = new Map<string, Bytes>();
  return {
    durable: false,
    read: (path) => Promise.resolve(files.get(path)?.slice()),
    write(path, bytes) {
      files.set(path, new Uint8Array(bytes));
      return Promise.resolve();
    },
    remove(path) {
      files.delete(path);
      return Promise.resolve();
    },
    list(folder) {
      const prefix = `${folder}/`;
      const names = [...files.keys()].filter((path) => path.startsWith(prefix))
        .map((path) => path.slice(prefix.length)).filter((name) => !name.includes("/"));
      return Promise.resolve(names);
    },
  };
}
