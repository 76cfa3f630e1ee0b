import process from "node:process";
import { parseArgs } from "node:util";
import { RUNTIMES } from "../test/processes.ts";
import type { RuntimeName } from "../test/processes.ts";

const HELP = `npm run bench -- [part] [options]

Measures pairs of processes, client's runtime first, with real QUIC on loopback, each figure beside
its floor in the same run. The parts:

  nodes        (default) a bare echo and a GenServer call in turn, calls and messages a second, the
               time to join, and the time from the SIGKILL of a node to "nodeDown" at two others
  links        what authentication, framing and the table of links cost over the bare transport and
               over UDP: time and rate of connects, memory of a resting link, bulk, messages, echo
  actors       processes inside one node beside the bare microtask queue, a million at rest, and what
               they do across two nodes
  streams      what a tagged stream carries beside a bare pipe of the transport, and how soon one opens

  --pair A-B   measure this pair; may be given more than once
               (default deno-deno, bun-bun, node-node, deno-bun)
  --all        measure node-bun, too
  --quick      small rounds: shows that everything works, the figures mean little
  --json       print the figures as JSON; progress goes to standard error
  --help       this text
`;

const PARTS = ["nodes", "links", "actors", "streams"] as const;
const PAIRS = ["deno-deno", "bun-bun", "node-node", "deno-bun"];
const FURTHER_PAIRS = ["node-bun"];

/** Two runtimes: the client's and the server's. */
export interface Pair {
  readonly pair: string;
  readonly client: RuntimeName;
  readonly server: RuntimeName;
}

/** What the command line asks for. */
export interface Options {
  readonly part: (typeof PARTS)[number];
  readonly pairs: readonly Pair[];
  readonly isQuick: boolean;
  readonly json: boolean;
}

/** Reads the command line; prints the help and ends where it asks for that, or is wrong. */
export function parseOptions(): Options {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
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
    const [name = "nodes", ...more] = positionals;
    const part = PARTS.find((one) => one === name);
    if (part === undefined || more.length > 0) {
      throw new Error(`there is no part ${positionals.join(" ")}; there are ${PARTS.join(", ")}`);
    }
    const names = [...values.pair ?? PAIRS, ...(values.all ? FURTHER_PAIRS : [])];
    return {
      part,
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
