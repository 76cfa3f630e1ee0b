/**
 * The measuring end of a pair: `node_client.ts NODE_ADDRESS BARE_ADDRESS PLAN`. Prints a line for
 * each step and the figures as JSON.
 */
import process from "node:process";
import type { Node, Pid } from "../mod.ts";
import type { Connection, Pipe } from "../src/transport/contract.ts";
import { benchNode, COUNTER_NAME, Echo, ECHO_NAME, endWithParent } from "./node_peer.ts";
import type { PairFigures, Plan } from "./node_peer.ts";
import { quantile } from "./quantile.ts";
import { bulk, ECHO, openRaw, rawOptions, transportNamed } from "./raw_transport.ts";

const PAYLOAD_BYTES = 64;
const MESSAGE_BYTES = 100;
const LARGE_BYTES = 2 ** 20;
const IN_FLIGHT = 64;
/** Looks at the clock are rarer than messages, or they would be measured, too. */
const PER_LOOK = 64;

endWithParent();
const [, , nodeAddress = "", bareAddress = "", plan = "{}"] = process.argv;
console.log(`figures ${JSON.stringify(await measure(JSON.parse(plan) as Plan))}`);
process.exit();

async function measure({ warmUp, rounds, calls, rateMs, joins }: Plan): Promise<PairFigures> {
  console.log("step join");
  const joinMs: number[] = [];
  let node: Node | undefined;
  for (let i = 0; i < joins; i++) {
    await node?.close();
    const start = performance.now();
    node = await benchNode(`client${i}`, nodeAddress);
    await node.joined({ timeoutMs: 20_000 });
    joinMs.push(performance.now() - start);
  }
  const client = node as Node;
  const server = client.client(Echo, await find(client, ECHO_NAME));
  const counter = await find(client, COUNTER_NAME);
  const call = () => server.echo(new Uint8Array(PAYLOAD_BYTES));

  console.log("step warm up");
  const bare = await dialBare();
  const pipe = await openRaw(bare, ECHO);
  const echoes: number[][] = [];
  const answers: number[][] = [];
  await echoTimes(pipe, warmUp);
  await callTimes(call, warmUp);
  console.log("step echo and call, one at a time");
  for (let round = 0; round < rounds; round++) {
    echoes.push(await echoTimes(pipe, calls));
    answers.push(await callTimes(call, calls));
  }

  console.log(`step calls, ${IN_FLIGHT} in flight`);
  const callRates = await rates(rounds, (ms) => callRate(call, ms), rateMs);
  console.log("step messages, one way");
  const messageRates = await rates(rounds, (ms) => messageRate(client, counter, ms), rateMs);
  console.log("step messages of 1 MiB");
  const large = await rates(rounds, (ms) => messageRate(client, counter, ms, LARGE_BYTES), rateMs);
  const bulkRates = await rates(rounds, (ms) => bulk(bare, 64 * 1024, 1, ms), rateMs);

  const medianOf = (each: number[][], q: number) => {
    return quantile(each.map((times) => quantile(times, q)), 0.5);
  };
  const ratios = answers.map((times, round) => {
    return quantile(times, 0.5) / quantile(echoes[round] as number[], 0.5);
  });
  return {
    echoMedianUs: medianOf(echoes, 0.5),
    echoP99Us: medianOf(echoes, 0.99),
    callMedianUs: medianOf(answers, 0.5),
    callP99Us: medianOf(answers, 0.99),
    callToEcho: quantile(ratios, 0.5),
    callsPerSecond: quantile(callRates, 0.5),
    messagesPerSecond: quantile(messageRates, 0.5),
    largeMiBPerSecond: quantile(large, 0.5) * LARGE_BYTES / 2 ** 20,
    bulkMiBPerSecond: quantile(bulkRates, 0.5) / 2 ** 20,
    joinMs: quantile(joinMs, 0.5),
  };
}

async function find(node: Node, name: string): Promise<Pid> {
  const pid = await node.registry.whereis(name, { retries: 20 });
  if (pid === undefined) throw new Error(`nobody has registered ${name}`);
  return pid;
}

async function dialBare(): Promise<Connection> {
  const [transport] = await transportNamed("quic");
  return await transport.dial(bareAddress, { ...await rawOptions(), timeoutMs: 10_000 });
}

/** Microseconds of each of `count` echoes, one after the other. */
function echoTimes(pipe: Pipe, count: number): Promise<number[]> {
  return new Promise((resolve) => {
    const times: number[] = [];
    let missing = PAYLOAD_BYTES;
    let sentAt = performance.now();
    pipe.onData = (chunk) => {
      missing -= chunk.length;
      if (missing > 0) return;
      times.push((performance.now() - sentAt) * 1000);
      if (times.length === count) return resolve(times);
      missing = PAYLOAD_BYTES;
      sentAt = performance.now();
      pipe.write(new Uint8Array(PAYLOAD_BYTES));
    };
    pipe.write(new Uint8Array(PAYLOAD_BYTES));
  });
}

/** Microseconds of each of `count` calls, one after the other. */
async function callTimes(call: () => Promise<Uint8Array>, count: number): Promise<number[]> {
  const times: number[] = [];
  for (let i = 0; i < count; i++) {
    const sentAt = performance.now();
    const answer = await call();
    times.push((performance.now() - sentAt) * 1000);
    if (answer.length !== PAYLOAD_BYTES) throw new Error("the answer is not what was sent");
  }
  return times;
}

/** Calls a second with {@link IN_FLIGHT} of them under way. */
async function callRate(call: () => Promise<Uint8Array>, ms: number): Promise<number> {
  const start = performance.now();
  let count = 0;
  const caller = async () => {
    while (performance.now() < start + ms) {
      await call();
      count++;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, caller));
  return count / (performance.now() - start) * 1000;
}

/** Messages a second until the receiver has had the last; waits whenever `send` says so. */
async function messageRate(
  node: Node,
  counter: Pid,
  ms: number,
  bytes = MESSAGE_BYTES,
): Promise<number> {
  const counted = Promise.withResolvers<number>();
  const asker = node.spawn<number>(async (self) => counted.resolve(await self.receive() as number));
  const message = new Uint8Array(bytes).fill(7);
  const perLook = bytes > 10_000 ? 1 : PER_LOOK;
  const start = performance.now();
  let sent = 0;
  while (performance.now() < start + ms) {
    for (let i = 0; i < perLook; i++) {
      const room = counter.send(message);
      if (room !== undefined) await room;
    }
    sent += perLook;
  }
  await counter.send(asker);
  const received = await counted.promise;
  if (received !== sent) throw new Error(`${sent} messages were sent and ${received} received`);
  return received / (performance.now() - start) * 1000;
}

/** One short run to warm up, then `rounds` of them. */
async function rates(
  rounds: number,
  measureRate: (ms: number) => Promise<number>,
  ms: number,
): Promise<number[]> {
  await measureRate(ms / 2);
  const results: number[] = [];
  for (let round = 0; round < rounds; round++) results.push(await measureRate(ms));
  return results;
}
