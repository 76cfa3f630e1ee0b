import { messageOf } from "../../../src/base/errors.ts";
import type { Logger } from "../../../src/base/logger.ts";
import type { DatagramTransport } from "../../../src/transport/contract.ts";
import { MAX_PACKET_BYTES } from "./config.ts";
import type { UdpSocket } from "./socket.ts";

/** Every path of QUIC carries so much (RFC 9000 §14), and a relay may add to it. */
export const CARRIED_PACKET_BYTES = 1_200;

/**
 * A port whose packets `datagrams` carries, all of them to and from one peer. What goes wrong there
 * is a lost packet for QUIC, told once.
 */
export function carriedBy(
  datagrams: DatagramTransport,
  peer: { readonly host: string; readonly port: number; readonly isIpv6: boolean },
  logger: Logger,
): UdpSocket {
  let isOpen = true;
  let hasFailed = false;
  const guarded = (step: () => void) => {
    try {
      step();
    } catch (error) {
      if (hasFailed) return;
      hasFailed = true;
      logger.log("warn", `the datagram transport to ${peer.host} failed: ${messageOf(error)}`);
    }
  };
  const buffer = new Uint8Array(MAX_PACKET_BYTES);
  const socket: UdpSocket = {
    // A name for quiche, which no packet shows.
    local: { host: peer.isIpv6 ? "::" : "0.0.0.0", port: 1 },
    isIpv6: peer.isIpv6,
    packetBytes: CARRIED_PACKET_BYTES,
    buffer,
    onPacket: undefined,
    send(length) {
      if (isOpen) guarded(() => datagrams.send(buffer.slice(0, length)));
    },
    close() {
      if (isOpen) {
        isOpen = false;
        guarded(() => {
          datagrams.onMessage = undefined;
          datagrams.close();
        });
      }
      return Promise.resolve();
    },
  };
  guarded(() => {
    datagrams.onMessage = (packet: unknown) => {
      if (!isOpen || !(packet instanceof Uint8Array)) return;
      if (packet.length === 0 || packet.length > MAX_PACKET_BYTES) return;
      // quiche decrypts in place.
      socket.onPacket?.(packet.slice(), peer.host, peer.port);
    };
  });
  return socket;
}
