import assert from "node:assert/strict";
import type { HostPort, QuicheHandle } from "../../adapters/quic/quiche/binding.ts";
import { LocalPaths } from "../../adapters/quic/quiche/paths.ts";
import type { UdpSocket } from "../../adapters/quic/quiche/socket.ts";
import { test } from "../harness.ts";
import { manualClock } from "../manual_clock.ts";

const local = { host: "127.0.0.1", port: 9100 };
const peer = (port: number) => ({ host: "192.0.2.1", port });

/** Quiche's paths of a server's connection, the first of them the active one. */
function begin() {
  let peers: readonly HostPort[] = [];
  const asked: number[] = [];
  const handle = {
    pathStats: () => peers.map((peerHost, i) => ({ active: i === 0, localHost: local, peerHost })),
    isPathValidated: () => true,
    sendOnPath: (_room: Uint8Array, _from: HostPort, { port }: HostPort) => {
      asked.push(port);
      return null;
    },
  } as unknown as QuicheHandle;
  const socket = { local, buffer: new Uint8Array(1_200) } as unknown as UdpSocket;
  const paths = new LocalPaths(handle, manualClock().clock, socket);
  return {
    /** The peer is at the first port now, and quiche knows the others. Where it was asked to send. */
    at(...ports: number[]): number[] {
      asked.length = 0;
      peers = ports.map(peer);
      paths.notePeer();
      paths.sendToLeft();
      return asked;
    },
  };
}

test("what was under way to an address that the peer has left is asked for", () => {
  const { at } = begin();
  assert.deepEqual(at(1), []);
  assert.deepEqual(at(2, 1, 7), [1]);
});

test("addresses of a peer that keeps moving are forgotten with their paths", () => {
  const { at } = begin();
  for (let port = 1; port < 1_000; port++) assert.deepEqual(at(port), []);
  // Somebody else turns up at an old one.
  assert.deepEqual(at(1_000, 1, 2, 3), []);
});
