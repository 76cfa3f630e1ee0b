import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { Node } from "../../mod.ts";
import { afterEach, test } from "../harness.ts";

const nodes: Node[] = [];
afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
});

test("an address that cannot be bound is told by its place", async () => {
  for (const address of ["http://x", "quic://127.0.0.1"]) {
    const started = createNode({ name: "a@127.0.0.1", listen: [address] });
    await assert.rejects(started, /^TransportError: listen\.0: /);
  }
});

test("a listener at [::] takes IPv4 and IPv6", async () => {
  const both = await createNode({ name: "both@localhost", listen: ["quic://[::]:0"] });
  nodes.push(both);
  const [told] = both.addresses;
  const port = /:(\d+)$/.exec(told as string)?.[1];
  const contacts = [`quic://127.0.0.1:${port}`, `quic://[::1]:${port}`, told as string];
  for (const [index, contact] of contacts.entries()) {
    const node = await createNode({
      name: `m${index}@localhost`,
      listen: [],
      contactNodes: [contact],
    });
    nodes.push(node);
    await node.joined({ timeoutMs: 20_000 });
    assert.deepEqual(node.membership.activeView().includes(both.name), true, contact);
  }
});
