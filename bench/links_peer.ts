/** What the processes of the links' measurement share. */
import { silentLogger } from "../src/base/logger.ts";
import { layFoundation, makeWorld } from "../src/node/foundation.ts";
import type { Foundation } from "../src/node/foundation.ts";

/** What one client measured of links against one server, and of the bare transport beside them. */
export interface LinkFigures {
  /** One connection to a server whose key is known, milliseconds: TLS alone. */
  readonly tlsMs: number;
  /** The same with the handshake of the nodes. */
  readonly connectMs: number;
  /** The first contact of two nodes, whose keys are not known. */
  readonly firstContactMs: number;
  /** Connects a second, eight at a time. */
  readonly tlsPerSecond: number;
  readonly connectsPerSecond: number;
  /** Memory of a resting connection at the server, and of a resting link, kB. */
  readonly connectionKb: number;
  readonly linkKb: number;
  /** Round trip of 64 bytes, microseconds. */
  readonly echoUs: number;
  readonly linkEchoUs: number;
  /** The same while messages of 10 MiB go to other processes, medians and the slowest in a hundred. */
  readonly busyEchoUs: number;
  readonly busyEchoP99Us: number;
  /** One way in writes of 64 KiB, and in messages of 1 MiB. */
  readonly bulkMiBPerSecond: number;
  readonly linkBulkMiBPerSecond: number;
  /** 100-byte messages a second, each written by itself, 160 in a write, and over a link. */
  readonly messagesPerSecond: number;
  readonly batchedPerSecond: number;
  readonly linkMessagesPerSecond: number;
}

/** The first byte of a signal: what the server does with it. */
export const Ask = { ECHO: 1, COUNT: 2, TOTAL: 3, MEMORY: 4 } as const;

let started = 0;

/** The lower half of a node: identity, transports and links, with nothing above. */
export async function startLinks(listen: readonly string[]): Promise<Foundation> {
  const options = { name: `n${++started}-${Date.now()}@127.0.0.1`, listen, logger: silentLogger };
  return await layFoundation(options, await makeWorld(options));
}
