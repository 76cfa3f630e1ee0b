import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { fromUtf8, utf8 } from "../../src/base/bytes.ts";
import { BarrelError, ProtocolError } from "../../src/base/errors.ts";
import { seededRandom } from "../../src/base/random.ts";
import { createBroadcast } from "../../src/broadcast/driver.ts";
import type { Broadcast } from "../../src/broadcast/driver.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test } from "../harness.ts";
import { Fabric } from "../membership/fabric.ts";
import type { FabricNode } from "../membership/fabric.ts";

interface TestNode extends FabricNode {
  readonly broadcast: Broadcast;
  readonly meter: ReturnType<typeof memoryMeter>;
}

/** What was logged, by all. */
const logged: string[] = [];

function start(fabric: Fabric, name: string): TestNode {
  const node = fabric.add(name);
  const meter = memoryMeter();
  const broadcast = createBroadcast({
    links: node.links,
    clock: node.clock,
    random: seededRandom(1),
    logger: { log: (_, message) => void logged.push(message) },
    meter,
    sha256: (data) => new Uint8Array(createHash("sha256").update(data).digest()),
  });
  return { ...node, broadcast, meter };
}

/** A line of nodes, each the neighbour of the next. */
function line(...names: string[]): { fabric: Fabric; nodes: TestNode[] } {
  const fabric = new Fabric();
  const nodes = names.map((name) => start(fabric, name));
  nodes.forEach((node, i) => {
    const next = nodes[i + 1];
    if (next === undefined) return;
    node.broadcast.neighbourUp(next.links.self.name);
    next.broadcast.neighbourUp(node.links.self.name);
  });
  return { fabric, nodes };
}

describe("the broadcast driver", () => {
  test("a message reaches the subscribers of its topic on all nodes but the sender's", async () => {
    const { fabric, nodes } = line("a@t", "b@t", "c@t");
    const heard: string[] = [];
    nodes.forEach((node, i) => {
      node.broadcast.subscribe("news", (bytes) => heard.push(`${i} ${fromUtf8(bytes)}`));
      node.broadcast.subscribe("other", () => heard.push("wrong topic"));
    });
    nodes[0]?.broadcast.publish("news", utf8("hello"));
    await fabric.time.run(1_000);
    assert.deepEqual(heard, ["1 hello", "2 hello"]);
    const { meter } = nodes[2] as TestNode;
    assert.equal(meter.snapshot()["barrel_broadcast_delivered_total"], 1);
    for (const node of nodes) node.broadcast.close();
  });

  test("what is too large, or has no topic, is refused before anything is sent", () => {
    const { nodes } = line("a@t", "b@t");
    const [{ broadcast }] = nodes as [TestNode];
    const isRefused = (error: unknown) =>
      error instanceof BarrelError && error.code === "broadcast";
    assert.throws(() => broadcast.publish("t", new Uint8Array(1024 * 1024 + 1)), isRefused);
    assert.throws(() => broadcast.publish("t".repeat(256), utf8("x")), isRefused);
    assert.throws(() => broadcast.publish("", utf8("x")), isRefused);
    for (const node of nodes) node.broadcast.close();
  });

  test("a subscriber that throws, or writes into its bytes, harms nobody", async () => {
    const { fabric, nodes } = line("a@t", "b@t");
    const [a, b] = nodes as [TestNode, TestNode];
    const heard: string[] = [];
    logged.length = 0;
    b.broadcast.subscribe("t", (bytes) => {
      bytes.fill(0);
      throw new Error("a subscriber's bug");
    });
    // Nobody catches its rejection: that would end the program.
    b.broadcast.subscribe("t", () => Promise.reject(new Error("an async one's bug")) as never);
    const off = b.broadcast.subscribe("t", (bytes) => heard.push(fromUtf8(bytes)));
    a.broadcast.publish("t", utf8("one"));
    await fabric.time.run(100);
    off();
    a.broadcast.publish("t", utf8("two"));
    await fabric.time.run(100);
    assert.deepEqual(heard, ["one"]);
    for (const what of ["a subscriber's bug", "an async one's bug"]) {
      assert.equal(logged.filter((line) => line.includes(what)).length, 2, what);
    }
    for (const node of nodes) node.broadcast.close();
  });

  test("a late neighbour gets what was said shortly before", async () => {
    const { fabric, nodes } = line("a@t", "b@t");
    nodes[0]?.broadcast.publish("t", utf8("early"));
    await fabric.time.run(5_000);
    const late = start(fabric, "c@t");
    const heard: string[] = [];
    late.broadcast.subscribe("t", (bytes) => heard.push(fromUtf8(bytes)));
    nodes[1]?.broadcast.neighbourUp("c@t");
    late.broadcast.neighbourUp("b@t");
    await fabric.time.run(2_000);
    assert.deepEqual(heard, ["early"]);
    for (const node of [...nodes, late]) node.broadcast.close();
  });

  test("frames that break the protocol are the link's to refuse", () => {
    const { nodes } = line("a@t", "b@t");
    const [a, b] = nodes as [TestNode, TestNode];
    for (const type of [FrameType.PLUMTREE_GOSSIP, FrameType.PLUMTREE_CONTROL]) {
      const inject = () => a.inject(type, new Uint8Array([9, 9]), b.links.self);
      assert.throws(inject, ProtocolError);
    }
    for (const node of nodes) node.broadcast.close();
  });

  test("a closed driver neither sends nor hears", async () => {
    const { fabric, nodes } = line("a@t", "b@t");
    const [a, b] = nodes as [TestNode, TestNode];
    const heard: string[] = [];
    b.broadcast.subscribe("t", () => heard.push("b"));
    b.broadcast.close();
    a.broadcast.publish("t", utf8("x"));
    await fabric.time.run(60_000);
    assert.deepEqual(heard, []);
    a.broadcast.close();
  });
});
