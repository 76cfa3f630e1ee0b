/** Files that are set aside: renamed or copied to a name with the date, over nothing that is there. */
import { copyFileSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from "node:fs";
import { chmodSync, closeSync, constants } from "node:fs";

/** What SQLite calls a database and what belongs to it, the database last. */
export const SUFFIXES: readonly string[] = ["-wal", "-journal", "-shm", ""];

/** A name for the file at `path` that is free; `now` in milliseconds since 1970. */
export function asideName(path: string, flaw: "foreign" | "corrupt", now: number): string {
  const date = new Date(now).toISOString().replace(/[:.]/g, "-");
  let name = `${path}.${flaw}-${date}`;
  const isTaken = () => SUFFIXES.some((suffix) => existsSync(name + suffix));
  for (let i = 1; isTaken(); i++) name = `${path}.${flaw}-${date}-${i}`;
  return name;
}

/** Renames a file with what belongs to it. */
export function renameAside(path: string, name: string): void {
  // The database last: SQLite deletes a log that it finds beside a new database.
  for (const suffix of SUFFIXES) {
    if (existsSync(path + suffix)) renameSync(path + suffix, name + suffix);
  }
}

/**
 * Copies a file that nobody has open, with what belongs to it, onto the disk; the copy is private.
 * What there is of one that fails is removed.
 */
export function copyAside(path: string, name: string): void {
  try {
    for (const suffix of SUFFIXES) {
      if (suffix === "-shm" || !existsSync(path + suffix)) continue;
      copyFileSync(path + suffix, name + suffix, constants.COPYFILE_EXCL);
      chmodSync(name + suffix, 0o600);
      const file = openSync(name + suffix, "r+");
      fsyncSync(file);
      closeSync(file);
    }
  } catch (error) {
    removeAside(name);
    throw error;
  }
}

/** Removes a copy that is of no use. */
export function removeAside(name: string): void {
  for (const suffix of SUFFIXES) rmSync(name + suffix, { force: true });
}
