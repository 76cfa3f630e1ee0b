import type { Bytes } from "../../../src/base/bytes.ts";
import { messageOf } from "../../../src/base/errors.ts";
import { syncHashes } from "../../../src/base/noble_crypto.ts";
import type { ListenOptions, TlsIdentity } from "../../../src/transport/contract.ts";
import { INITIAL } from "./binding.ts";
import type {
  HostPort,
  QuicheBinding,
  QuicheConfig,
  QuicheHandle,
  QuicheHeader,
} from "./binding.ts";
import { isLoopback, quicheConfig } from "./config.ts";
import type { QuicheConnection } from "./connection.ts";
import { ID_BYTES, newConnectionId } from "./connection_id.ts";
import { refusal } from "./refusal.ts";
import { RetryTokens } from "./retry.ts";
import type { UdpSocket } from "./socket.ts";

/** A stranger that has not finished TLS after so long is dropped, milliseconds. */
const HANDSHAKE_MS = 5_000;
/** Unfinished handshakes from which on strangers must first show that they receive at their address. */
const RETRY_ABOVE = 32;
const VERSION_1 = 1;

/** The port that connections are accepted on. */
export interface AcceptorHome {
  readonly socket: UdpSocket;
  /** Takes a new connection up. */
  admit(
    handle: QuicheHandle,
    id: Bytes,
    remote: HostPort,
    options: ListenOptions,
  ): QuicheConnection;
}

/** Decides what strangers get: a connection, a Retry, a refusal, or nothing. */
export class Acceptor {
  readonly #quiche: QuicheBinding;
  readonly #home: AcceptorHome;
  readonly #options: ListenOptions;
  #binding: Bytes;
  readonly #tokens: RetryTokens;
  #config: QuicheConfig;
  #loopbackConfig: QuicheConfig;
  #held = 0;
  #unfinished = 0;

  constructor(quiche: QuicheBinding, home: AcceptorHome, options: ListenOptions) {
    this.#quiche = quiche;
    this.#home = home;
    this.#options = options;
    this.#binding = syncHashes.sha256(options.identity.certificate);
    this.#tokens = new RetryTokens(options.random);
    this.#config = quicheConfig(quiche, options, "server", false);
    this.#loopbackConfig = quicheConfig(quiche, options, "server", true);
  }

  /** Connections that are accepted from now on are shown this certificate. */
  setIdentity(identity: TlsIdentity): void {
    const options = { ...this.#options, identity };
    this.#binding = syncHashes.sha256(identity.certificate);
    this.#config = quicheConfig(this.#quiche, options, "server", false);
    this.#loopbackConfig = quicheConfig(this.#quiche, options, "server", true);
  }

  /**
   * What a packet with a long header that belongs to no connection leads to: a connection, which
   * has received it, or an answer, or nothing.
   */
  answer(packet: Uint8Array, from: HostPort): QuicheConnection | undefined {
    // Shorter Initials are forbidden, as they would make us an amplifier (RFC 9000 §14.1).
    if (packet.length < this.#quiche.MIN_CLIENT_INITIAL_LEN) return undefined;
    try {
      const header = this.#quiche.Header.fromSlice(packet, ID_BYTES);
      if (!this.#quiche.versionIsSupported(header.version)) this.#negotiate(header, from);
      else if (header.ty === INITIAL) return this.#consider(packet, header, from);
    } catch {
      // Not a packet that can be answered.
    }
    return undefined;
  }

  /** A connection of ours has gone for good. */
  gone(): void {
    this.#held--;
  }

  #negotiate(header: QuicheHeader, from: HostPort): void {
    const { socket } = this.#home;
    socket.send(this.#quiche.negotiateVersion(header.scid, header.dcid, socket.buffer), from);
  }

  #consider(
    packet: Uint8Array,
    header: QuicheHeader,
    from: HostPort,
  ): QuicheConnection | undefined {
    const { clock, maxConnections, random } = this.#options;
    if (this.#held >= maxConnections) return this.#refuse(header, from);
    const original = header.token === undefined
      ? undefined
      : this.#tokens.original(header.token, header.dcid, from, clock.now());
    if (original === undefined && this.#unfinished >= RETRY_ABOVE) return this.#retry(header, from);
    const { socket } = this.#home;
    // The id of a Retry stays the connection's.
    const id = original === undefined ? newConnectionId(random) : header.dcid.slice() as Bytes;
    const handle = this.#quiche.Connection.accept(
      id,
      original ?? null,
      socket.local,
      from,
      isLoopback(from.host) ? this.#loopbackConfig : this.#config,
    );
    // Throws when nothing in the packet is authentic: then nothing is kept of it.
    handle.recv(packet, { from, to: socket.local });
    return this.#accept(handle, id, from);
  }

  #accept(handle: QuicheHandle, id: Bytes, from: HostPort): QuicheConnection {
    const { clock, logger, onConnection } = this.#options;
    const connection = this.#home.admit(handle, id, from, this.#options);
    connection.channelBinding = this.#binding;
    this.#held++;
    this.#unfinished++;
    const deadline = clock.after(
      HANDSHAKE_MS,
      () => connection.drop("the handshake took too long"),
    );
    const finished = () => {
      this.#unfinished--;
      deadline.cancel();
    };
    connection.established.then(() => {
      finished();
      onConnection(connection);
    }, finished).catch((error: unknown) => {
      logger.log("error", `a connection's handler failed: ${messageOf(error)}`);
      connection.close(1, "internal error");
    });
    return connection;
  }

  #retry(header: QuicheHeader, from: HostPort): undefined {
    const { clock, random } = this.#options;
    const { socket } = this.#home;
    const next = newConnectionId(random);
    const token = this.#tokens.issue(header.dcid, next, from, clock.now());
    const { dcid, scid, version } = header;
    socket.send(this.#quiche.retry(scid, dcid, next, token, version, socket.buffer), from);
  }

  #refuse(header: QuicheHeader, from: HostPort): undefined {
    if (header.version !== VERSION_1) return;
    const { socket } = this.#home;
    const packet = refusal(header.scid, header.dcid);
    socket.buffer.set(packet);
    socket.send(packet.length, from);
  }
}
