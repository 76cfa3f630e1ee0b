import { nextTick } from "node:process";
import type { Bytes } from "../../../src/base/bytes.ts";
import type { Clock } from "../../../src/base/clock.ts";
import type { Random } from "../../../src/base/random.ts";
import type { ConnectionOptions } from "../../../src/transport/contract.ts";
import type { Acceptor } from "./acceptor.ts";
import type { HostPort, QuicheBinding, QuicheConfig, QuicheHandle } from "./binding.ts";
import { QuicheConnection } from "./connection.ts";
import type { ConnectionHome } from "./connection.ts";
import {
  ID_BYTES,
  isLong,
  keyAt,
  LONG_ID_AT,
  longIdBytes,
  newConnectionId,
  SHORT_ID_AT,
} from "./connection_id.ts";
import { bindUdp } from "./socket.ts";
import type { UdpSocket } from "./socket.ts";

/** Ids that the peer holds at first: one in use and the others for paths to come. */
const SPARE_IDS = 8;

/** A UDP port and the connections that use it. */
export class QuicheEndpoint implements ConnectionHome {
  readonly socket: UdpSocket;
  /** Set on listeners. */
  acceptor: Acceptor | undefined;
  readonly #quiche: QuicheBinding;
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #connections = new Set<QuicheConnection>();
  // By our own ids, and by those that clients made up for us until they have seen one.
  readonly #byKey = new Map<number, QuicheConnection>();
  readonly #byClientId = new Map<string, QuicheConnection>();
  #dirty: QuicheConnection[] = [];
  #scheduled = false;

  private constructor(quiche: QuicheBinding, socket: UdpSocket, options: ConnectionOptions) {
    this.#quiche = quiche;
    this.#clock = options.clock;
    this.#random = options.random;
    this.socket = socket;
    socket.onPacket = (packet, host, port) => this.#receive(packet, host, port);
  }

  /** Binds a port. @throws TransportError `address_in_use`, `bad_address` */
  static async bind(
    quiche: QuicheBinding,
    host: string,
    port: number,
    isIpv6: boolean,
    options: ConnectionOptions,
  ): Promise<QuicheEndpoint> {
    return new QuicheEndpoint(quiche, await bindUdp(host, port, isIpv6), options);
  }

  /** The same on a port that exists. */
  static over(
    quiche: QuicheBinding,
    socket: UdpSocket,
    options: ConnectionOptions,
  ): QuicheEndpoint {
    return new QuicheEndpoint(quiche, socket, options);
  }

  /** Begins a connection to `remote`. */
  connect(
    remote: HostPort,
    serverName: string,
    config: QuicheConfig,
    options: ConnectionOptions,
  ): QuicheConnection {
    const id = newConnectionId(this.#random);
    const { Connection } = this.#quiche;
    const handle = Connection.connect(serverName, id, this.socket.local, remote, config);
    const connection = this.#add(new QuicheConnection("client", handle, remote, this, options), id);
    connection.markDirty();
    return connection;
  }

  /** Takes up a connection that the acceptor let in. */
  admit(
    handle: QuicheHandle,
    id: Bytes,
    remote: HostPort,
    options: ConnectionOptions,
  ): QuicheConnection {
    return this.#add(new QuicheConnection("server", handle, remote, this, options), id);
  }

  /** The connections now. */
  get connections(): ReadonlySet<QuicheConnection> {
    return this.#connections;
  }

  /** Sends the goodbyes that are due and closes the port. */
  async close(): Promise<void> {
    for (const connection of [...this.#connections]) connection.send();
    for (const connection of [...this.#connections]) connection.drop("the port was closed");
    this.acceptor = undefined;
    await this.socket.close();
  }

  schedule(connection: QuicheConnection): void {
    this.#dirty.push(connection);
    if (this.#scheduled) return;
    this.#scheduled = true;
    // After the packets that have arrived already: one turn for all of them.
    this.#clock.nextTurn(() => this.#turn());
  }

  forgetIds(connection: QuicheConnection): void {
    const { handle } = connection;
    for (let id = handle.retiredScidNext(); id !== null; id = handle.retiredScidNext()) {
      const key = keyAt(id, 0);
      connection.keys.delete(key);
      this.#byKey.delete(key);
    }
  }

  provideIds(connection: QuicheConnection): void {
    const { handle } = connection;
    this.forgetIds(connection);
    const wanted = SPARE_IDS + connection.moves;
    while (handle.activeSourceCids() < wanted && handle.sourceCidsLeft() > 0) {
      const id = newConnectionId(this.#random);
      try {
        handle.newSourceCid(id, this.#resetToken(), false);
      } catch {
        return;
      }
      this.#own(connection, id);
    }
  }

  left(): void {
    // A port that was bound for one dial.
    if (this.acceptor === undefined) void this.socket.close();
  }

  gone(connection: QuicheConnection): void {
    for (const key of connection.keys) this.#byKey.delete(key);
    if (connection.clientId !== undefined) this.#byClientId.delete(connection.clientId);
    this.#connections.delete(connection);
    if (connection.role === "server") this.acceptor?.gone();
  }

  #turn(): void {
    // By index: what a handler writes to a connection adds it to this same turn.
    for (let i = 0; i < this.#dirty.length; i++) {
      const connection = this.#dirty[i] as QuicheConnection;
      this.#guarded(() => connection.read());
    }
    // Once every promise that the handlers settled has had its say: an answer rides with the
    // acknowledgement.
    queueMicrotask(() => nextTick(() => this.#settle()));
  }

  #settle(): void {
    const dirty = this.#dirty;
    this.#dirty = [];
    this.#scheduled = false;
    for (const connection of dirty) {
      this.#guarded(() => {
        connection.read();
        connection.send();
      });
    }
  }

  // A handler that throws is its author's mistake, which ends the process unless he wants otherwise;
  // the other connections of this port go on.
  #guarded(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#clock.nextTurn(() => {
        throw error;
      });
    }
  }

  #add(connection: QuicheConnection, id: Bytes): QuicheConnection {
    this.#connections.add(connection);
    this.#own(connection, id);
    return connection;
  }

  #own(connection: QuicheConnection, id: Bytes): void {
    const key = keyAt(id, 0);
    connection.keys.add(key);
    this.#byKey.set(key, connection);
  }

  #resetToken(): bigint {
    let token = 0n;
    for (let i = 0; i < 4; i++) token = token << 32n | BigInt(this.#random.uint32());
    return token;
  }

  #receive(packet: Uint8Array, host: string, port: number): void {
    if (packet.length < SHORT_ID_AT + ID_BYTES) return;
    if (isLong(packet)) return this.#receiveLong(packet, host, port);
    this.#byKey.get(keyAt(packet, SHORT_ID_AT))?.receiveShort(packet, host, port);
  }

  #receiveLong(packet: Uint8Array, host: string, port: number): void {
    const length = longIdBytes(packet);
    if (length < 0) return;
    const known = length === ID_BYTES ? this.#byKey.get(keyAt(packet, LONG_ID_AT)) : undefined;
    if (known !== undefined) return known.receive(packet, host, port);
    if (this.acceptor === undefined) return;
    const id = String.fromCharCode(...packet.subarray(LONG_ID_AT, LONG_ID_AT + length));
    const begun = this.#byClientId.get(id);
    if (begun !== undefined) return begun.receive(packet, host, port);
    const connection = this.acceptor.answer(packet, { host, port });
    if (connection === undefined) return;
    connection.clientId = id;
    this.#byClientId.set(id, connection);
    connection.arrived();
  }
}
