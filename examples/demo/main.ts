/**
 * The demo: a cluster of processes on three runtimes, told as it happens.
 *
 * ```
 * npm run demo                        seed on Deno, worker on Bun, client on Node
 * npm run demo -- --nodes 9 --keep    more nodes, left running until Ctrl-C
 * ```
 */
import { mkdtempSync } from "node:fs";
import { rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { Child, RUNTIMES } from "./child.ts";
import type { Report, RuntimeName } from "./child.ts";
import { Story } from "./story.ts";

const HELP = `npm run demo -- [options]

Starts a cluster of nodes on Deno, Bun and Node, each in its own process, with real QUIC
between them, and tells what happens.

  --nodes N   how many nodes, 3 to 30 (default 3)
  --keep      leave them running until Ctrl-C
  --help      this text
`;

interface Options {
  readonly nodes: number;
  readonly keep: boolean;
}

function parse(): Options {
  let values: { nodes?: string; keep?: boolean; help?: boolean };
  try {
    ({ values } = parseArgs({
      options: {
        nodes: { type: "string" },
        keep: { type: "boolean" },
        help: { type: "boolean" },
      },
    }));
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
  if (values.help) {
    console.log(HELP);
    process.exit(0);
  }
  const nodes = Number(values.nodes ?? 3);
  if (!Number.isInteger(nodes) || nodes < 3 || nodes > 30) {
    console.error(`--nodes must be a whole number from 3 to 30, not ${values.nodes}\n\n${HELP}`);
    process.exit(2);
  }
  return { nodes, keep: values.keep ?? false };
}

const children: Child[] = [];
let folder: string | undefined;
/** Somebody wants it to end: nothing starts any more, and nothing that ends is a failure. */
let isStopping = false;
/** All nodes run until Ctrl-C, which is the end of the story then. */
let isKept = false;

async function cleanUp(): Promise<void> {
  isStopping = true;
  await Promise.all(children.map((child) => child.stop()));
  if (folder !== undefined) await rm(folder, { recursive: true, force: true });
}

function stopHere(): void {
  if (isStopping) throw new Error("interrupted");
}

async function start(
  story: Story,
  label: string,
  role: string,
  runtime: RuntimeName,
  contact?: string,
): Promise<Child> {
  stopHere();
  const child = new Child(label, runtime, [role, join(folder as string, label), contact]);
  children.push(child);
  const started = await child.wait("started");
  stopHere();
  story.started(child, started);
  if (contact === undefined) return child;
  const joined = await child.wait("joined");
  stopHere();
  story.joined(child, joined);
  return child;
}

/** A node's views, once it knows all members: the last ones may be on their way. */
async function viewsOf(child: Child, nodes: number): Promise<Report> {
  const isWhole = (report: Report) => (report["members"] as unknown[]).length === nodes;
  const whole = child.wait("views", isWhole);
  const ask = setInterval(() => child.say("views"), 200);
  child.say("views");
  return await whole.finally(() => clearInterval(ask));
}

async function main({ nodes, keep }: Options): Promise<void> {
  folder = mkdtempSync(join(tmpdir(), "barrel demo "));
  const story = new Story();
  story.begin(nodes);

  const seed = await start(story, "seed", "seed", "deno");
  const contact = (await seed.wait("started"))["address"] as string;
  const worker = await start(story, "worker", "worker", "bun", contact);
  const client = await start(story, "client", "client", "node", contact);
  const others: Child[] = [];
  for (let i = 4; i <= nodes; i++) {
    const runtime = RUNTIMES[(i - 1) % RUNTIMES.length] as RuntimeName;
    others.push(await start(story, `node${i}`, "node", runtime, contact));
  }

  await worker.wait("registered");
  story.registered(worker, await worker.wait("registered"));
  client.say("use");
  story.found(client, await client.wait("found"));
  story.answered(await client.wait("answered"));
  story.called(await client.wait("called"));
  for (const child of [seed, worker, client, ...others]) {
    story.views(child, await viewsOf(child, nodes));
  }

  if (keep) {
    isKept = true;
    story.kept();
    await new Promise<void>((resolve) => process.once("SIGINT", resolve));
    story.stopping();
    return;
  }

  const killedAt = performance.now();
  worker.kill();
  story.killed(worker);
  const isWorker = (event: Record<string, unknown>) =>
    event["type"] === "nodeDown" && event["node"] === worker.node;
  const down = await client.wait("membership", isWorker, 45_000);
  story.down(client, down, performance.now() - killedAt);
  await client.wait("monitor");
  await client.wait("registry", (event) => event["type"] === "down");
  story.gone(client, worker);

  for (const child of [client, seed, ...others]) {
    child.say("close");
    await child.wait("closed");
    const code = await child.exited;
    if (code !== 0) throw new Error(`${child.label} ended with ${code}`);
  }
  story.end();
}

const options = parse();
const interrupted = (code: number) => {
  if (isStopping) return;
  console.error("\ninterrupted; stopping the nodes");
  void cleanUp().finally(() => process.exit(code));
};
process.on("SIGINT", () => isKept || interrupted(130));
process.on("SIGTERM", () => interrupted(143));
try {
  await main(options);
  await cleanUp();
  process.exit(0);
} catch (error) {
  // Those who interrupted it also clean up.
  if (isStopping) await new Promise(() => {});
  console.error(`\nthe demo failed: ${error instanceof Error ? error.message : String(error)}`);
  await cleanUp();
  process.exit(1);
}
