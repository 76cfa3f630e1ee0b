import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { seededRandom } from "../../src/base/random.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import type {
  Connection,
  ConnectionOptions,
  DialOptions,
  Listener,
  ListenOptions,
  Pipe,
} from "../../src/transport/contract.ts";
import { createMemoryNetwork, memory } from "../../src/transport/memory.ts";
import type { MemoryHost, MemoryNetworkOptions } from "../../src/transport/memory.ts";
import { test } from "../harness.ts";

const LATENCY_MS = 10;

test("a network needs no options", () => {
  assert.equal(createMemoryNetwork().host("a").transport.scheme, "mem");
});

/** A network on virtual time, every packet of which takes ten milliseconds. */
function world(overrides: Partial<MemoryNetworkOptions> = {}) {
  const time = createVirtualClock();
  const { clock } = time.view();
  const random = seededRandom(1);
  const network = createMemoryNetwork({
    clock,
    random,
    latencyMs: [LATENCY_MS, LATENCY_MS],
    ...overrides,
  });
  const options = (): ConnectionOptions => ({
    identity: {
      certificate: random.bytes(100),
      certificatePem: "",
      privateKeyPem: "",
      issuerPem: "",
    },
    clock,
    random,
    logger: silentLogger,
    idleTimeoutMs: 5_000,
    keepAliveMs: 1_000,
    maxPipes: 4,
  });
  const accepted: Connection[] = [];
  const listen = (host: MemoryHost, address: string, more: Partial<ListenOptions> = {}) =>
    time.until(
      host.transport.listen(address, {
        ...options(),
        maxConnections: 10,
        onConnection: (connection) => void accepted.push(connection),
        ...more,
      }),
      1_000,
    );
  const begin = (host: MemoryHost, address: string, more: Partial<DialOptions> = {}) =>
    host.transport.dial(address, { ...options(), timeoutMs: 2_000, ...more });
  /** A connection from `host`, at both ends. */
  const connect = async (host: MemoryHost, address: string, more: Partial<DialOptions> = {}) => {
    const known = accepted.length;
    const client = await time.until(begin(host, address, more), 10_000);
    while (accepted.length === known) await time.run(1);
    return { client, server: accepted[known] as Connection };
  };
  /** How a dial fails, and after how many milliseconds. */
  const failure = async (host: MemoryHost, address: string, more: Partial<DialOptions> = {}) => {
    const since = time.now();
    const reason = await time.until(
      begin(host, address, more).then(() => "connected", (error) => error.reason as string),
      60_000,
    );
    return [reason, time.now() - since];
  };
  return { time, network, accepted, listen, begin, connect, failure };
}

/** The pipes that come in from now on. */
function incoming(connection: Connection): Pipe[] {
  const pipes: Pipe[] = [];
  connection.onPipe = (pipe) => {
    pipe.onData = () => {};
    pipes.push(pipe);
  };
  return pipes;
}

test("a dial is refused by a host that serves nothing, and times out where nobody answers", async () => {
  const { time, network, listen, failure } = world();
  const a = network.host("a"), b = network.host("b"), c = network.host("c");
  const atB = await listen(b, "mem://b");
  await listen(c, "mem://c");
  assert.deepEqual(await failure(a, "mem://nobody"), ["refused", 2 * LATENCY_MS]);
  c.crash();
  assert.deepEqual(await failure(a, "mem://c"), ["timeout", 2_000]);
  network.cut(b, a);
  assert.deepEqual(await failure(a, "mem://b"), ["timeout", 2_000]);
  // The host is known to be over there, so its word that nobody listens does not come through.
  await time.until(atB.close(), 1_000);
  assert.deepEqual(await failure(a, "mem://b"), ["timeout", 2_000]);
  network.heal();
  assert.deepEqual(await failure(a, "mem://b"), ["refused", 2 * LATENCY_MS]);
});

test("a probe is answered only where nothing is bound and the way is open", async () => {
  const { time, network, listen } = world();
  const a = network.host("a"), b = network.host("b");
  const listener = await listen(b, "mem://b");
  const probe = async () => await time.until(a.transport.probe?.("mem://b", 500) as never, 1_000);
  assert.equal(await probe(), "unknown");
  network.partition([a], [b]);
  await listener.close();
  assert.equal(await probe(), "unknown");
  network.heal();
  assert.equal(await probe(), "refused");
  b.crash();
  assert.equal(await probe(), "unknown");
});

test("a half-open connection carries one way until silence ends it, and a new one works", async () => {
  const { time, network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b", { idleTimeoutMs: 3_000 });
  const { client, server } = await connect(a, "mem://b");
  const heard: string[] = [];
  for (const [name, connection] of [["client", client], ["server", server]] as const) {
    connection.onPipe = (pipe) => {
      heard.push(name);
      pipe.onData = () => {};
    };
  }
  network.halfOpen(a, b);
  await client.openPipe("bidirectional");
  await server.openPipe("bidirectional");
  await time.run(1_000);
  assert.deepEqual(heard, ["client"]);
  const next = await connect(a, "mem://b");
  assert.equal((await time.until(server.closed, 60_000)).by, "lost");
  assert.equal((await time.until(client.closed, 60_000)).by, "lost");
  next.client.close(0, "done");
  assert.equal((await time.until(next.server.closed, 60_000)).by, "peer");
});

test("a crash is noticed by silence after the lesser idle timeout", async () => {
  const { time, network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b", { idleTimeoutMs: 3_000 });
  const { client } = await connect(a, "mem://b");
  await time.run(60_000);
  const since = time.now();
  b.crash();
  const pipe = await client.openPipe("bidirectional");
  pipe.onData = () => {};
  const clean: boolean[] = [];
  pipe.onEnd = (isClean) => void clean.push(isClean);
  const { by } = await time.until(client.closed, 60_000);
  assert.equal(by, "lost");
  const silentMs = time.now() - since;
  assert.ok(silentMs <= 3_000 && silentMs > 1_900, `${silentMs}`);
  await time.run(1);
  assert.deepEqual(clean, [false]);
});

test("the address of a crashed host can be served again", async () => {
  const { network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b:1");
  b.crash();
  const again = await listen(network.host("b again"), "mem://b:1");
  assert.equal(again.address, "mem://b:1");
  const { client, server } = await connect(a, "mem://b:1");
  assert.deepEqual(client.channelBinding, server.channelBinding);
});

test("a short cut delays what was sent; order is kept under loss", async () => {
  const { time, network, listen, connect } = world({ latencyMs: [1, 50], loss: 0.3 });
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b", { idleTimeoutMs: 60_000 });
  const { client, server } = await connect(a, "mem://b", { idleTimeoutMs: 60_000 });
  const got: number[] = [];
  const end = new Promise<boolean>((resolve) => {
    server.onPipe = (pipe) => {
      pipe.onData = (chunk) => void got.push(chunk[0] as number);
      pipe.onEnd = resolve;
    };
  });
  const pipe = await client.openPipe("unidirectional");
  const expected = Array.from({ length: 200 }, (_, i) => i);
  for (const i of expected) {
    if (i === 100) network.partition([a], [b]);
    pipe.write(Uint8Array.of(i));
    await time.run(5);
  }
  await time.run(3_000);
  assert.ok(got.length < 101);
  pipe.end();
  network.heal();
  assert.equal(await time.until(end, 60_000), true);
  assert.deepEqual(got, expected);
});

test("a stalled host hears everything when it wakes", async () => {
  const { time, network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b");
  const { client, server } = await connect(a, "mem://b");
  const pipes = incoming(server);
  b.stall(1_500);
  await client.openPipe("bidirectional");
  await time.run(1_499);
  assert.equal(pipes.length, 0);
  await time.run(LATENCY_MS);
  assert.equal(pipes.length, 1);
});

test("a client cut off while it connects is lost on both ends, and gives its place back", async () => {
  const { time, network, accepted, listen, connect, begin, failure } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b", { maxConnections: 1 });
  const dialling = begin(a, "mem://b", { idleTimeoutMs: 3_000 });
  // The answer is on its way when the way there closes.
  await time.run(LATENCY_MS + 1);
  network.cut(a, b);
  const client = await time.until(dialling, 1_000);
  assert.deepEqual(await failure(b, "mem://b"), ["refused", 2 * LATENCY_MS]);
  assert.equal((await time.until(client.closed, 10_000)).by, "lost");
  await time.run(3_000);
  assert.equal(accepted.length, 0);
  network.heal();
  const again = await connect(a, "mem://b");
  assert.equal(again.server.role, "server");
  assert.deepEqual(await failure(a, "mem://b"), ["refused", 2 * LATENCY_MS]);
});

test("a dial that was given up leaves nothing behind", async () => {
  const { time, network, accepted, listen, begin, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b", { maxConnections: 1 });
  for (const at of [0, LATENCY_MS - 1, LATENCY_MS + 1]) {
    const abort = new AbortController();
    const dialled = begin(a, "mem://b", { signal: abort.signal });
    const reason = dialled.then(() => "connected", (error) => error.reason);
    await time.run(at);
    abort.abort();
    assert.equal(await time.until(reason, 1), "aborted");
  }
  await time.run(10_000);
  assert.equal(accepted.length, 0);
  await connect(a, "mem://b");
  assert.equal(accepted.length, 1);
});

test("a listener's close ends the connections dialled from its address, too", async () => {
  const { time, network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  const own: Listener = await listen(a, "mem://a:7");
  await listen(b, "mem://b");
  const { client, server } = await connect(a, "mem://b", { via: own });
  assert.equal(server.remoteAddress, "mem://a:7");
  await own.close();
  assert.equal((await time.until(client.closed, 1)).by, "local");
  assert.equal((await time.until(server.closed, 1_000)).by, "peer");
});

test("a pipe counts until the peer is done with it, however it ends", async () => {
  const { time, network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b");
  const { client, server } = await connect(a, "mem://b");
  const pipes = incoming(server);
  const isFull = () =>
    client.openPipe("bidirectional").then(() => false, (error) => error.reason === "pipe_limit");
  const open: Pipe[] = [];
  for (let i = 0; i < 4; i++) open.push(await client.openPipe("bidirectional"));
  assert.equal(await isFull(), true);
  await time.run(100);
  // One each: reset by us, reset by the peer, reset after the peer's end, ended by both.
  open[0]?.destroy();
  pipes[1]?.destroy();
  pipes[2]?.end();
  await time.run(100);
  open[2]?.destroy();
  open[3]?.end();
  await time.run(100);
  pipes[3]?.end();
  for (let i = 0; i < 4; i++) assert.equal(await isFull(), false, `${i} of 4`);
  assert.equal(await isFull(), true);
  // One way: what the reader refuses is over for the writer.
  const single = await client.openPipe("unidirectional");
  await time.run(100);
  pipes.at(-1)?.destroy();
  await time.run(100);
  assert.equal(single.write(Uint8Array.of(1)), false);
});

test("a pipe says when to wait, and when to go on", async () => {
  const { time, network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b");
  const { client, server } = await connect(a, "mem://b");
  incoming(server);
  const pipe = await client.openPipe("unidirectional");
  let drains = 0;
  pipe.onDrain = () => drains++;
  assert.equal(pipe.write(new Uint8Array(200_000)), true);
  assert.equal(pipe.write(new Uint8Array(100_000)), false);
  assert.equal(drains, 0);
  await time.run(2 * LATENCY_MS);
  assert.equal(drains, 1);
});

test("a close overtakes nothing, and what was under way is gone", async () => {
  const { time, network, listen, connect } = world();
  const a = network.host("a"), b = network.host("b");
  await listen(b, "mem://b");
  const { client, server } = await connect(a, "mem://b");
  const pipes = incoming(server);
  await client.openPipe("unidirectional");
  client.close(7, "enough");
  assert.deepEqual(await time.until(server.closed, 1_000), {
    code: 7,
    reason: "enough",
    by: "peer",
  });
  assert.equal(pipes.length, 0);
  await assert.rejects(client.openPipe("unidirectional"), { reason: "closed" });
});

test("nodes of one process talk without a network", async () => {
  const one = await createNode({
    name: "one@here",
    listen: ["mem://one:0"],
    transports: [memory()],
  });
  const two = await createNode({
    name: "two@here",
    listen: ["mem://two:0"],
    contactNodes: one.addresses,
    transports: [memory()],
  });
  await two.joined({ timeoutMs: 10_000 });
  const answer = new Promise((resolve) => {
    const pid = one.spawn(async (self) => resolve(await self.receive({ timeoutMs: 10_000 })));
    void two.send(pid, "hello");
  });
  assert.equal(await answer, "hello");
  await two.close();
  await one.close();
});
