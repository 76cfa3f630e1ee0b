/**
 * Actors inside one node, and beside each figure its floor: the same with nothing but an array and
 * the microtask queue. `actors_local.ts PLAN`: prints a line for each step and the figures as JSON.
 */
import process from "node:process";
import { createNode, defineServer } from "../mod.ts";
import type { Node } from "../mod.ts";
import { createMemoryNetwork } from "../src/transport/memory.ts";
import { seededRandom } from "../src/base/random.ts";
import { realClock } from "../src/base/real.ts";
import { quantile } from "./quantile.ts";

/** How much is measured. */
export interface LocalPlan {
  readonly rounds: number;
  /** Messages, and a tenth of it calls, in a round. */
  readonly messages: number;
  readonly spawns: number;
  /** Processes that rest at once. */
  readonly idle: number;
}

/** What one runtime does inside one node; a second is that of the clock on the wall. */
export interface LocalFigures {
  readonly sendsPerSecond: number;
  readonly callsPerSecond: number;
  readonly spawnsPerSecond: number;
  /** Resident memory of the process for each resting one. */
  readonly bytesPerProcess: number;
  readonly floorSendsPerSecond: number;
  readonly floorCallsPerSecond: number;
  readonly floorSpawnsPerSecond: number;
  readonly floorBytesPerProcess: number;
}

const Echo = defineServer({
  init: () => null,
  calls: { echo: (_ctx, value: number) => value },
});

const IN_FLIGHT = 16;
const floorKept: unknown[] = [];
const restless = async (self: { mailbox: AsyncIterable<unknown> }) => {
  for await (const _ of self.mailbox);
};

const plan = JSON.parse(process.argv[2] ?? "{}") as LocalPlan;
const network = createMemoryNetwork({ clock: realClock, random: seededRandom(1) });
const node: Node = await createNode({
  name: "local@mem",
  listen: ["mem://local"],
  transports: [network.host("local").transport],
});
console.log(`figures ${JSON.stringify(await measure())}`);
process.exit();

async function measure(): Promise<LocalFigures> {
  const steps = {
    sendsPerSecond: () => rate(plan.messages, sends),
    floorSendsPerSecond: () => rate(plan.messages, floorSends),
    callsPerSecond: () => rate(plan.messages / 10, calls),
    floorCallsPerSecond: () => rate(plan.messages / 10, floorCalls),
    spawnsPerSecond: () => rate(plan.spawns, spawns),
    floorSpawnsPerSecond: () => rate(plan.spawns, floorSpawns),
  };
  const samples = new Map<string, number[]>();
  for (let round = 0; round <= plan.rounds; round++) {
    console.log(`step round ${round} of ${plan.rounds}`);
    for (const [name, step] of Object.entries(steps)) {
      const value = await step();
      // The first one was for the just-in-time compilers.
      if (round > 0) samples.set(name, [...samples.get(name) ?? [], value]);
    }
  }
  const medians = Object.fromEntries(
    [...samples].map(([name, values]) => [name, quantile(values, 0.5)]),
  );
  console.log(`step ${plan.idle} processes at rest`);
  const floorBytesPerProcess = await bytesEach(() => floorSpawn());
  const bytesPerProcess = await bytesEach(() => void node.spawn(restless));
  return { ...medians, bytesPerProcess, floorBytesPerProcess } as unknown as LocalFigures;
}

async function rate(count: number, work: (count: number) => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work(count);
  return count / (performance.now() - start) * 1000;
}

async function sends(count: number): Promise<void> {
  const done = Promise.withResolvers<void>();
  const pid = node.spawn<number>(async (self) => {
    let received = 0;
    for await (const _ of self.mailbox) if (++received === count) break;
    done.resolve();
  });
  for (let i = 0; i < count; i++) {
    void pid.send(i);
    if (i % 1_000 === 999) await Promise.resolve();
  }
  await done.promise;
}

async function floorSends(count: number): Promise<void> {
  const done = Promise.withResolvers<void>();
  let received = 0;
  const mailbox = floorMailbox(() => {
    if (++received === count) done.resolve();
  });
  for (let i = 0; i < count; i++) {
    mailbox(i);
    if (i % 1_000 === 999) await Promise.resolve();
  }
  await done.promise;
}

function floorMailbox(handle: (message: unknown) => void): (message: unknown) => void {
  let queue: unknown[] = [];
  let isScheduled = false;
  const drain = () => {
    const messages = queue;
    queue = [];
    isScheduled = false;
    for (const message of messages) handle(message);
  };
  return (message) => {
    queue.push(message);
    if (isScheduled) return;
    isScheduled = true;
    queueMicrotask(drain);
  };
}

async function calls(count: number): Promise<void> {
  const pid = await node.start(Echo, []);
  const client = node.client(Echo, pid);
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
    for (let i = 0; i < count / IN_FLIGHT; i++) await client.echo(i);
  }));
  node.exit(pid, "kill");
}

async function floorCalls(count: number): Promise<void> {
  const server = floorMailbox((message) => {
    const { value, resolve } = message as { value: number; resolve: (value: number) => void };
    resolve(value);
  });
  const call = (value: number) => new Promise<number>((resolve) => server({ value, resolve }));
  await Promise.all(Array.from({ length: IN_FLIGHT }, async () => {
    for (let i = 0; i < count / IN_FLIGHT; i++) await call(i);
  }));
}

async function spawns(count: number): Promise<void> {
  const done = Promise.withResolvers<void>();
  let ended = 0;
  for (let i = 0; i < count; i++) {
    node.spawn(async () => {
      await Promise.resolve();
      if (++ended === count) done.resolve();
    });
    if (i % 1_000 === 999) await Promise.resolve();
  }
  await done.promise;
}

async function floorSpawns(count: number): Promise<void> {
  const done = Promise.withResolvers<void>();
  let ended = 0;
  const run = async () => {
    await Promise.resolve();
    if (++ended === count) done.resolve();
  };
  for (let i = 0; i < count; i++) {
    queueMicrotask(() => void run());
    if (i % 1_000 === 999) await Promise.resolve();
  }
  await done.promise;
}

function floorSpawn(): void {
  void (async () => {
    await new Promise((resolve) => floorKept.push(resolve));
  })();
}

async function bytesEach(spawn: () => void): Promise<number> {
  const before = process.memoryUsage().rss;
  for (let i = 0; i < plan.idle; i++) {
    spawn();
    // A turn now and then, as a server would have.
    if (i % 10_000 === 9_999) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
  return (process.memoryUsage().rss - before) / plan.idle;
}
