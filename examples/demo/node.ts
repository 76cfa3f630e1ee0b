/**
 * One node of the demo, in a process of its own: `node.ts NAME ROLE DATA_DIR [CONTACT]`. It reports
 * in lines of JSON on standard output and obeys lines of JSON on standard input.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { createNode, defineServer } from "../../mod.ts";
import type { Node, Pid } from "../../mod.ts";

/** The server that the demo registers as `worker_pool`: says where it runs, and adds numbers. */
const Worker = defineServer({
  init: (_ctx, runtime: string) => ({ runtime, sum: 0 }),
  calls: {
    add: (ctx, by: number) => (ctx.state.sum += by),
    where: (ctx) => ctx.state.runtime,
  },
  info: (ctx, message) => {
    // A plain message: whoever sent it said where the answer goes.
    const { from, text } = message as { from: { send(reply: string): void }; text: string };
    from.send(`${text.toUpperCase()} (from ${ctx.state.runtime})`);
  },
});

/** Name of the service in the registry. */
const SERVICE = "worker_pool";

const [name = "", role = "", dataDir = "", contact] = process.argv.slice(2);
const runtime = "Deno" in globalThis ? "Deno" : "Bun" in globalThis ? "Bun" : "Node";

const tell = (event: string, data: Record<string, unknown> = {}) => {
  process.stdout.write(`${JSON.stringify({ event, ...data })}\n`);
};

const fail = (error: unknown) => {
  tell("failed", { message: error instanceof Error ? error.message : String(error) });
  process.exit(1);
};

async function main(): Promise<void> {
  const node = await createNode({
    name,
    listen: ["quic://127.0.0.1:0"],
    dataDir,
    contactNodes: contact === undefined ? [] : [contact],
    cluster: "demo",
  });
  node.membership.on((event) => tell("membership", { ...event }));
  node.registry.on(({ type, name: service, node: where }) => {
    tell("registry", { type, service, where });
  });
  tell("started", {
    runtime,
    address: node.addresses[0],
    fingerprint: node.fingerprint,
    pid: process.pid,
  });
  if (contact !== undefined) await node.joined({ timeoutMs: 20_000 });
  if (contact !== undefined) tell("joined", { view: node.membership.activeView() });
  if (role === "worker") {
    const pid = await node.start(Worker, [runtime], { register: SERVICE });
    tell("registered", { service: SERVICE, process: String(pid) });
  }
  listen(node);
}

function listen(node: Node): void {
  const lines = createInterface({ input: process.stdin });
  lines.on("line", (line) => {
    if (line === "views") {
      tell("views", {
        active: node.membership.activeView(),
        members: node.membership.members().map((member) => member.name),
      });
    } else if (line === "use") use(node).catch(fail);
    else if (line === "close") {
      node.close().then(() => {
        tell("closed");
        process.exit(0);
      }, fail);
    }
  });
  // The parent has gone: nobody is left to talk to.
  lines.on("close", () => void node.close().finally(() => process.exit(0)));
}

/** What the client does: finds the service, sends it a message, calls it. */
async function use(node: Node): Promise<void> {
  const pid = await node.registry.whereis(SERVICE, { retries: 20 });
  if (pid === undefined) throw new Error(`no node has registered "${SERVICE}"`);
  tell("found", { service: SERVICE, process: String(pid), hadLink: hasLink(node, pid) });

  const answer = Promise.withResolvers<string>();
  const asker = node.spawn<string>(async (self) => {
    self.monitor(pid);
    for await (const message of self.mailbox) {
      if (typeof message === "string") answer.resolve(message);
      else tell("monitor", { reason: (message as { reason?: unknown }).reason });
    }
  });
  await pid.send({ from: asker, text: "hello, worker" });
  tell("answered", { text: await answer.promise });

  const worker = node.client(Worker, SERVICE);
  const where = await worker.where();
  const times: number[] = [];
  let sum = 0;
  for (let i = 1; i <= 100; i++) {
    const start = performance.now();
    sum = await worker.add(i);
    times.push(performance.now() - start);
  }
  times.sort((a, b) => a - b);
  tell("called", { where, sum, medianUs: Math.round((times[50] as number) * 1000) });
}

function hasLink(node: Node, pid: Pid): boolean {
  return node.links.list().some((link) => link.node === pid.node);
}

process.on("SIGINT", () => {}); // Ctrl-C reaches the whole group; the parent ends us
main().catch(fail);
