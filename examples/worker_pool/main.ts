/**
 * A pool of workers on any number of nodes. Each registers under one name and says with its
 * metadata how much it has to do; whoever has work gives it to the least loaded.
 */
import process from "node:process";
import { createNode, defineServer } from "../../mod.ts";
import type { Instance, Node, Pid } from "../../mod.ts";
import { commands, readOptions, refuse, runtime } from "../arguments.ts";

const HELP = `A pool of workers.

Without --join it has work: it waits for workers, and gives each job to the least loaded. With
--join it is a worker.

  --join ADDRESS   the node that has work, or another worker
  --workers N      workers to wait for before it begins (default 1)
  --jobs N         how many jobs there are (default 100)
  --help           this text
`;

/** The name that all workers share. */
const POOL = "worker_pool";
/** Jobs that are given away at once. */
const AT_ONCE = 16;

interface Meta {
  readonly load: number;
  readonly runtime: string;
}

/** `publish` tells everybody how many jobs wait here. */
const Worker = defineServer({
  init: (ctx, publish: (pid: Pid, load: number) => void) => ({
    load: 0,
    publish: (load: number) => publish(ctx.self.pid, load),
  }),
  calls: {
    /** How many primes there are below `n`. Others can ask meanwhile. */
    countPrimes: (ctx, n: number) => {
      const { state } = ctx;
      const result = ctx.defer<{ primes: number; by: string }>();
      state.publish(++state.load);
      countPrimes(n).then((primes) => {
        state.publish(--state.load);
        result.resolve({ primes, by: runtime });
      }, result.reject);
      return result;
    },
  },
});

async function countPrimes(n: number): Promise<number> {
  let count = 0;
  for (let i = 2; i < n; i++) {
    let isPrime = true;
    for (let j = 2; j * j <= i && isPrime; j++) isPrime = i % j !== 0;
    if (isPrime) count++;
    // Long work lets others have the event loop now and then.
    if (i % 2_000 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  return count;
}

async function work(node: Node): Promise<void> {
  await node.joined({ timeoutMs: 10_000 });
  const publish = (pid: Pid, load: number) => {
    const meta: Meta = { load, runtime };
    // Registering again replaces the metadata.
    void node.registry.register(POOL, pid, meta).catch(() => {});
  };
  const meta: Meta = { load: 0, runtime };
  await node.start(Worker, [publish], { register: POOL, meta });
  console.log(`${node.name} works on ${runtime}. Ctrl-C ends it.`);
}

async function distribute(node: Node, jobs: number, workers: number): Promise<void> {
  console.log(`${workers} worker${workers === 1 ? "" : "s"} wanted. From other terminals:\n`);
  console.log(commands("worker_pool/main.ts", `--join ${node.addresses[0]}`));
  for await (const _ of node.registry.events()) {
    if (node.registry.lookup(POOL).length >= workers) break;
  }
  // Interrupted while it waited.
  if (closing) return;
  console.log(`\n${jobs} jobs, ${AT_ONCE} at a time.`);

  /** What we gave away and is not back yet: the registry learns of it a moment later. */
  const given = new Map<string, number>();
  const loadOf = ({ pid, meta }: Instance) =>
    Math.max((meta as Meta).load, given.get(String(pid)) ?? 0);
  /** Workers that failed us: the registry may list them for some seconds more. */
  const gone = new Set<string>();
  const tally = new Map<string, number>();

  const one = async (job: number): Promise<void> => {
    const pool = node.registry.lookup(POOL).filter(({ pid }) => !gone.has(String(pid)));
    const best = pool.toSorted((a, b) => loadOf(a) - loadOf(b))[0];
    if (best === undefined) throw new Error("all workers have gone");
    const key = String(best.pid);
    given.set(key, (given.get(key) ?? 0) + 1);
    try {
      const client = node.client(Worker, best.pid).with({ timeoutMs: 30_000 });
      const { by } = await client.countPrimes(5_000 + job * 100);
      const who = `${best.node} (${by})`;
      tally.set(who, (tally.get(who) ?? 0) + 1);
    } catch (error) {
      if (closing) return;
      // A worker that went takes no job along.
      gone.add(key);
      console.log(`job ${job} again: ${(error as Error).message}`);
      return await one(job);
    } finally {
      given.set(key, (given.get(key) ?? 1) - 1);
    }
  };
  let next = 0;
  const lane = async () => {
    while (next < jobs) await one(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, lane));
  for (const [who, count] of tally) console.log(`  ${who} did ${count}`);
  console.log("All done.");
}

const { join, workers, jobs } = readOptions(HELP, { join: undefined, workers: "1", jobs: "100" });
for (const [name, value] of Object.entries({ workers, jobs })) {
  if (!/^[1-9]\d{0,5}$/.test(value ?? "")) refuse(`--${name} must be a number, not ${value}`, HELP);
}
const node = await createNode({
  name: `${join === undefined ? "boss" : `worker-${process.pid}`}@127.0.0.1`,
  listen: ["quic://127.0.0.1:0"],
  contactNodes: join === undefined ? [] : [join],
  cluster: "worker-pool",
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
  if (join !== undefined) await work(node);
  else {
    await distribute(node, Number(jobs), Number(workers));
    close(0);
  }
} catch (error) {
  // What is interrupted has not failed.
  if (!closing) console.error((error as Error).message);
  close(1);
}
