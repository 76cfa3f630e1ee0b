import assert from "node:assert/strict";
import type { NodeName } from "../../src/wire/node_name.ts";
import { test } from "../harness.ts";
import { linkWorld } from "./world.ts";

test("how long handshakes took is counted on both ends, by outcome", async () => {
  const world = linkWorld(1, { latencyMs: [40, 40] });
  const a = await world.start("a"), b = await world.start("b");
  const other = await world.start("other", { cluster: "another" });
  const addresses = new Map([b, other].map(({ self }) => [self.name, self.addresses]));
  a.resolvers.push((name) => addresses.get(name) ?? []);
  await world.until(a.links.connect(b.self.name));
  await assert.rejects(world.until(a.links.connect("other@mem" as NodeName)));
  await world.holds(() => b.links.list().length === 1);

  const value = (node: typeof a, name: string, labels: string) =>
    node.world.meter.snapshot()[`${name}{${labels}}`] ?? 0;
  const within = (node: typeof a, role: string, outcome: string, le: string) =>
    value(
      node,
      "barrel_handshakes_within_total",
      `le="${le}",outcome="${outcome}",role="${role}"`,
    );
  for (const [node, role] of [[a, "client"], [b, "server"]] as const) {
    const labels = `outcome="accepted",role="${role}"`;
    const took = value(node, "barrel_handshake_ms_total", labels);
    // At least one way of 40 ms there, and one back.
    assert.ok(took >= 40 && took < 1_000, `${role}: ${took} ms`);
    assert.equal(within(node, role, "accepted", "25"), 0);
    assert.equal(within(node, role, "accepted", "1000"), 1);
    assert.equal(within(node, role, "accepted", "+Inf"), 1);
  }
  assert.equal(within(a, "client", "refused", "+Inf"), 1);
  assert.equal(within(other, "server", "refused", "+Inf"), 1);
  await world.until(Promise.all([a, b, other].map(({ links }) => links.close())));
});
