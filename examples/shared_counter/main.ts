/**
 * A counter that any node adds to at any time and that loses nothing: each node keeps what it
 * added itself, and the sum is the merge. A map could not do it: of two nodes that add at once the
 * last writer would win, and an addition be lost.
 */
import { createNode } from "../../mod.ts";
import type { Merged, Node } from "../../mod.ts";
import { commands, readOptions } from "../arguments.ts";

const HELP = `Three nodes add to one counter at the same time, and nothing is lost.

${commands("shared_counter/main.ts", "").trimEnd()}

  --help   this text
`;
readOptions(HELP, {});

async function start(name: string, contactNodes: readonly string[]): Promise<Node> {
  return await createNode({ name, listen: ["quic://127.0.0.1:0"], contactNodes });
}

/** Opens the counter, which each node does. */
async function openCounter(node: Node): Promise<Merged<number, number>> {
  return await node.replicas.create<number, number>({
    name: "visits",
    schema: (value) => Number.isSafeInteger(value),
    merge: (rows) => rows.reduce((sum, { value }) => sum + value, 0),
  });
}

async function add(counter: Merged<number, number>, key: string, by: number): Promise<void> {
  await counter.put(key, (counter.own(key) ?? 0) + by);
}

const a = await start("a@127.0.0.1", []);
const b = await start("b@127.0.0.1", a.addresses);
const c = await start("c@127.0.0.1", a.addresses);
await Promise.all([b.joined(), c.joined()]);

const counters = await Promise.all([a, b, c].map(openCounter));
const [onA] = counters as [Merged<number, number>];
const complete = new Promise<void>((resolve) => {
  onA.on(({ key, value }) => {
    if (key === "home" && value === 60) resolve();
  });
});
// All at once, ten times each: 10 × (1 + 2 + 3).
await Promise.all(counters.map(async (counter, i) => {
  for (let n = 0; n < 10; n++) await add(counter, "home", i + 1);
}));
await complete;
console.log(`home was visited ${onA.get("home")} times`);
for (const { isOwn, value } of onA.rows("home")) console.log(isOwn ? "here" : "elsewhere", value);

for (const node of [c, b, a]) await node.close();
