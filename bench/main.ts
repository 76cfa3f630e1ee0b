/**
 * `npm run bench`: what a node does over real QUIC between processes on loopback, beside the bare
 * transport under it in the same run.
 */
import process from "node:process";
import { parseArgs } from "node:util";
import { RUNTIMES } from "../test/processes.ts";
import type { RuntimeName } from "../test/processes.ts";
import { Children } from "./children.ts";
import { measureDown } from "./node_down.ts";
import type { DownFigures } from "./node_down.ts";
import type { PairFigures, Plan } from "./node_peer.ts";
import { table } from "./table.ts";

const HELP = `npm run bench -- [options]

Measures pairs of nodes, client's runtime first, each end in a process of its own, with real QUIC
on loopback: a bare echo and a GenServer call in turn, calls and messages a second, the time to
join, and the time from the SIGKILL of a node to "nodeDown" at the two others.

  --pair A-B   measure this pair; may be given more than once
               (default deno-deno, bun-bun, node-node, deno-bun)
  --all        measure node-bun, too
  --quick      small rounds: shows that everything works, the figures mean little
  --json       print the figures as JSON; progress goes to standard error
  --help       this text
`;

const PAIRS = ["deno-deno", "bun-bun", "node-node", "deno-bun"];
const FURTHER_PAIRS = ["node-bun"];

const THOROUGH: Plan = { rounds: 5, calls: 2_000, rateMs: 1_000, joins: 7 };
const QUICK: Plan = { rounds: 1, calls: 50, rateMs: 50, joins: 1 };

interface Pair {
  readonly pair: string;
  readonly client: RuntimeName;
  readonly server: RuntimeName;
}

interface Options {
  readonly pairs: readonly Pair[];
  readonly isQuick: boolean;
  readonly json: boolean;
}

function parse(): Options {
  try {
    const { values } = parseArgs({
      options: {
        pair: { type: "string", multiple: true },
        all: { type: "boolean", default: false },
        quick: { type: "boolean", default: false },
        json: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    if (values.help) {
      process.stdout.write(HELP);
      process.exit(0);
    }
    const names = [...values.pair ?? PAIRS, ...(values.all ? FURTHER_PAIRS : [])];
    return {
      pairs: [...new Set(names)].map(pairOf),
      isQuick: values.quick,
      json: values.json,
    };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}

function pairOf(pair: string): Pair {
  const [client, server, ...more] = pair.split("-")
    .map((name) => RUNTIMES.find((one) => one === name));
  if (client === undefined || server === undefined || more.length > 0) {
    throw new Error(`${pair} is no pair of runtimes: write it like deno-node`);
  }
  return { pair, client, server };
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

function print(pairs: ReadonlyMap<string, PairFigures>, down: readonly DownFigures[]): void {
  const whole = (value: number) => Math.round(value).toLocaleString("en");
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
      figures.joinMs.toFixed(1),
    ]),
  ));
  console.log(table(
    ["killed", "nodeDown at", "after ms"],
    down.map(({ killed, survivor, afterMs }) => [killed, survivor, whole(afterMs)]),
  ));
}

const { pairs, isQuick, json } = parse();
// Progress must not mix with figures that a program reads.
const children = new Children((line) => (json ? console.error(line) : console.log(line)));
let isInterrupted = false;
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  process.on(signal, () => {
    isInterrupted = true;
    void children.stop().finally(() => process.exit(code));
  });
}
try {
  const figures = new Map<string, PairFigures>();
  for (const pair of pairs) {
    figures.set(pair.pair, await measurePair(pair, isQuick ? QUICK : THOROUGH, children));
  }
  const runtimes = [...new Set(pairs.flatMap(({ client, server }) => [client, server]))];
  const down = await measureDown(runtimes, isQuick, children);
  if (json) console.log(JSON.stringify({ pairs: Object.fromEntries(figures), down }, null, 2));
  else print(figures, down);
} catch (error) {
  // The end of the children is a consequence then, no failure.
  if (!isInterrupted) {
    console.error(`the measurement failed: ${(error as Error).message}`);
    process.exitCode = 1;
  }
} finally {
  await children.stop();
}
