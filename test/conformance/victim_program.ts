/** Has twenty connections to the echo service at the given address, and talks until it is killed. */
import process from "node:process";
import { dial, quicUnderTest } from "./world.ts";

const transport = await quicUnderTest();
const own = Array.from(
  { length: 20 },
  () => dial(transport, process.argv[2] ?? "", { idleTimeoutMs: 30_000, keepAliveMs: 1_000 }),
);
const talking = (await Promise.all(own)).map(async (connection) => {
  const pipe = await connection.openPipe("bidirectional");
  await new Promise<void>((resolve) => {
    pipe.onData = (chunk) => {
      resolve();
      setTimeout(() => pipe.write(chunk), 20);
    };
    pipe.write(new Uint8Array(10));
  });
});
await Promise.all(talking);
console.log("talking");
process.stdin.resume();
process.stdin.once("end", () => process.exit(1));
