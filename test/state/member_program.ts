/**
 * A member whose state is compared: `member_program.ts OPTIONS`, the options as JSON. Reads commands
 * on standard input, `write PREFIX COUNT`, `delete PREFIX COUNT`, `hash`, `close`, and answers each with
 * a line of JSON.
 */
import { createHash } from "node:crypto";
import process from "node:process";
import { createInterface } from "node:readline";
import { createNode } from "../../mod.ts";
import type { NodeOptions } from "../../mod.ts";

const tell = (line: unknown) => process.stdout.write(`${JSON.stringify(line)}\n`);

const node = await createNode(JSON.parse(process.argv[2] ?? "{}") as NodeOptions);
const map = await node.maps.open<string>("state", { persist: true });
const idle = node.spawn(async (self) => {
  for await (const _ of self.mailbox);
});
tell({ type: "ready", address: node.addresses[0], entries: map.size });

async function write(prefix: string, count: number): Promise<void> {
  const writes: Promise<void>[] = [];
  for (let i = 0; i < count; i++) {
    writes.push(node.registry.register(`${prefix}${i}`, idle, { i }));
    writes.push(map.set(`${prefix}${i}`, `${node.name} ${node.epoch}`));
  }
  await Promise.all(writes);
}

async function remove(prefix: string, count: number): Promise<void> {
  const writes: Promise<unknown>[] = [];
  for (let i = 0; i < count; i++) {
    writes.push(node.registry.unregister(`${prefix}${i}`, idle), map.delete(`${prefix}${i}`));
  }
  await Promise.all(writes);
}

function hash(): { hash: string; names: number; entries: number; members: number } {
  const names = node.registry.names().flatMap((name) =>
    node.registry.lookup(name).map((one) => `${name} ${one.pid} ${one.pid.epoch}`)
  ).sort();
  const entries = [...map.entries()].map(([key, value]) => `${key}=${value}`).sort();
  const digest = createHash("sha256").update(names.join("\n")).update("\0")
    .update(entries.join("\n")).digest("hex");
  const members = node.membership.members().length;
  return { hash: digest, names: names.length, entries: entries.length, members };
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const [command, prefix = "", count = "0"] = line.split(" ");
  const done = () => tell({ type: "done", line });
  const failed = (error: unknown) => tell({ type: "failed", line, error: String(error) });
  if (command === "write") write(prefix, Number(count)).then(done, failed);
  else if (command === "delete") remove(prefix, Number(count)).then(done, failed);
  else if (command === "hash") tell({ type: "hash", id: prefix, ...hash() });
  else if (command === "close") void node.close().then(() => process.exit(0));
});
// The parent has gone.
lines.on("close", () => process.exit(0));
