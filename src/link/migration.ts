import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { TransportError } from "../base/errors.ts";
import { CloseCode } from "./close_codes.ts";
import type { Authenticated, DialRequest } from "./connector.ts";
import type { Link } from "./link.ts";

/** What moving a link needs of its surroundings. */
export interface MigrationPorts {
  readonly clock: Clock;
  /** Where the peer can be reached, best first. */
  readonly addresses: () => Promise<readonly string[]>;
  readonly dial: (address: string, request: DialRequest) => Promise<Authenticated>;
  /** Whether another connection has taken over from the link, or is about to. */
  readonly isReplaced: () => boolean;
  /** Makes a link of a connection that takes over from `replaces`; resolves when it is up. */
  readonly takeOver: (
    authenticated: Authenticated,
    address: string,
    replaces: Bytes,
  ) => Promise<void>;
}

/**
 * Moves a link to a new local path: `path` when the stack moved the live connection (RFC 9000 §9),
 * `link` when a new connection took over behind what the old one carried.
 *
 * @throws TransportError `timeout`; `no_conn` when the connection ended meanwhile; `unreachable` when
 *   no new connection can be made, `peer_disable_migration` when the peer forbids the live one to
 *   move besides; or what the dial threw
 */
export async function moveLink(
  link: Link,
  ports: MigrationPorts,
  timeoutMs: number,
): Promise<"path" | "link"> {
  const { clock } = ports;
  const startedAt = clock.now();
  let isForbidden = false;
  if (link.connection.migrate !== undefined) {
    try {
      await link.connection.migrate(timeoutMs);
      return "path";
    } catch (error) {
      const { reason } = error as Partial<TransportError>;
      if (reason === "closed") {
        // The peer has handed over to a new connection meanwhile: that is a new path, too.
        await link.over;
        if (ports.isReplaced()) return "link";
        throw new TransportError("no_conn", `the link to ${link.peer.name} has ended`, {
          cause: error,
        });
      }
      // The peer's transport parameters forbid it (RFC 9000 §18.2), or this connection cannot: a new
      // one may still do.
      isForbidden = reason === "migration_disabled";
      if (!isForbidden && reason !== "migration_impossible") throw error;
    }
  }
  const abort = new AbortController();
  const deadline = Promise.withResolvers<never>();
  const timer = clock.after(Math.max(0, timeoutMs - (clock.now() - startedAt)), () => {
    abort.abort();
    deadline.reject(
      new TransportError(
        "timeout",
        `the link to ${link.peer.name} was not moved within ${timeoutMs} ms`,
      ),
    );
  });
  try {
    await Promise.race([handOver(link, ports, abort.signal), deadline.promise]);
    return "link";
  } catch (error) {
    if (!isForbidden || !(error instanceof TransportError) || error.reason === "timeout") {
      throw error;
    }
    const text = `${link.peer.name} does not let the link move, and there is no other way in`;
    throw new TransportError("peer_disable_migration", text, { cause: error });
  } finally {
    timer.cancel();
  }
}

// Both ends drain the old connection, and send on the new one only when all that the old one
// carried has been delivered.
async function handOver(old: Link, ports: MigrationPorts, signal: AbortSignal): Promise<void> {
  const { name, publicKey } = old.peer;
  let failure: unknown = new TransportError(
    "unreachable",
    `${name} only dials: it has to migrate its own end`,
  );
  for (const address of await ports.addresses()) {
    if (signal.aborted) return;
    try {
      const authenticated = await ports.dial(address, {
        publicKey,
        replaces: old.id,
        isNewPath: true,
      });
      if (signal.aborted) {
        return authenticated.connection.close(CloseCode.GOODBYE, "too late");
      }
      await ports.takeOver(authenticated, address, old.id);
      await old.over;
      return;
    } catch (error) {
      failure = error;
    }
  }
  throw failure;
}
