/** An echo server as a process of its own: prints its address, serves until it is killed. */
import { echoServer, quicUnderTest } from "./world.ts";

const listener = await echoServer(await quicUnderTest(), process.argv[2] ?? "quic://127.0.0.1:0", {
  idleTimeoutMs: 3_000,
  keepAliveMs: 500,
});
console.log(`listening ${listener.address}`);
// Kept alive by this, since the listener's own handle does not count on every runtime.
setInterval(() => {}, 60_000);
