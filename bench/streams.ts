/** The part `streams`: what a tagged stream carries, beside a bare pipe of the same transport. */
import type { Children } from "./children.ts";
import type { Options, Pair } from "./options.ts";
import type { StreamFigures, StreamPlan } from "./streams_peer.ts";
import { table, whole } from "./table.ts";

const THOROUGH: StreamPlan = { rounds: 5, rateMs: 1_000, opens: 200 };
const QUICK: StreamPlan = { rounds: 1, rateMs: 50, opens: 5 };

/** Measures streams on every pair; prints the figures. */
export async function benchStreams(
  { pairs, isQuick, json }: Options,
  children: Children,
): Promise<void> {
  const figures = new Map<string, StreamFigures>();
  for (const pair of pairs) {
    figures.set(pair.pair, await measurePair(pair, isQuick ? QUICK : THOROUGH, children));
  }
  if (json) console.log(JSON.stringify({ streams: Object.fromEntries(figures) }, null, 2));
  else print(figures);
}

async function measurePair(
  { pair, client, server }: Pair,
  plan: StreamPlan,
  children: Children,
): Promise<StreamFigures> {
  const peer = children.start(server, "bench/streams_server.ts", [], `${pair}: server`);
  const [, node = "", bare = ""] = await peer.line(/^ready (\S+) (\S+)$/);
  const measuring = children.start(
    client,
    "bench/streams_client.ts",
    [node, bare, JSON.stringify(plan)],
    `${pair}: client`,
    (line) => /^step (.*)$/.exec(line)?.[1],
  );
  const [, json = ""] = await measuring.line(/^figures (.*)$/, 300_000);
  await children.stop();
  return JSON.parse(json) as StreamFigures;
}

function print(figures: ReadonlyMap<string, StreamFigures>): void {
  console.log(table(
    ["MiB/s", "bare", "stream", "ratio", "pipeTo", "ratio", "1 KiB writes", "open µs"],
    [...figures].map(([pair, one]) => [
      pair,
      whole(one.rawMiBPerSecond),
      whole(one.streamMiBPerSecond),
      one.streamToRaw.toFixed(2),
      whole(one.pipeToMiBPerSecond),
      one.pipeToToRaw.toFixed(2),
      whole(one.smallMiBPerSecond),
      whole(one.openUs),
    ]),
  ));
}
