import type { Clock, Timer } from "../../../src/base/clock.ts";
import { TransportError } from "../../../src/base/errors.ts";
import type { CloseInfo } from "../../../src/transport/contract.ts";
import { formatAddress } from "../address.ts";
import type { HostPort, QuicheHandle } from "./binding.ts";
import type { LocalPath, LocalPaths } from "./paths.ts";
import { bindUdp } from "./socket.ts";

/** How often the new path is probed until the peer answers on it, milliseconds. */
const PROBE_EVERY_MS = 500;

/** The connection that moves. */
export interface Movable {
  readonly handle: QuicheHandle;
  readonly paths: LocalPaths;
  readonly clock: Clock;
  readonly remote: HostPort;
  readonly closed: Promise<CloseInfo>;
  /** A packet has come on a path whose port is the connection's own. */
  receivedOn(path: LocalPath, packet: Uint8Array, host: string, port: number): void;
  /** Packets are to be sent. */
  markDirty(): void;
  /** The port that the connection was born on is no longer used by it. */
  leaveHome(): void;
}

/** A move to another local port, RFC 9000 §9: the path is probed first, and then taken. */
export class Migration {
  /** Settles when the connection sends from its new port, or with why it does not. */
  readonly done: Promise<void>;
  readonly #connection: Movable;
  readonly #answered = Promise.withResolvers<void>();
  #path: LocalPath | undefined;
  #isProbed = false;

  constructor(connection: Movable, timeoutMs: number) {
    this.#connection = connection;
    this.#answered.promise.catch(() => {});
    this.done = this.#run(timeoutMs);
  }

  /** Looks at what packets may have brought: an id for the path, or the peer's answer on it. */
  look(): void {
    if (this.#path === undefined) return;
    if (!this.#isProbed) this.#probe();
    const { handle } = this.#connection;
    const { name } = this.#path;
    // Only the peer can seal a packet, and it knows of this port from our probe alone.
    const known = handle.pathStats().find(({ localHost }) => localHost.port === name.port);
    if (known !== undefined && known.recv > 0) this.#answered.resolve();
  }

  async #run(timeoutMs: number): Promise<void> {
    const { clock, closed, handle, leaveHome, markDirty, paths, remote } = this.#connection;
    const address = formatAddress(remote.host, remote.port);
    void closed.then(() => this.#fail("closed", `the connection to ${address} has ended`));
    const timer = clock.after(timeoutMs, () => {
      this.#fail("timeout", `${address} did not answer on a new path within ${timeoutMs} ms`);
    });
    // Whoever asked has time left to dial anew.
    const idTimer = clock.after(timeoutMs / 2, () => {
      if (this.#isProbed) return;
      this.#fail("migration_impossible", `${address} gives no id for a further path`);
    });
    const probing: { timer?: Timer } = {};
    const probe = () => {
      this.#probe();
      probing.timer = clock.after(PROBE_EVERY_MS, probe);
    };
    let path: LocalPath | undefined;
    try {
      path = await this.#bind(paths);
      this.#path = path;
      probe();
      await this.#answered.promise;
      handle.migrate(path.name, remote);
      paths.switchTo(path, leaveHome);
      markDirty();
    } catch (error) {
      if (path !== undefined) paths.abandon(path);
      throw error instanceof TransportError
        ? error
        : new TransportError("closed", `the connection to ${address} cannot go on`, {
          cause: error,
        });
    } finally {
      this.#path = undefined;
      timer.cancel();
      idTimer.cancel();
      probing.timer?.cancel();
    }
  }

  async #bind(paths: LocalPaths): Promise<LocalPath> {
    const { isIpv6 } = paths.current.socket;
    // Of any local address: the network may have changed.
    const socket = await bindUdp(isIpv6 ? "::" : "0.0.0.0", 0, isIpv6);
    const path = paths.probe(socket);
    socket.onPacket = (packet, host, port) => {
      this.#connection.receivedOn(path, packet, host, port);
    };
    return path;
  }

  #probe(): void {
    const { handle, markDirty, remote } = this.#connection;
    if (this.#path === undefined) return;
    try {
      handle.probePath(this.#path.name, remote);
      this.#isProbed = true;
      markDirty();
    } catch {
      // The path needs an id of the peer (RFC 9000 §9.5), which is on its way.
    }
  }

  #fail(reason: string, message: string): void {
    this.#answered.reject(new TransportError(reason, message));
  }
}
