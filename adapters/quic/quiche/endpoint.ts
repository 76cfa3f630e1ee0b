import type { Random } from "../../../src/base/random.ts";
import type { Clock } from "../../../src/base/clock.ts";
import type { ConnectionOptions } from "../../../src/transport/contract.ts";
import { INITIAL } from "./binding.ts";
import type { HostPort, QuicheBinding, QuicheConfig, QuicheHeader } from "./binding.ts";
import { QuicheConnection } from "./connection.ts";
import type { ConnectionHome } from "./connection.ts";
import { bindUdp } from "./socket.ts";
import type { UdpSocket } from "./socket.ts";

/** Our connection ids, bytes. */
const ID_BYTES = 16;
/** Microtasks that run before packets leave, so that an answer rides with the acknowledgement. */
const SETTLE_ROUNDS = 24;

/** Decides on connections that strangers open. */
export interface Acceptor {
  readonly options: ConnectionOptions;
  config(remote: HostPort): QuicheConfig;
  /** Whether one more may be accepted. */
  hasRoom(): boolean;
  accepted(connection: QuicheConnection): void;
}

/** A UDP port and the connections that use it. */
export class QuicheEndpoint implements ConnectionHome {
  readonly socket: UdpSocket;
  /** Set on listeners. */
  acceptor: Acceptor | undefined;
  readonly #quiche: QuicheBinding;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #byId = new Map<string, QuicheConnection>();
  readonly #connections = new Set<QuicheConnection>();
  #dirty: QuicheConnection[] = [];
  #scheduled = false;

  private constructor(
    quiche: QuicheBinding,
    bind: (onPacket: (data: Uint8Array, from: HostPort) => void) => UdpSocket,
    options: ConnectionOptions,
  ) {
    this.#quiche = quiche;
    this.#clock = options.clock;
    this.#random = options.random;
    this.socket = bind((data, from) => this.#receive(data, from));
  }

  /** Binds a port. @throws TransportError `address_in_use`, `bad_address` */
  static async bind(
    quiche: QuicheBinding,
    host: string,
    port: number,
    isIpv6: boolean,
    options: ConnectionOptions,
  ): Promise<QuicheEndpoint> {
    let receive: (data: Uint8Array, from: HostPort) => void = () => {};
    const socket = await bindUdp(host, port, isIpv6, (data, from) => receive(data, from));
    return new QuicheEndpoint(quiche, (onPacket) => {
      receive = onPacket;
      return socket;
    }, options);
  }

  /** Begins a connection to `remote`. */
  connect(
    remote: HostPort,
    serverName: string,
    config: QuicheConfig,
    options: ConnectionOptions,
  ): QuicheConnection {
    const id = this.#random.bytes(ID_BYTES);
    const handle = this.#quiche.Connection.connect(
      serverName,
      id,
      this.socket.local,
      remote,
      config,
    );
    const connection = new QuicheConnection("client", handle, remote, this, options);
    this.#add(connection, id);
    connection.markDirty();
    return connection;
  }

  /** The connections now. */
  get connections(): ReadonlySet<QuicheConnection> {
    return this.#connections;
  }

  /** Sends the goodbyes that are due and closes the port. */
  async close(): Promise<void> {
    this.acceptor = undefined;
    for (const connection of [...this.#connections]) connection.send();
    for (const connection of [...this.#connections]) connection.drop();
    await this.socket.close();
  }

  schedule(connection: QuicheConnection): void {
    connection.isDirty = true;
    this.#dirty.push(connection);
    if (this.#scheduled) return;
    this.#scheduled = true;
    // After the packets that have arrived already: one turn for all of them.
    this.#clock.nextTurn(() => this.#turn());
  }

  gone(connection: QuicheConnection): void {
    for (const id of connection.ids) this.#byId.delete(id);
    this.#connections.delete(connection);
  }

  #turn(): void {
    // By index: what a handler writes to a connection adds it to this same turn.
    for (let i = 0; i < this.#dirty.length; i++) {
      const connection = this.#dirty[i] as QuicheConnection;
      if (connection.hasInput) connection.read();
    }
    this.#settle(SETTLE_ROUNDS);
  }

  #settle(rounds: number): void {
    if (rounds > 0) return queueMicrotask(() => this.#settle(rounds - 1));
    const dirty = this.#dirty;
    this.#dirty = [];
    this.#scheduled = false;
    for (const connection of dirty) {
      connection.isDirty = false;
      this.#provideIds(connection);
      // Without new packets there is nothing to read, and asking costs as much as an answer.
      if (connection.hasInput) connection.read();
      connection.send();
    }
  }

  #add(connection: QuicheConnection, id: Uint8Array): void {
    this.#connections.add(connection);
    this.#own(connection, id);
  }

  #own(connection: QuicheConnection, id: Uint8Array): void {
    const key = keyOf(id, 0, id.length);
    connection.ids.add(key);
    this.#byId.set(key, connection);
  }

  // A peer that migrates needs ids it has not used (RFC 9000 §9.5).
  #provideIds(connection: QuicheConnection): void {
    const { handle } = connection;
    if (!handle.isEstablished() || handle.isDraining()) return;
    while (handle.sourceCidsLeft() > 0) {
      const id = this.#random.bytes(ID_BYTES);
      const token = BigInt(this.#random.uint32()) << 96n | BigInt(this.#random.uint32()) << 64n |
        BigInt(this.#random.uint32()) << 32n | BigInt(this.#random.uint32());
      try {
        handle.newSourceCid(id, token, false);
      } catch {
        return;
      }
      this.#own(connection, id);
    }
  }

  #receive(data: Uint8Array, from: HostPort): void {
    const first = data[0];
    if (first === undefined) return;
    const isLong = (first & 0x80) !== 0;
    const start = isLong ? 6 : 1;
    const length = isLong ? data[5] ?? 0 : ID_BYTES;
    if (data.length < start + length) return;
    const key = keyOf(data, start, start + length);
    const connection = this.#byId.get(key) ?? (isLong ? this.#accept(data, key, from) : undefined);
    connection?.receive(data, from);
  }

  #accept(data: Uint8Array, key: string, from: HostPort): QuicheConnection | undefined {
    const { acceptor } = this;
    // Shorter Initials are forbidden, as they would make us an amplifier (RFC 9000 §14.1).
    if (acceptor === undefined || data.length < this.#quiche.MIN_CLIENT_INITIAL_LEN) return;
    let header: QuicheHeader;
    try {
      header = this.#quiche.Header.fromSlice(data, ID_BYTES);
    } catch {
      return;
    }
    if (!this.#quiche.versionIsSupported(header.version)) {
      try {
        const { buffer } = this.socket;
        this.socket.send(this.#quiche.negotiateVersion(header.scid, header.dcid, buffer), from);
      } catch {
        // Not a packet that can be answered.
      }
      return;
    }
    if (header.ty !== INITIAL || !acceptor.hasRoom()) return;
    const id = this.#random.bytes(ID_BYTES);
    const handle = this.#quiche.Connection.accept(
      id,
      null,
      this.socket.local,
      from,
      acceptor.config(from),
    );
    const connection = new QuicheConnection("server", handle, from, this, acceptor.options);
    this.#add(connection, id);
    // Until it has seen our id, the client uses the one it made up.
    connection.ids.add(key);
    this.#byId.set(key, connection);
    acceptor.accepted(connection);
    return connection;
  }
}

function keyOf(bytes: Uint8Array, start: number, end: number): string {
  let key = "";
  for (let i = start; i < end; i++) key += String.fromCharCode(bytes[i] as number);
  return key;
}
