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

// What is garbage is not growth, where the runtime lets us collect it.
function collect(): void {
  const { Bun, gc } = globalThis as { Bun?: { gc(force: boolean): void }; gc?: () => void };
  if (Bun !== undefined) Bun.gc(true);
  else gc?.();
}

lines.on("line", () => {
  collect();
  const { rss, heapUsed } = process.memoryUsage();
  const refused = Object.entries(node.metrics.snapshot())
    .filter(([name]) => /^\w*refused\w*_total/.test(name))
    .reduce((sum, [, count]) => sum + count, 0);
  const hasCollected = "gc" in globalThis || "Bun" in globalThis;
  console.log(`status ${rss} ${refused} ${heapUsed} ${hasCollected ? 1 : 0}`);
});
lines.on("close", () => process.exit(0));
