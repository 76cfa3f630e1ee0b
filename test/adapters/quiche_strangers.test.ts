/** What the quiche driver does about packets of strangers. */
import assert from "node:assert/strict";
import { quicheTransport } from "../../adapters/quic/quiche.ts";
import { Acceptor } from "../../adapters/quic/quiche/acceptor.ts";
import { loadQuiche } from "../../adapters/quic/quiche/binding.ts";
import type { QuicheBinding } from "../../adapters/quic/quiche/binding.ts";
import { LONG_ID_AT, longIdBytes } from "../../adapters/quic/quiche/connection_id.ts";
import { QuicheEndpoint } from "../../adapters/quic/quiche/endpoint.ts";
import { realClock } from "../../src/base/real.ts";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import type { Connection } from "../../src/transport/contract.ts";
import { collect, connectionOptions, dial, echoServer } from "../conformance/world.ts";
import { describe, runtime, test, waitFor } from "../harness.ts";
import { portOf, udpPeer } from "./udp.ts";

const ADDRESS = "quic://127.0.0.1:0";
// A closed connection answers its peer for a while: Deno's tests call that a leak.
const skip = runtime === "deno" && "Deno has a QUIC of its own";

const isRefused = (error: { reason?: string }) => error.reason === "refused";
const isRetry = (packet: Uint8Array) => ((packet[0] as number) & 0xf0) === 0xf0;
const isInitial = (packet: Uint8Array) => ((packet[0] as number) & 0xf0) === 0xc0;

async function speaks(connection: Connection): Promise<void> {
  const pipe = await connection.openPipe("bidirectional");
  const answer = collect(pipe);
  pipe.write(new Uint8Array([42]));
  pipe.end();
  assert.deepEqual([...(await answer).bytes], [42]);
}

/** The first packets of so many genuine clients. */
async function genuineInitials(count: number): Promise<Uint8Array[]> {
  const { packets, port, socket } = await udpPeer();
  const transport = await quicheTransport();
  const abort = new AbortController();
  const dials = Array.from(
    { length: count },
    () => dial(transport, `quic://127.0.0.1:${port}`, { signal: abort.signal }),
  );
  const first = new Map<string, Uint8Array>();
  await waitFor(() => {
    for (const packet of packets) {
      first.set(packet.subarray(LONG_ID_AT, LONG_ID_AT + longIdBytes(packet)).join(), packet);
    }
    return first.size === count;
  }, { what: "the clients' first packets" });
  abort.abort();
  for (const dialled of dials) await assert.rejects(dialled);
  socket.close();
  return [...first.values()];
}

describe("quiche", () => {
  test("a first packet under 1,200 bytes begins nothing", { skip }, async () => {
    const quiche = await loadQuiche();
    const options = { ...await connectionOptions(), maxConnections: 10, onConnection() {} };
    const endpoint = await QuicheEndpoint.bind(quiche, "127.0.0.1", 0, false, options);
    let begun = 0;
    const Connection: QuicheBinding["Connection"] = {
      connect: quiche.Connection.connect,
      accept(...asked) {
        begun++;
        return quiche.Connection.accept(...asked);
      },
    };
    const acceptor = new Acceptor({ ...quiche, Connection }, endpoint, options);
    endpoint.acceptor = acceptor;
    const [initial] = await genuineInitials(1) as [Uint8Array];
    const from = { host: "127.0.0.1", port: 9 };
    assert.equal(acceptor.answer(initial.slice(0, 1_199), from), undefined);
    assert.equal(begun, 0);
    assert.notEqual(acceptor.answer(initial.slice(), from), undefined);
    assert.equal(begun, 1);
    await endpoint.close();
  });

  test("garbage of every shape leaves no connection behind", { skip }, async () => {
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS, { maxConnections: 1 });
    const port = portOf(listener.address);
    const random = seededRandom(7);
    const [initial] = await genuineInitials(1) as [Uint8Array];
    const stranger = await udpPeer();
    for (let i = 0; i < 2_000; i++) {
      await stranger.send(random.bytes(1 + randomBelow(random, 1_500)), port);
      // Still the header of an Initial, but nothing behind it is authentic. What it encrypts is
      // 200 bytes and more; zeros fill the datagram up.
      const mutated = initial.slice();
      for (let j = 0; j < 1 + i % 50; j++) {
        const at = 50 + j * 4;
        mutated[at] = (mutated[at] as number) ^ (1 + randomBelow(random, 255));
      }
      await stranger.send(mutated, port);
    }
    const connection = await dial(transport, listener.address);
    await speaks(connection);
    connection.close(1, "done");
    stranger.socket.close();
    await listener.close();
  });

  test("an unknown version is answered with those that we speak", { skip }, async () => {
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS);
    const [packet] = await genuineInitials(1) as [Uint8Array];
    packet.set([0x1a, 0x2a, 0x3a, 0x4a], 1);
    const stranger = await udpPeer();
    // The first is too short to be answered: we would send more than we got.
    await stranger.send(packet.subarray(0, 1_199), portOf(listener.address));
    await stranger.send(packet, portOf(listener.address));
    await waitFor(() => stranger.packets.length > 0, { what: "version negotiation" });
    assert.equal(stranger.packets.length, 1);
    const answer = stranger.packets[0] as Uint8Array;
    assert.deepEqual([...answer.subarray(1, 5)], [0, 0, 0, 0]);
    assert.ok(String.fromCharCode(...answer).includes("\x00\x00\x00\x01"));
    stranger.socket.close();
    await listener.close();
  });

  test("a full listener refuses by name, and takes another when one has gone", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS, { maxConnections: 2 });
    const first = await dial(transport, listener.address);
    const second = await dial(transport, listener.address);
    await assert.rejects(dial(transport, listener.address), isRefused);
    await speaks(second);
    first.close(1, "done");
    let third: Connection | undefined;
    await waitFor(async () => {
      third = await dial(transport, listener.address).catch(() => undefined);
      return third !== undefined;
    }, { what: "room for another connection" });
    await speaks(third as Connection);
    second.close(1, "done");
    third?.close(1, "done");
    await listener.close();
  });

  test("many unfinished handshakes make newcomers show their address first", {
    skip,
  }, async () => {
    const transport = await quicheTransport();
    const listener = await echoServer(transport, ADDRESS);
    const initials = await genuineInitials(40);
    const strangers = await Promise.all(initials.map(async (initial) => {
      const stranger = await udpPeer();
      await stranger.send(initial, portOf(listener.address));
      return stranger;
    }));
    await waitFor(() => strangers.every(({ packets }) => packets.length > 0), {
      what: "an answer to every stranger",
    });
    const kinds = strangers.map(({ packets }) => packets[0] as Uint8Array);
    assert.equal(kinds.filter(isInitial).length, 32);
    assert.equal(kinds.filter(isRetry).length, 8);
    const connection = await dial(transport, listener.address);
    await speaks(connection);
    connection.close(1, "done");
    for (const { socket } of strangers) socket.close();
    await listener.close();
  });

  test("who does not finish the handshake is forgotten", { skip }, async () => {
    const transport = await quicheTransport();
    // Ten times as fast, so that the deadline comes soon.
    const clock = {
      ...realClock,
      after: (ms: number, fn: () => void) => realClock.after(ms / 10, fn),
    };
    const listener = await echoServer(transport, ADDRESS, { maxConnections: 1, clock });
    const stranger = await udpPeer();
    const [initial] = await genuineInitials(1) as [Uint8Array];
    await stranger.send(initial, portOf(listener.address));
    await waitFor(() => stranger.packets.length > 0, { what: "an answer to the stranger" });
    await assert.rejects(dial(transport, listener.address), isRefused);
    let connection: Connection | undefined;
    await waitFor(async () => {
      connection = await dial(transport, listener.address).catch(() => undefined);
      return connection !== undefined;
    }, { what: "the stranger's place", deadlineMs: 5_000 });
    connection?.close(1, "done");
    stranger.socket.close();
    await listener.close();
  });
});
