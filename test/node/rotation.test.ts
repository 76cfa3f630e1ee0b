import assert from "node:assert/strict";
import { createNode, defineServer } from "../../mod.ts";
import type { Node, NodeOptions, Pid } from "../../mod.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { memoryFiles } from "../../src/base/secret_files.ts";
import type { SecretFiles } from "../../src/base/secret_files.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { test, waitFor } from "../harness.ts";

const disk = (): SecretFiles => ({ ...memoryFiles(), durable: true });

/** A network of its own; nodes of one name keep their address and, if asked to, their disk. */
function world() {
  const network = createMemoryNetwork({ clock: realClock, random: realRandom });
  const lines: string[] = [];
  const nodes = new Set<Node>();
  let lives = 0;
  const start = async (name: string, options: Partial<NodeOptions> = {}) => {
    const node = await createNode({
      name: `${name}@mem`,
      listen: [`mem://${name}`],
      transports: [network.host(`${name}.${lives++}`).transport],
      storage: disk(),
      logger: { log: (level, message) => void lines.push(`${name} ${level} ${message}`) },
      ...options,
    });
    nodes.add(node);
    return node;
  };
  const stop = async (node: Node) => {
    nodes.delete(node);
    await node.close();
  };
  const close = () => Promise.all([...nodes].map((node) => node.close()));
  return { start, stop, lines, close };
}

const Counter = defineServer({
  init: () => ({ n: 0 }),
  calls: { add: (ctx, by: number) => (ctx.state.n += by) },
});

const names = (node: Node) => node.membership.members().map(({ name }) => name).sort();
const count = (node: Node, metric: string) => {
  let sum = 0;
  for (const [name, value] of Object.entries(node.metrics.snapshot())) {
    if (name.startsWith(metric)) sum += Number(value);
  }
  return sum;
};
const pinOf = (node: Node, other: Node) => String(node.trust.lookup(other.name));

test("a node that rotates its key keeps its links, processes, names and place, and is followed", async () => {
  const { start, close } = world();
  const a = await start("a");
  const b = await start("b", { contactNodes: a.addresses });
  const c = await start("c", { contactNodes: a.addresses });
  await Promise.all([b.joined({ timeoutMs: 10_000 }), c.joined({ timeoutMs: 10_000 })]);
  const pid = await b.start(Counter, [], { register: "counter" });
  await waitFor(
    () =>
      [a, c].every((node) =>
        node.registry.lookup("counter").length === 1 && names(node).length === 3
      ),
    { what: "the counter and all members everywhere" },
  );
  const counter = a.client(Counter, pid);
  const events: string[] = [];
  for (const node of [a, c]) {
    node.membership.on((event) => events.push(`${node.name} ${event.type}`));
    node.registry.on((event) => events.push(`${node.name} ${event.type} ${event.name}`));
  }
  assert.equal(await counter.add(1), 1);
  const { epoch, publicKey: oldKey, fingerprint: oldPrint } = b;

  const result = await b.identity.rotate();

  assert.deepEqual(b.publicKey, result.publicKey);
  assert.equal(b.fingerprint, result.fingerprint);
  assert.notDeepEqual(b.publicKey, oldKey);
  assert.notEqual(b.fingerprint, oldPrint);
  assert.equal(b.epoch, epoch);
  await waitFor(() => pinOf(a, b) === String(b.publicKey), { what: "a to follow" });
  assert.equal(await counter.add(1), 2);
  // The next handshakes, both ways: each makes a new connection that takes over from the last.
  await b.links.migrate(a.name);
  assert.equal(await counter.add(1), 3);
  await a.links.migrate(b.name);
  assert.equal(await a.client(Counter, "counter").add(1), 4);
  assert.equal(await c.client(Counter, "counter").add(1), 5);
  assert.deepEqual(
    events.filter((event) => /nodeDown|nodeUnreachable|registered|down/.test(event)),
    [],
  );
  for (const node of [a, c]) {
    assert.deepEqual(names(node), [a.name, b.name, c.name]);
    assert.equal(node.registry.lookup("counter").length, 1);
    assert.equal(count(node, "barrel_handshake_refused_total"), 0);
  }
  // What it registers now, and takes back, is told as ever.
  const second = b.spawn(async (self) => void await self.receive());
  await b.registry.register("second", second);
  await b.registry.unregister("counter", pid);
  await waitFor(
    () =>
      [a, c].every((node) =>
        node.registry.lookup("second").length === 1 && node.registry.lookup("counter").length === 0
      ),
    { what: "the changes everywhere" },
  );
  assert.deepEqual(events.filter((event) => /registered/.test(event)).sort(), [
    "a@mem registered second",
    "a@mem unregistered counter",
    "c@mem registered second",
    "c@mem unregistered counter",
  ]);
  // Who comes later sees the same.
  const late = await start("late", { contactNodes: c.addresses });
  await late.joined({ timeoutMs: 10_000 });
  await waitFor(() => names(late).length === 4 && late.registry.lookup("second").length === 1, {
    what: "the latecomer to see all",
  });
  const seen = late.registry.lookup("second")[0]?.pid as Pid;
  assert.ok(seen.equals(second));
  await close();
});

test("a peer that was away for several rotations follows the whole chain, after restarts of both too", async () => {
  const { start, stop, close } = world();
  const files = disk(), peerFiles = disk();
  const first = await start("node", { storage: files });
  const peer = await start("peer", { storage: peerFiles, contactNodes: first.addresses });
  await peer.joined({ timeoutMs: 10_000 });
  assert.equal(pinOf(peer, first), String(first.publicKey));
  await stop(peer);
  await first.identity.rotate();
  await first.identity.rotate();
  await stop(first);
  const second = await start("node", { storage: files });
  await second.identity.rotate();
  // It dials by name, with the pin of a key that is three rotations old.
  const back = await start("peer", { storage: peerFiles });
  assert.notEqual(pinOf(back, second), String(second.publicKey));
  back.links.setConnectOptions(second.name, { address: second.addresses[0] as string });
  await back.links.connect(second.name);
  assert.equal(pinOf(back, second), String(second.publicKey));
  assert.equal(count(back, "barrel_keys_followed_total"), 1);
  await stop(back);
  const again = await start("peer", { storage: peerFiles });
  assert.equal(pinOf(again, second), String(second.publicKey));
  await close();
});

test("a node that rotates may also be the one that dials the peer that was away", async () => {
  const { start, stop, close } = world();
  const peerFiles = disk();
  const node = await start("node");
  const peer = await start("peer", { storage: peerFiles, contactNodes: node.addresses });
  await peer.joined({ timeoutMs: 10_000 });
  await stop(peer);
  await node.identity.rotate();
  const back = await start("peer", { storage: peerFiles });
  node.links.setConnectOptions(back.name, { address: back.addresses[0] as string });
  await node.links.connect(back.name);
  // The end that was dialled may be a moment behind.
  await waitFor(() => pinOf(back, node) === String(node.publicKey), { what: "the new pin" });
  await close();
});

test("a strict peer refuses the new key until somebody pins it", async () => {
  const { start, lines, close } = world();
  const node = await start("node");
  const strict = await start("strict", { auth: { trustMode: "strict" } });
  await strict.trust.pin(node.name, node.publicKey);
  const oldKey = node.publicKey;
  node.links.setConnectOptions(strict.name, { address: strict.addresses[0] as string });
  await node.links.connect(strict.name);
  await node.identity.rotate();
  await waitFor(() => lines.some((line) => /^strict warn .*trust is strict/.test(line)), {
    what: "the word of it",
  });
  assert.deepEqual(strict.trust.lookup(node.name), oldKey);
  await node.links.disconnect(strict.name);
  await assert.rejects(node.links.connect(strict.name), /key_mismatch/);
  strict.links.setConnectOptions(node.name, { address: node.addresses[0] as string });
  await assert.rejects(strict.links.connect(node.name), /key_mismatch/);
  await strict.trust.unpin(node.name);
  await assert.rejects(node.links.connect(strict.name), /untrusted_key/);
  await strict.trust.pin(node.name, node.publicKey);
  await node.links.connect(strict.name);
  await waitFor(() => names(strict).includes(node.name) || strict.links.list().length === 1, {
    what: "the link",
  });
  await close();
});

test("nobody follows a key that the pinned one has not named", async () => {
  const { start, stop, close } = world();
  const peer = await start("peer");
  const node = await start("node", { contactNodes: peer.addresses });
  await node.joined({ timeoutMs: 10_000 });
  const pinned = pinOf(peer, node);
  await stop(node);
  // Another identity under the name, with a chain of its own.
  const thief = await start("node", { contactNodes: [] });
  await thief.identity.rotate();
  thief.links.setConnectOptions(peer.name, { address: peer.addresses[0] as string });
  await assert.rejects(thief.links.connect(peer.name), /key_mismatch|name_conflict/);
  assert.equal(pinOf(peer, node), pinned);
  await close();
});

test("rotations asked for at once come one after the other", async () => {
  const { start, close } = world();
  const node = await start("node");
  const peer = await start("peer", { contactNodes: node.addresses });
  await peer.joined({ timeoutMs: 10_000 });
  const results = await Promise.all([1, 2, 3].map(() => node.identity.rotate()));
  assert.equal(new Set(results.map(({ backup }) => backup)).size, 3);
  assert.deepEqual(node.publicKey, results[2]?.publicKey);
  await waitFor(() => pinOf(peer, node) === String(node.publicKey), { what: "the peer to follow" });
  await close();
});
