import assert from "node:assert/strict";
import { defineServer, Down, Exit } from "../../mod.ts";
import type { Node } from "../../mod.ts";
import { createSimulation } from "../../src/testing/mod.ts";
import { describe, test } from "../harness.ts";

const Slow = defineServer({
  init: () => 0,
  calls: { echo: (_ctx, text: string) => text },
});

/** What one process was told while its connection broke at some moment. */
async function told(cutAtMs: number, cutForMs: number) {
  const sim = await createSimulation({ seed: 9, nodes: 2, latencyMs: [3, 3] });
  const [a, b] = [sim.node(0), sim.node(1)] as [Node, Node];
  await sim.until(() => [a, b].every((node) => node.membership.members().length === 2));
  const server = await sim.run(b.start(Slow, []));
  const other = b.spawn(async (self) => {
    await self.receive();
    self.exit("boom");
  });
  const got: (Down | Exit)[] = [];
  const answers: string[] = [];
  const watcher = a.spawn(async (self) => {
    self.trapExit = true;
    self.monitor(other);
    self.link(other);
    self.sendAfter(10, self.pid, "go");
    for await (const message of self.mailbox) {
      if (message === "go") void a.send(other, "end");
      else got.push(message as Down | Exit);
    }
  });
  const back = b.spawn(async (self) => {
    self.monitor(watcher);
    self.link(watcher);
    await self.receive();
  });
  const call = a.client(Slow, server).echo("hello").then(
    (text) => void answers.push(text),
    (error: { code: string }) => void answers.push(error.code),
  );
  await sim.run({ forMs: cutAtMs });
  sim.partition([a], [b]);
  await sim.run({ forMs: cutForMs });
  sim.heal();
  await sim.run({ forMs: 60_000 });
  await sim.run(call);
  const left = [a.processes.info(watcher), b.processes.info(back)];
  await sim.close();
  return { got, answers, left };
}

describe("with the connection cut at every moment of a conversation", () => {
  test("a cut that the transport outlives loses nothing", { timeoutMs: 120_000 }, async () => {
    for (let at = 0; at <= 30; at += 1) {
      const { got, answers, left } = await told(at, 1_000);
      assert.equal(got.length, 2, `cut at ${at} ms`);
      assert.ok(got.every(({ reason }) => reason === "boom"), `cut at ${at} ms`);
      assert.ok(got.some((one) => one instanceof Down) && got.some((one) => one instanceof Exit));
      assert.deepEqual(answers, ["hello"]);
      assert.deepEqual(left.map((info) => info?.links.length), [1, 1]);
    }
  });

  test("a longer one is told once to each monitor, link and call, on both sides", {
    timeoutMs: 120_000,
  }, async () => {
    for (let at = 0; at <= 30; at += 1) {
      const { got, answers, left } = await told(at, 40_000);
      assert.equal(got.filter((one) => one instanceof Down).length, 1, `cut at ${at} ms`);
      const exits = got.filter((one): one is Exit => one instanceof Exit);
      // The link with `other`, and the one that `back` made, if it had come so far.
      assert.ok(exits.length >= 1 && exits.length <= 2, `cut at ${at} ms`);
      assert.ok(
        got.every(({ reason }) => ["boom", "noproc", "noconnection"].includes(reason as string)),
      );
      assert.equal(answers.length, 1);
      assert.match(answers[0] as string, /hello|node_down|call_timeout/);
      assert.deepEqual(left[0]?.links, []);
      assert.deepEqual(left[0]?.monitors, []);
      assert.equal(left[1], undefined, "the other side's link has ended it");
    }
  });
});
