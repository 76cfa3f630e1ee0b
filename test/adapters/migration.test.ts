/** Connections that move from one local address to another, by their own will or by a NAT's. */
import assert from "node:assert/strict";
import { quicheTransport } from "../../adapters/quic/quiche.ts";
import { Acceptor } from "../../adapters/quic/quiche/acceptor.ts";
import { loadQuiche } from "../../adapters/quic/quiche/binding.ts";
import type { QuicheBinding, QuicheConfig } from "../../adapters/quic/quiche/binding.ts";
import { QuicheEndpoint } from "../../adapters/quic/quiche/endpoint.ts";
import type { Connection, ListenOptions } from "../../src/transport/contract.ts";
import {
  collect,
  connectionOptions,
  dial,
  echoServer,
  quicUnderTest,
} from "../conformance/world.ts";
import { describe, runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import type { RuntimeName } from "../processes.ts";
import { natPath, portOf } from "./udp.ts";

const ADDRESS = "quic://127.0.0.1:0";
// A closed connection answers its peer for a while: Deno's tests call that a leak.
const skip = runtime === "deno" && "Deno has a QUIC of its own";

/** Bun's server goes on naming the address that the client had at first. */
const showsMoves = (server: RuntimeName) => server !== "bun";

const hasReason = (reason: string) => (error: { reason?: string }) => error.reason === reason;

/** An echo server on another runtime, while it is needed. */
async function startPeer(
  server: RuntimeName,
): Promise<{ address: string; [Symbol.asyncDispose](): Promise<void> }> {
  const program = startProgram(server, "test/conformance/peer.ts");
  const [, address = ""] = await program.line(/^listening (\S+)/);
  return { address, [Symbol.asyncDispose]: () => program.kill("SIGKILL") };
}

/** The client's address as the echo server sees it now. */
async function seenAddress(connection: Connection): Promise<string> {
  const answer = new Promise<string>((resolve) => {
    connection.onPipe = (pipe) => {
      void collect(pipe).then(({ bytes }) => resolve(new TextDecoder().decode(bytes)));
    };
  });
  const pipe = await connection.openPipe("unidirectional");
  pipe.write(new TextEncoder().encode("address"));
  pipe.end();
  return await answer;
}

/** Sends numbered chunks through an echo, until it is told to stop. */
async function stream(connection: Connection): Promise<{
  readonly received: () => number;
  readonly stop: () => Promise<void>;
}> {
  const pipe = await connection.openPipe("bidirectional");
  let sent = 0;
  let received = 0;
  let isSending = true;
  let fault: string | undefined;
  const over = Promise.withResolvers<void>();
  over.promise.catch(() => {});
  pipe.onData = (chunk) => {
    for (const byte of chunk) {
      if (byte !== (received * 7 + (received >> 12)) % 251) fault ??= `at byte ${received}`;
      received++;
    }
    if (!isSending && received === sent) over.resolve();
  };
  pipe.onEnd = () => over.reject(new Error(`the pipe ended behind ${received} of ${sent} bytes`));
  const sending = (async () => {
    while (isSending) {
      const chunk = new Uint8Array(20_000);
      for (let i = 0; i < chunk.length; i++, sent++) chunk[i] = (sent * 7 + (sent >> 12)) % 251;
      if (!pipe.write(chunk)) await new Promise<void>((resolve) => (pipe.onDrain = resolve));
      // Enough to be always under way, and little enough for the shared machine.
      await new Promise((resolve) => setTimeout(resolve, 1));
      if (sent - received > 1 << 20) {
        await waitFor(() => sent - received < 1 << 19, { what: "the echo" });
      }
    }
  })();
  return {
    received: () => received,
    async stop() {
      isSending = false;
      await sending;
      if (received !== sent) await over.promise;
      assert.equal(fault, undefined);
    },
  };
}

/** Waits until some more of the stream has come back. */
async function flows(running: { received: () => number }, bytes = 200_000): Promise<void> {
  const from = running.received();
  await waitFor(() => running.received() > from + bytes, { what: `${bytes} bytes more` });
}

for (const server of RUNTIMES) {
  test(`a live quiche connection to ${server} moves to new ports under way, and loses nothing`, {
    skip,
    timeoutMs: 60_000,
  }, async () => {
    await using peer = await startPeer(server);
    const { address } = peer;
    const transport = await quicheTransport();
    const connection = await dial(transport, address);
    const running = await stream(connection);
    await flows(running);
    const seen = new Set([await seenAddress(connection)]);
    for (let move = 0; move < 4; move++) {
      await connection.migrate?.(5_000);
      await flows(running);
      if (!showsMoves(server)) continue;
      let now = "";
      await waitFor(async () => !seen.has(now = await seenAddress(connection)), {
        what: "the server to see the new address",
      });
      seen.add(now);
    }
    assert.equal(seen.size, showsMoves(server) ? 5 : 1);
    await running.stop();
    connection.close(1, "done");
    assert.equal((await connection.closed).by, "local");
  });
}

for (const server of RUNTIMES) {
  test(`a client on ${runtime} rides out a NAT that rebinds on the way to ${server}`, {
    timeoutMs: 60_000,
  }, async () => {
    await using peer = await startPeer(server);
    const nat = await natPath(portOf(peer.address));
    const connection = await dial(await quicUnderTest(), `quic://127.0.0.1:${nat.port}`);
    const running = await stream(connection);
    await flows(running);
    const seen = new Set([await seenAddress(connection)]);
    for (let move = 0; move < 5; move++) {
      await nat.rebind();
      await flows(running);
      // Right behind it the client may move as well, where it can.
      if (move % 2 === 1) await connection.migrate?.(5_000);
      await flows(running);
      if (!showsMoves(server)) continue;
      await waitFor(async () => {
        const now = await seenAddress(connection);
        return !seen.has(now) && seen.add(now).size > move + 1;
      }, { what: "the server to see the new address" });
    }
    await running.stop();
    connection.close(1, "done");
    await connection.closed;
    await nat.close();
  });
}

describe("quiche", () => {
  test("a connection that shares its listener's port moves to one of its own", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const target = await echoServer(transport, ADDRESS);
    const listener = await echoServer(transport, ADDRESS);
    const connection = await dial(transport, target.address, { via: listener });
    assert.equal(portOf(await seenAddress(connection)), portOf(listener.address));
    await connection.migrate?.(5_000);
    await waitFor(async () => portOf(await seenAddress(connection)) !== portOf(listener.address), {
      what: "a new port",
    });
    const other = await dial(transport, listener.address);
    assert.match(await seenAddress(other), /^quic:\/\/127/);
    other.close(1, "done");
    connection.close(1, "done");
    await listener.close();
    await target.close();
  });

  test("a new path that carries nothing leaves the connection where it was", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const target = await echoServer(transport, ADDRESS);
    const nat = await natPath(portOf(target.address));
    const connection = await dial(transport, `quic://127.0.0.1:${nat.port}`);
    const running = await stream(connection);
    await flows(running);
    nat.takesClients = false;
    await assert.rejects(connection.migrate?.(700) ?? Promise.resolve(), hasReason("timeout"));
    await flows(running);
    nat.takesClients = true;
    await connection.migrate?.(5_000);
    await flows(running);
    await running.stop();
    connection.close(1, "done");
    await assert.rejects(connection.migrate?.(1_000) ?? Promise.resolve(), hasReason("closed"));
    await target.close();
    await nat.close();
  });

  test("a server that gives no further ids ends the moves by name, and nothing else", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const target = await echoServer(transport, ADDRESS);
    const connection = await dial(transport, target.address);
    const running = await stream(connection);
    let moves = 0;
    await assert.rejects(async () => {
      for (; moves < 100; moves++) await connection.migrate?.(1_000);
    }, hasReason("migration_impossible"));
    assert.equal(moves, 7);
    await flows(running);
    await running.stop();
    connection.close(1, "done");
    await target.close();
  });

  test(
    "a server that forbids moves is told from one that has no id to give",
    { skip },
    async () => {
      const transport = await quicheTransport();
      const quiche = await loadQuiche();
      const options: ListenOptions = {
        ...await connectionOptions(),
        maxConnections: 10,
        onConnection() {},
      };
      const endpoint = await QuicheEndpoint.bind(quiche, "127.0.0.1", 0, false, options);
      const Config: QuicheBinding["Config"] = {
        withBoringSslCtx(...settings) {
          const config = quiche.Config.withBoringSslCtx(...settings) as QuicheConfig & {
            setDisableActiveMigration(on: boolean): void;
          };
          config.setDisableActiveMigration(true);
          return config;
        },
      };
      endpoint.acceptor = new Acceptor({ ...quiche, Config }, endpoint, options);
      const connection = await dial(transport, `quic://127.0.0.1:${endpoint.socket.local.port}`);
      await assert.rejects(
        connection.migrate?.(1_000) ?? Promise.resolve(),
        hasReason("migration_disabled"),
      );
      connection.close(1, "done");
      await endpoint.close();
    },
  );

  test("the end that was dialled cannot move the connection, and says so", { skip }, async () => {
    const transport = await quicheTransport();
    const accepted = Promise.withResolvers<Connection>();
    const target = await echoServer(transport, ADDRESS, { onConnection: accepted.resolve });
    const connection = await dial(transport, target.address);
    const server = await accepted.promise;
    await assert.rejects(
      server.migrate?.(1_000) ?? Promise.resolve(),
      hasReason("migration_impossible"),
    );
    connection.close(1, "done");
    await target.close();
  });
});
