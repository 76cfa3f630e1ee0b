import assert from "node:assert/strict";
import { CallTimeoutError, NoProcessError, RemoteError } from "../../src/actor/errors.ts";
import { defineServer } from "../../src/actor/gen_server.ts";
import { Down } from "../../src/actor/messages.ts";
import type { Behaviour } from "../../src/actor/process.ts";
import {
  BarrelError,
  ClosedError,
  ConfigError,
  EncodeError,
  OverloadedError,
} from "../../src/base/errors.ts";
import { encodeRouter } from "../../src/registry/router_messages.ts";
import { validateRow } from "../../src/registry/rows.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import type { Pid } from "../../src/wire/pid.ts";
import { describe, test } from "../harness.ts";
import { Cluster } from "./cluster.ts";
import type { TestNode } from "./cluster.ts";

const idle: Behaviour<unknown> = async (self) => {
  for await (const _ of self.mailbox);
};

function collector(into: unknown[]): Behaviour<unknown> {
  return async (self) => {
    for await (const message of self.mailbox) into.push(message);
  };
}

async function clusterOf(...names: string[]): Promise<{ cluster: Cluster; nodes: TestNode[] }> {
  const cluster = new Cluster();
  for (const name of names) await cluster.add(`${name}@test`);
  const { nodes } = cluster;
  for (const [i, a] of nodes.entries()) for (const b of nodes.slice(i + 1)) cluster.link(a, b);
  await cluster.run(100);
  return { cluster, nodes };
}

type Two = [TestNode, TestNode];
type Three = [TestNode, TestNode, TestNode];

describe("registry", () => {
  test("a name registered on one node is found on another, and its process reached", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    const got: unknown[] = [];
    const pid = a.system.spawn(collector(got));
    const meta = { shard: 1, since: new Date(5), peer: pid };
    await cluster.run(1_000, a.registry.register("worker_pool", pid, meta));
    assert.deepEqual(a.registry.lookupLocal("worker_pool").map((entry) => entry.pid), [pid]);
    await cluster.run(50);
    const [entry, ...more] = b.registry.lookup("worker_pool");
    assert.ok(entry !== undefined);
    assert.equal(more.length, 0);
    assert.ok(entry.pid.equals(pid));
    assert.deepEqual([entry.name, entry.node], ["worker_pool", "a@test"]);
    const seen = entry.meta as typeof meta;
    assert.deepEqual([seen.shard, seen.since], [1, new Date(5)]);
    assert.ok(seen.peer.equals(pid));
    assert.deepEqual(b.registry.names(), ["worker_pool"]);
    assert.deepEqual(b.registry.lookupLocal("worker_pool"), []);
    const found = await cluster.run(10, b.registry.whereis("worker_pool"));
    await found?.send("hello");
    await b.system.sendTo("worker_pool", "by name");
    await cluster.run(10);
    assert.deepEqual(got, ["hello", "by name"]);
    const told = ["registered worker_pool a@test#1/1"];
    assert.deepEqual([a.events, b.events], [told, told]);
    cluster.close();
  });

  test("a service of another node is watched by its name", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    const pid = a.system.spawn(idle);
    await cluster.run(1_000, a.registry.register("worker_pool", pid));
    await cluster.run(50);
    const got: unknown[] = [];
    b.system.spawn(async (self) => {
      const ref = self.monitor("worker_pool");
      const message = await self.receive();
      assert.ok(message instanceof Down && message.ref.equals(ref));
      got.push([message.target, message.reason]);
    });
    await cluster.run(50);
    assert.deepEqual(got, []);
    a.system.exit(pid, "kill");
    await cluster.run(50);
    assert.deepEqual(got, [["worker_pool", "killed"]]);
    cluster.close();
  });

  test("each lookup gives metadata of its own", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    const pid = a.system.spawn(idle);
    const meta = { shard: 1, tags: ["x"], bytes: new Uint8Array([1, 2]) };
    await cluster.run(1_000, a.registry.register("s", pid, meta));
    await cluster.run(50);
    const read = (node: TestNode) => node.registry.lookup("s")[0]?.meta as typeof meta;
    for (const node of [a, b]) {
      const mine = read(node);
      mine.shard = 99;
      mine.tags.push("y");
      mine.bytes.fill(0);
      assert.deepEqual(read(node), { shard: 1, tags: ["x"], bytes: new Uint8Array([1, 2]) });
    }
    const local = a.registry.lookupLocal("s")[0]?.meta as typeof meta;
    local.shard = 99;
    assert.equal((a.registry.lookupLocal("s")[0]?.meta as typeof meta).shard, 1);
    meta.shard = 99;
    assert.equal(read(a).shard, 1);
    cluster.close();
  });

  test("registering again replaces the metadata and tells nothing twice", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    const pid = a.system.spawn(idle);
    for (const meta of [undefined, "v1", "v2", "v2"]) {
      await cluster.run(1_000, a.registry.register("s", pid, meta));
      await cluster.run(50);
      assert.equal(b.registry.lookup("s")[0]?.meta, meta);
    }
    assert.equal(a.events.length, 1);
    assert.equal(b.events.length, 1);
    cluster.close();
  });

  test("a name has many instances; each goes for its own reason, told alike everywhere", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c");
    const [a, b, c] = nodes as Three;
    const pids = [a, a, b].map((node) => node.system.spawn(idle));
    for (const [i, node] of [a, a, b].entries()) {
      await cluster.run(1_000, node.registry.register("pool", pids[i] as Pid, i));
    }
    await cluster.run(1_000, a.registry.register("other", pids[0] as Pid));
    await cluster.run(50);
    assert.equal(c.registry.lookup("pool").length, 3);
    a.system.exit(pids[0] as Pid, { code: 7 });
    await cluster.run(1_000, a.registry.unregister("pool", pids[1] as Pid));
    b.system.exit(pids[2] as Pid, "kill");
    await cluster.run(50);
    assert.deepEqual(c.registry.names(), []);
    for (const node of nodes) {
      assert.deepEqual(node.events.slice(4).sort(), [
        'down other a@test#1/1 ({"code":7})',
        'down pool a@test#1/1 ({"code":7})',
        "down pool b@test#1/1 (killed)",
        "unregistered pool a@test#2/1",
      ]);
    }
    // Nothing is told again when the rows go, and they do go.
    await cluster.run(60_000);
    assert.equal(c.events.length, 8);
    const late = await cluster.add("late@test");
    cluster.link(late, c);
    await cluster.run(5_000);
    assert.deepEqual(late.events, []);
    assert.deepEqual(late.registry.names(), []);
    cluster.close();
  });

  test("a reason that cannot travel is told in words", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    for (const reason of [Symbol("odd"), "x".repeat(5_000)]) {
      const pid = a.system.spawn(idle);
      await cluster.run(1_000, a.registry.register("s", pid));
      a.system.exit(pid, reason);
      await cluster.run(50);
    }
    assert.match(b.events[1] as string, /^down .* \(Symbol\(odd\)\)$/);
    assert.match(b.events[3] as string, /^down .* \(x{200}\)$/);
    cluster.close();
  });

  test("entries outlive neighbours and leave with the verdict on their node, everywhere", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c");
    const [a, b, c] = nodes as Three;
    await cluster.run(1_000, a.registry.register("s", a.system.spawn(idle)));
    await cluster.run(50);
    cluster.kill(a);
    await cluster.run(600_000);
    for (const node of [b, c]) assert.equal(node.registry.lookup("s").length, 1);
    for (const node of [b, c]) node.registry.onLife("retire", a.identity.publicKey, 1);
    for (const node of [b, c]) {
      assert.deepEqual(node.registry.names(), []);
      assert.equal(node.events.at(-1), "down s a@test#1/1 (noconnection)");
    }
    b.registry.onLife("restore", a.identity.publicKey, 1);
    assert.equal(b.events.at(-1), "registered s a@test#1/1");
    assert.equal(b.registry.lookup("s").length, 1);
    c.registry.onLife("forget", a.identity.publicKey, 1);
    assert.equal(c.events.length, 2);
    // Its next life begins with nothing, and brings its own.
    const again = await cluster.add("a@test", 2, a);
    cluster.link(again, c);
    await cluster.run(1_000);
    assert.equal(b.events.at(-1), "down s a@test#1/1 (noproc)");
    await cluster.run(1_000, again.registry.register("s", again.system.spawn(idle)));
    await cluster.run(50);
    assert.equal(c.events.at(-1), "registered s a@test#1/2");
    assert.equal(c.registry.lookup("s")[0]?.pid.epoch, 2);
    cluster.close();
  });

  test("entries of a node that says that it leaves end with shutdown, whichever word comes first", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c");
    const [a, b, c] = nodes as Three;
    const pid = a.system.spawn(idle);
    await cluster.run(1_000, a.registry.register("s", pid));
    await cluster.run(50);
    for (const node of [b, c]) node.left.add("a@test");
    // To one of them the row that says how the process ended comes too late.
    c.registry.onLife("retire", a.identity.publicKey, 1);
    a.system.close();
    await cluster.run(1_000, a.registry.flushed());
    await cluster.run(50);
    b.registry.onLife("retire", a.identity.publicKey, 1);
    const told = ["registered s a@test#1/1", "down s a@test#1/1 (shutdown)"];
    for (const node of [b, c]) assert.deepEqual(node.events, told);
    cluster.close();
  });

  test("a late joiner sees every service of every node", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c");
    for (const node of nodes) {
      for (let i = 0; i < 30; i++) {
        void node.registry.register(`service_${i}`, node.system.spawn(idle), { i });
      }
    }
    await cluster.run(1_000);
    const late = await cluster.add("late@test");
    cluster.link(late, nodes[0] as TestNode);
    await cluster.run(1_000);
    assert.equal(late.registry.names().length, 30);
    assert.equal(late.registry.lookup("service_3").length, 3);
    assert.equal(late.events.length, 90);
    cluster.close();
  });

  test("rows whose author the roster does not know yet wait for its name", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c");
    const [a, b, c] = nodes as Three;
    b.knows = c.knows = new Set();
    const pid = a.system.spawn(idle);
    await cluster.run(1_000, a.registry.register("s", pid));
    await cluster.run(500);
    assert.deepEqual(b.registry.names(), []);
    assert.deepEqual(b.events, []);
    b.knows = c.knows = undefined;
    for (const listener of b.named) listener();
    assert.deepEqual(b.events, ["registered s a@test#1/1"]);
    // Without a word from the roster, a little later.
    await cluster.run(2_000);
    assert.deepEqual(c.events, ["registered s a@test#1/1"]);
    a.system.exit(pid, "kill");
    await cluster.run(50);
    assert.deepEqual(c.registry.names(), []);
    cluster.close();
  });

  test("one caller gets one instance, its own first, and callers spread", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c", "d", "e", "f", "g", "h");
    for (const node of nodes.slice(0, 4)) {
      await cluster.run(1_000, node.registry.register("s", node.system.spawn(idle)));
    }
    await cluster.run(50);
    const chosen = new Set<string>();
    for (const [i, node] of nodes.entries()) {
      const first = await cluster.run(10, node.registry.whereis("s"));
      for (let k = 0; k < 5; k++) {
        assert.ok((await cluster.run(10, node.registry.whereis("s")))?.equals(first));
      }
      if (i < 4) assert.equal(first?.node, node.identity.name);
      else chosen.add(String(first));
    }
    assert.ok(chosen.size > 1, "all callers chose one instance");
    cluster.close();
  });

  test("what cannot be registered is refused by name", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    const pid = a.system.spawn(idle);
    const code = (wanted: string) => (error: unknown) =>
      error instanceof BarrelError && error.code === wanted;
    await assert.rejects(a.registry.register("", pid), code("bad_name"));
    await assert.rejects(a.registry.register("x".repeat(256), pid), code("bad_name"));
    await assert.rejects(a.registry.register("\udc00", pid), code("bad_name"));
    await assert.rejects(b.registry.register("s", pid), code("not_local"));
    await assert.rejects(b.registry.unregister("s", pid), code("not_local"));
    await assert.rejects(b.registry.register("s", undefined as unknown as Pid), code("not_local"));
    await assert.rejects(a.registry.register("s", pid, "x".repeat(4_096)), EncodeError);
    await assert.rejects(a.registry.register("s", pid, { f: () => {} }), EncodeError);
    a.system.exit(pid, "kill");
    await assert.rejects(a.registry.register("s", pid), NoProcessError);
    assert.deepEqual(a.registry.names(), []);
    const [name, key] = ["é".repeat(127), a.system.spawn(idle)];
    await cluster.run(1_000, a.registry.register(name, key, "x".repeat(4_000)));
    await cluster.run(50);
    assert.deepEqual(b.registry.names(), [name]);
    cluster.close();
  });

  test("rows that make no sense are refused by the validator", () => {
    const rows: [string, number[]][] = [
      ["worker", [0]],
      ["0:worker", [0]],
      ["01:worker", [0]],
      ["9007199254740993:worker", [0]],
      ["1:", [0]],
      [`1:${"x".repeat(256)}`, [0]],
      ["1:worker", []],
      ["1:worker", [0, 0xff]],
      ["1:worker", [1, 0]],
      ["1:worker", [2]],
      ["1:worker", [3]],
      ["1:worker", [0, 0x81]],
    ];
    for (const [key, value] of rows) {
      assert.match(validateRow(key, new Uint8Array(value)) ?? "accepted", /^bad_(key|state)$/, key);
    }
    assert.equal(validateRow("1:worker\n:", new Uint8Array([0])), undefined);
  });

  test("a thousand processes that come and go leave no row behind", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    for (let i = 0; i < 1_500; i++) {
      const pid = a.system.spawn(idle);
      void a.registry.register(`s${i}`, pid);
      if (i % 50 === 0) await cluster.run(5);
      a.system.exit(pid, "kill");
    }
    await cluster.run(30_000);
    assert.deepEqual([a.registry.names(), b.registry.names()], [[], []]);
    const late = await cluster.add("late@test");
    const before = cluster.sent.get(FrameType.REPLICA_DATA) ?? 0;
    cluster.link(late, a);
    await cluster.run(2_000);
    // Two heads, and no rows.
    assert.ok((cluster.sent.get(FrameType.REPLICA_DATA) ?? 0) - before < 1_500);
    cluster.close();
  });
});

describe("registry, through the overlay", () => {
  async function chain(...names: string[]) {
    const cluster = new Cluster();
    for (const name of names) await cluster.add(`${name}@test`);
    // Rows are on their way and arrive nowhere.
    cluster.passes = (type) =>
      type !== undefined && type !== FrameType.REPLICA_CONTROL && type !== FrameType.REPLICA_DATA;
    for (const [i, node] of cluster.nodes.entries()) {
      const next = cluster.nodes[i + 1];
      if (next !== undefined) cluster.link(node, next);
    }
    await cluster.run(10);
    return cluster;
  }

  test("a name that replication has not brought yet is found hops away, and usable", async () => {
    const cluster = await chain("a", "b", "c", "d");
    const [a, , , d] = cluster.nodes as [TestNode, TestNode, TestNode, TestNode];
    const got: unknown[] = [];
    await cluster.run(1_000, a.registry.register("s", a.system.spawn(collector(got))));
    assert.deepEqual(d.registry.lookup("s"), []);
    assert.equal(await cluster.run(10_000, d.registry.whereis("s", { retries: 1 })), undefined);
    const pid = await cluster.run(10_000, d.registry.whereis("s", { retries: 2 }));
    assert.equal(pid?.node, "a@test");
    await pid?.send("hello");
    await cluster.run(10);
    assert.deepEqual(got, ["hello"]);
    // For a few seconds the answer is remembered.
    const asked = cluster.sent.get(FrameType.ROUTER);
    assert.ok(pid?.equals(await cluster.run(10, d.registry.whereis("s"))));
    assert.equal(cluster.sent.get(FrameType.ROUTER), asked);
    d.registry.onLife("retire", a.identity.publicKey, 1);
    assert.equal(await cluster.run(10_000, d.registry.whereis("s", { retries: 0 })), undefined);
    cluster.close();
  });

  test("a node that merely knows is a hint; only the owner's word counts", async () => {
    const cluster = await chain("a", "b", "c");
    const [a, b, c] = cluster.nodes as Three;
    cluster.unlink(a, b);
    const pid = a.system.spawn(idle);
    await cluster.run(1_000, a.registry.register("s", pid));
    const { passes } = cluster;
    cluster.passes = (type, from, to) => (from !== c && to !== c) || passes(type, from, to);
    cluster.link(a, b);
    await cluster.run(1_000);
    assert.equal(b.registry.lookup("s").length, 1);
    assert.ok(pid.equals(await cluster.run(10_000, c.registry.whereis("s"))));
    // The process has gone, but b has not heard yet.
    cluster.passes = passes;
    a.system.exit(pid, "kill");
    await cluster.run(10_000);
    assert.equal(b.registry.lookup("s").length, 1);
    assert.equal(await cluster.run(10_000, c.registry.whereis("s")), undefined);
    cluster.close();
  });

  test("a name that nobody has costs its rings and no more; alone, nothing", async () => {
    const cluster = await chain("a", "b");
    const [a] = cluster.nodes as Two;
    const start = cluster.now;
    assert.equal(await cluster.run(10_000, a.registry.whereis("s", { retries: 3 })), undefined);
    assert.equal(cluster.now - start, 300 + 600 + 1_200 + 2_000);
    const alone = await cluster.add("alone@test");
    assert.equal(await cluster.run(0, alone.registry.whereis("s")), undefined);
    cluster.close();
  });

  test("who asks for more rings than the search under way gets them, and nonsense none", async () => {
    const cluster = await chain("a", "b", "c", "d");
    const [a, , , d] = cluster.nodes as [TestNode, TestNode, TestNode, TestNode];
    await cluster.run(1_000, a.registry.register("s", a.system.spawn(idle)));
    const both = Promise.all([0, 2].map((retries) => d.registry.whereis("s", { retries })));
    const nodes = (await cluster.run(10_000, both))?.map((pid) => pid?.node);
    assert.deepEqual(nodes, ["a@test", "a@test"]);
    await assert.rejects(
      d.registry.whereis("nobody", { retry: 1 } as object),
      (error) => error instanceof ConfigError && error.path === "retry",
    );
    for (const retries of [-1, 0.5, NaN, Infinity, "3" as unknown as number]) {
      const isRefused = (error: unknown) =>
        error instanceof ConfigError && error.path === "retries";
      await assert.rejects(d.registry.whereis("nobody", { retries }), isRefused);
    }
    const notOptions = null as unknown as object;
    const isRefused = (error: unknown) => error instanceof ConfigError && error.path === "options";
    await assert.rejects(d.registry.whereis("nobody", notOptions), isRefused);
    assert.throws(() => d.registry.events(notOptions), isRefused);
    assert.throws(() => d.registry.events({ sgnal: 1 } as object), ConfigError);
    assert.throws(() => d.registry.on(5 as unknown as () => void), TypeError);
    cluster.close();
  });

  test("closed knows nothing of any name, and says so also to who is waiting", async () => {
    const cluster = await chain("a", "b");
    const [a] = cluster.nodes as Two;
    await cluster.run(1_000, a.registry.register("s", a.system.spawn(idle)));
    const waiting = assert.rejects(a.registry.whereis("nobody"), ClosedError);
    const sent = a.system.sendTo("nobody", 1);
    cluster.close();
    await waiting;
    await assert.rejects(a.registry.whereis("s"), ClosedError);
    await assert.rejects(a.registry.whereis("nobody"), ClosedError);
    // As with a pid: few wait for a send, and one that nobody waits for must end no program.
    await sent;
    await a.system.sendTo("nobody", 1);
    assert.equal(a.meter.snapshot()['barrel_messages_dropped_total{reason="no_name"}'], 2);
  });

  test("a registration that arrives meanwhile ends the search", async () => {
    const cluster = await chain("a", "b");
    const [a, b] = cluster.nodes as Two;
    const found = b.registry.whereis("s", { retries: 5 });
    await cluster.run(100);
    cluster.passes = (type) => type !== FrameType.ROUTER;
    const pid = a.system.spawn(idle);
    void a.registry.register("s", pid);
    assert.ok(pid.equals(await cluster.run(100, found)));
    cluster.close();
  });

  test("at most 256 names are searched for at once; one name is searched for once", async () => {
    const cluster = await chain("a", "b");
    const [a] = cluster.nodes as Two;
    const searches = Array.from({ length: 256 }, (_, i) => a.registry.whereis(`s${i}`));
    await assert.rejects(a.registry.whereis("one too many"), OverloadedError);
    const twice = a.registry.whereis("s7");
    const sent = cluster.sent.get(FrameType.ROUTER) ?? 0;
    assert.ok(sent < 256 * 20, `${sent} bytes`);
    const all = await cluster.run(10_000, Promise.all([...searches, twice]));
    assert.ok(all?.every((pid) => pid === undefined));
    cluster.close();
  });

  test("a peer that floods queries is refused beyond its 256, and others are not", async () => {
    const cluster = await chain("a", "b", "c");
    const [a, b, c] = cluster.nodes as Three;
    for (let i = 0; i < 300; i++) {
      const id = new Uint8Array(8).fill(i & 0xff);
      id[0] = i >> 8;
      const body = encodeRouter({ type: "query", id, ttl: 1, name: `s${i}` });
      cluster.inject(FrameType.ROUTER, a, b, body);
    }
    const refused = () =>
      b.meter.snapshot()['barrel_router_refused_total{reason="too_many_queries"}'];
    assert.equal(refused(), 44);
    const pid = a.system.spawn(idle);
    void a.registry.register("s", pid);
    assert.ok(pid.equals(await cluster.run(5_000, c.registry.whereis("s", { retries: 3 }))));
    assert.equal(refused(), 44);
    await cluster.run(6_000);
    cluster.inject(
      FrameType.ROUTER,
      a,
      b,
      encodeRouter({ type: "query", id: new Uint8Array(8).fill(9), ttl: 1, name: "s" }),
    );
    assert.equal(refused(), 44);
    cluster.close();
  });

  test("answers that nobody asked for change nothing", async () => {
    const cluster = await chain("a", "b", "c");
    const [a, b, c] = cluster.nodes as Three;
    const search = b.registry.whereis("s", { retries: 0 });
    cluster.passes = () => true;
    for (let request = 0; request < 5; request++) {
      const body = encodeRouter({ type: "answer", request, process: 1 });
      cluster.inject(FrameType.ROUTER, a, b, body);
    }
    const queryId = new Uint8Array(8);
    cluster.inject(
      FrameType.ROUTER,
      a,
      b,
      encodeRouter({ type: "found", id: queryId, node: "c@test" }),
    );
    assert.equal(await cluster.run(5_000, search), undefined);
    assert.deepEqual(c.events, []);
    cluster.close();
  });
});

describe("registry, proxies", () => {
  test("a proxy passes messages on in order and follows the service to another node", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c");
    const [a, b, c] = nodes as Three;
    const first: unknown[] = [], second: unknown[] = [];
    const old = a.system.spawn(collector(first));
    await cluster.run(1_000, a.registry.register("s", old));
    await cluster.run(50);
    const proxy = c.registry.proxy("s");
    assert.equal(proxy.node, "c@test");
    assert.ok(proxy.equals(c.registry.proxy("s")));
    for (let i = 0; i < 5; i++) void proxy.send(i);
    await cluster.run(50);
    assert.deepEqual(first, [0, 1, 2, 3, 4]);
    await cluster.run(1_000, b.registry.register("s", b.system.spawn(collector(second))));
    a.system.exit(old, "kill");
    await cluster.run(50);
    for (let i = 0; i < 5; i++) void proxy.send(i);
    await cluster.run(50);
    assert.deepEqual(second, [0, 1, 2, 3, 4]);
    cluster.close();
  });

  test("a proxy passes calls and casts on in their place, for callers here and elsewhere", async () => {
    const { cluster, nodes } = await clusterOf("a", "b", "c");
    const [a, b, c] = nodes as Three;
    const log: unknown[] = [];
    const Log = defineServer({
      init: () => 0,
      calls: {
        write: (_ctx, entry: string) => log.push(entry),
        fail: () => {
          throw new RangeError("no such thing");
        },
        hang: (ctx) => ctx.defer<never>(),
      },
      casts: { note: (_ctx, entry: string) => void log.push(entry) },
      info: (_ctx, message) => void log.push(message),
    });
    const pid = await cluster.run(1_000, a.calls.start(Log, [], { register: "log" })) as Pid;
    await cluster.run(50);
    const proxy = b.registry.proxy("log");
    // On the node of the proxy, of the service, and of neither.
    for (const [index, node] of [b, a, c].entries()) {
      const client = node.calls.client(Log, proxy);
      void node.system.send(proxy, `${index} message`);
      void client.note(`${index} cast`);
      const written = client.write(`${index} call`);
      assert.equal(await cluster.run(1_000, written), 3 * index + 3);
      assert.deepEqual(log.slice(-3), [`${index} message`, `${index} cast`, `${index} call`]);
      const isThrown = (error: unknown) =>
        error instanceof RemoteError && error.name === "RangeError";
      await assert.rejects(cluster.run(1_000, client.fail()), isThrown);
      const late = client.with({ timeoutMs: 100 }).hang();
      await assert.rejects(cluster.run(1_000, late), CallTimeoutError);
    }
    const hanging = [b, c].map((node) => node.calls.client(Log, proxy).hang());
    await cluster.run(20);
    a.system.exit(pid, "kill");
    for (const call of hanging) {
      await assert.rejects(
        cluster.run(1_000, call),
        (error) => error instanceof NoProcessError && error.reason === "killed",
      );
    }
    const nobody = b.calls.client(Log, proxy).with({ timeoutMs: 4_000 }).write("x");
    await assert.rejects(cluster.run(5_000, nobody), NoProcessError);
    cluster.close();
  });

  test("while the service is searched for 32 messages wait, and the others are counted", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    const proxy = b.registry.proxy("s");
    for (let i = 0; i < 40; i++) void proxy.send(i);
    await cluster.run(50);
    const dropped = (reason: string) =>
      b.meter.snapshot()[`barrel_proxy_dropped_total{reason="${reason}"}`];
    assert.equal(dropped("busy"), 8);
    const got: unknown[] = [];
    void a.registry.register("s", a.system.spawn(collector(got)));
    await cluster.run(100);
    assert.deepEqual(got, Array.from({ length: 32 }, (_, i) => i));
    assert.equal(dropped("no_service"), undefined);
    assert.throws(() => proxy.send(Symbol("cannot travel")), EncodeError);
    const changed: unknown[] = [];
    void proxy.send(changed);
    changed.push(() => {});
    await cluster.run(10);
    assert.equal(dropped("not_sent"), 1);
    cluster.close();
  });

  test("a proxy without a service ends after a while, and a new one is made when asked for", async () => {
    const { cluster, nodes } = await clusterOf("a", "b");
    const [a, b] = nodes as Two;
    const pid = a.system.spawn(idle);
    await cluster.run(1_000, a.registry.register("s", pid));
    await cluster.run(50);
    const proxy = b.registry.proxy("s");
    const downs: unknown[] = [];
    b.system.spawn(async (self) => {
      self.monitor(proxy);
      for await (const message of self.mailbox) {
        if (message instanceof Down) downs.push(message.reason);
      }
    });
    await cluster.run(60_000);
    a.system.exit(pid, "kill");
    await cluster.run(29_000);
    assert.deepEqual(downs, []);
    void proxy.send("nobody hears this");
    await cluster.run(2_000);
    assert.deepEqual(downs, ["noproc"]);
    assert.equal(b.meter.snapshot()['barrel_proxy_dropped_total{reason="no_service"}'], 1);
    const next = b.registry.proxy("s");
    assert.ok(!next.equals(proxy));
    await cluster.run(1_000, a.registry.register("s", a.system.spawn(idle)));
    await cluster.run(60_000);
    assert.ok(b.system.find(next) !== undefined, "it ended although there is a service");
    cluster.close();
  });
});
