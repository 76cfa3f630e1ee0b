import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";

/** A relay of datagrams between nodes that cannot reach each other. */
export interface Relay {
  readonly port: number;
  /** Packets passed on, both ways. */
  readonly passed: number;
  close(): void;
}

/** Ways kept at most, and how long one rests before it is forgotten, milliseconds. */
const MAX_WAYS = 1_000;
const REST_MS = 60_000;

interface Way {
  readonly socket: Socket;
  usedAt: number;
}

/**
 * Starts a relay on `host`. A packet for it begins with its target, `host:port` behind one byte of
 * length; the rest goes there from a port that is the sender's alone, and what comes back goes to the
 * sender as it is. Only `targets` are served: an open relay would be a weapon. It sees no plaintext,
 * and need not be trusted: TLS and the handshake are between the nodes.
 */
export async function startRelay(
  host: string,
  port: number,
  targets: readonly string[],
): Promise<Relay> {
  const front = createSocket("udp4");
  const ways = new Map<string, Way>();
  let passed = 0;
  const forget = (key: string) => {
    ways.get(key)?.socket.close();
    ways.delete(key);
  };
  const sweep = setInterval(() => {
    const old = performance.now() - REST_MS;
    for (const [key, { usedAt }] of ways) if (usedAt < old) forget(key);
  }, REST_MS / 4);
  const wayOf = (key: string, back: (packet: Uint8Array) => void): Way => {
    let way = ways.get(key);
    if (way === undefined) {
      const [oldest] = ways.keys();
      if (ways.size >= MAX_WAYS && oldest !== undefined) forget(oldest);
      const socket = createSocket("udp4");
      // What cannot be sent is lost, as on any network.
      socket.on("error", () => {});
      socket.on("message", back);
      way = { socket, usedAt: 0 };
      ways.set(key, way);
    }
    way.usedAt = performance.now();
    return way;
  };
  front.on("error", () => {});
  front.on("message", (message, from) => {
    const length = message[0] ?? 0;
    const target = message.subarray(1, 1 + length).toString("latin1");
    if (!targets.includes(target)) return;
    const way = wayOf(`${from.address} ${from.port} ${target}`, (packet) => {
      passed++;
      front.send(packet, from.port, from.address);
    });
    passed++;
    const [to = "", at = ""] = target.split(":");
    way.socket.send(message.subarray(1 + length), Number(at), to);
  });
  await new Promise<void>((resolve, reject) => {
    front.once("error", reject);
    front.bind(port, host, resolve);
  });
  return {
    port: front.address().port,
    get passed() {
      return passed;
    },
    close() {
      clearInterval(sweep);
      for (const key of [...ways.keys()]) forget(key);
      front.close();
    },
  };
}
