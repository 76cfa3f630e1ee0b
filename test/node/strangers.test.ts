import assert from "node:assert/strict";
import { createNode, HandshakeError } from "../../mod.ts";
import type { Node } from "../../mod.ts";
import { CloseCode } from "../../src/link/close_codes.ts";
import { MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS } from "../../src/link/options.ts";
import type { Connection, Listener, Transport } from "../../src/transport/contract.ts";
import { connectionOptions, dial, quicUnderTest } from "../conformance/world.ts";
import { runtime, test, waitFor } from "../harness.ts";

const refused = (node: Node, labels: string) =>
  Number(node.metrics.snapshot()[`barrel_handshake_refused_total{${labels}}`] ?? 0);
const TOO_MANY = 'by="local",reason="too_many",role="server"';

const startNode = (name: string, listen: string, lines: string[], handshakeTimeoutMs = 30_000) =>
  createNode({
    name: `${name}@127.0.0.1`,
    listen: [listen],
    auth: { handshakeTimeoutMs },
    logger: { log: (level, message) => void (level === "warn" && lines.push(message)) },
  });

/** Connections that say nothing, from the port of `via`. */
async function silent(
  transport: Transport,
  address: string,
  count: number,
  via?: Listener,
): Promise<Connection[]> {
  const connections: Connection[] = [];
  while (connections.length < count) {
    const some = Math.min(16, count - connections.length);
    const options = { idleTimeoutMs: 60_000, ...(via === undefined ? {} : { via }) };
    connections.push(
      ...await Promise.all(Array.from({ length: some }, () => dial(transport, address, options))),
    );
  }
  return connections;
}

const end = async (connections: readonly Connection[]) => {
  for (const connection of connections) connection.close(1, "enough");
  await Promise.all(connections.map((connection) => connection.closed));
};

test(
  `${runtime}: one address may have ${MAX_UNAUTHENTICATED_PER_ADDRESS} strangers waiting; the next is told so, until one has gone`,
  {
    timeoutMs: 60_000,
  },
  async () => {
    const lines: string[] = [];
    const node = await startNode("server", "quic://127.0.0.1:0", lines);
    const transport = await quicUnderTest();
    const address = node.addresses[0] as string;
    const strangers = await silent(transport, address, MAX_UNAUTHENTICATED_PER_ADDRESS);
    try {
      const [next] = await silent(transport, address, 1);
      const { code, reason, by } = await (next as Connection).closed;
      assert.deepEqual([code, reason, by], [CloseCode.TOO_MANY, "too_many", "peer"]);
      assert.equal(refused(node, TOO_MANY), 1);
      // A whole node hears the same name, and counts it on its side.
      const client = await startNode("client", "quic://127.0.0.1:0", []);
      client.links.setConnectOptions(node.name, { address });
      await assert.rejects(
        client.links.connect(node.name),
        (error) => error instanceof HandshakeError && error.reason === "too_many",
      );
      assert.equal(refused(client, 'by="peer",reason="too_many",role="client"'), 1);
      await client.close();
      await end(strangers.splice(0, 1));
      await waitFor(async () => {
        const [later] = await silent(transport, address, 1);
        const isIn = await Promise.race([
          (later as Connection).closed.then(() => false),
          new Promise<boolean>((resolve) => setTimeout(resolve, 300, true)),
        ]);
        if (isIn) strangers.push(later as Connection);
        return isIn;
      }, { what: "a place" });
      assert.ok(lines.some((line) => line.includes("too_many")));
    } finally {
      await end(strangers);
      await node.close();
    }
  },
);

test(`${runtime}: ${MAX_UNAUTHENTICATED} strangers may wait in all, from wherever they come`, {
  timeoutMs: 60_000,
}, async () => {
  const node = await startNode("server", "quic://0.0.0.0:0", []);
  const address = (node.addresses[0] as string).replace(/\/\/[^:]+:/, "//127.0.0.1:");
  const transport = await quicUnderTest();
  const strangers: Connection[] = [];
  const ports: Listener[] = [];
  const from = async (host: string, count: number) => {
    const port = await transport.listen(`quic://${host}:0`, {
      ...await connectionOptions(),
      maxConnections: 1,
      onConnection: (connection) => connection.close(1, "nobody is asked"),
    });
    ports.push(port);
    const made = await silent(transport, address, count, port);
    strangers.push(...made);
    return made;
  };
  try {
    const each = MAX_UNAUTHENTICATED_PER_ADDRESS - 4;
    const hosts = Math.ceil(MAX_UNAUTHENTICATED / each);
    let left = MAX_UNAUTHENTICATED;
    for (let i = 0; i < hosts; i++) {
      const count = Math.min(each, left);
      left -= count;
      await from(`127.0.0.${10 + i}`, count);
    }
    assert.equal(refused(node, TOO_MANY), 0);
    // An address with nobody of its own waiting.
    const [next] = await from("127.0.0.99", 1);
    const { code, reason } = await (next as Connection).closed;
    assert.deepEqual([code, reason], [CloseCode.TOO_MANY, "too_many"]);
    assert.equal(refused(node, TOO_MANY), 1);
  } finally {
    await end(strangers);
    await Promise.all(ports.map((port) => port.close()));
    await node.close();
  }
});

test(`${runtime}: a stranger that says nothing is told "timeout" at the deadline, and counted`, async () => {
  const node = await startNode("server", "quic://127.0.0.1:0", [], 500);
  const transport = await quicUnderTest();
  const address = node.addresses[0] as string;
  const [mute] = await silent(transport, address, 1);
  const [vague] = await silent(transport, address, 1);
  try {
    // One opens no pipe; the other opens one and says half a word.
    const pipe = await (vague as Connection).openPipe("bidirectional");
    pipe.write(Uint8Array.of(200));
    for (const connection of [mute, vague]) {
      const { code, reason, by } = await (connection as Connection).closed;
      assert.deepEqual([code, reason, by], [CloseCode.HANDSHAKE, "timeout", "peer"]);
    }
    assert.equal(refused(node, 'by="local",reason="timeout",role="server"'), 2);
  } finally {
    await node.close();
  }
});

test(`${runtime}: a node gives up a server that does not answer, and tells it why`, async () => {
  const transport = await quicUnderTest();
  const closed = Promise.withResolvers<string>();
  const server = await transport.listen("quic://127.0.0.1:0", {
    ...await connectionOptions(),
    maxConnections: 10,
    onConnection(connection) {
      connection.onPipe = () => {};
      void connection.closed.then(({ code, reason }) => closed.resolve(`${code} ${reason}`));
    },
  });
  const lines: string[] = [];
  const node = await startNode("client", "quic://127.0.0.1:0", lines, 500);
  node.links.setConnectOptions("server@127.0.0.1", { address: server.address });
  try {
    await assert.rejects(
      node.links.connect("server@127.0.0.1"),
      (error) => error instanceof HandshakeError && error.reason === "timeout",
    );
    assert.equal(await closed.promise, `${CloseCode.HANDSHAKE} timeout`);
    assert.equal(refused(node, 'by="local",reason="timeout",role="client"'), 1);
    assert.ok(lines.some((line) => line.includes("timeout")));
  } finally {
    await node.close();
    await server.close();
  }
});
