import { messageOf, TransportError } from "../../src/base/errors.ts";
import type { Transport } from "../../src/transport/contract.ts";

interface Host {
  readonly Deno?: { readonly connectQuic?: unknown };
  readonly process?: { readonly getBuiltinModule?: (name: string) => unknown };
}

/**
 * The QUIC transport of the runtime that executes this: Deno's own stack, `node:quic` where the
 * runtime has it (Bun), otherwise quiche.
 *
 * @throws TransportError `unavailable` with what to do about it
 */
export async function quic(): Promise<Transport> {
  const host = globalThis as unknown as Host;
  if (host.Deno !== undefined) {
    if (typeof host.Deno.connectQuic !== "function") {
      throw new TransportError(
        "unavailable",
        'Deno offers QUIC only when asked to: add "unstable": ["net"] to deno.json, or run with ' +
          "--unstable-net",
      );
    }
    return withCarriedDials((await import("./deno.ts")).denoQuicTransport());
  }
  if (host.process === undefined) {
    throw new TransportError("unavailable", "this host has no QUIC; give createNode `transports`");
  }
  try {
    if (hasNodeQuic(host)) {
      return withCarriedDials(await (await import("./node_quic.ts")).nodeQuicTransport());
    }
    return await (await import("./quiche.ts")).quicheTransport();
  } catch (error) {
    if (error instanceof TransportError) throw error;
    throw new TransportError("unavailable", `no QUIC here: ${messageOf(error)}`, { cause: error });
  }
}

// Stacks that own their socket leave dials over a datagram transport to quiche, where it is installed.
function withCarriedDials(transport: Transport): Transport {
  return {
    ...transport,
    async dial(address, options) {
      if (options.datagrams === undefined) return await transport.dial(address, options);
      const quiche = await (await import("./quiche.ts")).quicheTransport();
      return await quiche.dial(address, options);
    },
  };
}

function hasNodeQuic(host: Host): boolean {
  try {
    return host.process?.getBuiltinModule?.("node:quic") !== undefined;
  } catch {
    return false;
  }
}
