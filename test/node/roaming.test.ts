/** Nodes that move their links while they work, behind a NAT. A NAT that rebinds: `silent_rebinding`. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { createNode } from "../../mod.ts";
import type { Pid } from "../../mod.ts";
import { natPath, portOf } from "../adapters/udp.ts";
import { runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import { readAll } from "../stream/cluster.ts";

const SERVER = "server@127.0.0.1";

interface Server {
  add(a: number, b: number): Promise<number>;
  counter(): Promise<Pid>;
  counted(): Promise<number | string>;
}

for (const other of RUNTIMES) {
  test(
    `calls, messages and a stream from ${runtime} to ${other} go on while the address changes`,
    { timeoutMs: 180_000 },
    async () => {
      const program = startProgram(other, "test/node/roaming_program.ts");
      const [, address = ""] = await program.line(/^ready (\S+)$/);
      const nat = await natPath(portOf(address));
      let isOver = false;
      const node = await createNode({ name: "roamer@127.0.0.1", listen: [] });
      try {
        node.links.setConnectOptions(SERVER, { address: `quic://127.0.0.1:${nat.port}` });
        await node.links.connect(SERVER);
        const server = node.rpc.client<Server>(SERVER, "server");
        const counter = await server.counter();
        let downs = 0;
        node.spawn(async (self) => {
          self.monitor(counter);
          for await (const _down of self.mailbox) downs++;
        });

        let calls = 0, sent = 0, written = 0;
        const pause = () => new Promise((resolve) => setTimeout(resolve, 2));
        const calling = (async () => {
          for (; !isOver; calls++) assert.equal(await server.add(calls, 1), calls + 1);
        })();
        const sending = (async () => {
          for (; !isOver; await pause()) {
            for (let i = 0; i < 5; i++) await counter.send(sent++);
          }
        })();
        const stream = await node.streams.open("digest", SERVER);
        const hash = createHash("sha256");
        const writing = (async () => {
          const writer = stream.writable.getWriter();
          for (; !isOver; await pause()) {
            const chunk = new Uint8Array(20_000).fill(written % 251);
            hash.update(chunk);
            await writer.write(chunk);
            written += chunk.length;
          }
          await writer.close();
        })();
        const work = Promise.all([calling, sending, writing]);
        // Told where it is awaited.
        work.catch(() => {});
        const goesOn = async () => {
          const before = { calls, sent, written };
          await waitFor(
            () =>
              calls > before.calls + 20 && sent > before.sent + 50 &&
              written > before.written + 300_000,
            { what: "calls, messages and bytes", deadlineMs: 40_000 },
          );
        };

        await goesOn();
        for (let move = 0; move < 2; move++) {
          await node.links.migrate(SERVER, { timeoutMs: 15_000 });
          await goesOn();
        }
        // More than a connection over quiche can make: then another one takes over.
        for (let move = 0; move < 7; move++) {
          await node.links.migrate(SERVER, { timeoutMs: 6_000 });
        }
        await goesOn();
        isOver = true;
        await work;
        const digest = new TextDecoder().decode(await readAll(stream.readable));
        assert.equal(digest, `${hash.digest("hex")} ${written}`);
        await waitFor(async () => await server.counted() === sent, { what: "all messages" })
          .catch(async (error: Error) => {
            assert.fail(`${error.message}: ${await server.counted()} of ${sent}`);
          });
        assert.equal(downs, 0);
        assert.equal(node.links.list().length, 1);
      } finally {
        isOver = true;
        await node.close();
        await nat.close();
        await program.kill();
      }
    },
  );
}
