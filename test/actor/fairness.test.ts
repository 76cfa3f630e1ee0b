import assert from "node:assert/strict";
import { createNode, defineServer } from "../../mod.ts";
import type { NodeEvent, Pid } from "../../mod.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { TurnBudget } from "../../src/actor/turn_budget.ts";
import { fastCrypto } from "../../src/testing/fast_crypto.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { describe, test, waitFor } from "../harness.ts";
import { actorNetwork, closeNetworks } from "./network.ts";

const BUSY = 10_000;

describe("busy processes", () => {
  test("10,000 of them starve neither each other, nor calls, nor the membership", {
    timeoutMs: 90_000,
  }, async () => {
    const Echo = defineServer({ init: () => 0, calls: { echo: (_ctx, n: number) => n } });
    const network = createMemoryNetwork({ clock: realClock, random: realRandom });
    const start = (name: string, contactNodes: readonly string[]) =>
      createNode({
        name: `${name}@here`,
        listen: [`mem://${name}`],
        contactNodes,
        transports: [network.host(name).transport],
        crypto: fastCrypto(realRandom),
      });
    const a = await start("a", []);
    const b = await start("b", a.addresses);
    const c = await start("c", a.addresses);
    for (const node of [b, c]) await node.joined({ timeoutMs: 10_000 });
    await waitFor(() => [a, b, c].every((node) => node.membership.members().length === 3), {
      what: "all know each other",
    });
    const alarms: NodeEvent[] = [];
    for (const node of [a, b, c]) {
      node.membership.on((event) => {
        if (event.type !== "nodeUp" && event.type !== "peerUp") alarms.push(event);
      });
    }
    // Each always has a message waiting, and works on each for a while.
    const handled = new Uint32Array(BUSY);
    let work = 0;
    const pids: Pid[] = [];
    for (let i = 0; i < BUSY; i++) {
      pids.push(a.spawn(async (self) => {
        for await (const _ of self.mailbox) {
          handled[i] = (handled[i] as number) + 1;
          for (let j = 0; j < 500; j++) work += j;
          void self.pid.send("again");
        }
      }));
    }
    for (const pid of pids) void pid.send("go");
    const echo = b.client(Echo, await a.start(Echo, []));
    let calls = 0;
    const begunAt = performance.now();
    // Long enough for a member that says nothing to be suspected.
    while (performance.now() - begunAt < 5_000 || calls < 20) {
      assert.equal(await echo.echo(calls), calls);
      calls++;
    }
    await waitFor(() => Math.min(...handled) >= 3, { what: "each has had its turn" });
    assert.deepEqual(alarms, []);
    const most = Math.max(...handled), least = Math.min(...handled);
    assert.ok(most <= least * 2 + 10, `one handled ${most} messages, another ${least}`);
    assert.ok(work > 0);
    await Promise.all([a, b, c].map((node) => node.close()));
  });

  test("two that only talk to each other let timers run", async () => {
    const { system, calls } = actorNetwork().node("a@x");
    const pong = system.spawn<Pid>(async (self) => {
      for (;;) void (await self.receive() as Pid).send(self.pid);
    });
    const ping = system.spawn<Pid>(async (self) => {
      void pong.send(self.pid);
      for (;;) void (await self.receive((pid) => pid as Pid)).send(self.pid);
    });
    // A loop of calls that are answered at once, too.
    const Echo = defineServer({ init: () => 0, calls: { echo: (_ctx, n: number) => n } });
    const echo = calls.client(Echo, await calls.start(Echo, []));
    let isOver = false;
    const loop = (async () => {
      while (!isOver) await echo.echo(1);
    })();
    for (let i = 0; i < 10; i++) await new Promise((resolve) => setTimeout(resolve, 1));
    isOver = true;
    await loop;
    system.exit(ping, "kill");
    system.exit(pong, "kill");
    closeNetworks();
  });

  test("get more messages a turn when they are quick, and fewer when they are slow", () => {
    let now = 0;
    let turn: (() => void) | undefined;
    const budget = new TurnBudget({
      now: () => now,
      wall: () => 0,
      after: () => ({ cancel() {} }),
      nextTurn: (fn) => void (turn = fn),
    });
    /** One turn in which 5,000 want a message each, that take `ms` to handle. */
    const run = (ms: number) => {
      served = 0;
      takesMs = ms;
      for (; queued < 5_000; queued++) budget.defer(waiting);
      assert.equal(budget.spend(), false, "those who wait come first");
      const next = turn;
      turn = undefined;
      next?.();
      queued -= served;
      return served;
    };
    let [queued, served, takesMs] = [0, 0, 0];
    const waiting = {
      serve() {
        served++;
        now += takesMs;
      },
    };
    for (let i = 0; i < 20; i++) run(0);
    assert.equal(run(0), 2_000);
    for (let i = 0; i < 20; i++) run(1);
    assert.equal(run(1), 32);
  });
});
