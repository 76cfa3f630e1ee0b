/** Somebody in between: ends TLS with a certificate of its own and passes every byte on, or not. */
import type { Bytes } from "../../src/base/bytes.ts";
import type { Connection, Pipe, Transport } from "../../src/transport/contract.ts";
import { connectionOptions } from "../conformance/world.ts";

/** A relay that runs. */
export interface Relay {
  /** Where it pretends to be the target. */
  readonly address: string;
  /** Bytes of handshakes that it has passed on, to the target and back. */
  readonly passed: { toTarget: number; back: number };
  close(): Promise<void>;
}

/** What a relay does beside passing on. */
export interface RelayOptions {
  /** Where it listens. */
  readonly listen?: string;
  /** What it makes of the bytes on the pipe with this number, counted by it. */
  readonly alter?: (chunk: Bytes, isToTarget: boolean, pipe: number) => readonly Bytes[];
}

/** Starts a relay before the node at `target`. */
export async function startRelay(
  transport: Transport,
  target: string,
  { listen = "quic://127.0.0.1:0", alter = (chunk) => [chunk] }: RelayOptions = {},
): Promise<Relay> {
  const options = await connectionOptions();
  const passed = { toTarget: 0, back: 0 };
  let pipes = 0;
  const join = (from: Pipe, to: Pipe, way: "toTarget" | "back", pipe: number) => {
    from.onEnd = () => to.end();
    from.onData = (chunk) => {
      passed[way] += chunk.length;
      for (const one of alter(chunk.slice(), way === "toTarget", pipe)) to.write(one);
    };
  };
  const carry = async (from: Pipe, to: Connection, isToTarget: boolean) => {
    const other = await to.openPipe(from.kind).catch(() => undefined);
    if (other === undefined) return from.destroy();
    const [there, back] = isToTarget
      ? ["toTarget", "back"] as const
      : ["back", "toTarget"] as const;
    const pipe = pipes++;
    join(from, other, there, pipe);
    join(other, from, back, pipe);
  };
  const follow = (one: Connection, other: Connection) => {
    void one.closed.then(({ code, reason }) => other.close(Math.max(1, code), reason));
  };
  // What outlives a test file is told to nobody, which Bun does not bear.
  const open = new Set<Connection>();
  const keep = (connection: Connection) => {
    open.add(connection);
    void connection.closed.then(() => open.delete(connection));
  };
  const serve = async (client: Connection) => {
    keep(client);
    const early: Pipe[] = [];
    client.onPipe = (pipe) => void early.push(pipe);
    try {
      const server = await transport.dial(target, { ...options, timeoutMs: 5_000 });
      keep(server);
      server.onPipe = (pipe) => void carry(pipe, client, false);
      client.onPipe = (pipe) => void carry(pipe, server, true);
      for (const pipe of early) void carry(pipe, server, true);
      follow(client, server);
      follow(server, client);
    } catch {
      client.close(1, "the target does not answer");
    }
  };
  const listener = await transport.listen(listen, {
    ...options,
    maxConnections: 100,
    onConnection: (client) => void serve(client),
  });
  return {
    address: listener.address,
    passed,
    async close() {
      const ended = [...open].map((connection) => {
        connection.close(1, "the relay ends");
        return connection.closed;
      });
      await Promise.all(ended);
      await listener.close();
    },
  };
}
