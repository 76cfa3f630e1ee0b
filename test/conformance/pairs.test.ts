import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";
import process from "node:process";
import { seededRandom } from "../../src/base/random.ts";
import type { Connection, Transport } from "../../src/transport/contract.ts";
import { runtime, test } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import type { Program, RuntimeName } from "../processes.ts";
import { checks } from "./checks.ts";
import { watchProcesses } from "./process_watch.ts";
import { collect, dial, echoServer, quicUnderTest, wordsOf, writeAll } from "./world.ts";

/** A peer in a process of its own. */
interface PeerProcess {
  readonly program: Program;
  /** Its echo service, its framed pipes, its echo service on IPv6. */
  readonly echo: string;
  readonly framed: string;
  readonly echo6: string;
}

async function startPeer(peer: RuntimeName): Promise<PeerProcess> {
  const program = startProgram(peer, "test/conformance/peer.ts", [], { exposesGc: true });
  const [, echo = "", framed = "", echo6 = ""] = await program.line(
    /^listening (\S+) (\S+) (\S+)$/,
  );
  return { program, echo, framed, echo6 };
}

/** Runs `body` against a process that nobody else uses. */
async function withPeer(
  peer: RuntimeName,
  body: (peer: PeerProcess, transport: Transport) => Promise<void>,
): Promise<void> {
  const started = await startPeer(peer);
  try {
    await body(started, await quicUnderTest());
  } finally {
    await started.program.kill("SIGKILL");
  }
}

async function withConnection(
  dialled: Promise<Connection>,
  body: (connection: Connection) => Promise<void>,
): Promise<void> {
  const connection = await dialled;
  try {
    await body(connection);
  } finally {
    connection.close(1, "done");
    await connection.closed;
  }
}

/** A pipe that is asked something again and again. */
async function conversation(connection: Connection): Promise<(text: string) => Promise<string>> {
  const pipe = await connection.openPipe("bidirectional");
  let heard = "";
  let length = 0;
  let answered: (() => void) | undefined;
  let ended: ((error: Error) => void) | undefined;
  pipe.onData = (chunk) => {
    heard += new TextDecoder().decode(chunk);
    if (heard.length >= length) answered?.();
  };
  pipe.onEnd = () => ended?.(new Error("the pipe ended"));
  return (text) =>
    new Promise((resolve, reject) => {
      heard = "";
      length = text.length;
      answered = () => resolve(heard);
      ended = reject;
      pipe.write(new TextEncoder().encode(text));
    });
}

/** Connect and close cycles of the check for leaks: few when every change is tested. */
const CYCLES = Number(process.env["CONFORMANCE_CYCLES"] ?? 200);

let collections = 0;

/** Has a peer collect its garbage, so that what has grown is what it holds. */
async function collectGarbage({ program }: PeerProcess): Promise<void> {
  const number = ++collections;
  program.say(`collect ${number}`);
  await program.line(new RegExp(`^collected ${number}$`));
}

for (const peer of RUNTIMES) {
  const pair = `${runtime} to ${peer}`;
  // One process for all that leaves it as it was. It ends with this one, which does not wait for it.
  const shared = await startPeer(peer);
  shared.program.detach();
  const transport = await quicUnderTest();

  for (const { run, timeoutMs = 30_000, title } of checks) {
    test(`${pair}: ${title}`, { timeoutMs }, async () => {
      const own = await echoServer(transport, "quic://127.0.0.1:0");
      try {
        await run({
          echo: (overrides) => dial(transport, shared.echo, overrides),
          framed: (overrides) => dial(transport, shared.framed, overrides),
          own,
          maxPipes: 1_000,
          connections: 200,
          cycles: CYCLES,
          offeredBytes: 64 << 20,
          watch: watchProcesses([process.pid, shared.program.pid], () => collectGarbage(shared)),
        });
      } finally {
        await own.close();
      }
    });
  }

  test(`${pair}: a pipe carries bytes both ways and ends cleanly, on IPv4 and IPv6`, async () => {
    assert.match(shared.echo6, /^quic:\/\/\[::1\]:\d+$/);
    for (const address of [shared.echo, shared.echo6]) {
      await withConnection(dial(transport, address), async (connection) => {
        const pipe = await connection.openPipe("bidirectional");
        const answer = collect(pipe);
        pipe.write(new TextEncoder().encode("hello"));
        pipe.end();
        const { bytes, clean } = await answer;
        assert.equal(new TextDecoder().decode(bytes), "hello");
        assert.equal(clean, true);
      });
    }
  });

  test(`${pair}: four megabytes arrive whole and in order`, () =>
    withConnection(dial(transport, shared.echo), async (connection) => {
      const pipe = await connection.openPipe("bidirectional");
      const answer = collect(pipe);
      const bytes = new Uint8Array(4 << 20);
      for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 7 + (i >> 12)) & 0xff;
      await writeAll(pipe, bytes, 60_000);
      pipe.end();
      const got = (await answer).bytes;
      assert.equal(got.length, bytes.length);
      assert.equal(got.findIndex((byte, i) => byte !== bytes[i]), -1);
    }));

  test(`${pair}: the code and the reason of a close arrive`, () =>
    withConnection(dial(transport, shared.echo), async (connection) => {
      const pipe = await connection.openPipe("unidirectional");
      pipe.write(new TextEncoder().encode("close 4711 enough said"));
      pipe.end();
      assert.deepEqual(await connection.closed, {
        code: 4711,
        reason: "enough said",
        by: "peer",
      });
    }));

  test(`${pair}: a peer killed in the middle of a transfer is noticed as lost`, () =>
    withPeer(peer, async ({ echo, program }) => {
      const connection = await dial(transport, echo, { idleTimeoutMs: 3_000, keepAliveMs: 1_000 });
      const pipe = await connection.openPipe("bidirectional");
      const some = Promise.withResolvers<void>();
      const ended = new Promise<void>((resolve) => (pipe.onEnd = () => resolve()));
      pipe.onData = () => some.resolve();
      const chunk = () => new Uint8Array(50_000);
      pipe.onDrain = () => {
        while (pipe.write(chunk()));
      };
      while (pipe.write(chunk()));
      await some.promise;
      const since = performance.now();
      await program.kill("SIGKILL");
      assert.equal((await connection.closed).by, "lost");
      await ended;
      const silentMs = performance.now() - since;
      assert.ok(silentMs < 8_000, `noticed after ${silentMs} ms`);
    }));

  test(`${pair}: a peer that falls silent is lost after the idle timeout`, () =>
    withPeer(peer, async ({ echo, program }) => {
      const connection = await dial(transport, echo, { idleTimeoutMs: 1_000, keepAliveMs: 300 });
      const ask = await conversation(connection);
      assert.equal(await ask("there?"), "there?");
      // By its id: Deno's child processes take one signal only.
      process.kill(program.pid, "SIGSTOP");
      try {
        assert.equal((await connection.closed).by, "lost");
      } finally {
        process.kill(program.pid, "SIGCONT");
      }
    }));

  test(`${pair}: a server goes on answering when a peer with many connections is killed`, () =>
    withPeer(peer, async ({ echo }, transport) => {
      // Their host says then that nobody is there, to each packet that still goes to them.
      const victim = startProgram(runtime, "test/conformance/victim_program.ts", [echo]);
      await victim.line(/^talking$/);
      await victim.kill("SIGKILL");
      for (let i = 0; i < 4; i++) {
        await withConnection(dial(transport, echo, { timeoutMs: 5_000 }), async (connection) => {
          assert.equal(await (await conversation(connection))(`still ${i}`), `still ${i}`);
        });
        await new Promise((resolve) => setTimeout(resolve, 200));
      }
    }));

  test(
    `${pair}: garbage on the port harms nobody`,
    { timeoutMs: 60_000 },
    async () => {
      const relay = await startRelay(shared.echo);
      const connection = await dial(transport, relay.address);
      const ask = await conversation(connection);
      try {
        for (let i = 0; i < 5; i++) assert.equal(await ask(`before ${i}`), `before ${i}`);
        await throwGarbage(relay, async (sent) => {
          assert.equal(await ask(`behind ${sent}`), `behind ${sent}`);
        });
        await withConnection(dial(transport, shared.echo), async (stranger) => {
          assert.equal(await (await conversation(stranger))("afterwards"), "afterwards");
        });
      } finally {
        connection.close(1, "done");
        await connection.closed;
        await relay.close();
      }
    },
  );

  test(`${pair}: both processes end by themselves when all is closed, and have said nothing`, async () => {
    const { program, echo, framed, echo6 } = await startPeer(peer);
    const client = startProgram(runtime, "test/conformance/exit_program.ts", [echo]);
    try {
      await client.line(/^all closed$/);
      assert.equal(await client.exited, 0, client.output.join("\n"));
      program.say("stop");
      await program.line(/^all closed$/);
      assert.equal(await program.exited, 0, program.output.join("\n"));
      assert.deepEqual(wordsOf(program), [`listening ${echo} ${framed} ${echo6}`, "all closed"]);
    } finally {
      await Promise.all([program.kill("SIGKILL"), client.kill("SIGKILL")]);
    }
    // Neither has the one that all tests have used.
    const { output } = shared.program;
    const words = wordsOf(shared.program).filter((line) => !line.startsWith("collected"));
    assert.deepEqual(words.slice(1), [], output.join("\n"));
  });
}

/** Stands between a client and a server, and knows what real packets look like. */
interface Relay {
  readonly address: string;
  /** Datagrams of the client. */
  readonly seen: Uint8Array[];
  /** Sends to the server from the client's address, as far as the server can tell. */
  forge(datagram: Uint8Array): Promise<void>;
  /** Sends to the server from an address of its own. */
  send(datagram: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

async function startRelay(server: string): Promise<Relay> {
  const serverPort = Number(new URL(server.replace("quic:", "http:")).port);
  const front = await bind(), back = await bind(), other = await bind();
  const seen: Uint8Array[] = [];
  let clientPort = 0;
  front.on("message", (datagram, { port }) => {
    clientPort = port;
    if (seen.length < 200) seen.push(new Uint8Array(datagram));
    back.send(datagram, serverPort, "127.0.0.1");
  });
  back.on("message", (datagram) => front.send(datagram, clientPort, "127.0.0.1"));
  // What the server answers to garbage: read, so that it does not fill the buffer.
  other.on("message", () => {});
  const sendFrom = (socket: Socket) => (datagram: Uint8Array) =>
    new Promise<void>((resolve) => socket.send(datagram, serverPort, "127.0.0.1", () => resolve()));
  return {
    address: `quic://127.0.0.1:${front.address().port}`,
    seen,
    forge: sendFrom(back),
    send: sendFrom(other),
    async close() {
      for (const socket of [front, back, other]) {
        await new Promise<void>((resolve) => socket.close(() => resolve()));
      }
    },
  };
}

function bind(): Promise<Socket> {
  const socket = createSocket("udp4");
  return new Promise((resolve, reject) => {
    socket.once("error", reject);
    socket.bind(0, "127.0.0.1", () => resolve(socket));
  });
}

/** 2,000 datagrams, half of them noise, half real ones with a fault; `check` runs in between. */
async function throwGarbage(relay: Relay, check: (sent: number) => Promise<void>): Promise<void> {
  const random = seededRandom(4711);
  const below = (bound: number) => random.uint32() % bound;
  const real = [...relay.seen];
  const faulty = () => {
    const datagram = (real[below(real.length)] as Uint8Array).slice();
    // The header decides who gets to see the rest: most faults go there.
    const reach = below(2) === 0 ? Math.min(datagram.length, 40) : datagram.length;
    for (let faults = 1 + below(4); faults > 0; faults--) {
      datagram[below(reach)] = below(256);
    }
    return below(4) === 0 ? datagram.slice(0, below(datagram.length)) : datagram;
  };
  for (let sent = 0; sent < 2_000; sent++) {
    if (sent % 50 === 0) await check(sent);
    const datagram = sent % 2 === 0 ? random.bytes(below(1_400)) : faulty();
    await (below(2) === 0 ? relay.forge(datagram) : relay.send(datagram));
  }
  await check(2_000);
}
