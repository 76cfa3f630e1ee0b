import type { ConnectionOptions } from "../../../src/transport/contract.ts";
import { ALPN } from "../alpn.ts";
import type { QuicheBinding, QuicheConfig } from "./binding.ts";

/** Flow control windows, bytes; the link's credit is smaller than a stream's. */
const STREAM_WINDOW = 2 * 1024 * 1024;
const CONNECTION_WINDOW = 16 * 1024 * 1024;
/** QUIC packets on an ordinary path and on loopback, whose MTU is 64 KiB. */
const PACKET_BYTES = 1350;
const LOOPBACK_PACKET_BYTES = 16 * 1024;
/** quiche refuses Ed25519 certificates unless told otherwise. */
const SIGNATURE_ALGORITHMS = "ed25519:ecdsa_secp256r1_sha256";

/**
 * As many addresses as a peer may come from in a connection's life: quiche 0.18 keeps a path for
 * each, never gives one up, and allows as many as there may be connection ids.
 */
const MAX_PATHS = 64;

/** The largest packet that quiche writes here. */
export const MAX_PACKET_BYTES: number = 64 * 1024;

/** Whether packets to this address never leave the machine. */
export function isLoopback(host: string): boolean {
  return host.startsWith("127.") || host === "::1" || host.startsWith("::ffff:127.");
}

/** The largest packet that we send on a path of the kind. */
export function packetBytes(isLoopbackPath: boolean): number {
  return isLoopbackPath ? LOOPBACK_PACKET_BYTES : PACKET_BYTES;
}

/** The settings of a server, or of a client whose leaf check is done by the caller. */
export function quicheConfig(
  quiche: QuicheBinding,
  options: ConnectionOptions,
  role: "client" | "server",
  isLoopbackPath: boolean,
): QuicheConfig {
  const encode = (text: string) => new TextEncoder().encode(text);
  const { certificatePem, issuerPem, privateKeyPem } = options.identity;
  const config = role === "server"
    ? quiche.Config.withBoringSslCtx(
      false,
      false,
      null,
      [encode(privateKeyPem)],
      [encode(certificatePem)],
      SIGNATURE_ALGORITHMS,
    )
    : quiche.Config.withBoringSslCtx(
      true,
      true,
      encode(issuerPem),
      null,
      null,
      SIGNATURE_ALGORITHMS,
    );
  config.setApplicationProtos([ALPN]);
  config.setMaxIdleTimeout(options.idleTimeoutMs);
  config.setMaxRecvUdpPayloadSize(MAX_PACKET_BYTES - 9);
  config.setMaxSendUdpPayloadSize(packetBytes(isLoopbackPath));
  config.setInitialMaxData(CONNECTION_WINDOW);
  config.setMaxConnectionWindow(CONNECTION_WINDOW);
  config.setInitialMaxStreamDataBidiLocal(STREAM_WINDOW);
  config.setInitialMaxStreamDataBidiRemote(STREAM_WINDOW);
  config.setInitialMaxStreamDataUni(STREAM_WINDOW);
  config.setMaxStreamWindow(STREAM_WINDOW);
  config.setInitialMaxStreamsBidi(options.maxPipes);
  config.setInitialMaxStreamsUni(options.maxPipes);
  config.setActiveConnectionIdLimit(MAX_PATHS);
  // Packets leave at once either way: quiche only says when they should. But unless the pacer counts
  // them, it does not know the time (time_marks.ts).
  config.enablePacing(true);
  return config;
}
