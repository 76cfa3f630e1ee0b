/** What the processes of the node's measurement share: plans, figures, the measured server. */
import process from "node:process";
import { createNode, defineServer } from "../mod.ts";
import type { Node, ServerDefinition } from "../mod.ts";

/** How much a client measures. */
export interface Plan {
  /** Echoes, and as many calls, before anything is measured: the compilers need that long. */
  readonly warmUp: number;
  /** Interleaved rounds of echoes and calls. */
  readonly rounds: number;
  /** Echoes, and as many calls, in a round. */
  readonly calls: number;
  /** How long each rate is measured, milliseconds. */
  readonly rateMs: number;
  /** Nodes that are made to join. */
  readonly joins: number;
}

/** What one client measured against one server: medians of the rounds. */
export interface PairFigures {
  /** Round trip of 64 bytes over a bare pipe, one at a time, microseconds. */
  readonly echoMedianUs: number;
  readonly echoP99Us: number;
  /** A GenServer call with a payload of 64 bytes, one at a time, microseconds. */
  readonly callMedianUs: number;
  readonly callP99Us: number;
  /** Median of the rounds' ratios, call to echo. */
  readonly callToEcho: number;
  /** Calls a second with 64 in flight. */
  readonly callsPerSecond: number;
  /** Actor messages of 100 bytes a second, one way, until the last has been received. */
  readonly messagesPerSecond: number;
  /** Messages of 1 MiB, one way, and what a bare pipe carries in writes of 64 KiB. */
  readonly largeMiBPerSecond: number;
  readonly bulkMiBPerSecond: number;
  /** From `createNode` to `joined`, milliseconds. */
  readonly joinMs: number;
}

/** The name under which the echo server is registered, and that of the process that counts. */
export const ECHO_NAME = "bench_echo";
export const COUNTER_NAME = "bench_counter";

/** A server that returns its argument. */
export const Echo: ServerDefinition<
  null,
  [],
  { echo: (ctx: unknown, payload: Uint8Array) => Uint8Array },
  Record<never, never>
> = defineServer({
  init: () => null,
  calls: { echo: (_ctx: unknown, payload: Uint8Array) => payload },
});

/** A node of the measured cluster, on a free port of loopback. */
export function benchNode(name: string, contact?: string): Promise<Node> {
  return createNode({
    name: `${name}@127.0.0.1`,
    listen: ["quic://127.0.0.1:0"],
    contactNodes: contact === undefined ? [] : [contact],
    cluster: "bench",
  });
}

/** Ends this process when its parent has gone or wants no more of it. */
export function endWithParent(): void {
  process.stdin.on("end", () => process.exit()).resume();
}
