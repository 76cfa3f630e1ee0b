import assert from "node:assert/strict";
import { NoProcessError } from "../../src/actor/errors.ts";
import { defineServer } from "../../src/actor/gen_server.ts";
import type { Down } from "../../src/actor/messages.ts";
import type { ExitReason } from "../../src/actor/messages.ts";
import type { Supervisor } from "../../src/actor/supervisor.ts";
import { child } from "../../src/actor/supervisor_spec.ts";
import type { ChildSpec, SupervisorSpec } from "../../src/actor/supervisor_spec.ts";
import { BarrelError, ConfigError, ConflictError } from "../../src/base/errors.ts";
import type { Pid } from "../../src/wire/pid.ts";
import { afterEach, describe, test, waitFor } from "../harness.ts";
import { actorNetwork, closeNetworks } from "./network.ts";
import type { ActorNode } from "./network.ts";

const Counter = defineServer({
  init: (_ctx, start: number) => ({ n: start }),
  calls: {
    add: (ctx, by: number) => (ctx.state.n += by),
    stop: (ctx, reason: string) => ctx.stop(reason),
  },
});

/** Writes down what happens to it; shuts down in its own time. */
const Diary = defineServer({
  init: (ctx, log: string[], name: string) => {
    ctx.self.trapExit = true;
    log.push(`+${name}`);
    return { log, name };
  },
  terminate: (ctx, reason) => {
    ctx.state.log.push(`-${ctx.state.name} ${reason}`);
  },
});

afterEach(closeNetworks);

/** Resolves with the reason when a process has ended. */
function endOf({ system }: ActorNode, pid: Pid): Promise<ExitReason> {
  const { promise, resolve } = Promise.withResolvers<ExitReason>();
  system.spawn(async (self) => {
    self.monitor(pid);
    resolve((await self.receive() as Down).reason);
  });
  return promise;
}

const pidOf = (sup: Supervisor, id: string): Pid | undefined =>
  sup.children().find((one) => one.id === id)?.pid;

/** Waits until the child runs as another process. */
async function restarted(sup: Supervisor, id: string, before: Pid | undefined): Promise<Pid> {
  const now = () => {
    const found = sup.children().find((one) => one.id === id);
    return found?.status === "running" && !found.pid?.equals(before) ? found.pid : undefined;
  };
  await waitFor(() => now() !== undefined, { what: `${id} runs again` });
  return now() as Pid;
}

const diary = (log: string[], id: string, more: Partial<ChildSpec> = {}): ChildSpec => ({
  id,
  start: child(Diary, [log, id]),
  ...more,
});

describe("a supervisor", () => {
  test("brings a crashed child back under its name, and leaves the others alone", async () => {
    const node = actorNetwork().node("a@x");
    const { system, calls } = node;
    const sup = await node.supervisors.supervise({
      strategy: "oneForOne",
      intensity: { restarts: 3, withinMs: 5_000 },
      children: [
        { id: "counter", start: child(Counter, [5], { name: "counter" }), restart: "permanent" },
        { id: "other", start: child(Counter, [7]), shutdownMs: 5_000 },
      ],
    });
    const counter = calls.client(Counter, "counter");
    assert.equal(await counter.add(1), 6);
    const [first, other] = [pidOf(sup, "counter") as Pid, pidOf(sup, "other")];
    system.exit(first, "kill");
    await restarted(sup, "counter", first);
    assert.equal(await counter.add(1), 6, "it starts afresh, under the same name");
    assert.ok(pidOf(sup, "other")?.equals(other));
    assert.deepEqual(
      sup.children().map(({ id, restart, status }) => [id, restart, status]),
      [["counter", "permanent", "running"], ["other", "permanent", "running"]],
    );
    await sup.stop();
    assert.deepEqual(system.all(), []);
    assert.equal(node.meter.snapshot()["barrel_supervisor_restarts_total"], 1);
  });

  test("starts in order, stops in reverse order, and lets children that trap exits finish", async () => {
    const node = actorNetwork().node("a@x");
    const log: string[] = [];
    const sup = await node.supervisors.supervise({
      strategy: "oneForAll",
      children: ["a", "b", "c"].map((id) => diary(log, id)),
    });
    node.system.exit(pidOf(sup, "b") as Pid, "kill");
    await waitFor(() => log.length === 8, { what: "all start again" });
    await sup.stop("enough");
    assert.deepEqual(log, [
      "+a",
      "+b",
      "+c",
      "-c shutdown",
      "-a shutdown",
      "+a",
      "+b",
      "+c",
      "-c shutdown",
      "-b shutdown",
      "-a shutdown",
    ]);
  });

  test("kills who does not shut down in time", async () => {
    const node = actorNetwork().node("a@x");
    const stubborn = child(async (self) => {
      self.trapExit = true;
      for await (const _ of self.mailbox);
    });
    const sup = await node.supervisors.supervise({
      children: [{ id: "stubborn", start: stubborn, shutdownMs: 20 }],
    });
    const ended = endOf(node, pidOf(sup, "stubborn") as Pid);
    const over = endOf(node, sup.pid);
    await sup.stop("enough");
    assert.equal(await ended, "killed");
    assert.equal(await over, "enough");
  });

  test("does not start when a child does not, and stops those that had", async () => {
    const node = actorNetwork().node("a@x");
    const Broken = defineServer({
      init: () => {
        throw new RangeError("no disk");
      },
    });
    const log: string[] = [];
    const spec: SupervisorSpec = {
      children: [
        diary(log, "a"),
        diary(log, "b"),
        { id: "broken", start: child(Broken, []) },
        diary(log, "c"),
      ],
    };
    const failure = await node.supervisors.supervise(spec).catch((error: unknown) => error);
    assert.ok(failure instanceof BarrelError && failure.code === "child_not_started");
    assert.match(failure.message, /"broken" did not start: RangeError: no disk/);
    assert.ok(failure.cause instanceof RangeError);
    assert.deepEqual(log, ["+a", "+b", "-b shutdown", "-a shutdown"]);
    assert.deepEqual(node.system.all(), []);
    // So it is for a tree within a tree.
    log.length = 0;
    const tree = node.supervisors.supervise({
      children: [diary(log, "first"), { id: "tree", start: child(spec) }],
    });
    await assert.rejects(tree, /"tree" did not start: .*"broken" did not start/);
    assert.equal(log.at(-1), "-first shutdown");
    assert.deepEqual(node.system.all(), []);
  });

  test("gives up when a child ends too often, and takes all its children along", async () => {
    const node = actorNetwork().node("a@x");
    const log: string[] = [];
    const sup = await node.supervisors.supervise({
      intensity: { restarts: 2 },
      children: [diary(log, "calm"), { id: "wild", start: child(Counter, [0]) }],
    });
    const over = endOf(node, sup.pid);
    let wild = pidOf(sup, "wild") as Pid;
    for (let i = 0; i < 3; i++) {
      node.system.exit(wild, "kill");
      if (i < 2) wild = await restarted(sup, "wild", wild);
    }
    assert.equal(await over, "shutdown");
    assert.deepEqual(log, ["+calm", "-calm shutdown"]);
    assert.deepEqual(sup.children(), []);
    await assert.rejects(sup.startChild(diary(log, "late")), NoProcessError);
  });

  test("takes its own crash into account: a tree that gives up starts again from above", async () => {
    const node = actorNetwork().node("a@x");
    const log: string[] = [];
    const top = await node.supervisors.supervise({
      children: [
        {
          id: "tree",
          start: child({
            intensity: { restarts: 0 },
            children: [diary(log, "leaf"), { id: "wild", start: child(Counter, [0]) }],
          }),
        },
      ],
    });
    const tree = top.children()[0]?.supervisor as Supervisor;
    node.system.exit(pidOf(tree, "wild") as Pid, "kill");
    await restarted(top, "tree", tree.pid);
    assert.deepEqual(log, ["+leaf", "-leaf shutdown", "+leaf"]);
    await top.stop();
    assert.equal(log.at(-1), "-leaf shutdown");
    assert.deepEqual(node.system.all(), []);
  });

  test("starts and ends children while it runs", async () => {
    const node = actorNetwork().node("a@x");
    const sup = await node.supervisors.supervise({ strategy: "oneForOne" });
    const spec = (id: string): ChildSpec => ({
      id,
      start: child(Counter, [1], { register: `service ${id}` }),
      restart: "transient",
    });
    const pid = await sup.startChild(spec("a"));
    assert.ok(node.names.get("service a")?.equals(pid));
    await assert.rejects(sup.startChild(spec("a")), ConflictError);
    await Promise.all(Array.from({ length: 100 }, (_, i) => sup.startChild(spec(`w${i}`))));
    assert.equal(sup.children().length, 101);
    // An orderly end is no reason to come back, any other is.
    await node.calls.client(Counter, pid).stop("normal");
    await waitFor(() => sup.children()[0]?.status === "waiting", { what: "it has ended" });
    const second = pidOf(sup, "w0") as Pid;
    await node.calls.client(Counter, second).stop("boom");
    await restarted(sup, "w0", second);
    await sup.terminateChild("a");
    await sup.terminateChild("w1");
    assert.equal(sup.children().length, 99);
    await assert.rejects(sup.terminateChild("w1"), NoProcessError);
    const broken = defineServer({ init: () => Promise.reject(new RangeError("not today")) });
    await assert.rejects(sup.startChild({ id: "x", start: child(broken, []) }), /not today/);
    await sup.startChild(spec("x"));
    await sup.stop();
    assert.deepEqual(node.system.all(), []);
  });

  test("never leaves a child behind, not even when it is killed while one starts", async () => {
    const node = actorNetwork().node("a@x");
    const begun = Promise.withResolvers<void>();
    const Slow = defineServer({
      init: () => {
        begun.resolve();
        return new Promise<never>(() => {});
      },
    });
    const log: string[] = [];
    const starting = node.supervisors.supervise({
      name: "top",
      children: [diary(log, "a"), { id: "slow", start: child(Slow, []) }],
    });
    await begun.promise;
    node.system.exit(node.system.find("top")?.pid as Pid, "kill");
    await assert.rejects(starting, (error) => {
      return error instanceof NoProcessError && error.reason === "killed";
    });
    await waitFor(() => node.system.all().length === 0, { what: "all have ended" });
    // Who traps exits is told of the end of its parent, and ends itself.
    assert.deepEqual(log, ["+a", "-a killed"]);
  });

  test("obeys its node, and no stranger", async () => {
    const node = actorNetwork().node("a@x");
    const log: string[] = [];
    const sup = await node.supervisors.supervise({ children: [diary(log, "a")] });
    node.system.spawn((self) => node.system.exit(sup.pid, "go", self.pid));
    void sup.pid.send("junk");
    await sup.startChild(diary(log, "b"));
    const over = endOf(node, sup.pid);
    node.system.exit(sup.pid, "shutdown");
    assert.equal(await over, "shutdown");
    assert.deepEqual(log, ["+a", "+b", "-b shutdown", "-a shutdown"]);
  });

  test("stops with its node, the youngest tree first", async () => {
    const node = actorNetwork().node("a@x");
    const log: string[] = [];
    for (const id of ["first", "second"]) {
      await node.supervisors.supervise({ children: [diary(log, id)] });
    }
    await node.supervisors.close();
    assert.deepEqual(log, ["+first", "+second", "-second shutdown", "-first shutdown"]);
    assert.deepEqual(node.system.all(), []);
  });

  test("is refused with the path of the mistake", async () => {
    const { supervisors } = actorNetwork().node("a@x");
    const start = child(Counter, [0]);
    const refused = (spec: unknown, path: string) =>
      assert.rejects(
        supervisors.supervise(spec as SupervisorSpec),
        (error) => error instanceof ConfigError && error.path === path,
        path,
      );
    await refused({ strategy: "one_for_one" }, "strategy");
    await refused({ intensity: { restarts: -1 } }, "intensity.restarts");
    await refused({ childs: [] }, "childs");
    await refused({ children: [{ id: "", start }] }, "children.0.id");
    await refused({ children: [{ id: "a", start }, { id: "a", start }] }, "children.1.id");
    await refused({ children: [{ id: "a", start: () => {} }] }, "children.0.start");
    const deep = child({ children: [{ id: "b", start, restart: "always" as "permanent" }] });
    await refused({ children: [{ id: "a", start: deep }] }, "children.0.start.children.0.restart");
  });
});
