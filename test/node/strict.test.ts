import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { test, waitFor } from "../harness.ts";

const world = () => {
  const network = createMemoryNetwork({ clock: realClock, random: realRandom });
  const nodes: Node[] = [];
  let lives = 0;
  const start = async (name: string, options: Partial<NodeOptions> = {}) => {
    const node = await createNode({
      name: `${name}@mem`,
      listen: [`mem://${name}:0`],
      transports: [network.host(`${name}.${lives++}`).transport],
      ...options,
    });
    nodes.push(node);
    return node;
  };
  return { start, close: () => Promise.all(nodes.map((node) => node.close())) };
};
const strict = { auth: { trustMode: "strict" as const } };

test("two strict nodes that were given each other's keys form a cluster; a third one stays out", async () => {
  const { start, close } = world();
  const [a, b] = [await start("a", strict), await start("b", strict)];
  await a.trust.pin(b.name, b.publicKey);
  await b.trust.pin(a.name, a.publicKey);
  await b.membership.join(a.addresses[0] as string);
  await waitFor(() => [a, b].every((node) => node.membership.members().length === 2), {
    what: "both",
  });
  const third = await start("third", { contactNodes: a.addresses });
  await waitFor(
    () => Object.keys(third.metrics.snapshot()).some((name) => name.includes("untrusted_key")),
    { what: "the refusal" },
  );
  assert.deepEqual(a.membership.activeView(), [b.name]);
  // A strict node pins nobody by itself, not even who was refused.
  assert.deepEqual(a.trust.list().map(({ node }) => node), [b.name]);
  assert.equal(a.trust.mode, "strict");
  await close();
});

for (const trustMode of ["tofu", "strict"] as const) {
  test(`another key than the pinned one is refused by a ${trustMode} node, dialled or dialling`, async () => {
    const { start, close } = world();
    const a = await start("a", { auth: { trustMode } });
    const [b, other] = [await start("b"), await start("other")];
    await a.trust.pin(b.name, other.publicKey);
    a.links.setConnectOptions(b.name, { address: b.addresses[0] as string });
    b.links.setConnectOptions(a.name, { address: a.addresses[0] as string });
    await assert.rejects(a.links.connect(b.name), /key_mismatch/);
    await assert.rejects(b.links.connect(a.name), /key_mismatch/);
    assert.deepEqual(a.trust.lookup(b.name), other.publicKey);
    await assert.rejects(a.trust.pin(b.name, b.publicKey), /unpin it first/);
    await a.trust.unpin(b.name);
    await a.trust.pin(b.name, b.publicKey);
    await a.links.connect(b.name);
    assert.equal(a.links.list().length, 1);
    await close();
  });
}
