import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { messageOf, TransportError } from "../../src/base/errors.ts";

/** A parsed `quic://host:port`; `host` without brackets. */
export interface QuicAddress {
  readonly host: string;
  readonly port: number;
  readonly isIpv6: boolean;
}

/** Parses `quic://host:port`. @throws TransportError `bad_address` */
export function parseAddress(address: string): QuicAddress {
  const match = /^quic:\/\/(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):(\d{1,5})\/?$/.exec(address);
  const port = Number(match?.[3]);
  if (match === null || port > 65_535) {
    throw new TransportError(
      "bad_address",
      `${address} is not a QUIC address; write quic://host:port, with brackets around IPv6`,
    );
  }
  const host = match[1] ?? match[2] ?? "";
  return { host, port, isIpv6: match[1] !== undefined };
}

/** All IP addresses of a host name, best first. */
export type ResolveName = (
  name: string,
) => Promise<readonly { readonly address: string; readonly family: number }[]>;

/** As the operating system resolves names, in its order (RFC 6724). */
export const systemNames: ResolveName = (name) => lookup(name, { all: true, verbatim: true });

/**
 * The same with IP addresses in place of a host name: at least one, best first.
 *
 * @throws TransportError `unreachable` when the name does not resolve
 */
export async function resolveAddress(
  address: QuicAddress,
  resolve: ResolveName = systemNames,
): Promise<[QuicAddress, ...QuicAddress[]]> {
  const { host, port } = address;
  if (isIP(host) !== 0) return [address];
  let why = "it has no address";
  let cause: unknown;
  try {
    const found = await resolve(host);
    const [first, ...others] = found.map((one) => ({
      host: one.address,
      port,
      isIpv6: one.family === 6,
    }));
    if (first !== undefined) return [first, ...others];
  } catch (error) {
    why = messageOf(error);
    cause = error;
  }
  throw new TransportError("unreachable", `${host} does not resolve: ${why}`, { cause });
}

/** Formats what {@link parseAddress} reads. */
export function formatAddress(host: string, port: number): string {
  return host.includes(":") ? `quic://[${host}]:${port}` : `quic://${host}:${port}`;
}

/** The error of a listener whose port is taken. */
export function addressInUse(address: string, cause?: unknown): TransportError {
  return new TransportError(
    "address_in_use",
    `${address} is taken by another program; choose another port, or 0 for any free one`,
    { cause },
  );
}

/** The error of a dial over a datagram transport where the stack cannot do without its socket. */
export function socketIsOwn(): TransportError {
  return new TransportError(
    "unavailable",
    "this runtime's QUIC owns its socket and takes no datagram transport; " +
      "dial with quicheTransport()",
  );
}
