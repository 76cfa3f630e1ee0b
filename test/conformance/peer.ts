/**
 * A server as a process of its own: prints the addresses of its echo service, of its framed pipes
 * and of its echo service on IPv6, and serves until it is killed, or the line `stop` comes on its
 * standard input: then it closes everything and must end by itself. `collect N` has it collect its
 * garbage and answer `collected N`. It outlives its parent not long.
 */
import process from "node:process";
import { createInterface } from "node:readline";
import { echoServer, framedServer, quicUnderTest } from "./world.ts";

const transport = await quicUnderTest();
const options = { idleTimeoutMs: 30_000, keepAliveMs: 0, maxPipes: 1_000 };
const listeners = [
  await echoServer(transport, "quic://127.0.0.1:0", options),
  await framedServer(transport, "quic://127.0.0.1:0", options),
  await echoServer(transport, "quic://[::1]:0", options),
];
console.log(`listening ${listeners.map((listener) => listener.address).join(" ")}`);
// It also keeps the process alive, since a listener's own handle does not count on every runtime.
process.stdin.resume();
process.stdin.once("end", () => setTimeout(() => process.exit(1), 1_000));
const lines = createInterface({ input: process.stdin });
await new Promise<void>((resolve) =>
  lines.on("line", (line) => {
    if (line === "stop") return resolve();
    collectGarbage();
    console.log(line.replace("collect", "collected"));
  })
);
lines.close();
process.stdin.destroy();
for (const listener of listeners) await listener.close();
console.log("all closed");

function collectGarbage(): void {
  const { Bun, gc } = globalThis as { Bun?: { gc(force: boolean): void }; gc?: () => void };
  if (Bun === undefined) gc?.();
  else Bun.gc(true);
}
