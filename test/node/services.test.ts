import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { Node, NodeEvent, Pid } from "../../mod.ts";
import type { Logger } from "../../src/base/logger.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { scopedClock } from "../../src/base/scoped_clock.ts";
import type { ScopedClock } from "../../src/base/scoped_clock.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { afterEach, describe, test, waitFor } from "../harness.ts";

const nodes: Node[] = [];
const clocks: ScopedClock[] = [];
afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
  for (const clock of clocks.splice(0)) clock.close();
});

/** Two nodes; the first one's meter throws while `fault.count` names what is counted. */
async function pair() {
  const clock = scopedClock(realClock);
  clocks.push(clock);
  const network = createMemoryNetwork({ clock, random: realRandom });
  const fault = { count: "", left: 0 };
  const log: string[] = [];
  const meter = memoryMeter();
  const faulty = {
    ...meter,
    count: (name: string, ...rest: never[]) => {
      if (name === fault.count && fault.left-- > 0) throw new TypeError("a mistake of ours");
      meter.count(name as never, ...rest);
    },
  } as typeof meter;
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
  const a = await make("a", { contactNodes: ["mem://b"], meter: faulty, logger });
  await a.joined({ timeoutMs: 10_000 });
  return { a, b, fault, log };
}

const serviceOf = (node: Node, name: string) => node.processes.info(`barrel:${name}`);
const stays = (node: Node, name: string, former: Pid) =>
  waitFor(() => serviceOf(node, name)?.pid.equals(former) === false, { what: `another ${name}` });

describe("the node's own services", () => {
  test("are processes under its root supervisor", async () => {
    const { a } = await pair();
    const root = serviceOf(a, "root");
    assert.equal(root?.kind, "supervisor");
    const children = a.processes.list().filter(({ kind }) => kind === "service");
    assert.deepEqual(children.map(({ name }) => name), ["barrel:broadcast", "barrel:membership"]);
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
