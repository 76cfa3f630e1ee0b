/**
 * A member of a cluster under test: `member_program.ts OPTIONS`, the options as JSON. It reports each
 * transition in a line of JSON with the wall-clock time, and answers `status` on standard input.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { createNode } from "../../mod.ts";
import type { NodeOptions } from "../../mod.ts";

const tell = (line: unknown) => process.stdout.write(`${JSON.stringify(line)}\n`);
const now = () => performance.timeOrigin + performance.now();

const node = await createNode(JSON.parse(process.argv[2] ?? "{}") as NodeOptions);
node.membership.on((event) => tell({ ...event, at: now() }));
tell({ type: "ready", address: node.addresses[0], epoch: node.epoch });

const status = () => {
  const links = node.links.list();
  const stats = links.flatMap((link) => node.links.stats(link.node) ?? []);
  const snapshot = Object.entries(node.metrics.snapshot());
  return {
    type: "status",
    members: Object.fromEntries(node.membership.members().map((one) => [one.name, one.status])),
    active: node.membership.activeView(),
    links: links.length,
    bytesSent: stats.reduce((sum, link) => sum + link.bytesSent, 0),
    messagesSent: snapshot.reduce(
      (sum, [name, value]) => (/_sent_total/.test(name) ? sum + value : sum),
      0,
    ),
    rss: process.memoryUsage().rss,
    at: now(),
  };
};

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  if (line === "status") tell(status());
  else if (line === "close") void node.close().then(() => process.exit(0));
});
// The parent has gone.
lines.on("close", () => process.exit(0));
