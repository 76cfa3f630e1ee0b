import assert from "node:assert/strict";
import { NoProcessError } from "../../src/actor/errors.ts";
import { defineServer } from "../../src/actor/gen_server.ts";
import type { TraceEvent } from "../../src/actor/processes.ts";
import { child } from "../../src/actor/supervisor_spec.ts";
import { afterEach, describe, test, waitFor } from "../harness.ts";
import { actorNetwork, closeNetworks } from "./network.ts";

const Counter = defineServer({
  init: (_ctx, start: number) => ({ n: start }),
  calls: { add: (ctx, by: number) => (ctx.state.n += by), never: (ctx) => ctx.defer<void>() },
  casts: { reset: (ctx) => void (ctx.state.n = 0) },
});

afterEach(closeNetworks);

describe("from outside", () => {
  test("all processes of a node can be seen, and what each one holds", async () => {
    const network = actorNetwork();
    const a = network.node("a@x"), b = network.node("b@x");
    const sup = await a.supervisors.supervise({
      name: "top",
      children: [{ id: "counter", start: child(Counter, [0], { name: "counter" }) }],
    });
    const counter = sup.children()[0]?.pid;
    const gate = Promise.withResolvers<void>();
    const pid = a.system.spawn(async (self) => {
      self.trapExit = true;
      self.link(sup.pid);
      self.monitor("counter");
      self.sendAfter(60_000, self.pid, "later");
      await gate.promise;
      for await (const _ of self.mailbox);
    });
    const watcher = b.system.spawn(async (self) => {
      self.monitor(pid);
      await self.receive();
    });
    const call = a.calls.client(Counter, "counter").never().catch(() => {});
    for (let i = 0; i < 3; i++) void pid.send(i);
    await waitFor(() => a.processes.info(pid)?.monitoredBy.length === 1, { what: "the monitor" });
    assert.deepEqual(
      a.processes.list().map(({ name, kind, status, mailboxLength }) => {
        return [name, kind, status, mailboxLength];
      }),
      [
        ["top", "supervisor", "waiting", 0],
        ["counter", "server", "waiting", 0],
        [undefined, "process", "running", 3],
      ],
    );
    const info = a.processes.info(pid);
    assert.ok(info?.trapExit && info.links[0]?.equals(sup.pid));
    assert.deepEqual([info.monitors, info.timers], [["counter"], 1]);
    assert.ok(info.monitoredBy[0]?.equals(watcher));
    const server = a.processes.info("counter");
    assert.equal(server?.unanswered, 1);
    assert.ok(server.pid.equals(counter) && server.links[0]?.equals(sup.pid));
    gate.resolve();
    await waitFor(() => a.processes.info(pid)?.status === "waiting", { what: "it took all" });
    await sup.stop();
    await call;
    assert.equal(a.processes.info("counter"), undefined);
    assert.deepEqual(a.processes.info(pid)?.links, []);
  });

  test("one process can be traced: what arrives, what is taken, how it ends", async () => {
    const { system, calls, processes } = actorNetwork().node("a@x");
    const pid = await calls.start(Counter, [1]);
    const events: TraceEvent[] = [];
    const stop = processes.trace(pid, (event) => {
      events.push(event);
      throw new Error("a listener's own trouble");
    });
    const counter = calls.client(Counter, pid);
    void counter.reset();
    assert.equal(await counter.add(2), 2);
    void pid.send("hello");
    system.exit(pid, "boom");
    const messages = [{ cast: "reset", args: [] }, { call: "add", args: [2] }, "hello"];
    assert.deepEqual(
      events.filter(({ type }) => type === "arrived"),
      messages.map((message) => ({ type: "arrived", message })),
    );
    // The first by a receive that had begun before the trace did; the last by nobody.
    assert.deepEqual(
      events.filter(({ type }) => type === "taken"),
      messages.slice(0, 2).map((message) => ({ type: "taken", message })),
    );
    assert.deepEqual(events.at(-1), { type: "ended", reason: "boom" });
    stop();
    assert.throws(() => processes.trace(pid, () => {}), NoProcessError);
  });

  test("a trace that ended leaves the process as it was", async () => {
    const { system, processes } = actorNetwork().node("a@x");
    const got: unknown[] = [];
    const pid = system.spawn(async (self) => {
      got.push(await self.receive((message) => message === "b" ? "B" : undefined));
      for await (const message of self.mailbox) got.push(message);
    });
    const events: TraceEvent[] = [];
    const stop = processes.trace(pid, (event) => events.push(event));
    for (const message of ["a", "b", "c"]) void pid.send(message);
    await waitFor(() => got.length === 3, { what: "it took all" });
    stop();
    void pid.send("d");
    await waitFor(() => got.length === 4, { what: "it took the last" });
    assert.deepEqual(got, ["B", "a", "c", "d"]);
    const taken = events.filter(({ type }) => type === "taken");
    assert.deepEqual(taken.map((event) => "message" in event && event.message), ["b", "a", "c"]);
    assert.equal(events.length, 6);
  });

  test("a mailbox that grows beyond the mark is warned of once, and counted each time", async () => {
    const { system, meter, log } = actorNetwork().node("a@x");
    const gate = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    const pid = system.spawn(async (self) => {
      for (const { promise } of gate) {
        await promise;
        for (let i = 0; i < 1_500; i++) await self.receive();
      }
    }, { name: "slow" });
    for (const { resolve } of gate) {
      for (let i = 0; i < 1_500; i++) void pid.send(i);
      resolve();
      await waitFor(() => (system.find(pid)?.mailbox.length ?? 0) === 0, { what: "it is empty" });
    }
    assert.equal(meter.snapshot()["barrel_mailbox_high_water_total"], 2);
    const warnings = log.filter((line) => line.startsWith("warn: "));
    assert.equal(warnings.length, 1);
    assert.match(warnings[0] as string, /"slow" does not keep up: 1000 messages wait/);
  });
});
