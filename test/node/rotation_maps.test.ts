import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { test, waitFor } from "../harness.ts";

for (const ephemeral of [false, true]) {
  const kind = ephemeral ? "a presence map" : "a map";
  test(`${kind} keeps the entries of a node that rotates its key, and takes new ones from it`, async () => {
    const network = createMemoryNetwork({ clock: realClock, random: realRandom });
    const start = (name: string, options: Partial<NodeOptions> = {}) =>
      createNode({
        name: `${name}@mem`,
        listen: [`mem://${name}`],
        transports: [network.host(name).transport],
        ...options,
      });
    const a = await start("a");
    const b = await start("b", { contactNodes: a.addresses });
    await b.joined({ timeoutMs: 10_000 });
    const open = (node: Node) => node.maps.open<number>("things", { ephemeral });
    const [inA, inB] = [await open(a), await open(b)];
    await inB.set("before", 1);
    await inB.set("changed", 1);
    await inB.set("deleted", 1);
    await waitFor(() => inA.size === 3, { what: "the entries" });
    const lost: string[] = [];
    inA.on((event) => {
      if (event.type !== "set") lost.push(JSON.stringify(event));
    });
    await b.identity.rotate();
    await inB.set("after", 2);
    await inB.set("changed", 2);
    await waitFor(() => inA.get("after") === 2 && inA.get("changed") === 2, {
      what: "the new ones",
    });
    assert.equal(inA.get("before"), 1);
    assert.deepEqual(lost, []);
    await inB.delete("deleted");
    await waitFor(() => !inA.has("deleted"), { what: "the deletion" });
    await inA.set("before", 3);
    await waitFor(() => inB.get("before") === 3, { what: "the other's word" });
    const late = await start("late", { contactNodes: a.addresses });
    await late.joined({ timeoutMs: 10_000 });
    const inLate = await open(late);
    await waitFor(() => inLate.size === 3, { what: "all for a latecomer" });
    assert.deepEqual([...inLate.entries()].sort(([x], [y]) => (x < y ? -1 : 1)), [["after", 2], [
      "before",
      3,
    ], ["changed", 2]]);
    await late.close();
    await b.close();
    await waitFor(() => inA.size === (ephemeral ? 1 : 3), { what: "what stays" });
    await a.close();
  });
}
