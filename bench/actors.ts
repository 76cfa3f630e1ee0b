/** The part `actors`: processes inside one node beside the bare microtask queue, and across two. */
import type { RuntimeName } from "../test/processes.ts";
import type { LocalFigures, LocalPlan } from "./actors_local.ts";
import type { Children } from "./children.ts";
import type { PairFigures } from "./node_peer.ts";
import { measureNodes, printPairs } from "./nodes.ts";
import type { Options } from "./options.ts";
import { table, whole } from "./table.ts";

const THOROUGH: LocalPlan = { rounds: 3, messages: 2_000_000, spawns: 200_000, idle: 1_000_000 };
const QUICK: LocalPlan = { rounds: 1, messages: 20_000, spawns: 2_000, idle: 2_000 };

/** Measures every runtime alone, then every pair; prints the figures. */
export async function benchActors(options: Options, children: Children): Promise<void> {
  const { pairs, isQuick, json } = options;
  const runtimes = [...new Set(pairs.flatMap(({ client, server }) => [client, server]))];
  const local = new Map<RuntimeName, LocalFigures>();
  for (const runtime of runtimes) {
    local.set(runtime, await measureLocal(runtime, isQuick ? QUICK : THOROUGH, children));
  }
  const remote = await measureNodes(options, children);
  if (json) {
    const figures = { local: Object.fromEntries(local), pairs: Object.fromEntries(remote) };
    console.log(JSON.stringify(figures, null, 2));
  } else print(local, remote);
}

async function measureLocal(
  runtime: RuntimeName,
  plan: LocalPlan,
  children: Children,
): Promise<LocalFigures> {
  const program = children.start(
    runtime,
    "bench/actors_local.ts",
    [JSON.stringify(plan)],
    "one node",
    (line) => /^step (.*)$/.exec(line)?.[1],
  );
  const [, json = ""] = await program.line(/^figures (.*)$/, 300_000);
  await children.stop();
  return JSON.parse(json) as LocalFigures;
}

function print(
  local: ReadonlyMap<RuntimeName, LocalFigures>,
  remote: ReadonlyMap<string, PairFigures>,
): void {
  const million = (value: number) => (value / 1e6).toFixed(2);
  console.log(table(
    [
      "one node",
      "M sends/s",
      "floor",
      "M calls/s",
      "floor",
      "M spawns/s",
      "floor",
      "B/idle",
      "floor",
    ],
    [...local].map(([runtime, one]) => [
      runtime,
      million(one.sendsPerSecond),
      million(one.floorSendsPerSecond),
      million(one.callsPerSecond),
      million(one.floorCallsPerSecond),
      million(one.spawnsPerSecond),
      million(one.floorSpawnsPerSecond),
      whole(one.bytesPerProcess),
      whole(one.floorBytesPerProcess),
    ]),
  ));
  printPairs(remote);
}
