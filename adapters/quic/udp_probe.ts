import { createSocket } from "node:dgram";
import { parseAddress } from "./address.ts";

/**
 * Whether the host says that nothing is bound at `address`: an ICMP "port unreachable" answers a
 * datagram to a dead port, and a connected UDP socket reports it. A killed process is so noticed
 * within a round trip, while a stopped one still owns its port. `unknown` when nothing comes back
 * within `timeoutMs`.
 */
export function probeUdp(address: string, timeoutMs: number): Promise<"refused" | "unknown"> {
  const { host, port, isIpv6 } = parseAddress(address);
  return new Promise((resolve) => {
    const socket = createSocket(isIpv6 ? "udp6" : "udp4");
    let again: ReturnType<typeof setTimeout> | undefined;
    const finish = (answer: "refused" | "unknown") => {
      clearTimeout(timer);
      clearTimeout(again);
      socket.removeAllListeners();
      socket.on("error", () => {}); // a late one must not crash the process
      try {
        socket.close();
      } catch {
        // Closed by its error.
      }
      resolve(answer);
    };
    const timer = setTimeout(() => finish("unknown"), timeoutMs);
    socket.on("error", (error: Error & { code?: string }) => {
      finish(error.code === "ECONNREFUSED" ? "refused" : "unknown");
    });
    // A QUIC stack drops a datagram this short without an answer. What goes wrong comes as an event.
    const send = () =>
      socket.send(new Uint8Array(1), (error) => error && socket.emit("error", error));
    socket.connect(port, host, () => {
      send();
      // The answer to the first datagram is reported at the second call on some hosts.
      again = setTimeout(send, Math.min(20, timeoutMs / 2));
    });
  });
}
