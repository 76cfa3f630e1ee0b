/** Streams that nobody holds: collecting them sends FIN on Deno, which must not end a pipe. */
import assert from "node:assert/strict";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import type { Connection, Pipe } from "../../src/transport/contract.ts";
import { dial, echoServer, quicUnderTest } from "../conformance/world.ts";
import { runtime, test, waitFor } from "../harness.ts";

function collectGarbage(): void {
  if (runtime === "bun") {
    return (globalThis as unknown as { Bun: { gc(force: true): void } }).Bun.gc(true);
  }
  setFlagsFromString("--expose-gc");
  (runInNewContext("gc") as () => void)();
}

test("pipes that nobody holds stay open when garbage is collected", async () => {
  const transport = await quicUnderTest();
  const COUNT = 20;
  let ended = 0;
  const arrived: Pipe[] = [];
  const listener = await echoServer(transport, "quic://127.0.0.1:0", {
    onConnection(connection) {
      connection.onPipe = (pipe) => {
        arrived.push(pipe);
        pipe.onData = () => {};
        pipe.onEnd = () => void ended++;
      };
    },
  });
  const connection = await dial(transport, listener.address);
  await openAndForget(connection, COUNT);
  await waitFor(() => arrived.length === COUNT, { what: "the pipes" });
  for (let round = 0; round < 10; round++) {
    collectGarbage();
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  // A pipe opened later comes behind whatever the collector has sent.
  const last = await connection.openPipe("bidirectional");
  last.write(Uint8Array.of(1));
  await waitFor(() => arrived.length === COUNT + 1, { what: "the last pipe" });
  assert.equal(ended, 0);
  connection.close(1, "done");
  await listener.close();
});

async function openAndForget(connection: Connection, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const pipe = await connection.openPipe("bidirectional");
    pipe.write(Uint8Array.of(1));
  }
}
