import { createSocket } from "node:dgram";
import type { DatagramTransport } from "../../mod.ts";

/** Carries the packets of one dial through a relay to `target`, `host:port`. */
export function throughRelay(host: string, port: number, target: string): DatagramTransport {
  const head = new TextEncoder().encode(target);
  const socket = createSocket("udp4");
  const carrier: DatagramTransport = {
    send(packet) {
      const message = new Uint8Array(1 + head.length + packet.length);
      message[0] = head.length;
      message.set(head, 1);
      message.set(packet, 1 + head.length);
      socket.send(message, port, host);
    },
    onMessage: undefined,
    close: () => void socket.close(),
  };
  // What cannot be sent is lost, as on any network.
  socket.on("error", () => {});
  socket.on("message", (packet) => carrier.onMessage?.(packet));
  return carrier;
}
