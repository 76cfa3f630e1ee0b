/** Traps of the runtimes' QUIC that whole nodes must not fall into. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { createNode } from "../../mod.ts";
import { runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

// Two of three stacks drop what is unsent when a connection closes.
for (const other of RUNTIMES) {
  test(`a node on ${other} that closes delivers all that it has sent to one on ${runtime}`, {
    timeoutMs: 60_000,
  }, async () => {
    const node = await createNode({ name: "main@127.0.0.1", listen: ["quic://127.0.0.1:0"] });
    const numbers: number[] = [];
    const pid = node.spawn<{ number: number }>(async (self) => {
      for await (const message of self.mailbox) {
        if ("number" in message) numbers.push(message.number);
      }
    });
    await node.registry.register("counter", pid);
    const sender = startProgram(other, "test/node/parting_program.ts", [
      node.addresses[0] as string,
    ]);
    try {
      const [, sent] = await sender.line(/^sent (\d+)$/, 30_000);
      assert.equal(await sender.exited, 0);
      await waitFor(() => numbers.length === Number(sent), { what: "all that was sent" });
      assert.deepEqual(numbers, Array.from({ length: Number(sent) }, (_, index) => index));
    } finally {
      await node.close();
      await sender.kill();
    }
  });
}

test("Deno without its unstable network says what to do", {
  skip: runtime !== "node" && "run on Node",
}, async () => {
  const program = `import { quic } from ${
    JSON.stringify(`${root}adapters/quic/mod.ts`)
  }; await quic();`;
  const deno = promisify(execFile)(`${root}node_modules/.bin/deno`, [
    "eval",
    "--no-config",
    program,
  ]);
  await assert.rejects(deno, /add "unstable": \["net"\] to deno\.json, or run with --unstable-net/);
});
