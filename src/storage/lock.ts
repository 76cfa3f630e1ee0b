/**
 * One process a folder: two nodes with one key would take each other's place for ever. The lock is
 * a file that names its process; one that a killed process left behind is taken over. It guards
 * against mistakes on one machine, not between machines that share a disk.
 */
import { constants, readFileSync } from "node:fs";
import { copyFile, link, mkdir, readFile, unlink, writeFile } from "node:fs/promises";
import { hostname } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { ConfigError, messageOf } from "../base/errors.ts";

interface Holder {
  readonly host: string;
  readonly pid: number;
  /** When the process began, as the system counts it: a number is soon used again. */
  readonly start: string;
}

const LOCK = "lock";
const ATTEMPTS = 50;
/** Others take a stale lock away for so long, milliseconds. */
const WAIT_MS = 10;
let counter = 0;

/**
 * Takes the lock of `folder`, which is made when missing; the function returned gives it back.
 *
 * @throws ConfigError when a process holds it that lives, or it cannot be written
 */
export async function lockFolder(folder: string): Promise<() => Promise<void>> {
  const path = join(folder, LOCK);
  const own: Holder = { host: hostname(), pid: process.pid, start: startOf(process.pid) ?? "" };
  const text = `${own.host} ${own.pid} ${own.start} ${counter++}\n`;
  const temporary = `${path}.${own.pid}.${counter++}.tmp`;
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeFile(temporary, text, { mode: 0o600 });
    for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
      if (await claim(temporary, path)) return () => release(path, text);
      const held = await readFile(path, "utf8").catch(() => undefined);
      if (held === undefined) continue;
      const holder = parse(held);
      if (holder !== undefined && isAlive(holder, own)) throw inUse(folder, path, holder);
      await takeAway(path, held, temporary, own);
    }
    throw new Error("others take it at the same time");
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new ConfigError(
      "dataDir",
      `cannot lock ${folder}: ${messageOf(error)}; check that the folder exists and is yours`,
      { cause: error },
    );
  } finally {
    await unlink(temporary).catch(() => {});
  }
}

// The file is there with all its bytes, or not at all.
async function claim(temporary: string, path: string): Promise<boolean> {
  try {
    await link(temporary, path);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
  }
  try {
    // A file system without links.
    await copyFile(temporary, path, constants.COPYFILE_EXCL);
    return true;
  } catch (error) {
    if (codeOf(error) === "EEXIST") return false;
    throw error;
  }
}

// One at a time, since what is removed must be what was read: whoever else saw the same stale lock
// waits, and then looks anew.
async function takeAway(
  path: string,
  stale: string,
  temporary: string,
  own: Holder,
): Promise<void> {
  const breaking = `${path}.breaking`;
  if (!await claim(temporary, breaking)) {
    const held = await readFile(breaking, "utf8").catch(() => undefined);
    const breaker = held === undefined ? undefined : parse(held);
    // Killed in these few lines.
    if (breaker !== undefined && !isAlive(breaker, own)) await unlink(breaking).catch(() => {});
    return await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
  }
  try {
    if (await readFile(path, "utf8").catch(() => undefined) === stale) await unlink(path);
  } finally {
    await unlink(breaking).catch(() => {});
  }
}

async function release(path: string, text: string): Promise<void> {
  const held = await readFile(path, "utf8").catch(() => undefined);
  if (held === text) await unlink(path).catch(() => {});
}

function parse(text: string): Holder | undefined {
  const match = /^(\S+) (\d+) (\S*) \d+\n$/.exec(text);
  if (match === null) return undefined;
  const [, host = "", pid, start = ""] = match;
  return { host, pid: Number(pid), start };
}

function isAlive(holder: Holder, own: Holder): boolean {
  // Another machine's processes cannot be seen; one that was renamed must be able to start.
  if (holder.host !== own.host) return false;
  const start = startOf(holder.pid);
  if (start !== undefined) return start === holder.start;
  // Where the system tells of itself, and not of this process, there is none.
  if (own.start !== "") return false;
  try {
    process.kill(holder.pid, 0);
    return true;
  } catch (error) {
    return codeOf(error) === "EPERM";
  }
}

// When a process began, in clock ticks after the boot, and which boot; undefined where the system
// does not say (only Linux does, in files).
function startOf(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    // The name, in brackets, may hold anything.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return `${fields[19]}@${boot}`;
  } catch {
    return undefined;
  }
}

function inUse(folder: string, path: string, { pid }: Holder): ConfigError {
  const who = pid === process.pid ? "this process" : `process ${pid}`;
  return new ConfigError(
    "dataDir",
    `${folder} is in use by another node, in ${who}; close that one, or give this one a folder ` +
      `and a name of its own (when no such node runs, remove ${path})`,
  );
}

function codeOf(error: unknown): string | undefined {
  return (error as { code?: string }).code;
}
