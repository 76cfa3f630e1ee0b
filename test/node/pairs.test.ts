import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createNode } from "../../mod.ts";
import { runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";

for (const other of RUNTIMES) {
  test(`a node on ${runtime} and one on ${other} authenticate, whoever dials`, {
    timeoutMs: 60_000,
  }, async () => {
    const folder = await mkdtemp(join(tmpdir(), "barrel pairs "));
    // The child listens, and we dial.
    const seed = startProgram(other, "examples/demo/node.ts", [
      "seed@127.0.0.1",
      "seed",
      join(folder, "seed"),
    ]);
    const [, address = "", print = ""] = await seed.line(
      /"address":"([^"]+)","fingerprint":"([0-9a-f]+)"/,
    );
    const node = await createNode({
      name: "here@127.0.0.1",
      listen: ["quic://127.0.0.1:0"],
      contactNodes: [address],
      dataDir: join(folder, "here"),
      cluster: "demo",
    });
    // We listen, and this child dials.
    const dialler = startProgram(other, "examples/demo/node.ts", [
      "dialler@127.0.0.1",
      "node",
      join(folder, "dialler"),
      node.addresses[0] as string,
    ]);
    try {
      await node.joined({ timeoutMs: 20_000 });
      await dialler.line(/"event":"joined"/);
      await waitFor(() => node.membership.members().length === 3, { what: "three members" });
      const pins = node.trust.list();
      assert.deepEqual(pins.map((pin) => pin.node), ["dialler@127.0.0.1", "seed@127.0.0.1"]);
      assert.ok(pins.every((pin) => pin.durable));
      assert.match(print, /^[0-9a-f]{64}$/);
      const refused = Object.keys(node.metrics.snapshot())
        .filter((name) => name.includes("refused"));
      assert.deepEqual(refused, []);
    } finally {
      await node.close();
      await Promise.all([seed.kill(), dialler.kill()]);
      await rm(folder, { recursive: true, force: true });
    }
  });
}
