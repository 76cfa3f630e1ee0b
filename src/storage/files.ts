import { chmod, mkdir, open, readdir, readFile, rename, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { Bytes } from "../base/bytes.ts";
import { ConfigError, messageOf } from "../base/errors.ts";
import type { SecretFiles } from "../base/secret_files.ts";

/**
 * Private files below `folder`, which is made when missing (mode 0700). Each write goes to a
 * temporary file that has mode 0600 before the first byte, is flushed, and replaces the old one
 * in one step, so that a crash leaves either the old bytes or the new ones.
 *
 * @throws ConfigError (from `write`) when the folder cannot be written
 */
export function durableFiles(folder: string): SecretFiles {
  let counter = 0;
  const full = (path: string) => join(folder, ...path.split("/"));
  return {
    durable: true,
    async read(path) {
      try {
        return new Uint8Array(await readFile(full(path))) as Bytes;
      } catch (error) {
        if (isMissing(error)) return undefined;
        throw cannot("read", full(path), error);
      }
    },
    async write(path, bytes) {
      const target = full(path);
      const temporary = `${target}.${counter++}.tmp`;
      try {
        await mkdir(dirname(target), { recursive: true, mode: 0o700 });
        const file = await open(temporary, "w", 0o600);
        try {
          // A file left behind by a crash keeps its old mode.
          await chmod(temporary, 0o600);
          await file.writeFile(bytes);
          await file.sync();
        } finally {
          await file.close();
        }
        await rename(temporary, target);
        await syncFolder(dirname(target));
      } catch (error) {
        // What was written of a secret does not stay behind.
        await unlink(temporary).catch(() => {});
        throw cannot("write", target, error);
      }
    },
    async remove(path) {
      try {
        await unlink(full(path));
        await syncFolder(dirname(full(path)));
      } catch (error) {
        if (!isMissing(error)) throw cannot("remove", full(path), error);
      }
    },
    async list(path) {
      try {
        return (await readdir(full(path))).filter((name) => !name.endsWith(".tmp"));
      } catch (error) {
        if (isMissing(error)) return [];
        throw cannot("list", full(path), error);
      }
    },
  };
}

// The rename is durable once the folder is.
async function syncFolder(folder: string): Promise<void> {
  try {
    const handle = await open(folder, "r");
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch {
    // Windows and some file systems cannot flush a folder.
  }
}

function isMissing(error: unknown): boolean {
  return (error as { code?: string }).code === "ENOENT";
}

function cannot(what: string, path: string, cause: unknown): ConfigError {
  return new ConfigError(
    "dataDir",
    `cannot ${what} ${path}: ${messageOf(cause)}; check that the folder exists and is yours`,
    { cause },
  );
}
