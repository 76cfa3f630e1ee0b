/** Streams between processes, over real QUIC. `npm run soak:streams` sends a GiB each. */
import assert from "node:assert/strict";
import process from "node:process";
import { createHash } from "node:crypto";
import { createNode, StreamError } from "../../mod.ts";
import { runtime, test } from "../harness.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import { readAll } from "./cluster.ts";
import { digestOf, noise } from "./noise.ts";

const MIB = 2 ** 20;
const SERVER = "server@127.0.0.1";
const text = async (readable: ReadableStream<Uint8Array>) =>
  new TextDecoder().decode(await readAll(readable));

for (const other of RUNTIMES) {
  test(`streams carry bytes whole both ways between ${runtime} and ${other}`, {
    timeoutMs: 120_000,
  }, async () => {
    const peer = startProgram(other, "test/stream/stream_program.ts");
    const [, address = ""] = await peer.line(/^ready (\S+)$/);
    const node = await createNode({ name: "here@127.0.0.1", listen: [], contactNodes: [address] });
    try {
      await node.joined({ timeoutMs: 20_000 });
      const up = await node.streams.open("digest", SERVER);
      const hash = createHash("sha256");
      await noise(16 * MIB, (chunk) => hash.update(chunk)).pipeTo(up.writable);
      assert.equal(await text(up.readable), `${hash.digest("hex")} ${16 * MIB}`);

      const echo = await node.streams.open("echo", SERVER);
      const sent = createHash("sha256");
      const [back] = await Promise.all([
        digestOf(echo.readable),
        noise(4 * MIB, (chunk) => sent.update(chunk)).pipeTo(echo.writable),
      ]);
      assert.equal(back, `${sent.digest("hex")} ${4 * MIB}`);

      const is = (reason: string, message: RegExp) => (error: unknown) =>
        error instanceof StreamError && error.reason === reason && message.test(error.message);
      await assert.rejects(node.streams.open("nobody", SERVER), is("no_acceptor", /nobody/));
      const failing = await node.streams.open("fail", SERVER);
      await assert.rejects(readAll(failing.readable), is("acceptor_failed", /not today/));
      const aborted = await node.streams.open("echo", SERVER);
      await aborted.writable.abort("changed my mind");
      await assert.rejects(readAll(aborted.readable), is("aborted", /changed my mind/));

      const lost = await node.streams.open("echo", SERVER);
      await peer.kill("SIGKILL");
      // Some runtimes stand behind a starter, and see its death as the end of their input.
      await assert.rejects(readAll(lost.readable), (error) => {
        return error instanceof StreamError && /^(lost|closing)$/.test(error.reason);
      });
    } finally {
      await node.close();
      await peer.kill();
    }
  });

  test(`a stalled reader on ${other} stops the writer on ${runtime}, and memory stays bounded`, {
    timeoutMs: 120_000,
  }, async () => {
    const peer = startProgram(other, "test/stream/stream_program.ts");
    const [, address = ""] = await peer.line(/^ready (\S+)$/);
    const node = await createNode({ name: "here@127.0.0.1", listen: [], contactNodes: [address] });
    const rssOfPeer = async () => {
      const seen = peer.output.length;
      peer.say("rss");
      for (;;) {
        const line = peer.output.slice(seen).find((one) => one.startsWith("rss "));
        if (line !== undefined) return Number(line.slice(4));
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    };
    try {
      await node.joined({ timeoutMs: 20_000 });
      // The just-in-time compilers and the buffers of the stacks come first.
      const warm = await node.streams.open("digest", SERVER);
      await noise(8 * MIB).pipeTo(warm.writable);
      const stream = await node.streams.open("slow", SERVER);
      const before = { here: process.memoryUsage().rss, there: await rssOfPeer() };
      let taken = 0;
      const hash = createHash("sha256");
      const writing = noise(64 * MIB, (chunk) => {
        taken += chunk.length;
        hash.update(chunk);
      }).pipeTo(stream.writable);
      let seen = -1;
      while (seen !== taken) {
        seen = taken;
        await new Promise((resolve) => setTimeout(resolve, 500));
      }
      assert.ok(taken < 4 * MIB, `${taken} bytes were taken from the source`);
      const here = process.memoryUsage().rss - before.here;
      const there = await rssOfPeer() - before.there;
      assert.ok(here < 32 * MIB, `${here} bytes more at the writer`);
      assert.ok(there < 32 * MIB, `${there} bytes more at the reader`);
      peer.say("read");
      await writing;
      assert.equal(await text(stream.readable), `${hash.digest("hex")} ${64 * MIB}`);
    } finally {
      await node.close();
      await peer.kill();
    }
  });
}
