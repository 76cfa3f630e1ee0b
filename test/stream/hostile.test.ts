/** Members that have proved who they are and then break the rules of streams. */
import assert from "node:assert/strict";
import { createNode } from "../../mod.ts";
import type { TaggedStream } from "../../mod.ts";
import { realClock } from "../../src/base/real.ts";
import { seededRandom } from "../../src/base/random.ts";
import { layFoundation, makeWorld } from "../../src/node/foundation.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import type { CloseInfo, Pipe } from "../../src/transport/contract.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { test, waitFor } from "../harness.ts";
import { readAll } from "./cluster.ts";

const utf8 = (text: string) => new TextEncoder().encode(text);

function frame(type: number, body: Uint8Array = new Uint8Array(0)): Uint8Array {
  const length = body.length + 1;
  const head = length < 0x80
    ? [length]
    : length < 0x4000
    ? [(length & 0x7f) | 0x80, length >> 7]
    : [(length & 0x7f) | 0x80, ((length >> 7) & 0x7f) | 0x80, length >> 14];
  return Uint8Array.of(...head, type, ...body);
}

const preamble = (tag: Uint8Array) => frame(FrameType.PREAMBLE, Uint8Array.of(2, ...tag));

/** A node that accepts "test", and a member that writes whatever bytes it likes. */
async function world() {
  const network = createMemoryNetwork({ clock: realClock, random: seededRandom(5) });
  const node = await createNode({
    name: "node@mem",
    listen: ["mem://node"],
    transports: [network.host("node").transport],
  });
  const streams: TaggedStream[] = [];
  node.streams.accept("test", (stream) => void streams.push(stream));
  const options = {
    name: "liar@mem",
    listen: [],
    transports: [network.host("liar").transport],
  };
  const liarWorld = await makeWorld(options);
  const liar = await layFoundation(options, liarWorld);
  const refused = (reason: string) => {
    const counts = node.metrics.snapshot();
    return (counts[`barrel_streams_refused_total{reason="${reason}"}`] ?? 0) +
      (counts[`barrel_frames_refused_total{reason="${reason}"}`] ?? 0);
  };
  return {
    node,
    streams,
    refused,
    /** A link that is up, with pipes to write on. */
    async connect() {
      const { connection, control } = await liar.connector.dial("mem://node");
      control.resume();
      connection.onPipe = (pipe) => void (pipe.onData = () => {});
      const data = await connection.openPipe("bidirectional");
      data.onData = () => {};
      data.write(frame(FrameType.PREAMBLE, Uint8Array.of(1, 0, 1)));
      await waitFor(() => node.links.list().length === 1, { what: "the link" });
      let closed: CloseInfo | undefined;
      void connection.closed.then((info) => (closed = info));
      return {
        connection,
        isClosed: () => closed !== undefined,
        async pipe(...writes: Uint8Array[]): Promise<{ pipe: Pipe; got: number[] }> {
          const pipe = await connection.openPipe("bidirectional");
          const got: number[] = [];
          pipe.onData = (chunk) => void got.push(...chunk);
          for (const bytes of writes) pipe.write(bytes);
          return { pipe, got };
        },
        async end() {
          connection.close(9, "done");
          await waitFor(() => node.links.list().length === 0, { what: "the end of the link" });
        },
      };
    },
    async close() {
      await liar.links.close();
      await liar.connector.close();
      liarWorld.clock.close();
      await node.close();
    },
  };
}

test("a preamble that is no preamble ends the link by name", async () => {
  const { connect, refused, close } = await world();
  const wrong = [
    preamble(new Uint8Array(0)),
    preamble(new Uint8Array(256).fill(97)),
    preamble(Uint8Array.of(0xff, 0xfe)),
    frame(FrameType.PREAMBLE, Uint8Array.of(3, 1)),
    frame(FrameType.PREAMBLE),
    frame(FrameType.DATA, utf8("no preamble at all")),
  ];
  for (const [index, bytes] of wrong.entries()) {
    const link = await connect();
    await link.pipe(bytes);
    await waitFor(link.isClosed, { what: `the end of link ${index}` });
    assert.equal(refused("bad_preamble"), index + 1);
    await link.end();
  }
  await close();
});

test("frames that do not belong on a stream end the link by name", async () => {
  const { connect, refused, streams, close } = await world();
  const wrong = [
    frame(FrameType.SEND, utf8("an actor's signal")),
    frame(FrameType.PING, Uint8Array.of(1)),
    frame(FrameType.STREAM_FINISH_ACK),
    frame(FrameType.DATA),
    frame(FrameType.END),
  ];
  for (const [index, bytes] of wrong.entries()) {
    const link = await connect();
    await link.pipe(preamble(utf8("test")), bytes);
    await waitFor(link.isClosed, { what: `the end of link ${index}` });
    assert.equal(refused("bad_stream_frame"), index + 1);
    await assert.rejects(readAll((streams.at(-1) as TaggedStream).readable), { reason: "lost" });
    await link.end();
  }
  const link = await connect();
  const fragment = Uint8Array.of(1, FrameType.DATA, 0x80, 0x80, 0x40, 1);
  await link.pipe(preamble(utf8("test")), frame(FrameType.FRAGMENT, fragment));
  await waitFor(link.isClosed, { what: "the end of the link" });
  assert.equal(refused("message_too_large"), 1, "a stream's frames come whole");
  await close();
});

test("a peer that ignores the credit ends the link by name", async () => {
  const { connect, refused, streams, close } = await world();
  const link = await connect();
  const { pipe } = await link.pipe(preamble(utf8("test")));
  const bytes = frame(FrameType.DATA, new Uint8Array(60_000));
  for (let i = 0; i < 40; i++) pipe.write(bytes.slice());
  await waitFor(link.isClosed, { what: "the end of the link" });
  assert.equal(refused("credit_exceeded"), 1);
  await assert.rejects(readAll((streams[0] as TaggedStream).readable), { reason: "lost" });
  await close();
});

test("of pipes without a preamble 64 wait, and further ones are refused and counted", async () => {
  const { connect, node, refused, close } = await world();
  const link = await connect();
  const half = preamble(utf8("test")).subarray(0, 3);
  for (let i = 0; i < 64; i++) await link.pipe(half);
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.equal(refused("too_many_pending"), 0);
  const over = await link.pipe(half);
  await waitFor(() => over.got[1] === FrameType.ABORT, { what: "the refusal" });
  assert.equal(refused("too_many_pending"), 1);
  assert.ok(!link.isClosed(), "the link goes on");
  assert.equal(node.links.list().length, 1);
  await link.end();
  await close();
});

test("of streams 256 are accepted from one peer, and further ones are refused and counted", async () => {
  const { connect, refused, streams, close } = await world();
  const link = await connect();
  for (let i = 1; i <= 256; i++) {
    await link.pipe(preamble(utf8("test")));
    // No more than may wait for their preambles.
    if (i % 32 === 0) await waitFor(() => streams.length === i, { what: `${i} streams` });
  }
  const over = await link.pipe(preamble(utf8("test")));
  await waitFor(() => over.got[1] === FrameType.ABORT, { what: "the refusal" });
  assert.equal(refused("too_many_streams"), 1);
  assert.equal(streams.length, 256);
  assert.ok(!link.isClosed());
  await link.end();
  await close();
});

test("a pipe that ends without END fails its stream alone", async () => {
  const { connect, node, streams, close } = await world();
  const link = await connect();
  const { pipe } = await link.pipe(preamble(utf8("test")), frame(FrameType.DATA, utf8("half")));
  await waitFor(() => streams.length === 1, { what: "the stream" });
  pipe.end();
  const reading = readAll((streams[0] as TaggedStream).readable);
  await assert.rejects(reading, { code: "stream", reason: "lost" });
  assert.deepEqual(node.streams.list(), []);
  assert.ok(!link.isClosed());
  await link.end();
  await close();
});

test("garbage on streams never does more than end the link", {
  timeoutMs: 60_000,
}, async () => {
  const { connect, node, streams, close } = await world();
  const random = seededRandom(99);
  const types = [
    FrameType.DATA,
    FrameType.CREDIT,
    FrameType.ABORT,
    FrameType.END,
    FrameType.STREAM_ACCEPTED,
    FrameType.STREAM_FINISH,
    FrameType.STREAM_FINISH_ACK,
    FrameType.STREAM_RESET,
    FrameType.STREAM_STOP,
  ];
  for (let round = 0; round < 200; round++) {
    const link = await connect();
    for (let i = 0; i < 3; i++) {
      const { pipe } = await link.pipe(preamble(utf8("test")));
      for (let n = 0; n < 6; n++) {
        const type = types[random.uint32() % types.length] as number;
        pipe.write(
          round % 4 === 0 ? random.bytes(50) : frame(type, random.bytes(random.uint32() % 9)),
        );
      }
      if (random.uint32() % 2 === 0) pipe.end();
    }
    for (const { readable, writable } of streams.splice(0)) {
      readable.getReader().read().catch(() => {});
      const writer = writable.getWriter();
      writer.closed.catch(() => {});
      writer.write(utf8("answer")).catch(() => {});
    }
    await new Promise((resolve) => setTimeout(resolve, 2));
    await link.end();
  }
  await waitFor(() => node.streams.list().length === 0, { what: "the end of all streams" });
  await close();
});
