/** Commits numbered batches until it is killed, and says of each when it was acknowledged. */
import process from "node:process";
import { silentLogger } from "../../src/base/logger.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { sqliteStore } from "../../src/storage/sqlite.ts";

const path = process.argv[2] as string;
const store = await sqliteStore({ path, logger: silentLogger, meter: memoryMeter(), now: 0 });
const number = (bytes: Uint8Array | undefined) =>
  Number(new TextDecoder().decode(bytes ?? new Uint8Array()));
const [a, b] = [number(store.entries("a")[0]?.[1]), number(store.entries("b")[0]?.[1])];
process.stdout.write(`found ${a} ${b}\n`);
for (let i = a + 1;; i++) {
  const value = new TextEncoder().encode(String(i));
  await store.commit([{ table: "a", key: "n", value }, { table: "b", key: "n", value }]);
  process.stdout.write(`ack ${i}\n`);
  await new Promise((resolve) => setImmediate(resolve));
}
