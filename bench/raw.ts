/**
 * `node bench/raw.ts [--pairs deno-deno,bun-node,…] [--transport quic] [--rounds 3] [--seconds 1]`:
 * what the bare transport does between two processes on loopback, client's runtime first. The floor
 * under every figure of the node.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { RUNTIMES, startProgram } from "../test/processes.ts";
import type { RuntimeName } from "../test/processes.ts";
import type { RawFigures } from "./raw_client.ts";

/** Measures a client on one runtime against a server on another, each in its own process. */
export async function measureRaw(
  client: RuntimeName,
  server: RuntimeName,
  options: { readonly transport?: string; readonly seconds?: number } = {},
): Promise<RawFigures> {
  const { transport = "quic", seconds = 1 } = options;
  const peer = startProgram(server, "bench/raw_server.ts", [transport]);
  try {
    const [, address = ""] = await peer.line(/^listening (\S+)$/);
    const program = startProgram(client, "bench/raw_client.ts", [
      transport,
      address,
      String(seconds),
    ]);
    try {
      const [, json = ""] = await program.line(/^figures (.*)$/, 60_000 + seconds * 20_000);
      return JSON.parse(json) as RawFigures;
    } finally {
      await program.kill();
    }
  } finally {
    await peer.kill();
  }
}

/** Of several rounds, the median of each figure. */
export function medianFigures(rounds: readonly RawFigures[]): RawFigures {
  const first = rounds[0] as RawFigures;
  const median = (key: keyof RawFigures) =>
    rounds.map((round) => round[key]).sort((a, b) => a - b)[Math.floor((rounds.length - 1) / 2)];
  const keys = Object.keys(first) as (keyof RawFigures)[];
  return Object.fromEntries(keys.map((key) => [key, median(key)])) as unknown as RawFigures;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      pairs: { type: "string", default: "deno-deno,bun-bun,node-node" },
      transport: { type: "string", default: "quic" },
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "1" },
    },
  });
  const pairs = values.pairs.split(",").map((pair) => {
    const [client, server] = pair.split("-").map((name) => RUNTIMES.find((one) => one === name));
    if (client === undefined || server === undefined) {
      throw new Error(`${pair} is no pair of runtimes: write it like deno-node`);
    }
    return { pair, client, server, rounds: [] as RawFigures[] };
  });
  const { transport } = values;
  // Rounds outside, so that a disturbance hits every pair alike.
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const { client, server, rounds } of pairs) {
      rounds.push(
        await measureRaw(client, server, { transport, seconds: Number(values.seconds) }),
      );
    }
  }
  const whole = (value: number) => Math.round(value).toLocaleString("en");
  console.table(Object.fromEntries(pairs.map(({ pair, rounds }) => {
    const figures = medianFigures(rounds);
    return [pair, {
      "echo µs": whole(figures.echoMedianUs),
      "p99 µs": whole(figures.echoP99Us),
      "echoes/s": whole(figures.echoesPerSecond),
      "100 B msg/s": whole(figures.messagesPerSecond),
      "batched": whole(figures.batchedPerSecond),
      "bulk MiB/s": whole(figures.bulkMiBPerSecond),
      "connect ms": figures.connectMs.toFixed(1),
    }];
  })));
}

if (process.argv[1]?.endsWith("raw.ts")) await main();
