/** What both ends of the raw measurement share: the transport, its options, the pipes' protocol. */
import process from "node:process";
import { quic } from "../adapters/quic/mod.ts";
import { silentLogger } from "../src/base/logger.ts";
import { realClock, realCrypto, realRandom } from "../src/base/real.ts";
import { tlsIdentity } from "../src/identity/certificate.ts";
import type { Connection, ConnectionOptions, Pipe, Transport } from "../src/transport/contract.ts";

/** A transport by its name, and where it listens. */
export async function transportNamed(name: string): Promise<[Transport, address: string]> {
  switch (name) {
    case "quic":
      return [await quic(), "quic://127.0.0.1:0"];
    case "quiche": {
      const { quicheTransport } = await import("../adapters/quic/quiche.ts");
      return [await quicheTransport(), "quic://127.0.0.1:0"];
    }
    default:
      throw new Error(`no transport is called ${name}: quic, quiche`);
  }
}

/** The options of a connection of a fresh identity. */
export async function rawOptions(): Promise<ConnectionOptions> {
  const crypto = await realCrypto();
  return {
    identity: await tlsIdentity(await crypto.generateKeyPair(), crypto),
    clock: realClock,
    random: realRandom,
    logger: silentLogger,
    idleTimeoutMs: 10_000,
    keepAliveMs: 2_000,
    maxPipes: 1_000,
  };
}

/** The first byte of a pipe: what the server does with the rest. */
export const ECHO = 1;
/** It counts the bytes, and answers with their number in decimal once the pipe has ended. */
export const COUNT = 2;
/** It answers with the resident memory of its process, bytes in decimal. */
export const MEMORY = 3;

/** Starts a server that does what the first byte of a pipe asks for; its address. */
export async function startRawServer(name: string): Promise<string> {
  const [transport, address] = await transportNamed(name);
  const listener = await transport.listen(address, {
    ...await rawOptions(),
    maxConnections: 10_000,
    onConnection: (connection) => void (connection.onPipe = serve),
  });
  return listener.address;
}

function serve(pipe: Pipe): void {
  let echoes: boolean | undefined;
  let count = 0;
  pipe.onData = (chunk) => {
    let data = chunk;
    if (echoes === undefined) {
      echoes = chunk[0] === ECHO;
      data = chunk.subarray(1);
      if (chunk[0] === MEMORY) pipe.write(new TextEncoder().encode(`${process.memoryUsage().rss}`));
    }
    count += data.length;
    if (echoes && data.length > 0) pipe.write(data);
  };
  pipe.onEnd = () => {
    if (!echoes) pipe.write(new TextEncoder().encode(String(count)));
    pipe.end();
  };
}

/** Opens a pipe for a purpose. */
export async function openRaw(connection: Connection, purpose: number): Promise<Pipe> {
  const pipe = await connection.openPipe("bidirectional");
  pipe.write(new Uint8Array([purpose]));
  return pipe;
}

/** Bytes a second that arrive when `count` messages are joined into each write. */
export async function bulk(
  connection: Connection,
  messageBytes: number,
  count: number,
  ms: number,
): Promise<number> {
  const pipe = await openRaw(connection, COUNT);
  const received = new Promise<number>((resolve) => {
    let text = "";
    pipe.onData = (chunk) => (text += new TextDecoder().decode(chunk));
    pipe.onEnd = () => resolve(Number(text));
  });
  const message = new Uint8Array(messageBytes).fill(7);
  const start = performance.now();
  while (performance.now() < start + ms) {
    let room = true;
    // A look at the clock for each small write would be measured, too.
    for (let i = 0; i < 16 && room; i++) {
      const buffer = new Uint8Array(messageBytes * count);
      for (let at = 0; at < buffer.length; at += messageBytes) buffer.set(message, at);
      room = pipe.write(buffer);
    }
    if (!room) await new Promise<void>((resolve) => (pipe.onDrain = resolve));
  }
  pipe.end();
  return await received / (performance.now() - start) * 1000;
}
