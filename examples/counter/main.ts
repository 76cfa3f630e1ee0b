/**
 * A counter that lives on one node, is found by name from every other, and comes back when it
 * crashes.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { child, createNode, defineServer } from "../../mod.ts";
import { commands, readOptions, refuse, runtime } from "../arguments.ts";

const HELP = `A counter in the cluster.

Without --join it starts the counter, supervised and registered; with --join it uses one that is
there. Commands, one a line: add NUMBER, get, crash, quit.

  --join ADDRESS   a node of the cluster, such as quic://127.0.0.1:9000
  --port PORT      UDP port to listen on (default: any)
  --help           this text
`;

const Counter = defineServer({
  init: (_ctx, start: number) => ({ n: start }),
  calls: {
    add: (ctx, by: number) => (ctx.state.n += by),
    get: (ctx) => ctx.state.n,
  },
  casts: {
    // What is thrown in a cast ends the server; its supervisor starts it again.
    crash: () => {
      throw new Error("crashed on purpose");
    },
  },
});

const { join, port } = readOptions(HELP, { join: undefined, port: "0" });
if (!/^\d{1,5}$/.test(port ?? "")) refuse(`--port must be a number, not ${port}`, HELP);

const node = await createNode({
  name: `${join === undefined ? "counter" : `user-${process.pid}`}@127.0.0.1`,
  listen: [`quic://127.0.0.1:${port}`],
  contactNodes: join === undefined ? [] : [join],
  cluster: "counter",
});

let closing = false;
const close = (code: number) => {
  if (closing) return;
  closing = true;
  void node.close().finally(() => process.exit(code));
};
process.on("SIGINT", () => close(0));
process.on("SIGTERM", () => close(0));

try {
  if (join === undefined) {
    await node.supervise({
      children: [{ id: "counter", start: child(Counter, [0], { register: "counter" }) }],
    });
    console.log(`The counter runs on ${runtime}. From another terminal:\n`);
    console.log(commands("counter/main.ts", `--join ${node.addresses[0]}`));
  } else await node.joined({ timeoutMs: 10_000 });
  if (await node.registry.whereis("counter", { retries: 4 }) === undefined) {
    throw new Error("nobody in this cluster has a counter");
  }
} catch (error) {
  console.error((error as Error).message);
  close(1);
}

if (!closing) serve();

function serve(): void {
  // A typed client, wherever the counter lives now.
  const counter = node.client(Counter, node.registry.proxy("counter"));

  const run = async (line: string): Promise<void> => {
    const [command, value] = line.trim().split(/\s+/);
    if (command === "add" && Number.isFinite(Number(value))) {
      console.log(`the counter is ${await counter.add(Number(value))}`);
    } else if (command === "get") console.log(`the counter is ${await counter.get()}`);
    else if (command === "crash") await counter.crash();
    else if (command === "quit") close(0);
    else if (command !== "") console.log("commands: add NUMBER, get, crash, quit");
  };

  console.log("Commands: add NUMBER, get, crash, quit.");
  let last: Promise<void> = Promise.resolve();
  createInterface({ input: process.stdin }).on("line", (line) => {
    // One after the other, as typed.
    last = last.then(() => run(line)).catch((error: Error) => console.log(error.message));
  }).on("close", () => void last.then(() => close(0)));
}
