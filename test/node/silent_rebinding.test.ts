/** A client whose address changes in a way that QUIC does not follow: the link is lost, and dialled anew. */
import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { Pid } from "../../mod.ts";
import { natPath, portOf } from "../adapters/udp.ts";
import { runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";

const SERVER = "server@127.0.0.1";

interface Server {
  add(a: number, b: number): Promise<number>;
  counter(): Promise<Pid>;
}

for (const other of RUNTIMES) {
  test(
    `a link from ${runtime} to ${other} that a NAT has cut is told as lost, and dialled anew`,
    { timeoutMs: 90_000 },
    async () => {
      const program = startProgram(other, "test/node/roaming_program.ts");
      const [, address = ""] = await program.line(/^ready (\S+)$/);
      const nat = await natPath(portOf(address));
      let isOver = false;
      const node = await createNode({
        name: "roamer@127.0.0.1",
        listen: [],
        liveness: { silenceMs: 3_000 },
      });
      try {
        node.links.setConnectOptions(SERVER, { address: `quic://127.0.0.1:${nat.port}` });
        await node.links.connect(SERVER);
        const server = node.rpc.client<Server>(SERVER, "server");
        const counter = await server.counter();
        const downs: unknown[] = [];
        const watch = () =>
          new Promise<void>((monitors) => {
            node.spawn(async (self) => {
              self.monitor(counter);
              monitors();
              for await (const message of self.mailbox) {
                downs.push((message as { reason?: unknown }).reason);
                return;
              }
            });
          });
        let calls = 0, failed = 0;
        const calling = (async () => {
          for (; !isOver;) {
            await server.add(calls, 1).then(() => calls++, () => failed++);
            await new Promise((resolve) => setTimeout(resolve, 5));
          }
        })();
        const goesOn = async () => {
          const before = calls;
          await waitFor(() => calls > before + 20, { what: "calls", deadlineMs: 30_000 });
        };
        await goesOn();

        // As a NAT does that forgets: whether QUIC follows is the stacks' affair, the calls go on.
        await watch();
        await nat.rebind();
        await goesOn();
        assert.ok(downs.every((reason) => reason === "noconnection"), String(downs));

        // Nothing gets through until the link has been given up.
        const told = downs.length;
        if (told > 0) await watch();
        nat.takesClients = false;
        await nat.rebind();
        await waitFor(() => downs.length > told, { what: "the monitor", deadlineMs: 30_000 });
        nat.takesClients = true;
        await goesOn();
        assert.ok(downs.every((reason) => reason === "noconnection"), String(downs));
        assert.ok(failed > 0, "calls on the link that was lost have failed");
        assert.equal(node.links.list().length, 1);
        isOver = true;
        await calling;
      } finally {
        isOver = true;
        await node.close();
        await nat.close();
        await program.kill();
      }
    },
  );
}
