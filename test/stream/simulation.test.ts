/** Streams of whole nodes on virtual time. */
import assert from "node:assert/strict";
import { StreamError, TimeoutError } from "../../mod.ts";
import type { Node, TaggedStream } from "../../mod.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import { test } from "../harness.ts";
import { pattern, readAll } from "./cluster.ts";

const linkOf = (from: Node, to: Node) => from.links.list().find(({ node }) => node === to.name);

test("a stream dials when there is no link, and keeps its link from being reaped", async () => {
  const sim = await createSimulation({
    seed: 11,
    nodes: 8,
    options: {
      membership: { activeSize: 2 },
      links: { idleAfterMs: 5_000, idleSweepMs: 1_000 },
    },
  });
  await sim.until(() => sim.nodes.every(({ membership }) => membership.members().length === 8));
  const pairs = sim.nodes.flatMap((from) => sim.nodes.map((to): [Node, Node] => [from, to]));
  let strangers: [Node, Node] | undefined;
  await sim.until(() => {
    strangers = pairs.find(([from, to]) => from !== to && linkOf(from, to) === undefined);
    return strangers !== undefined;
  });
  const [from, to] = strangers as [Node, Node];
  let theirs: TaggedStream | undefined;
  to.streams.accept("test", (stream) => void (theirs = stream));
  const stream = await sim.run(from.streams.open("test", to.name));
  await sim.run({ forMs: 60_000 });
  assert.equal(linkOf(from, to)?.streams, 1, "it was idle for longer than idleAfterMs");
  const answer = readAll(stream.readable);
  await sim.run(stream.writable.close());
  await sim.run((theirs as TaggedStream).writable.close());
  assert.equal((await sim.run(answer)).length, 0);
  await sim.until(() => linkOf(from, to) === undefined);
  await sim.close();
});

test("a peer that does not answer ends in a timeout, a link that dies in an error", async () => {
  const sim = await createSimulation({ seed: 12, nodes: 2 });
  const [a, b] = [sim.node(0), sim.node(1)];
  await sim.until(() => a.membership.members().length === 2);
  b.streams.accept("test", () => {});
  const stream = await sim.run(a.streams.open("test", b.name));
  const lost = assert.rejects(
    stream.writable.getWriter().closed,
    (error) => error instanceof StreamError && error.reason === "lost",
  );
  sim.partition([a], [b]);
  const before = sim.now();
  const late = assert.rejects(a.streams.open("test", b.name, { timeoutMs: 2_000 }), TimeoutError);
  await sim.run(late);
  assert.ok(sim.now() - before < 2_500);
  await sim.run(lost);
  await sim.close();
});

test("two runs with one seed carry the same packets", async () => {
  const run = async () => {
    const sim = await createSimulation({ seed: 13, nodes: 2, latencyMs: [1, 50], loss: 0.05 });
    const [a, b] = [sim.node(0), sim.node(1)];
    await sim.until(() => a.membership.members().length === 2);
    const got = Promise.withResolvers<Uint8Array>();
    b.streams.accept("test", (stream) => got.resolve(readAll(stream.readable)));
    const stream = await sim.run(a.streams.open("test", b.name));
    const bytes = pattern(3_000_000);
    const writer = stream.writable.getWriter();
    await sim.run(writer.write(bytes));
    await sim.run(writer.close());
    assert.deepEqual(await sim.run(got.promise), bytes);
    const trace = sim.trace();
    await sim.close();
    return trace;
  };
  assert.equal(await run(), await run());
});

test("a stream outlives the hand-over of its link, and one that is opened meanwhile is accepted", async () => {
  for (let seed = 1; seed <= 6; seed++) {
    const sim = await createSimulation({ seed, nodes: 2, latencyMs: [1, 50], loss: 0.02 });
    const [a, b] = [sim.node(0), sim.node(1)];
    await sim.until(() => a.membership.members().length === 2);
    const got: Promise<Uint8Array>[] = [];
    b.streams.accept("test", (stream) => {
      got.push(readAll(stream.readable));
      void stream.writable.close();
    });
    const events: string[] = [];
    a.membership.on(({ type }) => events.push(type));
    b.membership.on(({ type }) => events.push(type));
    const bytes = pattern(2_000_000, seed);
    const first = await sim.run(a.streams.open("test", b.name));
    const writer = first.writable.getWriter();
    await sim.run(writer.write(bytes.subarray(0, 900_000)));
    const mover = seed % 2 === 0 ? a : b;
    const moved = mover.links.migrate((mover === a ? b : a).name);
    // More are asked for at every stage of it.
    const opened: Promise<TaggedStream>[] = [];
    for (let i = 0; i < 20; i++) {
      await sim.run({ forMs: 10 });
      opened.push(a.streams.open("test", b.name));
    }
    await sim.run(moved);
    await sim.run(writer.write(bytes.subarray(900_000)));
    await sim.run(writer.close());
    for (const stream of await sim.run(Promise.all(opened))) {
      await sim.run(stream.writable.close());
      await sim.run(stream.readable.cancel());
    }
    assert.deepEqual(await sim.run(got[0] as Promise<Uint8Array>), bytes);
    for (const rest of got.slice(1)) assert.equal((await sim.run(rest)).length, 0);
    await sim.run({ forMs: 1_000 });
    assert.deepEqual(events, []);
    assert.equal(linkOf(a, b)?.streams, 0);
    await sim.close();
  }
});

test("a close is done when the peer has said that everything has arrived", async () => {
  const sim = await createSimulation({ seed: 14, nodes: 2, latencyMs: [100, 100] });
  const [a, b] = [sim.node(0), sim.node(1)];
  await sim.until(() => a.membership.members().length === 2);
  b.streams.accept("test", () => {});
  const stream = await sim.run(a.streams.open("test", b.name));
  const writer = stream.writable.getWriter();
  await sim.run(writer.write(pattern(100)));
  const before = sim.now();
  await sim.run(writer.close());
  assert.ok(sim.now() - before >= 200, `after ${sim.now() - before} ms, with a round trip of 200`);
  await sim.close();
});
