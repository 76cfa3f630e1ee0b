/**
 * The floor under every transport: bare datagrams between two processes. `udp.ts` alone serves and
 * prints its port; `udp.ts PORT MILLISECONDS` measures and prints one line of figures.
 */
import { createSocket } from "node:dgram";
import process from "node:process";
import { quantile } from "./quantile.ts";

/** What bare UDP does. */
export interface UdpFigures {
  /** Round trip of 64 bytes, one at a time, microseconds, median. */
  readonly echoMedianUs: number;
  /** Datagrams of 1,200 bytes that arrive, MiB a second. */
  readonly bulkMiBPerSecond: number;
}

const PACKET_BYTES = 1_200;
/** Answered with the number of bytes that came since the last one. */
const COUNT = 1;

const [, , port, ms = "1000"] = process.argv;
const socket = createSocket("udp4");
if (port === undefined) serve();
else {
  console.log(`figures ${JSON.stringify(await measure(Number(port), Number(ms)))}`);
  process.exit();
}

function serve(): void {
  let bytes = 0;
  socket.on("message", (packet, { port: from, address }) => {
    if (packet.length === PACKET_BYTES) bytes += packet.length;
    else if (packet.length === COUNT) {
      socket.send(String(bytes), from, address);
      bytes = 0;
    } else socket.send(packet, from, address);
  });
  socket.bind(0, "127.0.0.1", () => console.log(`listening ${socket.address().port}`));
  process.stdin.on("end", () => process.exit()).resume();
}

async function measure(to: number, durationMs: number): Promise<UdpFigures> {
  const ask = (packet: Uint8Array) =>
    new Promise<string>((resolve) => {
      socket.once("message", (answer) => resolve(answer.toString()));
      socket.send(packet, to, "127.0.0.1");
    });
  const times: number[] = [];
  const end = performance.now() + durationMs;
  while (performance.now() < end) {
    const start = performance.now();
    await ask(new Uint8Array(64));
    times.push((performance.now() - start) * 1000);
  }
  await ask(new Uint8Array(COUNT));
  const start = performance.now();
  const packet = new Uint8Array(PACKET_BYTES);
  while (performance.now() < start + durationMs) {
    // As many as fit into a default socket buffer, then a turn for the kernel.
    for (let i = 0; i < 32; i++) socket.send(packet, to, "127.0.0.1");
    await new Promise<void>((resolve) => socket.send(packet, to, "127.0.0.1", () => resolve()));
  }
  const elapsedMs = performance.now() - start;
  await new Promise((resolve) => setTimeout(resolve, 50));
  const received = Number(await ask(new Uint8Array(COUNT)));
  return {
    echoMedianUs: quantile(times, 0.5),
    bulkMiBPerSecond: received / 2 ** 20 / elapsedMs * 1000,
  };
}
