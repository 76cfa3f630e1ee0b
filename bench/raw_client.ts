/** The client of the raw measurement: prints one line of figures as JSON. */
import process from "node:process";
import type { Connection } from "../src/transport/contract.ts";
import { quantile } from "./quantile.ts";
import { bulk, ECHO, openRaw, rawOptions, transportNamed } from "./raw_transport.ts";

/** What one client measured against one server. */
export interface RawFigures {
  /** Round trip of one 64-byte echo at a time, microseconds. */
  readonly echoMedianUs: number;
  readonly echoP99Us: number;
  /** 64-byte echoes a second with 64 in flight. */
  readonly echoesPerSecond: number;
  /** 100-byte messages a second, one way, each written by itself. */
  readonly messagesPerSecond: number;
  /** The same, 160 of them joined into each write. */
  readonly batchedPerSecond: number;
  /** One way in writes of 64 KiB. */
  readonly bulkMiBPerSecond: number;
  /** From `dial` to a connection, median, milliseconds. */
  readonly connectMs: number;
}

const MESSAGE_BYTES = 100;
const BATCH = 160;

const [, , name = "quic", address = "", seconds = "1"] = process.argv;
const durationMs = Number(seconds) * 1000;
const [transport] = await transportNamed(name);
const options = { ...await rawOptions(), timeoutMs: 10_000 };

const dialMs: number[] = [];
let connection: Connection | undefined;
for (let i = 0; i < 20; i++) {
  connection?.close(1, "another one");
  const start = performance.now();
  connection = await transport.dial(address, options);
  dialMs.push(performance.now() - start);
}

// Once quickly for the just-in-time compilers, then for the record.
let figures: RawFigures | undefined;
for (const ms of [durationMs / 4, durationMs]) {
  const echo = await echoOneByOne(ms);
  figures = {
    echoMedianUs: quantile(echo, 0.5),
    echoP99Us: quantile(echo, 0.99),
    echoesPerSecond: await echoInFlight(ms),
    messagesPerSecond: await bulk(connection as Connection, MESSAGE_BYTES, 1, ms) / MESSAGE_BYTES,
    batchedPerSecond: await bulk(connection as Connection, MESSAGE_BYTES, BATCH, ms) /
      MESSAGE_BYTES,
    bulkMiBPerSecond: await bulk(connection as Connection, 64 * 1024, 1, ms) / 2 ** 20,
    connectMs: quantile(dialMs, 0.5),
  };
}
console.log(`figures ${JSON.stringify(figures)}`);
connection?.close(1, "measured");
await connection?.closed;
process.exit();

/** Microseconds of each of the echoes that fit into `ms`. */
async function echoOneByOne(ms: number): Promise<number[]> {
  const pipe = await openRaw(connection as Connection, ECHO);
  const samples: number[] = [];
  await new Promise<void>((resolve) => {
    const end = performance.now() + ms;
    let sentAt = performance.now();
    let missing = 64;
    pipe.onData = (chunk) => {
      missing -= chunk.length;
      if (missing > 0) return;
      const now = performance.now();
      samples.push((now - sentAt) * 1000);
      if (now > end) return resolve();
      missing = 64;
      sentAt = performance.now();
      pipe.write(new Uint8Array(64));
    };
    pipe.write(new Uint8Array(64));
  });
  pipe.end();
  return samples;
}

/** Echoes a second with 64 of them under way. */
async function echoInFlight(ms: number): Promise<number> {
  const pipe = await openRaw(connection as Connection, ECHO);
  const start = performance.now();
  let echoes = 0;
  await new Promise<void>((resolve) => {
    let bytes = 0;
    pipe.onData = (chunk) => {
      bytes += chunk.length;
      const whole = Math.floor(bytes / 64);
      bytes -= whole * 64;
      echoes += whole;
      if (performance.now() > start + ms) return resolve();
      for (let i = 0; i < whole; i++) pipe.write(new Uint8Array(64));
    };
    for (let i = 0; i < 64; i++) pipe.write(new Uint8Array(64));
  });
  pipe.end();
  return echoes / (performance.now() - start) * 1000;
}
