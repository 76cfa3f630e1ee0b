import assert from "node:assert/strict";
import { OverloadedError } from "../../src/base/errors.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test } from "../harness.ts";
import { linkWorld } from "./world.ts";
import type { LinkNode, LinkWorld } from "./world.ts";

const NOTHING = new Uint8Array(0);
const closeAll = (world: LinkWorld, ...nodes: LinkNode[]) =>
  world.until(Promise.all(nodes.map(({ links }) => links.close())));

async function connected(world: LinkWorld, from: LinkNode, to: LinkNode) {
  from.resolvers.push((name) => name === to.self.name ? to.self.addresses : []);
  await world.until(from.links.connect(to.self.name));
  await world.holds(() => to.links.peer(from.self.name) !== undefined);
}

describe("the reaper", () => {
  const links = { idleAfterMs: 10_000, idleSweepMs: 1_000 };

  test("closes what nobody has used for long enough, and nothing else", async () => {
    const world = linkWorld(1);
    const hub = await world.start("hub", { links });
    const peers = await Promise.all(
      ["idle", "held", "needed", "busy"].map((name) => world.start(name)),
    ) as [LinkNode, LinkNode, LinkNode, LinkNode];
    const [idle, held, needed, busy] = peers;
    for (const peer of peers) {
      await connected(world, hub, peer);
      hub.links.keep(peer.self.name);
    }
    hub.links.signals.hold(held.self.name);
    hub.needs.push((name) => name === needed.self.name);
    busy.links.signals.onSignal = () => {};
    for (let second = 0; second < 15; second++) {
      void hub.links.signals.send(busy.self.name, 0, 1, FrameType.SEND, NOTHING, NOTHING);
      await world.run(1_000);
    }
    assert.deepEqual(idle.told, ["up", "down idle"]);
    assert.deepEqual(
      hub.links.list().map(({ node }) => node).sort(),
      [busy, held, needed].map(({ self }) => self.name).sort(),
    );
    hub.links.signals.release(held.self.name);
    await world.run(2_000);
    assert.deepEqual(held.told, ["up", "down idle"]);
    await closeAll(world, hub, ...peers);
  });
});

test("a link that was opened for a question closes soon after it, one that is kept does not", async () => {
  const world = linkWorld(6);
  const [a, b, c] = [await world.start("a"), await world.start("b"), await world.start("c")];
  await connected(world, a, b);
  await connected(world, a, c);
  a.links.keep(c.self.name);
  await world.run(6_000);
  assert.deepEqual(b.told, ["up", "down idle"]);
  assert.deepEqual(c.told, ["up"]);
  await connected(world, a, b);
  a.links.letGo(b.self.name);
  a.links.letGo(c.self.name);
  await world.run(500);
  assert.deepEqual(b.told, ["up", "down idle", "up", "down idle"]);
  assert.deepEqual(c.told, ["up"]);
  await closeAll(world, a, b, c);
});

describe("a node that comes back", () => {
  test("with a newer life replaces its old link at once, from either end", async () => {
    for (let seed = 1; seed <= 4; seed++) {
      const world = linkWorld(seed);
      const [a, b] = [await world.start("a"), await world.start("b")];
      await connected(world, ...(seed % 2 === 0 ? [a, b] : [b, a]) as [LinkNode, LinkNode]);
      b.host.crash();
      await world.run(5);
      const again = await world.start("b", {}, b.files);
      assert.ok(again.self.epoch > b.self.epoch);
      const since = world.now();
      await connected(world, again, a);
      await world.holds(() => a.told.length === 3);
      assert.deepEqual(a.told, ["up", "down replaced", "up"]);
      assert.equal(a.links.peer(again.self.name)?.epoch, again.self.epoch);
      assert.ok(world.now() - since < 500);
      await closeAll(world, a, again);
    }
  });
});

describe("a peer that does not take what is sent", () => {
  const links = { highWaterMark: 64 * 1024, maxBufferedBytes: 2 * 1024 * 1024 };

  test("makes writers wait above the mark, then throws, and gets all that was taken", async () => {
    const world = linkWorld(2);
    const [a, b] = [await world.start("a", { links }), await world.start("b")];
    await connected(world, a, b);
    let received = 0;
    b.links.signals.onSignal = () => void received++;
    const send = () =>
      a.links.signals.send(b.self.name, 0, 7, FrameType.SEND, NOTHING, new Uint8Array(16_000));

    b.host.stall(8_000);
    let taken = 0, waits: void | Promise<void> = undefined;
    let isDrained = false;
    for (;;) {
      try {
        const wait = send();
        taken++;
        waits = wait;
      } catch (error) {
        assert.ok(error instanceof OverloadedError);
        break;
      }
      if (taken % 10 === 0) await world.run(1);
    }
    assert.ok(waits instanceof Promise);
    void waits.then(() => void (isDrained = true));
    // The window of the pipe and the limit are what a stalled peer can hold of us.
    assert.ok(taken * 16_000 <= links.maxBufferedBytes + 1024 * 1024 + 32_000, `${taken}`);
    await world.run(5_000);
    assert.equal(isDrained, false);
    assert.equal(a.links.stats(b.self.name)?.isCongested, true);
    await world.holds(() => received === taken);
    assert.equal(isDrained, true);
    assert.equal(a.links.stats(b.self.name)?.isCongested, false);
    assert.equal(a.links.stats(b.self.name)?.bufferedBytes, 0);
    await closeAll(world, a, b);
  });

  test("is expelled when protocols have filled its share; others do not notice", async () => {
    const world = linkWorld(3);
    const a = await world.start("a", { links });
    const [slow, quick] = [await world.start("slow"), await world.start("quick")];
    await connected(world, a, slow);
    await connected(world, a, quick);
    const channel = a.links.channel(FrameType.PLUMTREE_GOSSIP);
    let received = 0;
    quick.links.channel(FrameType.PLUMTREE_GOSSIP).onFrame = () => void received++;
    slow.links.channel(FrameType.PLUMTREE_GOSSIP).onFrame = () => {};
    slow.host.stall(10_000);
    for (let turn = 0; turn < 400; turn++) {
      if (a.links.peer(slow.self.name)) channel.send(slow.self.name, new Uint8Array(16_000));
      channel.send(quick.self.name, new Uint8Array(100));
      await world.run(1);
    }
    await world.run(100);
    assert.equal(received, 400);
    assert.deepEqual(a.told, ["up", "up", "down overloaded"]);
    assert.equal(a.world.meter.snapshot()['barrel_link_down_total{reason="overloaded"}'], 1);
    await closeAll(world, a, slow, quick);
  });
});

describe("what is known of a link", () => {
  test("is its round trip, its bytes and how long it has rested, on both ends", async () => {
    const world = linkWorld(4, { latencyMs: [10, 10] });
    const [a, b] = [await world.start("a"), await world.start("b")];
    await connected(world, a, b);
    b.links.signals.onSignal = () => {};
    void a.links.signals.send(b.self.name, 0, 1, FrameType.SEND, NOTHING, new Uint8Array(9_000));
    await world.run(5_000);
    const [here, there] = [a.links.stats(b.self.name), b.links.stats(a.self.name)];
    assert.equal(here?.role, "client");
    assert.equal(there?.role, "server");
    for (const stats of [here, there]) {
      assert.equal(stats?.rttMs, 20);
      assert.equal(stats?.latestRttMs, 20);
      assert.ok((stats?.idleMs ?? 0) > 4_000 && (stats?.idleMs ?? 0) <= 5_000);
    }
    assert.ok((here?.bytesSent ?? 0) > 9_000);
    assert.ok((there?.bytesReceived ?? 0) > 9_000);
    assert.equal(a.links.stats("nobody@mem"), undefined);
    await closeAll(world, a, b);
  });

  test("includes where to dial it, when that is chosen here", async () => {
    const world = linkWorld(5);
    const [a, b, c] = [await world.start("a"), await world.start("b"), await world.start("c")];
    a.resolvers.push(() => ["mem://nowhere"]);
    a.links.setConnectOptions(b.self.name, { address: b.self.addresses[0] as string });
    await world.until(a.links.connect(b.self.name));
    // Another node answers there: it is not taken for the one that was meant.
    a.links.setConnectOptions(c.self.name, { address: b.self.addresses[0] as string });
    const error = await world.until(a.links.connect(c.self.name).then(() => {}, (why) => why));
    assert.match(String(error), /is b@mem, not c@mem/);
    await world.until(a.links.disconnect(b.self.name));
    a.links.setConnectOptions(b.self.name, undefined);
    await assert.rejects(world.until(a.links.connect(b.self.name)));
    await closeAll(world, a, b, c);
  });
});
