import assert from "node:assert/strict";
import { dialEach } from "../../adapters/quic/dial_each.ts";
import type { ResolveName } from "../../adapters/quic/address.ts";
import { TransportError } from "../../src/base/errors.ts";
import type { Connection, DialOptions, Transport } from "../../src/transport/contract.ts";
import { connectionOptions, dial, echoServer } from "../conformance/world.ts";
import { runtime, test } from "../harness.ts";
import { manualClock } from "../manual_clock.ts";

const names = (...addresses: string[]): ResolveName => () =>
  Promise.resolve(
    addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 })),
  );

/** This runtime's QUIC with names that resolve as `resolve` says. */
async function quicWith(resolve: ResolveName): Promise<Transport> {
  switch (runtime) {
    case "deno":
      return (await import("../../adapters/quic/deno.ts")).denoQuicTransport(resolve);
    case "bun":
      return await (await import("../../adapters/quic/node_quic.ts")).nodeQuicTransport(resolve);
    case "node":
      return await (await import("../../adapters/quic/quiche.ts")).quicheTransport(resolve);
  }
}

/** With `turns`, attempts begin when the test says so. */
function begin(resolve: ResolveName, turns = false) {
  const time = manualClock();
  const begun: (PromiseWithResolvers<Connection> & {
    host: string;
    signal: AbortSignal | undefined;
    timeoutMs: number;
    onBegin: () => void;
  })[] = [];
  const dialName = dialEach(({ host }, { signal, timeoutMs, onBegin = () => {} }) => {
    const attempt = { ...Promise.withResolvers<Connection>(), host, signal, timeoutMs, onBegin };
    begun.push(attempt);
    if (!turns) onBegin();
    return attempt.promise;
  }, resolve);
  const start = (options: Partial<DialOptions> = {}) =>
    dialName("quic://a.example:9100", {
      clock: time.clock,
      timeoutMs: 5_000,
      ...options,
    } as DialOptions);
  return { time, begun, start, hosts: () => begun.map(({ host }) => host) };
}

const connection = () => {
  const closed: string[] = [];
  return { closed, close: (_: number, why: string) => void closed.push(why) } as unknown as
    & Connection
    & { readonly closed: string[] };
};
const failure = (reason: string) => new TransportError(reason, reason);

test("the addresses of a name are tried in turns of both families, a little apart", async () => {
  const { begun, hosts, start, time } = begin(names("2001:db8::1", "2001:db8::2", "192.0.2.1"));
  const dialled = start();
  await time.pass(0);
  assert.deepEqual(hosts(), ["2001:db8::1"]);
  await time.pass(250);
  assert.deepEqual(hosts(), ["2001:db8::1", "192.0.2.1"]);
  await time.pass(250);
  assert.deepEqual(hosts(), ["2001:db8::1", "192.0.2.1", "2001:db8::2"]);
  assert.deepEqual(begun.map(({ timeoutMs }) => timeoutMs), [5_000, 4_750, 4_500]);
  const [first, second] = [connection(), connection()];
  begun[1]?.resolve(second);
  assert.equal(await dialled, second);
  assert.equal(begun[0]?.signal?.aborted, true);
  // Aborting came too late for this one.
  begun[0]?.resolve(first);
  await time.pass(0);
  assert.equal(first.closed.length, 1);
  assert.equal(time.waiting(), 0);
});

test("an address that refuses lets the next begin at once", async () => {
  const { begun, hosts, start, time } = begin(names("192.0.2.1", "2001:db8::1"));
  const dialled = start();
  await time.pass(0);
  begun[0]?.reject(failure("refused"));
  await time.pass(0);
  assert.deepEqual(hosts(), ["192.0.2.1", "2001:db8::1"]);
  const second = connection();
  begun[1]?.resolve(second);
  assert.equal(await dialled, second);
});

test("when all fail it is told why, above all that somebody else was there", async () => {
  for (
    const [reasons, told] of [
      [["unreachable", "timeout"], "unreachable"],
      [["unreachable", "tls"], "tls"],
    ] as const
  ) {
    const { begun, start, time } = begin(names("192.0.2.1", "2001:db8::1"));
    const dialled = start();
    dialled.catch(() => {});
    await time.pass(0);
    await time.pass(250);
    begun.forEach((attempt, i) => attempt.reject(failure(reasons[i] ?? "")));
    await assert.rejects(dialled, { reason: told });
    assert.equal(time.waiting(), 0);
  }
});

test("the deadline and the abort of a dial hold for names that do not resolve, too", async () => {
  const never: ResolveName = () => new Promise(() => {});
  const { start, time } = begin(never);
  const late = start({ timeoutMs: 100 });
  const abort = new AbortController();
  const aborted = start({ signal: abort.signal });
  for (const one of [late, aborted]) one.catch(() => {});
  abort.abort();
  await time.pass(100);
  await assert.rejects(late, { reason: "timeout" });
  await assert.rejects(aborted, { reason: "aborted" });
  await assert.rejects(begin(names()).start(), { reason: "unreachable" });
  const many = Array.from({ length: 20 }, (_, i) => `192.0.2.${i}`);
  const flood = begin(names(...many));
  flood.start().catch(() => {});
  for (let i = 0; i < 30; i++) await flood.time.pass(250);
  assert.equal(flood.begun.length, 8);
});

test("an address that waits for its turn is joined by no other, and its time is not up", async () => {
  const { begun, hosts, start, time } = begin(names("192.0.2.1", "192.0.2.2", "192.0.2.3"), true);
  let told = 0;
  const dialled = start({ onBegin: () => void told++ });
  await time.pass(0);
  await time.pass(7_000);
  assert.deepEqual([hosts(), told], [["192.0.2.1"], 0]);
  begun[0]?.onBegin();
  assert.equal(told, 1);
  await time.pass(249);
  assert.equal(begun.length, 1);
  await time.pass(1);
  assert.deepEqual(hosts(), ["192.0.2.1", "192.0.2.2"]);
  // The second waits: neither time nor a failure of the first lets a third wait behind it.
  await time.pass(1_000);
  begun[0]?.reject(failure("unreachable"));
  await time.pass(0);
  assert.equal(begun.length, 2);
  begun[1]?.onBegin();
  await time.pass(250);
  assert.deepEqual(begun.map(({ timeoutMs }) => timeoutMs), [5_000, 4_750, 3_500]);
  const third = connection();
  begun[2]?.onBegin();
  begun[2]?.resolve(third);
  assert.equal(await dialled, third);
  assert.equal(told, 1);
  assert.equal(time.waiting(), 0);
});

test("where there is no turn to be had, no other address is tried", async () => {
  const { begun, start, time } = begin(names("192.0.2.1", "192.0.2.2"), true);
  const dialled = start();
  await time.pass(0);
  begun[0]?.reject(failure("overloaded"));
  await assert.rejects(dialled, { reason: "overloaded" });
  assert.equal(begun.length, 1);
});

for (const [family, listenOn] of [["IPv4", "127.0.0.1"], ["IPv6", "[::1]"]] as const) {
  test(`a name with both families reaches a server on ${family} alone`, async () => {
    for (const order of [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]]) {
      const transport = await quicWith(names(...order));
      const listener = await echoServer(transport, `quic://${listenOn}:0`);
      const port = /:(\d+)$/.exec(listener.address)?.[1];
      const connection = await dial(transport, `quic://host.example:${port}`, { timeoutMs: 5_000 });
      assert.equal(connection.remoteAddress, listener.address);
      const pipe = await connection.openPipe("bidirectional");
      assert.ok(pipe);
      connection.close(1, "done");
      await connection.closed;
      await listener.close();
    }
  });
}

test("localhost reaches a server on IPv4, and the pin holds for whoever is there", async () => {
  const { quic } = await import("../../adapters/quic/mod.ts");
  const transport = await quic();
  const { identity } = await connectionOptions();
  const other = (await connectionOptions()).identity;
  const listener = await echoServer(transport, "quic://127.0.0.1:0", { identity });
  const address = listener.address.replace("127.0.0.1", "localhost");
  const connection = await dial(transport, address, { expectedCertificate: identity.certificate });
  connection.close(1, "done");
  await connection.closed;
  await assert.rejects(dial(transport, address, { expectedCertificate: other.certificate }), {
    reason: "tls",
  });
  await listener.close();
});
