/** Dials whose packets something else than a UDP socket of ours carries. */
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import type { Connection, DatagramTransport } from "../../src/transport/contract.ts";
import { collect, dial, echoServer, quicUnderTest, writeAll } from "../conformance/world.ts";
import { describe, test, waitFor } from "../harness.ts";
import { portOf } from "./udp.ts";

const ADDRESS = "quic://127.0.0.1:0";

/** The simplest relay: a socket of somebody else's. */
function carrier(port: number) {
  const socket = createSocket("udp4");
  socket.on("error", () => {});
  const state = { sent: 0, largest: 0, closes: 0 };
  const datagrams: DatagramTransport = {
    onMessage: undefined,
    send(packet) {
      state.sent++;
      state.largest = Math.max(state.largest, packet.length);
      socket.send(packet, port, "127.0.0.1");
    },
    close() {
      state.closes++;
      socket.close();
    },
  };
  socket.on("message", (packet) => datagrams.onMessage?.(packet));
  return { datagrams, state };
}

async function echoes(connection: Connection, bytes: Uint8Array): Promise<void> {
  const pipe = await connection.openPipe("bidirectional");
  const answer = collect(pipe);
  await writeAll(pipe, bytes, 20_000);
  pipe.end();
  assert.deepEqual((await answer).bytes, bytes);
}

describe("a datagram transport", () => {
  test("carries a connection in both directions, in packets of 1,200 bytes", async () => {
    const transport = await quicUnderTest();
    const listener = await echoServer(transport, ADDRESS);
    const { datagrams, state } = carrier(portOf(listener.address));
    const connection = await dial(transport, listener.address, { datagrams });
    await echoes(connection, seededRandom(1).bytes(300_000));
    assert.ok(state.sent > 200 && state.largest <= 1_200, JSON.stringify(state));
    await assert.rejects(
      connection.migrate?.(1_000) ?? Promise.resolve(),
      (error: { reason?: string }) => error.reason === "migration_impossible",
    );
    connection.close(1, "done");
    await connection.closed;
    await waitFor(() => state.closes === 1, { what: "the transport's close" });
    await listener.close();
  });

  test("that delivers garbage and throws now and then harms nobody", async () => {
    const transport = await quicUnderTest();
    const listener = await echoServer(transport, ADDRESS);
    const { datagrams, state } = carrier(portOf(listener.address));
    const random = seededRandom(2);
    const hostile: DatagramTransport = {
      get onMessage() {
        return datagrams.onMessage;
      },
      set onMessage(handler) {
        datagrams.onMessage = handler;
      },
      send(packet) {
        for (const size of [0, 1, randomBelow(random, 1_500), 70_000]) {
          datagrams.onMessage?.(random.bytes(size));
        }
        datagrams.onMessage?.("no bytes" as unknown as Uint8Array);
        datagrams.onMessage?.(packet);
        if (randomBelow(random, 20) === 0) throw new Error("no route");
        datagrams.send(packet);
      },
      close() {
        datagrams.close();
        throw new Error("closed badly");
      },
    };
    const connection = await dial(transport, listener.address, { datagrams: hostile });
    await echoes(connection, random.bytes(50_000));
    connection.close(1, "done");
    await connection.closed;
    await waitFor(() => state.closes === 1, { what: "the transport's close" });
    await listener.close();
  });

  test("that goes silent is a lost connection, and is closed", async () => {
    const transport = await quicUnderTest();
    const listener = await echoServer(transport, ADDRESS);
    const { datagrams, state } = carrier(portOf(listener.address));
    const connection = await dial(transport, listener.address, { datagrams, idleTimeoutMs: 500 });
    datagrams.send = () => {
      throw new Error("closed");
    };
    assert.equal((await connection.closed).by, "lost");
    await waitFor(() => state.closes === 1, { what: "the transport's close" });
    await listener.close();
  });

  test("is closed when the dial fails", async () => {
    const transport = await quicUnderTest();
    const { datagrams, state } = carrier(9);
    await assert.rejects(dial(transport, ADDRESS, { datagrams }));
    await waitFor(() => state.closes === 1, { what: "the transport's close" });
    const silent = carrier(9);
    await assert.rejects(
      dial(transport, "quic://127.0.0.1:9", { datagrams: silent.datagrams, timeoutMs: 300 }),
      (error: { reason?: string }) => error.reason === "timeout",
    );
    await waitFor(() => silent.state.closes === 1, { what: "the transport's close" });
  });
});
