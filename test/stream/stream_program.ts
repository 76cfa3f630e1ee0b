/**
 * One end of streams between processes. Without arguments it accepts: `digest` reads everything and
 * answers with the SHA-256, `slow` does so when a line on standard input says so, `echo` sends back.
 * `stream_program.ts ADDRESS MIB` sends so much to a `digest`, and prints what came of it.
 */
import { createHash } from "node:crypto";
import process from "node:process";
import { createInterface } from "node:readline";
import { createNode } from "../../mod.ts";
import { digestOf, noise } from "./noise.ts";

const [, , address, mib = "0"] = process.argv;
const node = await createNode({
  name: `${address === undefined ? "server" : "client"}@127.0.0.1`,
  listen: ["quic://127.0.0.1:0"],
  contactNodes: address === undefined ? [] : [address],
});
const megabytes = (bytes: number) => Math.round(bytes / 2 ** 20);
let peak = 0;
setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);

if (address === undefined) await serve();
else await send(Number(mib));

async function serve(): Promise<void> {
  const released = Promise.withResolvers<void>();
  const answer = async (writable: WritableStream<Uint8Array>, text: string) => {
    const writer = writable.getWriter();
    await writer.write(new TextEncoder().encode(text));
    await writer.close();
  };
  node.streams.accept("digest", async ({ readable, writable }) => {
    await answer(writable, await digestOf(readable));
  });
  node.streams.accept("slow", async ({ readable, writable }) => {
    await released.promise;
    await answer(writable, await digestOf(readable));
  });
  node.streams.accept("echo", ({ readable, writable }) => readable.pipeTo(writable));
  node.streams.accept("fail", () => {
    throw new Error("not today");
  });
  console.log(`ready ${node.addresses[0]}`);
  for await (const line of createInterface({ input: process.stdin })) {
    if (line === "rss") console.log(`rss ${process.memoryUsage().rss}`);
    if (line === "peak") console.log(`peak ${megabytes(peak)}`);
    if (line === "read") released.resolve();
  }
  await node.close();
  process.exit();
}

async function send(count: number): Promise<void> {
  await node.joined({ timeoutMs: 20_000 });
  const stream = await node.streams.open("digest", "server@127.0.0.1");
  const hash = createHash("sha256");
  const start = performance.now();
  await noise(count * 2 ** 20, (chunk) => hash.update(chunk)).pipeTo(stream.writable);
  const seconds = (performance.now() - start) / 1000;
  let theirs = "";
  for await (const chunk of stream.readable) theirs += new TextDecoder().decode(chunk);
  const sent = `${hash.digest("hex")} ${count * 2 ** 20}`;
  console.log(`sent ${sent === theirs ? "whole" : "BROKEN"} ${seconds} ${megabytes(peak)}`);
  await node.close();
  process.exit();
}
