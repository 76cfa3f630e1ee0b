/** Nodes whose TLS ends at a proxy: honest ones work, and nothing else does. */
import assert from "node:assert/strict";
import { createNode, defineServer, NodeDownError } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";
import type { Bytes } from "../../src/base/bytes.ts";
import { realClock } from "../../src/base/real.ts";
import { seededRandom } from "../../src/base/random.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import type { MemoryNetwork } from "../../src/transport/memory.ts";
import { test, waitFor } from "../harness.ts";
import { startRelay } from "../node/relay.ts";
import type { RelayOptions } from "../node/relay.ts";
import { readAll } from "../stream/cluster.ts";

const SECRET = "the words that nobody on the way may read";
const Echo = defineServer({ init: () => 0, calls: { echo: (_ctx, text: string) => text } });

const edgeNetwork = (seen?: Bytes[]): MemoryNetwork =>
  createMemoryNetwork({
    clock: realClock,
    random: seededRandom(7),
    mode: "edge",
    ...(seen === undefined ? {} : {
      onPacket: (_from, _to, what, bytes) => {
        if (what === "data") seen.push(bytes.slice());
      },
    }),
  });

const start = (network: MemoryNetwork, name: string, options: Partial<NodeOptions> = {}) =>
  createNode({
    name: `${name}@mem`,
    listen: [`mem://${name}`],
    transports: [network.host(name).transport],
    logger: { log() {} },
    ...options,
  });

const countOf = (node: Node, ...words: string[]) =>
  Object.entries(node.metrics.snapshot())
    .filter(([name]) => words.every((word) => name.includes(word)))
    .reduce((sum, [, count]) => sum + count, 0);

/** Two nodes, the second of which knows the first by a proxy. */
async function behindProxy(options: RelayOptions, network = edgeNetwork()) {
  const server = await start(network, "server");
  const proxy = await startRelay(network.host("proxy").transport, server.addresses[0] as string, {
    listen: "mem://proxy",
    ...options,
  });
  const client = await start(network, "client");
  client.links.setConnectOptions(server.name, { address: proxy.address });
  return {
    server,
    client,
    proxy,
    async [Symbol.asyncDispose]() {
      await client.close();
      await server.close();
      await proxy.close();
    },
  };
}

test("calls, large messages and streams cross a proxy, and it reads none of them", {
  timeoutMs: 60_000,
}, async () => {
  const seen: Bytes[] = [];
  await using world = await behindProxy({}, edgeNetwork(seen));
  const { server, client, proxy } = world;
  const pid = await server.start(Echo, []);
  await client.links.connect(server.name);
  const echo = client.client(Echo, pid);
  assert.equal(await echo.echo(SECRET), SECRET);
  const large = SECRET.repeat(10_000);
  assert.equal(await echo.echo(large), large);
  const got = Promise.withResolvers<string>();
  server.streams.accept("test.secret", async ({ readable }) => {
    got.resolve(new TextDecoder().decode(await readAll(readable)));
  });
  const stream = await client.streams.open("test.secret", server.name);
  const writer = stream.writable.getWriter();
  await writer.write(new TextEncoder().encode(SECRET.repeat(5_000)));
  await writer.close();
  assert.equal(await got.promise, SECRET.repeat(5_000));
  // Another connection takes over, through the proxy again, while calls go on.
  let isOver = false;
  const calling = (async () => {
    for (let i = 0; !isOver; i++) {
      assert.equal(await echo.echo(`${SECRET} ${i}`), `${SECRET} ${i}`);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  })();
  await client.links.migrate(server.name, { timeoutMs: 10_000 });
  isOver = true;
  await calling;
  assert.ok(proxy.passed.toTarget > large.length && proxy.passed.back > large.length);
  const text = seen.map((bytes) => Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""))
    .join("");
  // The HELLOs are in the clear, and nothing else.
  assert.ok(text.includes("client@mem"));
  assert.ok(!text.includes(SECRET.slice(0, 20)));
  assert.ok(!text.includes("test.secret"));
});

test("a changed byte ends the link by name on the end that sees it, and a new one works", {
  timeoutMs: 60_000,
}, async () => {
  for (const isToTarget of [true, false]) {
    let isMean = false;
    await using world = await behindProxy({
      alter(chunk, way, pipe) {
        // A data pipe in the middle of things.
        if (isMean && way === isToTarget && pipe > 0) {
          isMean = false;
          chunk[chunk.length - 1] = (chunk[chunk.length - 1] as number) ^ 1;
        }
        return [chunk];
      },
    });
    const { server, client } = world;
    const pid = await server.start(Echo, []);
    const echo = client.client(Echo, pid);
    assert.equal(await echo.echo("before"), "before");
    isMean = true;
    await assert.rejects(echo.with({ timeoutMs: 10_000 }).echo("during"), NodeDownError);
    const victim = isToTarget ? server : client;
    assert.equal(countOf(victim, "refused", "unsealed"), 1);
    assert.equal(await echo.echo("behind"), "behind");
  }
});

test("whatever a proxy does to the bytes, no message comes twice, changed or out of order", {
  timeoutMs: 120_000,
}, async () => {
  const random = seededRandom(11);
  const kinds = ["flip", "drop", "twice", "cut", "other"] as const;
  const done = new Set<string>();
  for (let round = 0; round < 60; round++) {
    const kind = kinds[round % kinds.length] as typeof kinds[number];
    let due = 5 + random.uint32() % 60;
    let last = new Uint8Array(0);
    await using world = await behindProxy({
      alter(chunk) {
        const before = last;
        last = chunk.slice();
        if (--due !== 0) return [chunk];
        done.add(kind);
        const at = random.uint32() % chunk.length;
        switch (kind) {
          case "flip":
            chunk[at] = (chunk[at] as number) ^ (1 << random.uint32() % 8);
            return [chunk];
          case "drop":
            return [];
          case "twice":
            return [chunk, chunk.slice()];
          case "cut":
            return [chunk.slice(0, at)];
          case "other":
            return [before];
        }
      },
    });
    const { server, client } = world;
    const heard: unknown[] = [];
    const pid = server.spawn(async (self) => {
      for await (const message of self.mailbox) heard.push(message);
    });
    for (let i = 0; i < 60; i++) {
      await client.send(pid, i);
      if (i % 3 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    // A link that was tampered with is lost, and with it what was under way; a later one goes on.
    await waitFor(async () => {
      await client.send(pid, 60);
      await new Promise((resolve) => setTimeout(resolve, 5));
      return heard.includes(60);
    }, { what: `the last message of round ${round}, ${kind}`, deadlineMs: 30_000 });
    const numbers = heard as number[];
    const first = numbers.slice(0, numbers.indexOf(60) + 1);
    for (let i = 1; i < first.length; i++) {
      assert.ok((first[i] as number) > (first[i - 1] as number), `${kind}: ${first}`);
    }
  }
  assert.equal(done.size, kinds.length);
});

test("a proxy that plays both ends with keys of its own meets the pins", {
  timeoutMs: 30_000,
}, async () => {
  const network = edgeNetwork();
  const server = await start(network, "server");
  const mallory = await start(network, "mallory", { name: "server@mem", listen: ["mem://fake"] });
  const client = await start(network, "client");
  try {
    await client.trust.pin(server.name, server.publicKey);
    client.links.setConnectOptions(server.name, { address: "mem://fake" });
    await assert.rejects(client.links.connect(server.name), { reason: "key_mismatch" });
    client.links.setConnectOptions(server.name, { address: "mem://server" });
    await client.links.connect(server.name);
    assert.equal(client.links.list().length, 1);
  } finally {
    for (const node of [client, server, mallory]) await node.close();
  }
});
