/**
 * QUIC for Node builds without `node:quic`: Cloudflare's quiche through the native package
 * `@infisical/quic`, driven here over `node:dgram`.
 */
import { equalBytes } from "../../src/base/bytes.ts";
import { TransportError } from "../../src/base/errors.ts";
import { syncHashes } from "../../src/base/noble_crypto.ts";
import { CERTIFICATE_NAME } from "../../src/identity/certificate.ts";
import type {
  Connection,
  DatagramTransport,
  DialOptions,
  Listener,
  ListenOptions,
  Transport,
} from "../../src/transport/contract.ts";
import { formatAddress, parseAddress, resolveAddress, systemNames } from "./address.ts";
import type { QuicAddress, ResolveName } from "./address.ts";
import { Deadline, noAnswer } from "./deadline.ts";
import { dialEach } from "./dial_each.ts";
import { paced } from "./dial_pacer.ts";
import { Acceptor } from "./quiche/acceptor.ts";
import { CARRIED_PACKET_BYTES, carriedBy } from "./quiche/carried.ts";
import { loadQuiche } from "./quiche/binding.ts";
import type { QuicheBinding } from "./quiche/binding.ts";
import { isLoopback, quicheConfig } from "./quiche/config.ts";
import type { QuicheConnection } from "./quiche/connection.ts";
import { QuicheEndpoint } from "./quiche/endpoint.ts";
import { probeUdp } from "./udp_probe.ts";

interface QuicheListener extends Listener {
  readonly endpoint: QuicheEndpoint;
}
const listeners = new WeakSet<Listener>();

/** QUIC over quiche. @throws TransportError `unavailable` without the native package */
export async function quicheTransport(resolve: ResolveName = systemNames): Promise<Transport> {
  const quiche = await loadQuiche();
  return {
    scheme: "quic",
    listen: (address, options) => listen(quiche, address, options),
    dial: dialEach(paced((target, options) => dial(quiche, target, options)), resolve),
    probe: probeUdp,
  };
}

async function listen(
  quiche: QuicheBinding,
  address: string,
  options: ListenOptions,
): Promise<Listener> {
  const { host, port, isIpv6 } = (await resolveAddress(parseAddress(address)))[0];
  const endpoint = await QuicheEndpoint.bind(quiche, host, port, isIpv6, options);
  const acceptor = new Acceptor(quiche, endpoint, options);
  endpoint.acceptor = acceptor;
  const listener: QuicheListener = {
    endpoint,
    address: formatAddress(endpoint.socket.local.host, endpoint.socket.local.port),
    setIdentity: (identity) => acceptor.setIdentity(identity),
    async close() {
      for (const connection of endpoint.connections) connection.close(1, "listener closed");
      await endpoint.close();
    },
  };
  listeners.add(listener);
  return listener;
}

async function dial(
  quiche: QuicheBinding,
  target: QuicAddress,
  options: DialOptions,
): Promise<Connection> {
  const address = formatAddress(target.host, target.port);
  const deadline = new Deadline(options, () => noAnswer(address, options.timeoutMs));
  let connection: QuicheConnection | undefined;
  try {
    connection = await connect(quiche, target, options);
    await deadline.race(connection.established);
    const leaf = connection.handle.peerCertChain()?.[0];
    const expected = options.expectedCertificate;
    if (leaf === undefined || (expected !== undefined && !equalBytes(leaf, expected))) {
      throw new TransportError(
        "tls",
        `${address} does not show the certificate of the expected key`,
      );
    }
    connection.channelBinding = syncHashes.sha256(leaf);
    return connection;
  } catch (error) {
    if (connection === undefined) options.datagrams?.close();
    connection?.close(1, "dial failed");
    throw error;
  } finally {
    deadline.stop();
  }
}

async function connect(
  quiche: QuicheBinding,
  { host, port, isIpv6 }: QuicAddress,
  options: DialOptions,
): Promise<QuicheConnection> {
  if (options.datagrams !== undefined) {
    return connectOver(quiche, options.datagrams, { host, port, isIpv6 }, options);
  }
  const via = options.via && listeners.has(options.via)
    ? (options.via as QuicheListener).endpoint
    : undefined;
  const shared = via !== undefined && via.socket.isIpv6 === isIpv6;
  const endpoint = shared
    ? via
    : await QuicheEndpoint.bind(quiche, isIpv6 ? "::" : "0.0.0.0", 0, isIpv6, options);
  const config = quicheConfig(quiche, options, "client", isLoopback(host));
  const connection = endpoint.connect({ host, port }, CERTIFICATE_NAME, config, options);
  // At once, and not when QUIC's drain is over: the clock may end with the node before that.
  if (!shared) void connection.closed.then(() => endpoint.close());
  return connection;
}

function connectOver(
  quiche: QuicheBinding,
  datagrams: DatagramTransport,
  peer: QuicAddress,
  options: DialOptions,
): QuicheConnection {
  const socket = carriedBy(datagrams, peer, options.logger);
  const endpoint = QuicheEndpoint.over(quiche, socket, options);
  const config = quicheConfig(quiche, options, "client", false);
  config.setMaxSendUdpPayloadSize(CARRIED_PACKET_BYTES);
  config.setMaxRecvUdpPayloadSize(CARRIED_PACKET_BYTES);
  const { host, port } = peer;
  const connection = endpoint.connect({ host, port }, CERTIFICATE_NAME, config, options);
  void connection.closed.then(() => endpoint.close());
  return connection;
}
