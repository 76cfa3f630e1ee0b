import assert from "node:assert/strict";
import { ConflictError, EncodeError, TimeoutError } from "../../src/base/errors.ts";
import { Down, Exit, NodeDown } from "../../src/actor/messages.ts";
import type { Pid } from "../../src/wire/pid.ts";
import { afterEach, test, waitFor } from "../harness.ts";
import { actorNetwork, closeNetworks } from "./network.ts";

afterEach(closeNetworks);

/** A process that collects what it gets. */
function collector(
  system: ReturnType<ReturnType<typeof actorNetwork>["node"]>["system"],
  name?: string,
): { pid: Pid; next(): Promise<unknown>; seen: unknown[] } {
  const seen: unknown[] = [];
  let wake: (() => void) | undefined;
  let taken = 0;
  const pid = system.spawn(async (self) => {
    for await (const message of self.mailbox) {
      seen.push(message);
      wake?.();
    }
  }, name === undefined ? {} : { name });
  return {
    pid,
    seen,
    async next() {
      while (seen.length <= taken) await new Promise<void>((resolve) => (wake = resolve));
      return seen[taken++];
    },
  };
}

test("messages from one process to another arrive in order, here and on another node", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  for (const target of [a, b]) {
    const { pid, next } = collector(target.system);
    for (let i = 0; i < 100; i++) void a.system.send(pid, { i });
    for (let i = 0; i < 100; i++) assert.deepEqual(await next(), { i });
  }
});

test("a selective receive takes the first match and leaves the others in order", async () => {
  const { system } = actorNetwork().node("a@x");
  const result = Promise.withResolvers<unknown[]>();
  const pid = system.spawn<number>(async (self) => {
    const even = await self.receive((n) => (typeof n === "number" && n % 2 === 0 ? n : undefined));
    const big = await self.receive((n) => (typeof n === "number" && n > 6 ? n : undefined));
    const rest = [await self.receive(), await self.receive(), await self.receive()];
    result.resolve([even, big, ...rest]);
  });
  for (const n of [1, 3, 4, 5, 7]) void pid.send(n);
  assert.deepEqual(await result.promise, [4, 7, 1, 3, 5]);
});

test("a receive that times out takes nothing, not even later", async () => {
  const { system } = actorNetwork().node("a@x");
  const result = Promise.withResolvers<unknown>();
  const pid = system.spawn<string>(async (self) => {
    await assert.rejects(self.receive({ timeoutMs: 5 }), TimeoutError);
    result.resolve(await self.receive());
  });
  await assert.rejects(Promise.race([result.promise, new Promise((_, no) => setTimeout(no, 30))]));
  void pid.send("late");
  assert.equal(await result.promise, "late");
});

test("a name belongs to one live process, and is free again when it ends", async () => {
  const { system } = actorNetwork().node("a@x");
  const first = system.spawn(async (self) => void await self.receive(), { name: "one" });
  assert.throws(() => system.spawn(() => {}, { name: "one" }), ConflictError);
  const ended = new Promise<void>((resolve) =>
    system.exitListeners.add((pid) => void (pid.equals(first) && resolve()))
  );
  await system.sendTo("one", "end");
  await ended;
  system.spawn(() => {}, { name: "one" });
});

test("a monitor fires once with the reason, wherever the process lived", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  for (const where of [a, b]) {
    const victim = where.system.spawn(async (self) => {
      await self.receive();
      throw new TypeError("broken on purpose");
    });
    const downs: Down[] = [];
    const done = Promise.withResolvers<void>();
    a.system.spawn(async (self) => {
      const ref = self.monitor(victim);
      void victim.send("go");
      const down = await self.receive() as Down;
      assert.ok(down instanceof Down && down.ref.equals(ref));
      downs.push(down);
      await assert.rejects(self.receive({ timeoutMs: 10 }), TimeoutError);
      // The process is gone: a new monitor says so.
      self.monitor(victim);
      downs.push(await self.receive() as Down);
      done.resolve();
    });
    await done.promise;
    assert.ok(downs[0]?.reason instanceof TypeError);
    assert.equal((downs[0]?.reason as Error).message, "broken on purpose");
    assert.equal(downs[1]?.reason, "noproc");
  }
  assert.deepEqual([...a.holds.values()], [0], "the link is not held any more");
});

test("demonitor with flush leaves no Down behind", async () => {
  const { system } = actorNetwork().node("a@x");
  const done = Promise.withResolvers<unknown>();
  system.spawn(async (self) => {
    const ref = self.monitor(system.spawn(() => {}));
    await self.receive((message) => (message instanceof Down ? true : undefined)).then(() => {});
    const second = self.monitor(system.spawn(() => {}));
    await new Promise((resolve) => setTimeout(resolve, 5));
    self.demonitor(second, { flush: true });
    self.demonitor(ref);
    done.resolve(await self.receive({ timeoutMs: 10 }).catch((error) => error));
  });
  assert.ok(await done.promise instanceof TimeoutError);
});

test("a lost connection fires monitors and links with noconnection", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const remote = collector(b.system).pid;
  const got = Promise.withResolvers<unknown[]>();
  const ready = Promise.withResolvers<void>();
  a.system.spawn(async (self) => {
    self.trapExit = true;
    self.monitor(remote);
    self.link(remote);
    self.monitorNode("b@x");
    ready.resolve();
    got.resolve([await self.receive(), await self.receive(), await self.receive()]);
  });
  await ready.promise;
  network.cut(a, b);
  a.system.nodeDown("b@x");
  const [down, exit, nodeDown] = await got.promise;
  assert.ok(down instanceof Down && down.reason === "noconnection");
  assert.ok(exit instanceof Exit && exit.reason === "noconnection");
  assert.ok(nodeDown instanceof NodeDown && nodeDown.node === "b@x");
});

test("an exit signal ends linked processes, unless they trap it or it is normal", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  for (const where of [a, b]) {
    const result = Promise.withResolvers<unknown[]>();
    a.system.spawn(async (self) => {
      self.trapExit = true;
      const linked = where.system.spawn(async (other) => void await other.receive());
      self.link(linked);
      await new Promise((resolve) => setTimeout(resolve, 5));
      a.system.exit(linked, "boom");
      const exit = await self.receive() as Exit;
      const calm = where.system.spawn(async (other) => {
        await other.receive((message) => (message === "end" ? true : undefined));
      });
      a.system.exit(calm, "normal");
      const ref = self.monitor(calm);
      void calm.send("end");
      const down = await self.receive() as Down;
      const stubborn = where.system.spawn(async (other) => {
        other.trapExit = true;
        for await (const _ of other.mailbox);
      });
      self.monitor(stubborn);
      await new Promise((resolve) => setTimeout(resolve, 5));
      a.system.exit(stubborn, "please");
      a.system.exit(stubborn, "kill");
      const killed = await self.receive() as Down;
      result.resolve([exit.reason, down.ref.equals(ref), down.reason, killed.reason]);
    });
    assert.deepEqual(await result.promise, ["boom", true, "normal", "killed"]);
  }
});

test("a pid of an earlier life of a node is noproc", async () => {
  const network = actorNetwork();
  const a = network.node("a@x");
  const old = collector(network.node("b@x", 1).system).pid;
  const carried = Promise.withResolvers<unknown>();
  const reborn = network.node("b@x", 2);
  a.system.spawn(async (self) => {
    self.monitor(old);
    carried.resolve(await self.receive());
  });
  const down = await carried.promise as Down;
  assert.equal(down.reason, "noproc");
  assert.equal(reborn.system.all().length, 0);
});

test("what cannot travel throws at the sender and names the path, wherever it should go", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const cycle: unknown[] = [];
  cycle.push(cycle);
  const { pid: own, seen, next } = collector(a.system, "own");
  const other = collector(b.system).pid;
  a.system.spawn(async (self) => {
    for (const pid of [own, other]) {
      assert.throws(() => self.sendAfter(1, pid, { cannot: () => {} }), EncodeError);
    }
    await a.system.send(own, "checked");
  });
  assert.equal(await next(), "checked");
  for (const pid of [own, other]) {
    for (
      const [message, path] of [
        [{ list: [1, { run: () => {} }] }, "$.list[1].run"],
        [Symbol("x"), "$"],
        [{ "odd key": new (class Thing {})() }, '$["odd key"]'],
        [new Map([["k", new WeakSet()]]), '$["value 0"]'],
        ["\ud800", "$"],
      ] as const
    ) {
      const isRefused = (error: unknown) => error instanceof EncodeError && error.path === path;
      assert.throws(() => a.system.send(pid, message), isRefused);
      if (pid === own) await assert.rejects(a.system.sendTo("own", message), isRefused);
    }
    assert.throws(() => a.system.send(pid, cycle), EncodeError);
    assert.throws(() => a.system.send(pid, new Uint8Array(2 << 20)), /larger than/);
  }
  const message = { list: [1] };
  void a.system.send(own, message);
  assert.equal(await next(), message, "by reference");
  assert.deepEqual(seen, ["checked", message], "and nothing that was refused");
});

test("what is no pid is refused in words by all that take one", async () => {
  const { system } = actorNetwork().node("a@x");
  const said = Promise.withResolvers<string[]>();
  system.spawn((self) => {
    const wrong = "svc" as unknown as Pid;
    const tries = [
      () => self.link(wrong),
      () => self.unlink(wrong),
      () => self.monitor(5 as unknown as Pid),
      () => self.sendAfter(1, wrong, 1),
    ];
    said.resolve(tries.map((one) => {
      try {
        one();
        return "taken";
      } catch (error) {
        return error instanceof TypeError ? error.message : String(error);
      }
    }));
    return Promise.resolve();
  });
  assert.deepEqual(await said.promise, [
    "link takes a pid, not string",
    "unlink takes a pid, not string",
    "monitor takes a pid or a name, not number",
    "sendAfter takes a pid, not string",
  ]);
});

test("a busy pair of processes lets timers run", async () => {
  const { system } = actorNetwork().node("a@x");
  let turns = 0;
  const ping: Pid = system.spawn<Pid>(async (self) => {
    for await (const other of self.mailbox) void (other as Pid).send(self.pid);
  });
  const busy = system.spawn<Pid>(async (self) => {
    for (let i = 0; i < 50; i++) void ping.send(self.pid);
    for await (const other of self.mailbox) {
      turns++;
      void (other as Pid).send(self.pid);
    }
  });
  await new Promise((resolve) => setTimeout(resolve, 20));
  assert.ok(turns > 0);
  system.exit(busy, "kill");
  system.exit(ping, "kill");
});

test("a message can be sent later, unless that is cancelled or its sender has ended", async () => {
  const network = actorNetwork();
  const { system, meter } = network.node("a@x");
  const remote = collector(network.node("b@x").system);
  const { pid, next, seen } = collector(system);
  const gate = Promise.withResolvers<void>();
  const sender = system.spawn(async (self) => {
    self.sendAfter(5, pid, "cancelled").cancel();
    self.sendAfter(10, pid, "in time");
    const changed: unknown[] = [];
    self.sendAfter(10, remote.pid, changed);
    changed.push(() => {});
    self.sendAfter(60_000, pid, "too late");
    await self.receive();
    gate.resolve();
  });
  assert.equal(await next(), "in time");
  await waitFor(
    () => meter.snapshot()['barrel_messages_dropped_total{reason="not_sent"}'] === 1,
    { what: "what cannot travel is counted, and harms nobody" },
  );
  assert.equal(system.find(sender)?.timers?.size, 1);
  const process = system.find(sender);
  void sender.send("end");
  await gate.promise;
  await waitFor(() => process?.isAlive === false, { what: "its end" });
  assert.deepEqual(seen, ["in time"]);
});

test("an error ends its process with the error itself, stack and all", async () => {
  const { system, log } = actorNetwork().node("a@x");
  const done = Promise.withResolvers<unknown>();
  function culprit(): never {
    throw new RangeError("a mistake");
  }
  system.spawn(async (self) => {
    const { pid } = self.spawnMonitor(async () => {
      await Promise.resolve();
      culprit();
    });
    const down = await self.receive() as Down;
    assert.ok(pid.equals(down.target));
    done.resolve(down.reason);
  });
  const reason = await done.promise as RangeError;
  assert.ok(reason instanceof RangeError && reason.stack?.includes("culprit"));
  assert.ok(log.some((line) => /crashed: RangeError: a mistake/.test(line)), log.join("\n"));
});

test("whoever is killed learns of it by the signal, in the middle of other work", async () => {
  const { system } = actorNetwork().node("a@x");
  const told = Promise.withResolvers<string>();
  const began = Promise.withResolvers<void>();
  const pid = system.spawn(async (self) => {
    self.signal.addEventListener("abort", () => told.resolve("aborted"));
    began.resolve();
    await new Promise(() => {});
  });
  await began.promise;
  assert.equal(system.find(pid)?.signal.aborted, false);
  system.exit(pid, "kill");
  assert.equal(await told.promise, "aborted");
});

test("code that goes on after its process has ended holds on to nothing", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const other = collector(b.system).pid;
  const gate = Promise.withResolvers<void>();
  const result = Promise.withResolvers<unknown[]>();
  const pid = a.system.spawn(async (self) => {
    await gate.promise;
    const attempts = [
      () => self.monitor(other),
      () => self.link(other),
      () => self.spawnLink(() => {}),
      () => self.spawnMonitor(() => {}),
      () => self.sendAfter(1, other, "x"),
      () => self.monitorNode("b@x"),
    ];
    const thrown = attempts.map((attempt) => {
      try {
        attempt();
        return undefined;
      } catch (error) {
        return (error as { reason?: unknown }).reason;
      }
    });
    const received = await self.receive().catch((error: { reason?: unknown }) => error.reason);
    result.resolve([...thrown, received, self.signal.aborted]);
  });
  await new Promise((resolve) => setTimeout(resolve, 1));
  a.system.exit(pid, "kill");
  gate.resolve();
  assert.deepEqual(await result.promise, [...Array.from({ length: 7 }, () => "killed"), true]);
  assert.equal(a.system.all().length, 0);
  assert.equal(a.holds.get("b@x") ?? 0, 0);
});

test("a process that two others of one node are linked with tells both of a lost connection", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const told: unknown[] = [];
  const linked = [1, 2].map(() =>
    b.system.spawn(async (self) => {
      self.trapExit = true;
      told.push(await self.receive());
    })
  );
  a.system.spawn(async (self) => {
    for (const pid of linked) self.link(pid);
    await self.receive();
  });
  await waitFor(() => b.holds.get("a@x") === 1, { what: "the other end holds the link, too" });
  await waitFor(() => b.processes.info(linked[1] as Pid)?.links.length === 1, { what: "linked" });
  network.cut(a, b);
  await waitFor(() => told.length === 2, { what: "both are told" });
  assert.ok(told.every((exit) => exit instanceof Exit && exit.reason === "noconnection"));
  assert.equal(b.holds.get("a@x"), 0);
});

test("a node that is no member is down at once", async () => {
  const { system } = actorNetwork().node("a@x");
  const got = Promise.withResolvers<unknown>();
  system.spawn(async (self) => {
    self.monitorNode("nobody@x");
    got.resolve(await self.receive());
  });
  const down = await got.promise;
  assert.ok(down instanceof NodeDown && down.node === "nobody@x");
});
