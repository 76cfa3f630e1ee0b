import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";

/** A UDP socket on loopback that remembers what it has received. */
export interface UdpPeer {
  readonly socket: Socket;
  readonly port: number;
  readonly packets: Uint8Array[];
  /** Sends a packet to a port of loopback; resolves when it has left. */
  send(packet: Uint8Array, port: number): Promise<void>;
}

/** Binds one. */
export async function udpPeer(): Promise<UdpPeer> {
  const socket = createSocket("udp4");
  const packets: Uint8Array[] = [];
  socket.on("message", (packet) => packets.push(new Uint8Array(packet)));
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return {
    socket,
    port: socket.address().port,
    packets,
    send: (packet, port) =>
      new Promise((resolve) => socket.send(packet, port, "127.0.0.1", () => resolve())),
  };
}

/** The port in an address. */
export function portOf(address: string): number {
  return Number(/:(\d+)$/.exec(address)?.[1]);
}

/** A path between a client and a server that passes on what `pass` lets through. */
export async function udpPath(
  port: number,
  pass: (packet: Uint8Array, on: () => void) => void,
): Promise<{ readonly port: number; close(): void }> {
  const front = createSocket("udp4");
  const back = createSocket("udp4");
  let client = 0;
  let open = true;
  front.on("message", (packet, from) => {
    client = from.port;
    pass(packet, () => open && back.send(packet, port, "127.0.0.1"));
  });
  back.on("message", (packet) => {
    pass(packet, () => open && front.send(packet, client, "127.0.0.1"));
  });
  for (const socket of [front, back]) {
    await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  }
  return {
    port: front.address().port,
    close() {
      open = false;
      front.close();
      back.close();
    },
  };
}
