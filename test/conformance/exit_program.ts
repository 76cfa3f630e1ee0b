/**
 * Uses a listener and connections, first one to a peer of another process when its address is
 * given, closes them, and must then end by itself.
 */
import process from "node:process";
import { collect, dial, echoServer, quicUnderTest } from "./world.ts";

const transport = await quicUnderTest();
const elsewhere = process.argv[2];
if (elsewhere !== undefined) {
  const connection = await dial(transport, elsewhere);
  const pipe = await connection.openPipe("bidirectional");
  const answer = collect(pipe);
  pipe.write(new TextEncoder().encode("hello"));
  pipe.end();
  await answer;
  connection.close(1, "done");
}
const listener = await echoServer(transport, "quic://127.0.0.1:0");
for (const via of [undefined, listener]) {
  // From its own port the listener would dial itself: a second one answers.
  const target = via === undefined ? listener : await echoServer(transport, "quic://127.0.0.1:0");
  const connection = await dial(transport, target.address, via === undefined ? {} : { via });
  const pipe = await connection.openPipe("bidirectional");
  const answer = collect(pipe);
  pipe.write(new TextEncoder().encode("hello"));
  pipe.end();
  const { bytes } = await answer;
  connection.close(1, "done");
  await connection.closed;
  if (target !== listener) await target.close();
  console.log(`answer ${new TextDecoder().decode(bytes)}`);
}
// One that is still open, and one that never came to be.
await dial(transport, listener.address);
await dial(transport, "quic://127.0.0.1:9", { timeoutMs: 500 }).catch(() => {});
await listener.close();
console.log("all closed");
