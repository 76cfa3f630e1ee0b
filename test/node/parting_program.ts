/** Joins, sends many messages to the process registered as `counter`, and closes at once. */
import process from "node:process";
import { createNode } from "../../mod.ts";

const COUNT = 3_000;
const node = await createNode({
  name: "parting@127.0.0.1",
  listen: [],
  contactNodes: [process.argv[2] as string],
});
await node.joined({ timeoutMs: 20_000 });
const counter = await node.registry.whereis("counter", { retries: 20 });
if (counter === undefined) throw new Error("nobody counts");
for (let number = 0; number < COUNT; number++) {
  // Without waiting: all of it is on its way when the node closes.
  void counter.send({ number, payload: new Uint8Array(number % 100 === 7 ? 100_000 : 300) });
}
await node.close();
console.log(`sent ${COUNT}`);
process.exit();
