/**
 * The measuring end of the streams' measurement: `streams_client.ts NODE_ADDRESS BARE_ADDRESS PLAN`.
 * Prints a line for each step and the figures as JSON.
 */
import process from "node:process";
import type { TaggedStream } from "../mod.ts";
import { benchNode, endWithParent } from "./node_peer.ts";
import { quantile } from "./quantile.ts";
import { bulk, rawOptions, transportNamed } from "./raw_transport.ts";
import { SINK_TAG } from "./streams_peer.ts";
import type { StreamFigures, StreamPlan } from "./streams_peer.ts";

endWithParent();
const [, , nodeAddress = "", bareAddress = "", plan = "{}"] = process.argv;
const { rounds, rateMs, opens } = JSON.parse(plan) as StreamPlan;
const SERVER = "server@127.0.0.1";
const CHUNK = new Uint8Array(64 * 1024).fill(7);

const node = await benchNode("client", nodeAddress);
await node.joined({ timeoutMs: 20_000 });
const [transport] = await transportNamed("quic");
const bare = await transport.dial(bareAddress, { ...await rawOptions(), timeoutMs: 10_000 });
console.log(`figures ${JSON.stringify(await measure())}`);
process.exit();

async function measure(): Promise<StreamFigures> {
  console.log("step bulk, bare and over streams");
  const all = { raw: [] as number[], stream: [] as number[], pipeTo: [] as number[] };
  const small: number[] = [];
  for (let round = 0; round <= rounds; round++) {
    const raw = await bulk(bare, CHUNK.length, 1, rateMs) / 2 ** 20;
    const stream = await rate((one) => writeAll(one, CHUNK));
    const pipeTo = await rate(pipeAll);
    const few = await rate((one) => writeAll(one, CHUNK.subarray(0, 1024)));
    // The first one was for the just-in-time compilers.
    if (round === 0) continue;
    all.raw.push(raw);
    all.stream.push(stream);
    all.pipeTo.push(pipeTo);
    small.push(few);
  }
  console.log("step opens");
  const openUs: number[] = [];
  for (let i = 0; i < opens; i++) {
    const start = performance.now();
    const stream = await node.streams.open(SINK_TAG, SERVER);
    openUs.push((performance.now() - start) * 1000);
    await stream.writable.close();
    await countOf(stream);
  }
  const ratios = (values: readonly number[]) =>
    quantile(values.map((value, round) => value / (all.raw[round] as number)), 0.5);
  return {
    rawMiBPerSecond: quantile(all.raw, 0.5),
    streamMiBPerSecond: quantile(all.stream, 0.5),
    pipeToMiBPerSecond: quantile(all.pipeTo, 0.5),
    streamToRaw: ratios(all.stream),
    pipeToToRaw: ratios(all.pipeTo),
    smallMiBPerSecond: quantile(small, 0.5),
    openUs: quantile(openUs, 0.5),
  };
}

/** MiB a second until the reader has had the last byte. */
async function rate(send: (stream: TaggedStream) => Promise<void>): Promise<number> {
  const stream = await node.streams.open(SINK_TAG, SERVER);
  const start = performance.now();
  await send(stream);
  const count = await countOf(stream);
  return count / 2 ** 20 / (performance.now() - start) * 1000;
}

async function writeAll(stream: TaggedStream, chunk: Uint8Array): Promise<void> {
  const writer = stream.writable.getWriter();
  const end = performance.now() + rateMs;
  while (performance.now() < end) {
    for (let i = 0; i < 16; i++) await writer.write(chunk);
  }
  await writer.close();
}

async function pipeAll(stream: TaggedStream): Promise<void> {
  const end = performance.now() + rateMs;
  const source = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (performance.now() < end) controller.enqueue(CHUNK);
      else controller.close();
    },
  }, { highWaterMark: 4 });
  await source.pipeTo(stream.writable);
}

async function countOf(stream: TaggedStream): Promise<number> {
  let text = "";
  const decoder = new TextDecoder();
  for await (const chunk of stream.readable) text += decoder.decode(chunk, { stream: true });
  return Number(text);
}
