/**
 * A node that changes its persistent map until it is killed, two keys at a time, and says of each
 * change when it was acknowledged: `kill_program.ts FOLDER`. What the map must be after each is in
 * `kill_story.ts`.
 */
import process from "node:process";
import { createNode } from "../../mod.ts";
import { memory } from "../../src/transport/memory.ts";
import { changeOf, LAST } from "./kill_story.ts";

const node = await createNode({
  name: "killed@127.0.0.1",
  listen: ["mem://killed:0"],
  transports: [memory()],
  dataDir: process.argv[2] as string,
  logger: {
    log: (level, text) => level === "error" ? process.stdout.write(`error ${text}\n`) : undefined,
  },
});
const map = await node.maps.open<number>("m", { persist: true });
process.stdout.write(`found ${JSON.stringify([...map.entries()])}\n`);
for (let i = (map.get(LAST) ?? 0) + 1;; i++) {
  const { key, isDeleted } = changeOf(i);
  // Of one turn, and so one batch.
  await Promise.all([isDeleted ? map.delete(key) : map.set(key, i), map.set(LAST, i)]);
  process.stdout.write(`ack ${i}\n`);
}
