import assert from "node:assert/strict";
import { decodeHex, encodeHex } from "@std/encoding/hex";
import { createNode, HandshakeError } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";
import { quicUnderTest } from "../conformance/world.ts";
import { runtime, test, waitFor } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import { startRelay } from "./relay.ts";

const PROGRAM = "test/node/relay_program.ts";
const OTHER = "other@127.0.0.1";
const HERE = "here@127.0.0.1";

const startHere = async (options: Partial<NodeOptions> = {}) => {
  const lines: string[] = [];
  const node = await createNode({
    name: HERE,
    listen: ["quic://127.0.0.1:0"],
    logger: { log: (level, message) => void lines.push(`${level} ${message}`) },
    ...options,
  });
  return { node, lines };
};

const refusals = (node: Node) =>
  Object.keys(node.metrics.snapshot()).filter((name) => name.includes("handshake_refused"));

const accepted = (node: Node) =>
  Object.keys(node.metrics.snapshot()).filter((name) => name.includes("handshake_accepted"));

// Bun tells the end of a session that was destroyed a moment later, and does not bear that when the
// test file is over by then.
const settle = () =>
  runtime === "bun" ? new Promise((resolve) => setTimeout(resolve, 1_000)) : Promise.resolve();

for (const other of RUNTIMES) {
  test(
    `a ${runtime} client in front of a relay to a ${other} server refuses by the channel binding`,
    { timeoutMs: 60_000 },
    async () => {
      const server = startProgram(other, PROGRAM);
      const [, target = ""] = await server.line(/^listening (\S+) /);
      const relay = await startRelay(await quicUnderTest(), target);
      const { node, lines } = await startHere({ contactNodes: [relay.address] });
      try {
        await waitFor(() => refusals(node).some((name) => name.includes("channel_binding")), {
          what: "the refusal",
        });
        assert.ok(refusals(node).every((name) => /by="local",reason="channel_binding"/.test(name)));
        assert.ok(lines.some((line) => /^warn refused .*channel_binding.*in between/.test(line)));
        // The server did answer, over the relay: nothing but the binding was wrong.
        assert.ok(relay.passed.back > 64 + 32, `${relay.passed.back} bytes came back`);
        assert.deepEqual([node.links.list(), node.trust.list(), accepted(node)], [[], [], []]);
        await server.line(/^links 0 pins 0/);
        if (runtime !== "deno") await server.line(/^warn .*refused this node: channel_binding/);
      } finally {
        await node.close();
        await relay.close();
        await server.kill("SIGKILL");
        await settle();
      }
    },
  );

  test(
    `a ${runtime} client that has pinned a ${other} server refuses the relay by the channel binding`,
    { timeoutMs: 60_000 },
    async () => {
      const server = startProgram(other, PROGRAM);
      const [, target = "", key = ""] = await server.line(/^listening (\S+) (\w+)/);
      const relay = await startRelay(await quicUnderTest(), target);
      const { node } = await startHere();
      try {
        await node.trust.pin(OTHER, decodeHex(key));
        node.links.setConnectOptions(OTHER, { address: relay.address });
        await assert.rejects(
          node.links.connect(OTHER),
          (error) => error instanceof HandshakeError && error.reason === "channel_binding",
        );
        assert.deepEqual(node.links.list(), []);
        assert.deepEqual(accepted(node), []);
        // The way without the relay is as good as ever.
        node.links.setConnectOptions(OTHER, { address: target });
        await node.links.connect(OTHER);
        assert.equal(node.links.list().length, 1);
      } finally {
        await node.close();
        await relay.close();
        await server.kill("SIGKILL");
        await settle();
      }
    },
  );

  test(
    `a ${runtime} server behind a relay from a ${other} client never takes it for the client`,
    { timeoutMs: 60_000 },
    async () => {
      const { node } = await startHere();
      const relay = await startRelay(await quicUnderTest(), node.addresses[0] as string);
      const stranger = startProgram(other, PROGRAM, [relay.address]);
      const pinned = startProgram(other, PROGRAM, [
        relay.address,
        HERE,
        encodeHex(node.publicKey),
      ]);
      try {
        await stranger.line(/^warn refused .*channel_binding.*in between/);
        await stranger.line(/^metric .*refused_total.*by="local",reason="channel_binding"/);
        await pinned.line(/^failed .*channel_binding/);
        assert.ok(relay.passed.back > 64 + 32, `${relay.passed.back} bytes came back`);
        assert.deepEqual([node.links.list(), node.trust.list(), accepted(node)], [[], [], []]);
        // Deno's first contact ends before it has a channel to speak of.
        if (other !== "deno") {
          assert.ok(refusals(node).some((name) => /by="peer",reason="channel_binding"/.test(name)));
        }
      } finally {
        await node.close();
        await relay.close();
        await Promise.all([stranger.kill("SIGKILL"), pinned.kill("SIGKILL")]);
        await settle();
      }
    },
  );
}
