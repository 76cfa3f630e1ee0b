/** The part `nodes`: what a node does, beside the bare transport under it. */
import type { Children } from "./children.ts";
import { measureDown } from "./node_down.ts";
import type { DownFigures } from "./node_down.ts";
import type { PairFigures, Plan } from "./node_peer.ts";
import type { Options, Pair } from "./options.ts";
import { table, whole } from "./table.ts";

const THOROUGH: Plan = { warmUp: 20_000, rounds: 5, calls: 2_000, rateMs: 1_000, joins: 7 };
const QUICK: Plan = { warmUp: 50, rounds: 1, calls: 50, rateMs: 50, joins: 1 };

/** Measures every pair, and how soon a dead node is noticed; prints the figures. */
export async function benchNodes(
  options: Options,
  children: Children,
): Promise<void> {
  const { pairs, isQuick, json } = options;
  const figures = await measureNodes(options, children);
  const runtimes = [...new Set(pairs.flatMap(({ client, server }) => [client, server]))];
  const down = await measureDown(runtimes, isQuick, children);
  if (json) console.log(JSON.stringify({ pairs: Object.fromEntries(figures), down }, null, 2));
  else {
    printPairs(figures);
    printDown(down);
  }
}

/** Measures actors across every pair. */
export async function measureNodes(
  { pairs, isQuick }: Options,
  children: Children,
): Promise<Map<string, PairFigures>> {
  const figures = new Map<string, PairFigures>();
  for (const pair of pairs) {
    figures.set(pair.pair, await measurePair(pair, isQuick ? QUICK : THOROUGH, children));
  }
  return figures;
}

async function measurePair(
  { pair, client, server }: Pair,
  plan: Plan,
  children: Children,
): Promise<PairFigures> {
  const peer = children.start(server, "bench/node_server.ts", [], `${pair}: server`);
  const [, node = "", bare = ""] = await peer.line(/^ready (\S+) (\S+)$/);
  const measuring = children.start(
    client,
    "bench/node_client.ts",
    [node, bare, JSON.stringify(plan)],
    `${pair}: client`,
    (line) => /^step (.*)$/.exec(line)?.[1],
  );
  const [, json = ""] = await measuring.line(/^figures (.*)$/, 300_000);
  await children.stop();
  return JSON.parse(json) as PairFigures;
}

/** Prints what pairs of nodes do. */
export function printPairs(pairs: ReadonlyMap<string, PairFigures>): void {
  console.log(table(
    [
      "client-server",
      "echo µs",
      "p99",
      "call µs",
      "p99",
      "call/echo",
      "calls/s",
      "messages/s",
      "1 MiB: MiB/s",
      "of bulk",
      "join ms",
    ],
    [...pairs].map(([pair, figures]) => [
      pair,
      whole(figures.echoMedianUs),
      whole(figures.echoP99Us),
      whole(figures.callMedianUs),
      whole(figures.callP99Us),
      figures.callToEcho.toFixed(2),
      whole(figures.callsPerSecond),
      whole(figures.messagesPerSecond),
      whole(figures.largeMiBPerSecond),
      (figures.largeMiBPerSecond / figures.bulkMiBPerSecond).toFixed(2),
      figures.joinMs.toFixed(1),
    ]),
  ));
}

function printDown(down: readonly DownFigures[]): void {
  console.log(table(
    ["killed", "nodeDown at", "after ms"],
    down.map(({ killed, survivor, afterMs }) => [killed, survivor, whole(afterMs)]),
  ));
}
