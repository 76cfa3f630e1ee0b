import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";
import { messageOf, TransportError } from "../../../src/base/errors.ts";
import { addressInUse, formatAddress } from "../address.ts";
import { MAX_PACKET_BYTES } from "./config.ts";
import type { HostPort } from "./binding.ts";

/** Kernel buffers: the default of 208 KiB drops packets of one busy connection. */
const SOCKET_BUFFER = 4 * 1024 * 1024;

/** A bound UDP port. */
export interface UdpSocket {
  readonly local: HostPort;
  readonly isIpv6: boolean;
  /** The largest packet it carries, where that is not the path's own limit. */
  readonly packetBytes?: number;
  /** Where the next packet is to be written; valid until `send`. */
  readonly buffer: Uint8Array;
  /** Called with each packet. */
  onPacket: ((packet: Uint8Array, host: string, port: number) => void) | undefined;
  /** Sends the first `length` bytes of `buffer`. Losses are QUIC's business. */
  send(length: number, to: HostPort): void;
  close(): Promise<void>;
}

/** Binds a UDP port. @throws TransportError `address_in_use`, `bad_address` */
export function bindUdp(host: string, port: number, isIpv6: boolean): Promise<UdpSocket> {
  const socket = createSocket({
    type: isIpv6 ? "udp6" : "udp4",
    // `[::]` takes IPv4, too, as on the other runtimes: peers there are ::ffff:a.b.c.d to us and to
    // quiche.
    // The targets are IP addresses: answering at once keeps `send` synchronous, so that the buffer
    // can be reused.
    lookup: (name, _options, found) => found(null, name, isIpv6 ? 6 : 4),
  });
  return new Promise((resolve, reject) => {
    socket.once("error", (error: Error & { code?: string }) => {
      socket.close();
      const address = formatAddress(host, port);
      reject(
        error.code === "EADDRINUSE"
          ? addressInUse(address, error)
          : new TransportError("bad_address", `cannot bind ${address}: ${messageOf(error)}`, {
            cause: error,
          }),
      );
    });
    socket.bind(port, host, () => {
      socket.removeAllListeners("error");
      // ICMP errors of single packets; dead peers are found by timeouts.
      socket.on("error", () => {});
      enlargeBuffers(socket);
      resolve(wrap(socket, isIpv6));
    });
  });
}

function enlargeBuffers(socket: Socket): void {
  // On Deno large buffers make the throughput collapse.
  if ("Deno" in globalThis) return;
  try {
    socket.setRecvBufferSize(SOCKET_BUFFER);
    socket.setSendBufferSize(SOCKET_BUFFER);
  } catch {
    // The kernel's limit is lower, or the runtime has no such call.
  }
}

function wrap(socket: Socket, isIpv6: boolean): UdpSocket {
  const { address, port } = socket.address();
  let buffer: Uint8Array = new Uint8Array(MAX_PACKET_BYTES);
  let open = true;
  const wrapped: UdpSocket = {
    local: { host: address, port },
    isIpv6,
    get buffer() {
      return buffer;
    },
    onPacket: undefined,
    send(length, to) {
      if (!open) return;
      socket.send(buffer, 0, length, to.port, to.host);
      // Still queued: the kernel has not copied it yet.
      if (socket.getSendQueueCount() > 0) buffer = new Uint8Array(MAX_PACKET_BYTES);
    },
    close() {
      if (!open) return Promise.resolve();
      open = false;
      return new Promise((resolve) => socket.close(() => resolve()));
    },
  };
  socket.on("message", (packet, from) => wrapped.onPacket?.(packet, from.address, from.port));
  return wrapped;
}
