import type { Bytes } from "../base/bytes.ts";
import type { SyncCrypto } from "../base/crypto.ts";
import { ProtocolError } from "../base/errors.ts";
import { pipeKey, sealer, unsealer } from "../identity/session.ts";
import type { Connection, Pipe } from "../transport/contract.ts";
import type { FramedPipe } from "./framed_pipe.ts";
import { SealedPipe } from "./sealed_pipe.ts";
import type { PipeSeals } from "./sealed_pipe.ts";

/** The handshake's pipe, which the client opened first of all. */
const CONTROL_PIPE = 0;
/** How far behind the latest pipe an earlier one may arrive. */
const WINDOW = 4_096;

/** A connection of which all that crosses it is sealed. */
export interface SealedConnection {
  /** To be used in place of the one that was sealed. */
  readonly connection: Connection;
  /** Seals a pipe that the peer has opened already. */
  accept(pipe: Pipe): Pipe;
}

/**
 * Seals a connection whose TLS ends at somebody's proxy, from the end of the handshake on. Each pipe
 * has keys of its own, from its number and who opened it, so that none can pass for another.
 *
 * @param control the pipe of the handshake, paused
 * @param session the key that the handshake agreed on
 */
export function sealConnection(
  connection: Connection,
  control: FramedPipe,
  session: Bytes,
  crypto: SyncCrypto,
): SealedConnection {
  const own = connection.role;
  const peer = own === "client" ? "server" : "client";
  const sealsOf = (opener: "client" | "server", number: number): PipeSeals => ({
    out: sealer(pipeKey(session, { opener, number, sender: own }, crypto), crypto),
    in: unsealer(pipeKey(session, { opener, number, sender: peer }, crypto), crypto),
  });
  const isNew = numbersOnce();
  const accept = (pipe: Pipe) =>
    new SealedPipe(pipe, {
      sealsOf(number) {
        if (!isNew(number)) throw new ProtocolError("unsealed", `pipe ${number} came twice`);
        return sealsOf(peer, number);
      },
    });
  let nextNumber = CONTROL_PIPE + 1;
  let onPipe: ((pipe: Pipe) => void) | undefined;

  control.exchange((pipe, unread) =>
    new SealedPipe(pipe, { seals: sealsOf("client", CONTROL_PIPE), unread })
  );
  return {
    accept,
    connection: {
      role: own,
      mode: connection.mode,
      // A peer may move.
      get remoteAddress() {
        return connection.remoteAddress;
      },
      channelBinding: connection.channelBinding,
      closed: connection.closed,
      close: (code, reason) => connection.close(code, reason),
      ...(connection.stats === undefined ? {} : { stats: connection.stats.bind(connection) }),
      ...(connection.migrate === undefined ? {} : { migrate: connection.migrate.bind(connection) }),
      async openPipe(kind) {
        const pipe = await connection.openPipe(kind);
        const number = nextNumber++;
        return new SealedPipe(pipe, { seals: sealsOf(own, number), number });
      },
      get onPipe() {
        return onPipe;
      },
      set onPipe(handler) {
        onPipe = handler;
        connection.onPipe = handler && ((pipe) => handler(accept(pipe)));
      },
    },
  };
}

// Whether a number comes for the first time; those far behind the latest count as known.
function numbersOnce(): (number: number) => boolean {
  const known = new Set<number>();
  let latest = CONTROL_PIPE;
  return (number) => {
    if (number <= Math.max(CONTROL_PIPE, latest - WINDOW) || known.has(number)) return false;
    known.add(number);
    latest = Math.max(latest, number);
    if (known.size > WINDOW) {
      for (const one of known) if (one <= latest - WINDOW) known.delete(one);
    }
    return true;
  };
}
