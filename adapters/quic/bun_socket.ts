import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { platform } from "node:process";
import { messageOf } from "../../src/base/errors.ts";
import type { Logger } from "../../src/base/logger.ts";

/** As the quiche adapter's; the kernel grants what it allows. */
const SOCKET_BUFFER = 4 * 1024 * 1024;

// Of Linux, on all that Bun runs on (asm-generic/socket.h, linux/in.h, linux/in6.h).
const SOL_SOCKET = 1;
const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SOL_IP = 0;
const IP_RECVERR = 11;
const SOL_IPV6 = 41;
const IPV6_RECVERR = 25;
/** glibc, and musl by its own name. */
const C_LIBRARIES = ["libc.so.6", "libc.so"];

interface Ffi {
  dlopen(library: string, symbols: object): {
    readonly symbols: {
      setsockopt(fd: number, level: number, name: number, value: Int32Array, size: number): number;
    };
  };
}

// Who has been told that it does not work here: a node may dial from many ports.
const told = new WeakSet<Logger>();

/** Opened once: each opening makes trampolines of its own. */
let opened: ReturnType<Ffi["dlopen"]> | undefined;

/**
 * Makes the socket behind a listener of Bun, or behind a port that it dials from, fit for many
 * peers, one after the other or at once, on Linux. Bun 1.4 asks the kernel to report ICMP errors
 * (IP_RECVERR). When a peer has died and its host says "port unreachable", the next
 * send to somebody else fails with ECONNREFUSED, and Bun's stack sends nothing to anybody for a
 * second: with twenty dead connections a listener at rest answered no dial for 18 s, and it lost
 * track of clients whose address changed. QUIC finds dead peers by timeouts, so the reports are turned
 * off. Bun has no call for that, nor for the size of the buffers, so this asks the C library.
 * Where it cannot, or finds no such socket, that is logged, once to each logger, and the port works
 * as Bun made it.
 *
 * @param port the UDP port that the socket is bound to
 */
export async function tuneBunSocket(port: number, logger: Logger): Promise<void> {
  if (platform !== "linux") return;
  try {
    const ffi = await import("bun:ffi" as string) as Ffi;
    const { setsockopt } = (opened ??= cLibrary(ffi)).symbols;
    const set = (fd: number, level: number, name: number, value: number) =>
      setsockopt(fd, level, name, Int32Array.of(value), Int32Array.BYTES_PER_ELEMENT) === 0;
    const sockets = socketsAt(port);
    if (sockets.length === 0) throw new Error("/proc shows no socket of this process there");
    for (const fd of sockets) {
      const isQuiet = set(fd, SOL_IP, IP_RECVERR, 0);
      // Refused on a socket of IPv4.
      set(fd, SOL_IPV6, IPV6_RECVERR, 0);
      set(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUFFER);
      set(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUFFER);
      if (!isQuiet) throw new Error("setsockopt was refused");
    }
  } catch (error) {
    if (told.has(logger)) return;
    told.add(logger);
    logger.log(
      "warn",
      `peers that die may stall port ${port} for others: ICMP errors stay on (${messageOf(error)})`,
    );
  }
}

function cLibrary(ffi: Ffi): ReturnType<Ffi["dlopen"]> {
  const symbols = { setsockopt: { args: ["i32", "i32", "i32", "ptr", "u32"], returns: "i32" } };
  let failure: unknown;
  for (const library of C_LIBRARIES) {
    try {
      return ffi.dlopen(library, symbols);
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}

// The file descriptors of this process that are bound to a UDP port (proc(5)).
function socketsAt(port: number): number[] {
  const end = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const inodes = new Set<string>();
  for (const line of [...tableOf("udp"), ...tableOf("udp6")]) {
    const [, local, , , , , , , , inode] = line.trim().split(/\s+/);
    if (local?.endsWith(end)) inodes.add(`socket:[${inode}]`);
  }
  return readdirSync("/proc/self/fd").map(Number).filter((fd) => inodes.has(linkOf(fd)));
}

function tableOf(name: string): string[] {
  try {
    return readFileSync(`/proc/self/net/${name}`, "utf8").split("\n");
  } catch (error) {
    // A kernel without IPv6.
    if ((error as { code?: string }).code === "ENOENT") return [];
    throw error;
  }
}

function linkOf(fd: number): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    // Closed since it was listed.
    return "";
  }
}
