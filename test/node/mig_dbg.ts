/** A node that echoes, and moves its link to `main@127.0.0.1` when it is told on standard input. */
import process from "node:process";
import { createInterface } from "node:readline";
import { createNode } from "../../mod.ts";
import type { Pid } from "../../mod.ts";

const node = await createNode({
  name: "echo@127.0.0.1",
  listen: ["quic://127.0.0.1:0"],
  contactNodes: [process.argv[2] as string],
});
node.membership.on((event) => console.log(`event ${event.type}`));
await node.joined({ timeoutMs: 20_000 });
const echo = node.spawn<{ from: Pid; number: number }>(async (self) => {
  for await (const message of self.mailbox) {
    const { from, number } = message as { from: Pid; number: number };
    await from.send(number);
  }
});
await node.registry.register("echo", echo);
console.log("ready");
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "stats") { console.log("STATS " + JSON.stringify(node.links.stats("main@127.0.0.1")) + JSON.stringify(Object.entries(node.metrics.snapshot()).filter(([k])=>/undeliv|link|dropped|migr|refus/.test(k))) + JSON.stringify(node.processes.list().map(p=>[String(p.pid),p.mailboxLength,p.status]))); } else if (line === "migrate") {
    await node.links.migrate("main@127.0.0.1").then(
      () => console.log("moved"),
      (error) => console.log(`failed ${error}`),
    );
  } else {
    await node.close();
    break;
  }
}
process.stdin.destroy();
