import assert from "node:assert/strict";
import { ConflictError, NoProcessError, StreamError } from "../../mod.ts";
import type { TaggedStream } from "../../mod.ts";
import { STREAM_WINDOW } from "../../src/link/stream_pipes.ts";
import { test, waitFor } from "../harness.ts";
import { cluster, pattern, readAll } from "./cluster.ts";

const isStreamError = (reason: string, message = /./) => (error: unknown) => {
  assert.ok(error instanceof StreamError, `a StreamError, not ${error}`);
  assert.equal(error.reason, reason, error.message);
  assert.equal(error.code, "stream");
  assert.match(error.message, message);
  return true;
};

/** Two nodes and one stream between them; `a` opened it. */
async function pair() {
  const { a, b, close } = await cluster(2);
  const accepted = Promise.withResolvers<TaggedStream>();
  b.streams.accept("test", (stream) => accepted.resolve(stream));
  const ours = await a.streams.open("test", b.name);
  return { a, b, ours, theirs: await accepted.promise, close };
}

test("bytes go both ways through a stream, in order, whatever the sizes of the chunks", async () => {
  const { a, b, ours, theirs, close } = await pair();
  assert.deepEqual([ours.peer, ours.tag, theirs.peer, theirs.tag], [
    b.name,
    "test",
    a.name,
    "test",
  ]);
  const question = pattern(3_000_000), answer = pattern(200_000, 5);
  const write = async (stream: TaggedStream, bytes: Uint8Array, size: number) => {
    const writer = stream.writable.getWriter();
    for (let at = 0; at < bytes.length; at += size) {
      await writer.write(bytes.subarray(at, at + size));
    }
    await writer.close();
  };
  const [got, returned] = await Promise.all([
    readAll(theirs.readable),
    readAll(ours.readable),
    write(ours, question, 777_777),
    write(theirs, answer, 100),
  ]);
  assert.deepEqual(got, question);
  assert.deepEqual(returned, answer);
  await waitFor(() => a.streams.list().length + b.streams.list().length === 0, { what: "the end" });
  assert.equal(a.links.list()[0]?.streams, 0);
  await close();
});

test("one direction ends while the other goes on", async () => {
  const { ours, theirs, close } = await pair();
  await ours.writable.close();
  assert.equal((await theirs.readable.getReader().read()).done, true);
  const writer = theirs.writable.getWriter();
  const bytes = pattern(4_000_000);
  const got = readAll(ours.readable);
  await writer.write(bytes);
  await writer.close();
  assert.deepEqual(await got, bytes, "credit still flows behind our end");
  await close();
});

test("a close is done when the peer has everything, even if it reads later and the link is gone", async () => {
  const { a, ours, theirs, close } = await pair();
  const writer = ours.writable.getWriter();
  const bytes = pattern(500_000);
  await writer.write(bytes);
  await writer.close();
  await a.close();
  assert.deepEqual(await readAll(theirs.readable), bytes);
  await assert.rejects(theirs.writable.getWriter().closed, isStreamError("closing"));
  await close();
});

test("a reader that does not read makes the writer wait, and memory stays within the credit", async () => {
  const { ours, theirs, close } = await pair();
  const writer = ours.writable.getWriter();
  const chunk = pattern(64 * 1024);
  let written = 0;
  const writing = (async () => {
    for (let i = 0; i < 100; i++) {
      await writer.write(chunk);
      written++;
    }
    await writer.close();
  })();
  await waitFor(() => written >= 10, { what: "the first writes" });
  await new Promise((resolve) => setTimeout(resolve, 50));
  const limit = STREAM_WINDOW / chunk.length;
  assert.ok(written <= limit, `${written} writes of 64 KiB passed, of ${limit} in the window`);
  const reader = theirs.readable.getReader();
  let bytes = (await reader.read()).value?.length ?? 0;
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(written <= limit, "one read grants no more than it took");
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.length;
  }
  await writing;
  assert.equal(bytes, 100 * chunk.length);
  await close();
});

test("an aborted writer fails the peer's reader with the reason, and nothing else", async () => {
  const { ours, theirs, close } = await pair();
  const writer = ours.writable.getWriter();
  // It waits for credit: the abort must not.
  const stuck = writer.write(pattern(3_000_000));
  const reader = theirs.readable.getReader();
  await reader.read();
  const aborted = writer.abort(new Error("the disk is full"));
  await assert.rejects(stuck, /the disk is full/);
  await aborted;
  await assert.rejects(
    async () => {
      for (;;) await reader.read();
    },
    isStreamError("aborted", /the disk is full/),
  );
  const answer = readAll(ours.readable);
  const other = theirs.writable.getWriter();
  await other.write(pattern(10));
  await other.close();
  assert.equal((await answer).length, 10);
  await close();
});

test("a cancelled reader fails the peer's writer with the reason, and nothing else", async () => {
  const { ours, theirs, close } = await pair();
  const writer = ours.writable.getWriter();
  const stuck = writer.write(pattern(3_000_000));
  await theirs.readable.cancel("enough");
  await assert.rejects(stuck, isStreamError("stopped", /enough/));
  await assert.rejects(writer.closed, isStreamError("stopped", /enough/));
  const answer = readAll(ours.readable);
  const other = theirs.writable.getWriter();
  await other.write(pattern(10));
  await other.close();
  assert.equal((await answer).length, 10);
  await close();
});

test("pipeTo and pipeThrough carry bytes, ends and errors", async () => {
  const { a, b, close } = await cluster(2);
  b.streams.accept("upper", async ({ readable, writable }) => {
    await readable
      .pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)
      .pipeThrough(
        new TransformStream<string, string>({
          transform: (text, controller) => controller.enqueue(text.toUpperCase()),
        }),
      )
      .pipeThrough(new TextEncoderStream())
      .pipeTo(writable);
  });
  const stream = await a.streams.open("upper", b.name);
  const text = "hello Zoë ".repeat(10_000);
  const [answer] = await Promise.all([
    readAll(stream.readable),
    new Blob([text]).stream().pipeTo(stream.writable),
  ]);
  assert.equal(new TextDecoder().decode(answer), text.toUpperCase());

  const broken = await a.streams.open("upper", b.name);
  const source = new ReadableStream<Uint8Array>({
    pull(controller) {
      controller.error(new Error("the source broke"));
    },
  });
  await assert.rejects(source.pipeTo(broken.writable), /the source broke/);
  await assert.rejects(readAll(broken.readable), isStreamError("aborted", /the source broke/));
  await close();
});

test("nobody accepts: the opener is told so by name, and it is counted", async () => {
  const { a, b, close } = await cluster(2);
  await assert.rejects(a.streams.open("nobody", b.name), isStreamError("no_acceptor", /nobody/));
  const end = b.streams.accept("somebody", () => {});
  await a.streams.open("somebody", b.name);
  end();
  await assert.rejects(a.streams.open("somebody", b.name), isStreamError("no_acceptor"));
  const { 'barrel_streams_refused_total{reason="no_acceptor"}': count } = b.metrics.snapshot();
  assert.equal(count, 2);
  assert.equal(b.streams.list().length, 1, "a stream outlives its acceptor");
  await close();
});

test("a tag has one acceptor, 1 to 255 bytes, and no reserved prefix", async () => {
  const { a, close } = await cluster(1);
  const handler = () => {};
  const end = a.streams.accept("taken", handler);
  assert.throws(() => a.streams.accept("taken", () => {}), ConflictError);
  end();
  end();
  const again = a.streams.accept("taken", handler);
  end();
  assert.throws(
    () => a.streams.accept("taken", () => {}),
    ConflictError,
    "an old end ends nothing",
  );
  again();
  for (const tag of ["", "x".repeat(256), "é".repeat(128), "barrel:own"]) {
    assert.throws(() => a.streams.accept(tag, () => {}), { code: "bad_tag" });
    await assert.rejects(a.streams.open(tag, "b@mem"), { code: "bad_tag" });
  }
  a.streams.accept("x".repeat(255), () => {});
  await close();
});

test("an acceptor that throws aborts the stream", async () => {
  const { a, b, close } = await cluster(2);
  b.streams.accept("bad", async ({ readable }) => {
    await readable.getReader().read();
    throw new Error("no such file");
  });
  const stream = await a.streams.open("bad", b.name);
  const writer = stream.writable.getWriter();
  await writer.write(pattern(1));
  await assert.rejects(readAll(stream.readable), isStreamError("acceptor_failed", /no such file/));
  await assert.rejects(writer.closed, isStreamError("acceptor_failed", /no such file/));
  assert.deepEqual(b.streams.list(), []);
  await close();
});

test("a lost link fails both ends of its streams", async () => {
  const { a, b, ours, theirs, close } = await pair();
  const results = [ours, theirs].flatMap(({ readable, writable }) => [
    readable.getReader().closed,
    writable.getWriter().closed,
  ]);
  await a.links.disconnect(b.name);
  for (const result of results) await assert.rejects(result, isStreamError("lost"));
  assert.deepEqual([...a.streams.list(), ...b.streams.list()], []);
  await close();
});

test("a node that closes fails its streams and those who wait to open one", async () => {
  const { a, b, ours, theirs, close } = await pair();
  const results = [ours, theirs].flatMap(({ readable, writable }) => [
    readable.getReader().closed,
    writable.getWriter().closed,
  ]);
  const waiting = assert.rejects(b.streams.open("test", a.name), { code: "closed" });
  const closing = b.close();
  for (const result of results) await assert.rejects(result, isStreamError("closing"));
  await waiting;
  await closing;
  await assert.rejects(b.streams.open("test", a.name), { code: "closed" });
  assert.throws(() => b.streams.accept("more", () => {}), { code: "closed" });
  await close();
});

test("opening can be given up by a signal", async () => {
  const { a, b, close } = await cluster(2);
  const signal = AbortSignal.abort(new Error("not any more"));
  await assert.rejects(a.streams.open("test", b.name, { signal }), /not any more/);
  const controller = new AbortController();
  const opening = a.streams.open("test", b.name, { signal: controller.signal });
  controller.abort(new Error("changed my mind"));
  await assert.rejects(opening, /changed my mind/);
  await waitFor(() => a.links.list()[0]?.streams === 0, { what: "nothing left" });
  await close();
});

test("hundreds of streams may be opened at once; above 256 to one node the opener is told", async () => {
  const { a, b, close } = await cluster(2);
  const got: Promise<Uint8Array>[] = [];
  b.streams.accept("test", ({ readable }) => void got.push(readAll(readable)));
  const opening = Array.from({ length: 300 }, () => a.streams.open("test", b.name));
  const results = await Promise.allSettled(opening);
  const streams = results.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  assert.equal(streams.length, 256);
  for (const one of results) {
    if (one.status === "rejected") {
      assert.equal((one.reason as { code: string }).code, "overloaded");
    }
  }
  await Promise.all(streams.map(async ({ writable, readable }, i) => {
    const writer = writable.getWriter();
    await writer.write(pattern(i));
    await writer.close();
    await readable.cancel();
  }));
  const lengths = (await Promise.all(got)).map(({ length }) => length);
  assert.deepEqual(lengths.toSorted((one, other) => one - other), [...Array(256).keys()]);
  await waitFor(() => a.streams.list().length + b.streams.list().length === 0, { what: "the end" });
  const last = await a.streams.open("test", b.name);
  await last.writable.close();
  assert.equal((await got.at(-1))?.length, 0);
  await close();
});

test("a node opens streams to itself under the same rules", async () => {
  const { a, close } = await cluster(1);
  await assert.rejects(a.streams.open("echo", a.name), isStreamError("no_acceptor"));
  a.streams.accept("echo", ({ readable, writable }) => readable.pipeTo(writable));
  const stream = await a.streams.open("echo", a.name);
  assert.equal(stream.peer, a.name);
  const bytes = pattern(5_000_000);
  const writer = stream.writable.getWriter();
  const write = async () => {
    await writer.write(bytes);
    await writer.close();
  };
  const [back] = await Promise.all([readAll(stream.readable), write()]);
  assert.deepEqual(back, bytes);
  await waitFor(() => a.streams.list().length === 0, { what: "the end" });

  let taken = 0;
  a.streams.accept("hold", () => {});
  const held = await a.streams.open("hold", a.name);
  const flood = (async () => {
    const chunks = held.writable.getWriter();
    for (;; taken += 64 * 1024) await chunks.write(bytes.subarray(0, 64 * 1024));
  })();
  await new Promise((resolve) => setTimeout(resolve, 50));
  assert.ok(taken > 0 && taken <= STREAM_WINDOW, `${taken} bytes wait`);
  const failed = assert.rejects(flood, isStreamError("closing"));
  await close();
  await failed;
});

test("what a process accepts goes with it, and its tag is free again", async () => {
  const { a, b, close } = await cluster(2);
  const kept = Promise.withResolvers<TaggedStream>();
  b.streams.accept("kept", (stream) => kept.resolve(stream));
  const arrived = Promise.withResolvers<TaggedStream>();
  const owner = b.spawn(async (self) => {
    b.streams.accept("owned", (stream) => arrived.resolve(stream), { owner: self.pid });
    for await (const _ of self.mailbox);
  });
  const other = await a.streams.open("kept", b.name);
  const owned = await waitForStream(() => a.streams.open("owned", b.name));
  const theirs = await arrived.promise;
  b.exit(owner, "enough");
  await assert.rejects(
    owned.readable.getReader().read(),
    isStreamError("acceptor_failed", /ended/),
  );
  await assert.rejects(theirs.readable.getReader().read());
  await assert.rejects(a.streams.open("owned", b.name), isStreamError("no_acceptor"));
  assert.deepEqual(b.streams.list().map(({ tag }) => tag), ["kept"]);
  assert.throws(() => b.streams.accept("owned", () => {}, { owner }), NoProcessError);
  b.streams.accept("owned", () => {});
  await other.writable.close();
  assert.equal((await (await kept.promise).readable.getReader().read()).done, true);
  await close();
});

// The process accepts a moment after it was spawned.
async function waitForStream(open: () => Promise<TaggedStream>): Promise<TaggedStream> {
  let stream: TaggedStream | undefined;
  await waitFor(async () => {
    stream = await open().catch(() => undefined);
    return stream !== undefined;
  }, { what: "the stream" });
  return stream as TaggedStream;
}
