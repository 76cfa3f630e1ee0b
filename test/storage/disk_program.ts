/**
 * A node whose persistent map lies in a small file system, and one without a disk beside it, for
 * `disk.test.ts`: `disk_program.ts FOLDER`, and `full` where the map is to find no room at first.
 * Commands: `fill` and `free` the file system, `set <key> <value>` here,
 * `other <key> <value>` on the second node, `entries`, `names`, `restart`, `end`.
 */
import { closeSync, openSync, rmSync, writeSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import { createNode } from "../../mod.ts";
import { StorageError } from "../../src/base/errors.ts";
import type { Logger } from "../../src/base/logger.ts";

const [folder = "", how = ""] = process.argv.slice(2);
const filler = join(folder, "filler");
const say = (...words: unknown[]) => void process.stdout.write(`${words.join(" ")}\n`);
const logger: Logger = {
  log: (level, text) => level === "error" ? say("error", text) : undefined,
};

function fill(): void {
  const file = openSync(filler, "w");
  const page = new Uint8Array(4096);
  try {
    for (;;) writeSync(file, page);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOSPC") throw error;
  } finally {
    closeSync(file);
  }
}

const free = () => rmSync(filler);

async function start(isFull = false) {
  const node = await createNode({
    name: "a@127.0.0.1",
    listen: ["quic://127.0.0.1:0"],
    dataDir: join(folder, "data"),
    logger,
  });
  if (isFull) {
    fill();
    say("filled");
    await node.maps.open("config", { persist: true }).catch((error) => say(String(error)));
    free();
    say("freed");
  }
  return { node, map: await node.maps.open<string>("config", { persist: true }) };
}

let { node, map } = await start(how === "full");
const other = await createNode({
  name: "b@127.0.0.1",
  listen: ["quic://127.0.0.1:0"],
  contactNodes: [...node.addresses],
  logger,
});
await other.joined();
const copy = await other.maps.open<string>("config");

const commands: Record<string, (key: string, value: string) => unknown> = {
  fill,
  free,
  set: (key, value) => map.set(key, value),
  async other(key, value) {
    const arrived = Promise.withResolvers<void>();
    const off = map.on(() => map.get(key) === value && arrived.resolve());
    await copy.set(key, value);
    if (map.get(key) !== value) await arrived.promise;
    off();
  },
  entries: () => JSON.stringify(Object.fromEntries(map.entries())),
  async names() {
    const pid = node.spawn(async (self) => void await self.receive());
    await node.registry.register("service", pid);
    const found = await other.registry.whereis("service", { retries: 10 });
    await node.registry.unregister("service", pid);
    return found?.equals(pid);
  },
  async restart() {
    // Nobody is left who could tell it what its disk does not have.
    await other.close();
    await node.close();
    ({ node, map } = await start());
  },
};

say("ready");
for await (const line of createInterface({ input: process.stdin })) {
  const [command = "", key = "", value = ""] = line.split(" ");
  if (command === "end") break;
  try {
    say(line, "done", await commands[command]?.(key, value) ?? "");
  } catch (error) {
    if (!(error instanceof StorageError)) throw error;
    say(line, "refused", error.reason);
  }
}
await other.close();
await node.close();
process.exit(0);
