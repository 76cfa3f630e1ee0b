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

/** A NAT before the server at `port`: each of its clients comes from a port of its own. */
export async function natPath(port: number): Promise<{
  readonly port: number;
  /** Whether clients that it does not know yet get through. */
  takesClients: boolean;
  /** From now on, clients come from other ports, and answers to the old ones are lost. */
  rebind(): Promise<void>;
  close(): Promise<void>;
}> {
  let backs = new Map<number, Socket>();
  const front = await bindLoopback();
  const forget = async () => {
    const old = backs;
    backs = new Map();
    for (const back of old.values()) await closed(back);
  };
  const backOf = (client: number): Socket | undefined => {
    const known = backs.get(client);
    if (known !== undefined || !nat.takesClients) return known;
    const back = createSocket("udp4");
    // A server that has gone, or a port that was just closed.
    back.on("error", () => {});
    back.on("message", (packet) => front.send(packet, client, "127.0.0.1"));
    backs.set(client, back);
    return back;
  };
  front.on("message", (packet, from) => backOf(from.port)?.send(packet, port, "127.0.0.1"));
  const nat = {
    port: front.address().port,
    takesClients: true,
    rebind: forget,
    async close() {
      nat.takesClients = false;
      await closed(front);
      await forget();
    },
  };
  return nat;
}

async function bindLoopback(): Promise<Socket> {
  const socket = createSocket("udp4");
  socket.on("error", () => {});
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  return socket;
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.close(() => resolve()));
}
