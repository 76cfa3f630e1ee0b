import assert from "node:assert/strict";
import type { Logger } from "../../src/base/logger.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { seededRandom } from "../../src/base/random.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { createMembership } from "../../src/membership/driver.ts";
import type { MembershipDriver } from "../../src/membership/driver.ts";
import { membershipDefaults } from "../../src/membership/options.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { describe, test } from "../harness.ts";
import { Fabric } from "./fabric.ts";
import type { FabricNode } from "./fabric.ts";

interface TestNode extends FabricNode {
  readonly name: string;
  readonly membership: MembershipDriver;
  readonly events: string[];
  readonly meter: ReturnType<typeof memoryMeter>;
}

function start(fabric: Fabric, name: string, logger: Logger = silentLogger): TestNode {
  const node = fabric.add(name);
  const meter = memoryMeter();
  const membership = createMembership({
    links: node.links,
    options: membershipDefaults,
    clock: node.clock,
    random: seededRandom(name.charCodeAt(0)),
    logger,
    meter,
    isNeeded: () => false,
    members: () => [],
    failed: (error) => {
      throw error;
    },
  });
  const events: string[] = [];
  membership.on((event) => {
    events.push("node" in event ? `${event.type} ${event.node}` : event.type);
  });
  return { ...node, name, membership, events, meter };
}

describe("the membership driver", () => {
  test("joins through an address, tells of it, and measures it", async () => {
    const fabric = new Fabric();
    const [a, b] = [start(fabric, "a@t"), start(fabric, "b@t")];
    b.membership.join("fabric://a@t");
    await fabric.time.run(1_000);
    assert.deepEqual(a.membership.activeView(), ["b@t"]);
    assert.deepEqual(b.membership.activeView(), ["a@t"]);
    assert.deepEqual(b.events, ["joined", "peerUp a@t"]);
    assert.deepEqual(b.membership.addressesOf("a@t"), ["fabric://a@t"]);
    assert.equal(b.meter.snapshot()["barrel_active_view"], 1);
    assert.equal(b.meter.snapshot()['barrel_membership_sent_total{type="join"}'], 1);
    a.membership.close();
    b.membership.close();
  });

  test("a contact that is away is logged once and joined when it comes", async () => {
    const fabric = new Fabric();
    const lines: string[] = [];
    const node = start(fabric, "a@t", { log: (_, message) => void lines.push(message) });
    node.membership.join("fabric://b@t");
    await fabric.time.run(120_000);
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? "", /nobody is at b@t; trying again in the background/);
    const late = start(fabric, "b@t");
    await fabric.time.run(61_000);
    assert.deepEqual(node.membership.activeView(), ["b@t"]);
    node.membership.close();
    late.membership.close();
  });

  test("a neighbour that vanishes goes down; one that leaves too", async () => {
    const fabric = new Fabric();
    const nodes = ["a@t", "b@t", "c@t"].map((name) => start(fabric, name));
    const [a, b, c] = nodes as [TestNode, TestNode, TestNode];
    b.membership.join("fabric://a@t");
    c.membership.join("fabric://a@t");
    await fabric.time.run(5_000);
    assert.deepEqual(new Set(a.membership.activeView()), new Set(["b@t", "c@t"]));
    b.membership.close();
    fabric.remove("b@t");
    assert.deepEqual(a.membership.activeView(), ["c@t"]);
    assert.ok(a.events.includes("peerDown b@t"));
    c.membership.leave();
    await fabric.time.run(100);
    assert.deepEqual(a.membership.activeView(), []);
    assert.equal(c.events.at(-1), "left");
    a.membership.close();
    c.membership.close();
  });

  test("a frame that breaks the protocol is the link's to refuse", () => {
    const fabric = new Fabric();
    const [a, b] = [start(fabric, "a@t"), start(fabric, "b@t")];
    assert.throws(
      () => a.inject(FrameType.HYPARVIEW, new Uint8Array([99]), b.links.self),
      ProtocolError,
    );
    a.membership.close();
    b.membership.close();
  });

  test("a listener may act on an event, and one that throws harms nobody", async () => {
    const fabric = new Fabric();
    const [a, b] = [start(fabric, "a@t"), start(fabric, "b@t")];
    a.membership.on(() => {
      throw new Error("a listener's bug");
    });
    a.membership.on((event) => {
      if (event.type === "peerUp") a.membership.leave();
    });
    b.membership.join("fabric://a@t");
    await fabric.time.run(1_000);
    assert.deepEqual(a.events, ["joined", "peerUp b@t", "peerDown b@t", "left"]);
    assert.deepEqual(b.membership.activeView(), []);
    a.membership.close();
    b.membership.close();
  });

  test("a closed driver is silent and wakes up no more", async () => {
    const fabric = new Fabric();
    const [a, b] = [start(fabric, "a@t"), start(fabric, "b@t")];
    b.membership.join("fabric://a@t");
    await fabric.time.run(1_000);
    b.membership.close();
    const before = b.meter.snapshot();
    a.membership.leave();
    await fabric.time.run(600_000);
    assert.deepEqual(b.meter.snapshot(), before);
    a.membership.close();
  });
});
