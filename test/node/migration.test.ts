import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { Pid } from "../../mod.ts";
import { runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";

for (const other of RUNTIMES) {
  test(
    `a link between ${runtime} and ${other} moves under way, and no message is lost or overtaken`,
    {
      timeoutMs: 90_000,
    },
    async () => {
      const node = await createNode({
        name: "main@127.0.0.1",
        listen: ["quic://127.0.0.1:0"],
      });
      const events: string[] = [];
      node.membership.on((event) => events.push(event.type));
      const peer = startProgram(other, "test/node/migration_program.ts", [
        node.addresses[0] as string,
      ]);
      try {
        await peer.line(/^ready$/, 30_000);
        await waitFor(() => node.registry.lookup("echo").length === 1, { what: "the echo" });
        const echo = (await node.registry.whereis("echo")) as Pid;
        const back: number[] = [];
        let downs = 0;
        let sent = 0, isOver = false;
        const sender = node.spawn(async (self) => {
          const ref = self.monitor(echo);
          for await (const message of self.mailbox) {
            if (typeof message === "number") back.push(message);
            else if ((message as { ref?: unknown }).ref !== undefined) downs++;
            if (isOver && back.length === sent) return void self.demonitor(ref, { flush: true });
          }
        });
        let isSending = true;
        const sending = (async () => {
          while (isSending) {
            // A slow echo must not fall behind for minutes.
            const isBehind = sent - back.length > 2_000;
            for (let burst = 0; burst < 20 && !isBehind; burst++) {
              await echo.send({ from: sender, number: sent++, payload: new Uint8Array(300) });
            }
            await new Promise((resolve) => setTimeout(resolve, 1));
          }
        })();
        for (let round = 0; round < 3; round++) {
          await waitFor(() => back.length > 50 * (round + 1), { what: "echoes" });
          await node.links.migrate("echo@127.0.0.1", { timeoutMs: 20_000 });
          peer.say("migrate");
        }
        await waitFor(
          () => peer.output.filter((line) => /^moved|^failed/.test(line)).length === 3,
          { what: "the peer's moves" },
        );
        assert.deepEqual(peer.output.filter((line) => line.startsWith("failed")), []);
        isSending = false;
        await sending;
        isOver = true;
        await waitFor(() => back.length === sent, { what: "all echoes", deadlineMs: 40_000 });
        assert.deepEqual(back, Array.from({ length: sent }, (_, index) => index));
        assert.equal(downs, 0);
        const gone = /peerDown|nodeUnreachable|nodeDown/;
        assert.deepEqual(events.filter((type) => gone.test(type)), []);
        assert.deepEqual(peer.output.filter((line) => gone.test(line)), []);
      } finally {
        await node.close();
        await peer.kill();
      }
    },
  );
}
