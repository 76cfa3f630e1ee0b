import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { Node, NodeEvent, Pid } from "../../mod.ts";
import type { Logger } from "../../src/base/logger.ts";
import type { Random } from "../../src/base/random.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { scopedClock } from "../../src/base/scoped_clock.ts";
import type { ScopedClock } from "../../src/base/scoped_clock.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { QUERY_ID_BYTES } from "../../src/registry/router_messages.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { afterEach, describe, test, waitFor } from "../harness.ts";

const nodes: Node[] = [];
const clocks: ScopedClock[] = [];
afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
  for (const clock of clocks.splice(0)) clock.close();
});

/**
 * Two nodes; the first one's meter throws while `fault.count` names what is counted, and its random
 * source while `fault.bytes` is the number of bytes that are wanted.
 */
async function pair() {
  const clock = scopedClock(realClock);
  clocks.push(clock);
  const network = createMemoryNetwork({ clock, random: realRandom });
  const fault = { count: "", bytes: 0, left: 0 };
  const log: string[] = [];
  const meter = memoryMeter();
  const faulty = {
    ...meter,
    count: (name: string, ...rest: never[]) => {
      if (name === fault.count && fault.left-- > 0) throw new TypeError("a mistake of ours");
      meter.count(name as never, ...rest);
    },
  } as typeof meter;
  const random: Random = {
    ...realRandom,
    bytes(length: number) {
      if (length === fault.bytes && fault.left-- > 0) throw new TypeError("a mistake of ours");
      return realRandom.bytes(length);
    },
  };
  const logger: Logger = { log: (level, message) => void log.push(`${level} ${message}`) };
  const make = async (name: string, more: object) => {
    const node = await createNode({
      name: `${name}@x`,
      listen: [`mem://${name}`],
      transports: [network.host(name).transport],
      membership: { shuffleIntervalMs: 50 },
      ...more,
    });
    nodes.push(node);
    return node;
  };
  const b = await make("b", {});
  const a = await make("a", { contactNodes: ["mem://b"], meter: faulty, random, logger });
  await a.joined({ timeoutMs: 10_000 });
  return { a, b, fault, log, meter };
}

const serviceOf = (node: Node, name: string) => node.processes.info(`barrel:${name}`);
const stays = (node: Node, name: string, former: Pid) =>
  waitFor(() => serviceOf(node, name)?.pid.equals(former) === false, { what: `another ${name}` });

describe("the node's own services", () => {
  test("are out of reach of other nodes' exit signals and links", async () => {
    const { a, b } = await pair();
    const names = ["root", "membership", "broadcast", "roster"];
    const before = names.map((name) => serviceOf(a, name)?.pid);
    for (const pid of before) {
      assert.ok(pid !== undefined);
      b.exit(pid, "kill");
      b.exit(pid, "shutdown");
      b.spawn((self) => {
        self.link(pid);
        self.exit("crashed");
      });
    }
    // Two exit signals and a link for each.
    const dropped = () => a.metrics.snapshot()["barrel_signals_dropped_total"];
    await waitFor(() => dropped() === 12, { what: "all twelve were refused" });
    names.forEach((name, i) => {
      assert.ok(serviceOf(a, name)?.pid.equals(before[i] as Pid), `${name} goes on`);
    });
  });

  test("are processes under its root supervisor", async () => {
    const { a } = await pair();
    const root = serviceOf(a, "root");
    assert.equal(root?.kind, "supervisor");
    const children = a.processes.list().filter(({ kind }) => kind === "service");
    const names = ["broadcast", "membership", "registry", "replication", "roster"];
    assert.deepEqual(
      children.map(({ name }) => name).sort((x = "", y = "") => x < y ? -1 : 1),
      names.map((name) => `barrel:${name}`),
    );
    for (const { pid } of children) assert.ok(root.links.some((link) => link.equals(pid)));
  });

  test("come back when they crash, and say so", async () => {
    const { a, b, fault, log } = await pair();
    const { pid } = serviceOf(a, "membership") as { pid: Pid };
    const events: NodeEvent[] = [];
    a.membership.on((event) => events.push(event as NodeEvent));
    Object.assign(fault, { count: "barrel_membership_sent_total", left: 1 });
    await stays(a, "membership", pid);
    await waitFor(() => a.membership.activeView().includes("b@x"), { what: "it joins again" });
    const lost = events.findIndex(({ type }) => type === "peerDown");
    assert.deepEqual(events[lost], { type: "peerDown", node: "b@x", reason: "crashed" });
    const types = events.slice(lost).map(({ type }) => type);
    assert.deepEqual(types.slice(0, 2), ["peerDown", "left"]);
    assert.ok(types.includes("joined") && types.includes("peerUp"));
    assert.ok(!events.some(({ type }) => type === "nodeDown"), "nobody takes it for dead");
    assert.ok(log.some((line) => /crashed: TypeError: a mistake of ours/.test(line)));
    assert.ok(log.some((line) => /child "membership" ended and starts again/.test(line)));
    await waitFor(() => b.membership.activeView().includes("a@x"), { what: "the other side, too" });
  });

  test("go on with what was asked of them: topics stay subscribed", async () => {
    const { a, b } = await pair();
    const got: number[] = [];
    a.broadcast.subscribe("news", (bytes) => got.push(bytes[0] as number));
    const { pid } = serviceOf(a, "broadcast") as { pid: Pid };
    a.exit(pid, "kill");
    await stays(a, "broadcast", pid);
    await b.broadcast.publish("news", Uint8Array.of(7));
    await waitFor(() => got.length > 0, { what: "what b says" });
    const heard: number[] = [];
    b.broadcast.subscribe("back", (bytes) => heard.push(bytes[0] as number));
    await a.broadcast.publish("back", Uint8Array.of(8));
    await waitFor(() => heard.length > 0, { what: "what a says" });
    assert.deepEqual([got, heard], [[7], [8]]);
  });

  test("replication goes on after a crash with the rows that it had signed", async () => {
    const { a, b, fault, log, meter } = await pair();
    const events: NodeEvent[] = [];
    a.membership.on((event) => events.push(event as NodeEvent));
    const ours = await a.maps.open("news");
    const theirs = await b.maps.open("news");
    await ours.set("before", 1);
    await waitFor(() => theirs.get("before") === 1, { what: "what a wrote" });
    const { pid } = serviceOf(a, "replication") as { pid: Pid };
    const others = ["broadcast", "membership", "registry", "roster"];
    const untouched = others.map((name) => serviceOf(a, name)?.pid);
    Object.assign(fault, { count: "barrel_replica_applied_total", left: 1 });
    await theirs.set("crash", 2);
    await stays(a, "replication", pid);
    assert.ok(log.some((line) => /crashed: TypeError: a mistake of ours/.test(line)));
    assert.ok(log.some((line) => /child "replication" ended and starts again/.test(line)));
    await ours.set("after", 3);
    await waitFor(() => theirs.get("after") === 3, { what: "what a wrote after it" });
    await theirs.set("last", 4);
    await waitFor(() => ours.get("last") === 4 && ours.get("crash") === 2, { what: "b's rows" });
    assert.deepEqual(others.map((name) => serviceOf(a, name)?.pid), untouched);
    const rest = events.filter(({ type }) => type !== "nodeUp");
    assert.deepEqual(rest, [], "nothing else of the node is disturbed");
    const counted = Object.entries(meter.snapshot()).filter(([name]) =>
      name.startsWith("barrel_supervisor_restarts_total")
    );
    assert.deepEqual(counted.map(([, value]) => value), [1]);
  });

  test("writes that are made while replication is down are signed and published", async () => {
    const { a, b } = await pair();
    const ours = await a.maps.open("news");
    const theirs = await b.maps.open("news");
    const { pid } = serviceOf(a, "replication") as { pid: Pid };
    a.exit(pid, "kill");
    await Promise.all([ours.set("x", 1), ours.set("y", 2)]);
    await theirs.set("z", 3);
    await stays(a, "replication", pid);
    const all = () => theirs.get("x") === 1 && theirs.get("y") === 2 && ours.get("z") === 3;
    await waitFor(all, { what: "all of it, on both sides" });
  });

  test("the roster keeps who is known, and what it says of a death is told once", async () => {
    const { a, b, fault } = await pair();
    const knows = () => a.membership.members().some(({ name }) => name === b.name);
    await waitFor(knows, { what: "a knows b" });
    const { pid } = serviceOf(a, "roster") as { pid: Pid };
    const events: NodeEvent[] = [];
    a.membership.on((event) => events.push(event as NodeEvent));
    Object.assign(fault, { count: "barrel_members_changed_total", left: 1 });
    await b.close();
    await stays(a, "roster", pid);
    await waitFor(() => !knows(), { what: "b is down" });
    await waitFor(() => serviceOf(a, "roster") !== undefined, { what: "the roster is up" });
    const downs = events.filter(({ type }) => type === "nodeDown");
    assert.deepEqual(downs, [{ type: "nodeDown", node: b.name, reason: "left" }]);
  });

  test("the registry keeps its names, and searches again for what was being searched", async () => {
    const { a, b, fault } = await pair();
    const idle = () => new Promise<void>(() => {});
    const mine = a.spawn(idle);
    const other = b.spawn(idle);
    await a.registry.register("mine", mine);
    await b.registry.register("other", other);
    await waitFor(() => a.registry.lookup("other").length === 1, { what: "b's name" });
    const events: unknown[] = [];
    a.registry.on((event) => events.push(event));
    const { pid } = serviceOf(a, "registry") as { pid: Pid };
    const found = a.registry.whereis("nobody", { retries: 1 });
    // The second ring begins in a timer.
    Object.assign(fault, { bytes: QUERY_ID_BYTES, left: 1 });
    await stays(a, "registry", pid);
    assert.equal(await found, undefined);
    assert.ok(a.registry.lookup("mine").length === 1 && a.registry.lookup("other").length === 1);
    assert.deepEqual(events, [], "what stayed is not told again");
    const { pid: second } = serviceOf(a, "registry") as { pid: Pid };
    a.exit(second, "kill");
    a.exit(mine, "kill");
    await stays(a, "registry", second);
    const isGone = () => b.registry.lookup("mine").length === 0;
    await waitFor(isGone, { what: "b learns of the end of a process while the registry is down" });
    assert.equal(events.length, 1);
  });

  test("end with their node, and not before it has left", async () => {
    const { a, b } = await pair();
    const knows = () => b.membership.members().some(({ name }) => name === a.name);
    await waitFor(knows, { what: "the other one knows it" });
    const gone = new Promise<string>((resolve) => {
      b.membership.on((event) => {
        if (event.type === "nodeDown") resolve(event.reason);
      });
    });
    await a.close();
    assert.equal(await gone, "left");
    assert.deepEqual(a.processes.list(), []);
  });
});
