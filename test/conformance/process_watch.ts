import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import process from "node:process";
import { waitFor } from "../harness.ts";
import type { Far } from "./checks.ts";

const PAGE_BYTES = 4096;

/** The resident memory of a process, bytes; `undefined` where `/proc` does not tell. */
function residentBytes(pid: number): number | undefined {
  try {
    return Number(readFileSync(`/proc/${pid}/statm`, "utf8").split(" ")[1]) * PAGE_BYTES;
  } catch {
    return undefined;
  }
}

/** The open files and sockets of a process; `undefined` where `/proc` does not tell. */
function openHandles(pid: number): number | undefined {
  try {
    return readdirSync(`/proc/${pid}/fd`).length;
  } catch {
    return undefined;
  }
}

/**
 * What a process may grow by while nothing may grow: what a runtime's heap does by itself.
 * Connections make Deno's grow by 120 MB before it stays as it is; data hardly does.
 */
const SLACK = { memory: 32 << 20, "memory of connections": 128 << 20, handles: 4 };

/**
 * Watches processes by their ids; fails where one has grown. `collect` has the others collect their
 * garbage: Deno's heap knows nothing of the 200 kB behind each connection, and takes some 2,500 of them
 * before it looks.
 */
export function watchProcesses(
  pids: readonly number[],
  collect: () => Promise<void> = () => Promise.resolve(),
): Far["watch"] {
  let before = pids.map(() => ({ memory: 0, handles: 0 }));
  const now = () =>
    pids.map((pid) => ({ memory: residentBytes(pid) ?? 0, handles: openHandles(pid) ?? 0 }));
  return async (what) => {
    if (what !== "memory") await collect();
    if (what === "begin") {
      before = now();
      return;
    }
    const key = what === "handles" ? "handles" : "memory";
    const grown = () => now().map((after, i) => after[key] - (before[i]?.[key] ?? 0));
    // Sockets and memory of what has just ended may take a moment to go.
    await waitFor(() => grown().every((by) => by <= SLACK[what]), {
      what: `the ${what} of ${pids} to be as before`,
      deadlineMs: 8_000,
    }).catch((error: Error) => assert.fail(`${error.message}; grown by ${grown()}`));
    if (process.env["CONFORMANCE_VERBOSE"]) console.log(`${what} grew by ${grown()}`);
  };
}
