/** What both ends of the raw measurement share: the transport, its options, the pipes' protocol. */
import { quic } from "../adapters/quic/mod.ts";
import { silentLogger } from "../src/base/logger.ts";
import { realClock, realCrypto, realRandom } from "../src/base/real.ts";
import { tlsIdentity } from "../src/identity/certificate.ts";
import type { ConnectionOptions, Transport } from "../src/transport/contract.ts";

/** A transport by its name, and where it listens. */
export async function transportNamed(name: string): Promise<[Transport, address: string]> {
  switch (name) {
    case "quic":
      return [await quic(), "quic://127.0.0.1:0"];
    case "quiche": {
      const { quicheTransport } = await import("../adapters/quic/quiche.ts");
      return [await quicheTransport(), "quic://127.0.0.1:0"];
    }
    default:
      throw new Error(`no transport is called ${name}: quic, quiche`);
  }
}

/** The options of a connection of a fresh identity. */
export async function rawOptions(): Promise<ConnectionOptions> {
  const crypto = await realCrypto();
  return {
    identity: await tlsIdentity(await crypto.generateKeyPair(), crypto),
    clock: realClock,
    random: realRandom,
    logger: silentLogger,
    idleTimeoutMs: 10_000,
    keepAliveMs: 2_000,
    maxPipes: 1_000,
  };
}

/** The first byte of a pipe: what the server does with the rest. */
export const ECHO = 1;
/** It counts the bytes, and answers with their number in decimal once the pipe has ended. */
export const COUNT = 2;
/** It answers with the resident memory of its process, bytes in decimal. */
export const MEMORY = 3;
