import assert from "node:assert/strict";
import { ConfigError, createNode, defineServer, Pid, TransportError } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { memoryFiles } from "../../src/base/secret_files.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { Life } from "../../src/wire/pid.ts";
import { test, waitFor } from "../harness.ts";

/** A network of its own, and what its nodes logged. */
function world() {
  const network = createMemoryNetwork({ clock: realClock, random: realRandom });
  const lines: string[] = [];
  const nodes: Node[] = [];
  const start = async (name: string, options: Partial<NodeOptions> = {}) => {
    const node = await createNode({
      name: `${name}@mem`,
      listen: [`mem://${name}:0`],
      transports: [network.host(name).transport],
      logger: {
        log: (level, message) => void (level === "warn" && lines.push(`${name}: ${message}`)),
      },
      ...options,
    });
    nodes.push(node);
    return node;
  };
  const close = () => Promise.all(nodes.map((node) => node.close()));
  return { start, lines, close };
}

const refusals = (node: Node) =>
  Object.entries(node.metrics.snapshot()).filter(([name]) => name.includes("handshake_refused"))
    .map(([name]) => /by="(\w+)",reason="(\w+)"/.exec(name)?.slice(1).join(" ") ?? name);

const cookie = "a secret of sixteen bytes";

for (
  const { title, reason, server, client } of [
    {
      title: "a node of another cluster",
      reason: "cluster_mismatch",
      server: {},
      client: { cluster: "other" },
    },
    { title: "a node without the cookie", reason: "bad_cookie", server: { cookie }, client: {} },
    {
      title: "a node with another cookie",
      reason: "bad_cookie",
      server: { cookie },
      client: { cookie: cookie.toUpperCase() },
    },
    {
      title: "a stranger under strict trust",
      reason: "untrusted_key",
      server: { auth: { trustMode: "strict" as const } },
      client: {},
    },
    {
      title: "a node with another cluster-wide setting",
      reason: "feature_mismatch",
      server: {},
      client: { limits: { maxMessageBytes: 1 << 20 } },
    },
  ]
) {
  test(`${title} is refused by name on both ends, logged once, and disturbs nobody`, async () => {
    const { start, lines, close } = world();
    const seed = await start("seed", server);
    const friend = server.auth
      ? undefined
      : await start("friend", { ...server, contactNodes: seed.addresses });
    await friend?.joined({ timeoutMs: 10_000 });
    const stranger = await start("stranger", { ...client, contactNodes: seed.addresses });
    await waitFor(() => refusals(stranger).length > 0 && refusals(seed).length > 0, {
      what: "both ends to count the refusal",
    });
    const both = new Set([...refusals(seed), ...refusals(stranger)]);
    assert.deepEqual(both, new Set([`local ${reason}`, `peer ${reason}`]));
    assert.ok(lines.some((line) => line.startsWith("seed: ") && line.includes(reason)));
    assert.ok(lines.some((line) => line.startsWith("stranger: ") && line.includes(reason)));
    assert.deepEqual(stranger.membership.activeView(), []);
    if (friend) assert.deepEqual(seed.membership.activeView(), [friend.name]);
    await close();
  });
}

test("a key that changed is refused until somebody unpins the old one", async () => {
  const { start, close } = world();
  const seed = await start("seed", { storage: { ...memoryFiles(), durable: true } });
  const files = () => ({ ...memoryFiles(), durable: true });
  const first = await start("node", { storage: files(), contactNodes: seed.addresses });
  await first.joined({ timeoutMs: 10_000 });
  await first.close();
  const second = await start("node", {
    listen: ["mem://node2"],
    storage: files(),
    contactNodes: seed.addresses,
  });
  await waitFor(() => refusals(second).includes("peer key_mismatch"), { what: "the refusal" });
  await seed.trust.unpin(second.name);
  await second.joined({ timeoutMs: 20_000 });
  assert.deepEqual(seed.trust.lookup(second.name), second.publicKey);
  await close();
});

test("a second live node under one name is refused by that reason", async () => {
  const { start, close } = world();
  const seed = await start("seed");
  const first = await start("twin", { contactNodes: seed.addresses });
  await first.joined({ timeoutMs: 10_000 });
  const second = await start("twin", { listen: ["mem://twin2"], contactNodes: seed.addresses });
  await waitFor(() => refusals(second).length > 0, { what: "the refusal" });
  assert.deepEqual(refusals(second), ["peer name_conflict"]);
  assert.deepEqual(seed.membership.activeView(), [first.name]);
  assert.equal(seed.links.list().length, 1);
  await close();
});

test("a contact that is not there yet is tried until it is", async () => {
  const { start, lines, close } = world();
  const early = await start("early", { contactNodes: ["mem://late"] });
  await assert.rejects(early.joined({ timeoutMs: 100 }), /still tries mem:\/\/late/);
  await waitFor(() => lines.length > 0, { what: "a line about the contact" });
  const late = await start("late", { listen: ["mem://late"] });
  await early.joined({ timeoutMs: 20_000 });
  assert.deepEqual(early.membership.activeView(), [late.name]);
  await close();
});

test("an address in use stops the start with a sentence, and leaves nothing behind", async () => {
  const { start, close } = world();
  await start("one", { listen: ["mem://taken"] });
  await assert.rejects(
    start("two", { listen: ["mem://two", "mem://taken"] }),
    (error) => error instanceof TransportError && error.reason === "address_in_use",
  );
  await start("three", { listen: ["mem://two"] });
  await close();
});

test("a wrong option is a ConfigError that names its path", async () => {
  const cases: [string, unknown][] = [
    ["options", undefined],
    ["options", 5],
    ["name", {}],
    ["name", { name: "no-host" }],
    ["colour", { name: "a@b", colour: "red" }],
    ["auth.trustMod", { name: "a@b", auth: { trustMod: "strict" } }],
    ["auth.trustMode", { name: "a@b", auth: { trustMode: "maybe" } }],
    ["auth.cookieOnlyNodes", { name: "a@b", auth: { cookieOnlyNodes: ["*"] } }],
    ["cookie", { name: "a@b", cookie: "short" }],
    ["listen.0", { name: "a@b", listen: ["127.0.0.1:9000"] }],
    ["links.dataStreams", { name: "a@b", links: { dataStreams: 0 } }],
    ["liveness.suspicionMs", { name: "a@b", liveness: { suspicionMs: 9_000, silenceMs: 100 } }],
    ["links.highWaterMark", { name: "a@b", links: { highWaterMark: 2, maxBufferedBytes: 1 } }],
    ["membership.prwl", { name: "a@b", membership: { prwl: 5, arwl: 4 } }],
    ["membership.shufflePassive", {
      name: "a@b",
      membership: { shuffleActive: 10, shufflePassive: 7 },
    }],
    ["membership.shuffleActive", { name: "a@b", membership: { shuffleActive: 13 } }],
    ["limits.maxDriftMs", { name: "a@b", limits: { maxDriftMs: "5" } }],
  ];
  for (const [path, options] of cases) {
    await assert.rejects(
      createNode(options as NodeOptions),
      (error) => error instanceof ConfigError && error.path === path,
      path,
    );
  }
});

test("two nodes that dial each other at once keep one link and lose no message", async () => {
  const { start, close } = world();
  for (let round = 0; round < 5; round++) {
    const [a, b] = await Promise.all([start(`a${round}`), start(`b${round}`)]);
    const got: Record<string, number[]> = { a: [], b: [] };
    const collect = (node: Node, name: string) =>
      node.spawn<number>(async (self) => {
        for await (const n of self.mailbox) got[name]?.push(n as number);
      });
    const inA = remote(collect(a, "a"), a, b), inB = remote(collect(b, "b"), b, a);
    // Each learns where the other is, and both begin in the same turn.
    const [toA, toB] = [a.addresses[0] as string, b.addresses[0] as string];
    await Promise.all([a.membership.join(toB), b.membership.join(toA)]);
    for (let i = 0; i < 500; i++) {
      await a.send(inB, i);
      await b.send(inA, i);
    }
    const expected = [...Array(500).keys()];
    await waitFor(() => got["a"]?.length === 500 && got["b"]?.length === 500, {
      what: "all messages",
    });
    assert.deepEqual(got, { a: expected, b: expected });
    await waitFor(() => a.links.list().length === 1 && b.links.list().length === 1, {
      what: "one link",
    });
  }
  await close();
});

/** A pid as the other node would have it. */
function remote(pid: Pid, owner: Node, user: Node): Pid {
  const sender = { send: (target: Pid, message: unknown) => user.send(target, message) };
  return new Pid(new Life(owner.name, owner.epoch, sender), pid.id);
}

test("what is given wrongly to a running node is refused by name, and nothing hangs once it closes", async () => {
  const node = await createNode({ name: "lone@127.0.0.1", listen: ["quic://127.0.0.1:0"] });
  const Echo = defineServer({ init: () => 0, calls: { echo: (_ctx, text: string) => text } });
  const pid = await node.start(Echo, []);
  const refusedAs = async (work: Promise<unknown>): Promise<string> =>
    await work.then(() => "nothing", (error: Error) => error.name);
  assert.equal(await refusedAs(node.membership.join("junk")), "ConfigError");
  assert.equal(await refusedAs(node.maps.open("m", { persit: true } as object)), "ConfigError");
  assert.equal(
    await refusedAs(node.broadcast.publish("t", "text" as unknown as Uint8Array)),
    "TypeError",
  );
  const wrong = (value: unknown) => value as never;
  const misuses: [string, () => unknown][] = [
    ["ConfigError", () => node.links.connect(wrong(undefined))],
    ["ConfigError", () => node.links.disconnect("no-host")],
    ["ConfigError", () => node.links.migrate("no-host")],
    ["ConfigError", () => node.membership.forget(wrong(7))],
    ["ConfigError", () => node.membership.forget("foo")],
    ["ConfigError", () => node.trust.pin("x", node.publicKey)],
    ["ConfigError", () => node.rpc.client("zz", "math")],
    ["ConfigError", () => node.rpc.client(node.name, "math").with(wrong({ timeout: 5 }))],
    ["ConfigError", () => node.spawn(() => {}, wrong({ nam: "x" }))],
    ["ConfigError", () => node.start(Echo, [], wrong({ nam: "x" }))],
    ["TypeError", () => node.start(Echo, wrong(undefined))],
    ["ConfigError", () => node.joined(wrong({ timeoutMs: "3" }))],
    ["ConfigError", () => node.client(Echo, pid).with(wrong({ timeoutMs: NaN }))],
    ["ConfigError", () => node.client(Echo, pid, wrong({ timeot: 5 }))],
    ["ConfigError", () => defineServer(wrong({ init: () => 0, cals: {} }))],
    ["ConfigError", () => defineServer(wrong({ calls: {} }))],
    [
      "ConfigError",
      () =>
        new Promise((_, reject) =>
          void node.spawn((self) => void self.receive(wrong({ timeout: 5 })).catch(reject))
        ),
    ],
    ["TypeError", () => node.broadcast.subscribe("t", wrong(5))],
    ["BarrelError", () => node.broadcast.subscribe("", () => {})],
    ["BarrelError", () => node.broadcast.publish(wrong(5), new Uint8Array(1))],
    ["BarrelError", () => node.broadcast.publish("", new Uint8Array(1))],
    ["TransportError", () => node.links.connect(node.name)],
    ["ProtocolError", () => node.streams.open("t", wrong(5))],
    ["RangeError", () => node.streams.open("t", node.name, { timeoutMs: NaN })],
    ["TypeError", () => node.streams.accept("t", wrong("handler"))],
    ["TypeError", () => node.spawn(wrong(5))],
    ["TypeError", () => node.send(wrong(5), "lost")],
    ["TypeError", () => node.exit(wrong(5), "kill")],
    ["ConfigError", () => node.supervise(wrong(undefined))],
  ];
  for (const [name, misuse] of misuses) {
    assert.equal(await refusedAs(Promise.resolve().then(misuse)), name, String(misuse));
  }
  assert.throws(() => node.send(wrong(undefined), 1), /send takes a pid or a name/);
  for (const timeoutMs of [-5, NaN, Infinity]) {
    const moved = node.links.migrate("nobody@127.0.0.1", { timeoutMs });
    assert.match(await refusedAs(moved), /RangeError|TransportError/);
  }
  const waiting = refusedAs(node.joined({ timeoutMs: 60_000 }));
  await node.close();
  assert.equal(await waiting, "ClosedError");
  assert.equal(await refusedAs(node.joined()), "ClosedError");
  assert.equal(await refusedAs(node.identity.rotate()), "ClosedError");
  assert.equal(await refusedAs(node.links.migrate("nobody@127.0.0.1")), "ClosedError");
  assert.equal(await refusedAs(node.client(Echo, pid).echo("late")), "ClosedError");
  assert.equal(await refusedAs(node.broadcast.publish("t", new Uint8Array(1))), "ClosedError");
});
