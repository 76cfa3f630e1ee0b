/** A node that is attacked: answers calls, and tells its memory when asked on standard input. */
import process from "node:process";
import { createInterface } from "node:readline";
import { createNode, defineServer } from "../../mod.ts";

const Echo = defineServer({
  init(ctx) {
    // Any member may end any process (`node.exit`), and random bytes sometimes say so.
    ctx.self.trapExit = true;
    return 0;
  },
  calls: { echo: (_ctx, value: number) => value },
  info() {},
});
const node = await createNode({ name: "victim@127.0.0.1", listen: ["quic://127.0.0.1:0"] });
await node.start(Echo, [], { register: "echo" });
console.log(`ready ${node.addresses[0]}`);
const lines = createInterface({ input: process.stdin });
lines.on("line", () => {
  const refused = Object.entries(node.metrics.snapshot())
    .filter(([name]) => name.includes("refused"))
    .reduce((sum, [, count]) => sum + count, 0);
  console.log(`status ${process.memoryUsage().rss} ${refused} ${node.links.list().length}`);
});
lines.on("close", () => process.exit(0));
