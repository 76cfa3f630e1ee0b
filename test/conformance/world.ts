import { quic } from "../../adapters/quic/mod.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { realClock, realCrypto, realRandom } from "../../src/base/real.ts";
import { tlsIdentity } from "../../src/identity/certificate.ts";
import type {
  Connection,
  ConnectionOptions,
  DialOptions,
  Listener,
  ListenOptions,
  Pipe,
  Transport,
} from "../../src/transport/contract.ts";
import type { Program } from "../processes.ts";
import { serveFramed } from "./framed.ts";

/** Options for a connection of a fresh identity. */
export async function connectionOptions(
  overrides: Partial<ConnectionOptions> = {},
): Promise<ConnectionOptions> {
  const crypto = await realCrypto();
  return {
    identity: await tlsIdentity(await crypto.generateKeyPair(), crypto),
    clock: realClock,
    random: realRandom,
    logger: silentLogger,
    idleTimeoutMs: 10_000,
    keepAliveMs: 2_000,
    maxPipes: 100,
    ...overrides,
  };
}

/** The transport under test: this runtime's QUIC. */
export async function quicUnderTest(): Promise<Transport> {
  return await quic();
}

/** A listener that answers each bidirectional pipe with what it received, and counts the rest. */
export async function echoServer(
  transport: Transport,
  address: string,
  overrides: Partial<ListenOptions> = {},
): Promise<Listener> {
  return await transport.listen(address, {
    ...await connectionOptions(overrides),
    maxConnections: 1000,
    onConnection: (connection) => serveEcho(connection),
    ...overrides,
  });
}

/** A listener of framed pipes that answers as `serveFramed` says. */
export function framedServer(
  transport: Transport,
  address: string,
  overrides: Partial<ListenOptions> = {},
): Promise<Listener> {
  return echoServer(transport, address, { onConnection: serveFramed, ...overrides });
}

// Bidirectional pipes are echoed; a unidirectional pipe is a command: `close CODE REASON`, `address`,
// which is answered with the client's, or anything else, which comes back on a pipe of ours.
function serveEcho(connection: Connection): void {
  connection.onPipe = (pipe) => {
    if (pipe.kind === "bidirectional") echo(pipe);
    else void command(connection, pipe);
  };
}

function echo(pipe: Pipe): void {
  pipe.onData = (chunk) => void pipe.write(chunk);
  pipe.onEnd = () => pipe.end();
}

async function command(connection: Connection, pipe: Pipe): Promise<void> {
  const { bytes } = await collect(pipe);
  const text = new TextDecoder().decode(bytes);
  const close = /^close (\d+) (.*)$/.exec(text);
  if (close) return connection.close(Number(close[1]), close[2] as string);
  const answer = await connection.openPipe("unidirectional");
  answer.write(
    text === "address" ? new TextEncoder().encode(connection.remoteAddress) : bytes,
  );
  answer.end();
}

/** Everything a pipe delivers until its end. */
export function collect(pipe: Pipe): Promise<{ bytes: Uint8Array; clean: boolean }> {
  return new Promise((resolve) => {
    const chunks: Uint8Array[] = [];
    let length = 0;
    pipe.onData = (chunk) => {
      chunks.push(chunk);
      length += chunk.length;
    };
    pipe.onEnd = (clean) => {
      const bytes = new Uint8Array(length);
      let offset = 0;
      for (const chunk of chunks) {
        bytes.set(chunk, offset);
        offset += chunk.length;
      }
      resolve({ bytes, clean });
    };
  });
}

/** Writes with respect for the pipe's word to wait. */
export async function writeAll(pipe: Pipe, bytes: Uint8Array, chunkBytes: number): Promise<void> {
  for (let offset = 0; offset < bytes.length; offset += chunkBytes) {
    if (!pipe.write(bytes.slice(offset, offset + chunkBytes))) {
      await new Promise<void>((resolve) => (pipe.onDrain = resolve));
    }
  }
}

/** What a program has printed, but for Bun's word that its `node:quic` is experimental. */
export function wordsOf(program: Program): string[] {
  return program.output.filter((line) => !/ExperimentalWarning|--trace-warnings/.test(line));
}

/** Dials with a fresh identity. */
export async function dial(
  transport: Transport,
  address: string,
  overrides: Partial<DialOptions> = {},
): Promise<Connection> {
  return await transport.dial(address, {
    ...await connectionOptions(),
    timeoutMs: 10_000,
    ...overrides,
  });
}
