import assert from "node:assert/strict";
import { ConfigError, EncodeError } from "../../src/base/errors.ts";
import { packNamed } from "../../src/actor/signals.ts";
import {
  CallTimeoutError,
  NodeDownError,
  NoProcessError,
  RemoteError,
} from "../../src/actor/errors.ts";
import { defineServer } from "../../src/actor/gen_server.ts";
import { concat } from "../../src/base/bytes.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { Down, Timeout } from "../../src/actor/messages.ts";
import { child } from "../../src/actor/supervisor_spec.ts";
import type { Pid } from "../../src/wire/pid.ts";
import { afterEach, test, waitFor } from "../harness.ts";
import { actorNetwork, closeNetworks } from "./network.ts";

const Counter = defineServer({
  init: (_ctx, start: number) => ({ n: start, told: [] as unknown[] }),
  calls: {
    add: (ctx, by: number) => (ctx.state.n += by),
    get: (ctx) => ctx.state.n,
    told: (ctx) => ctx.state.told,
    slow: async (_ctx, ms: number) => {
      await new Promise((resolve) => setTimeout(resolve, ms));
      return "done";
    },
    later: (ctx, value: string) => {
      const deferred = ctx.defer<string>();
      setTimeout(() => deferred.resolve(value), 5);
      return deferred;
    },
    fail: () => {
      throw Object.assign(new RangeError("no such thing"), { data: { code: 7 } });
    },
    unsendable: () => () => {},
    failBadly: () => {
      throw Object.assign(new RangeError("no such thing"), { data: () => {} });
    },
    refuse: (_ctx, text: string): number => {
      const message = `no such name ${text.slice(0, -1)}${text.slice(0, -1)}`;
      throw Object.assign(new Error(message), { code: "no_name" });
    },
    stop: (ctx) => {
      ctx.stop("enough");
      return "stopping";
    },
    hang: () => new Promise<never>(() => {}),
  },
  casts: {
    reset: (ctx) => {
      ctx.state.n = 0;
    },
  },
  info: (ctx, message) => {
    ctx.state.told.push(message);
  },
});

afterEach(closeNetworks);

test("a typed client calls and casts, here and on another node", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  for (const where of [a, b]) {
    const pid = await where.calls.start(Counter, [5]);
    const counter = a.calls.client(Counter, pid);
    const sum: number = await counter.add(3);
    assert.equal(sum, 8);
    void counter.reset();
    assert.equal(await counter.get(), 0);
    const later: string = await counter.later("in time");
    assert.equal(later, "in time");
    void a.system.send(pid, { hello: 1 });
    assert.deepEqual(await counter.told(), [{ hello: 1 }]);
  }
});

test("what the server throws reaches the caller with name, message and data", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const counter = a.calls.client(Counter, await b.calls.start(Counter, [0]));
  const error = await counter.fail().catch((thrown: unknown) => thrown) as RemoteError;
  assert.ok(error instanceof RemoteError);
  assert.deepEqual([error.name, error.message, error.data], [
    "RangeError",
    "no such thing",
    { code: 7 },
  ]);
});

test("what cannot travel fails at its sender, here as on another node", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  for (const where of [a, b]) {
    const pid = await where.calls.start(Counter, [0]);
    const counter = a.calls.client(Counter, pid);
    const wrong = (() => {}) as unknown as number;
    const isRefused = (error: unknown) => error instanceof EncodeError && error.path === "$[0]";
    await assert.rejects(counter.add(wrong), isRefused);
    assert.throws(() => (counter.reset as (value: unknown) => void)(wrong), isRefused);
    await assert.rejects(counter.unsendable(), (error) => {
      return error instanceof RemoteError && error.message.startsWith("the result cannot be sent");
    });
    await assert.rejects(counter.failBadly(), (error) => {
      return error instanceof RemoteError && error.name === "RangeError" &&
        error.message.startsWith("no such thing (the rest of it cannot be sent: $.data");
    });
    // What it throws has words of ours in it that cannot travel either.
    for (const text of ["abcd\u{1F600}", "x".repeat((1 << 19) + 9)]) {
      await assert.rejects(counter.refuse(text), (error) => {
        const cause = (error as RemoteError).cause as Error & { code?: unknown };
        return error instanceof RemoteError && error.message.startsWith("no such name") &&
          cause.code === "no_name";
      });
    }
    assert.equal(await counter.get(), 0, "the server lives on");
  }
});

test("a reason that cannot travel is told in words, and its process ends whole", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const unprintable = {
    toJSON() {
      throw new Error("no");
    },
    toString() {
      throw new Error("no");
    },
  };
  for (const reason of [new Error("half a pair: \ud83d"), "x".repeat(1 << 21), unprintable]) {
    const victim = b.system.spawn(async (self) => {
      await self.receive();
      throw reason;
    });
    const down = Promise.withResolvers<Down>();
    a.system.spawn(async (self) => {
      self.monitor(victim);
      void victim.send("go");
      down.resolve(await self.receive((message) => message instanceof Down ? message : undefined));
    });
    const told = (await down.promise).reason;
    assert.ok(typeof told === "string" && told.length <= 100 && told.isWellFormed());
    assert.equal(b.system.find(victim), undefined);
  }
});

test("a call that times out fails by name, and its late reply goes nowhere", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  for (const where of [a, b]) {
    const counter = a.calls.client(Counter, await where.calls.start(Counter, [0]));
    await assert.rejects(counter.with({ timeoutMs: 5 }).slow(20), CallTimeoutError);
    const abort = new AbortController();
    const call = counter.with({ signal: abort.signal }).slow(20);
    abort.abort(new Error("changed my mind"));
    await assert.rejects(call, /changed my mind/);
    assert.equal(await counter.get(), 0);
  }
});

test("calls to nobody, to a server that ends and over a lost link fail by name", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  for (const where of [a, b]) {
    const pid = await where.calls.start(Counter, [0]);
    const counter = a.calls.client(Counter, pid);
    const hanging = counter.hang();
    const waiting = counter.get();
    await new Promise((resolve) => setTimeout(resolve, 5));
    a.system.exit(pid, "kill");
    for (const call of [hanging, waiting]) {
      await assert.rejects(
        call,
        (error) => error instanceof NoProcessError && error.reason === "killed",
      );
    }
    await assert.rejects(
      counter.get(),
      (error) => error instanceof NoProcessError && error.reason === "noproc",
    );
  }
  await assert.rejects(a.calls.client(Counter, "nobody").get(), NoProcessError);
  const counter = a.calls.client(Counter, await b.calls.start(Counter, [0]));
  const hanging = counter.hang();
  await new Promise((resolve) => setTimeout(resolve, 1));
  network.cut(a, b);
  await assert.rejects(hanging, NodeDownError);
});

test("a call to an earlier life of a node is noproc, and others to that node go on", async () => {
  const network = actorNetwork();
  const a = network.node("a@x");
  const old = await network.node("b@x", 1).calls.start(Counter, [0]);
  const reborn = network.node("b@x", 2);
  const counter = a.calls.client(Counter, await reborn.calls.start(Counter, [7]));
  const slow = counter.slow(20);
  await assert.rejects(
    a.calls.client(Counter, old).get(),
    (error) => error instanceof NoProcessError && error.reason === "noproc",
  );
  assert.equal(await slow, "done");
  assert.equal(await counter.get(), 7);
});

test("a server that exits in the middle of a call refuses it with the reason", async () => {
  const { calls, system } = actorNetwork().node("a@x");
  const Quitter = defineServer({
    init: () => 0,
    calls: {
      now: (ctx) => ctx.self.exit("enough"),
      later: async (ctx) => {
        await Promise.resolve();
        ctx.self.exit("enough");
      },
    },
  });
  for (const method of ["now", "later"] as const) {
    const pid = await calls.start(Quitter, []);
    await assert.rejects(
      calls.client(Quitter, pid)[method](),
      (error) => error instanceof NoProcessError && error.reason === "enough",
    );
    assert.equal(system.find(pid), undefined);
  }
});

test("terminate is called before the end, but not for who is killed or does not trap", async () => {
  const { calls, system, supervisors } = actorNetwork().node("a@x");
  const told: unknown[] = [];
  const Last = defineServer({
    init: (ctx, trap: boolean) => void (ctx.self.trapExit = trap),
    casts: {
      stop: (ctx) => ctx.stop("enough"),
      fail: () => {
        throw new RangeError("on purpose");
      },
    },
    terminate: (_ctx, reason) => void told.push(reason),
  });
  const ended = (pid: Pid) => waitFor(() => system.find(pid) === undefined, { what: "its end" });
  for (const trap of [true, false]) {
    const first = await calls.start(Last, [trap]);
    void calls.client(Last, first).stop();
    await ended(first);
    const second = await calls.start(Last, [trap]);
    void calls.client(Last, second).fail();
    await ended(second);
    system.exit(await calls.start(Last, [trap]), "kill");
    const sup = await supervisors.supervise({
      children: [{ id: "x", start: child(Last, [trap]) }],
    });
    await sup.stop();
  }
  const reasons = told.map((reason) => reason instanceof RangeError ? "on purpose" : reason);
  assert.deepEqual(reasons, ["enough", "on purpose", "shutdown", "enough", "on purpose"]);
});

test("a server that nobody talks to is told so, unless a message comes first", async () => {
  const { calls } = actorNetwork().node("a@x");
  const told: string[] = [];
  const Idle = defineServer({
    init: (ctx) => ctx.timeoutAfter(10),
    calls: {
      wait: (ctx, ms: number) => ctx.timeoutAfter(ms),
      nothing: () => void told.push("nothing"),
    },
    info: (_ctx, message) => {
      if (message instanceof Timeout) told.push(`silence for ${message.ms} ms`);
    },
  });
  const idle = calls.client(Idle, await calls.start(Idle, []));
  await waitFor(() => told.length === 1, { what: "the first silence" });
  await idle.wait(30);
  await idle.nothing();
  await idle.wait(20);
  await waitFor(() => told.length === 3, { what: "the second silence" });
  assert.deepEqual(told, ["silence for 10 ms", "nothing", "silence for 20 ms"]);
});

test("a server stops with its reason after it has answered", async () => {
  const { calls, system } = actorNetwork().node("a@x");
  const pid = await calls.start(Counter, [0]);
  const reason = new Promise((resolve) =>
    system.exitListeners.add((ended, why) => void (ended.equals(pid) && resolve(why)))
  );
  assert.equal(await calls.client(Counter, pid).stop(), "stopping");
  assert.equal(await reason, "enough");
});

test("start fails with what init throws", async () => {
  const { calls, system } = actorNetwork().node("a@x");
  const Broken = defineServer({
    init: () => {
      throw new RangeError("cannot start");
    },
  });
  const ended = new Promise<void>((resolve) => system.exitListeners.add(() => resolve()));
  await assert.rejects(calls.start(Broken, []), /cannot start/);
  await ended;
  assert.equal(system.all().length, 0);
});

test("init may take its time, and fail then", async () => {
  const { calls, system } = actorNetwork().node("a@x");
  const opened = Promise.withResolvers<void>();
  const Late = defineServer({
    init: async (_ctx, isFine: boolean) => {
      await opened.promise;
      if (!isFine) throw new RangeError("cannot start");
      return { n: 7 };
    },
    calls: { get: (ctx) => ctx.state.n },
  });
  // A call that comes early waits for the state.
  const starting = calls.start(Late, [true], { name: "late" });
  const early = calls.client(Late, "late").get();
  const killed = calls.start(Late, [true], { name: "killed" });
  system.exit(system.find("killed")?.pid as Pid, "kill");
  await assert.rejects(killed, NoProcessError);
  opened.resolve();
  assert.equal(await early, 7);
  assert.equal(system.find("late")?.pid.equals(await starting), true);
  await assert.rejects(calls.start(Late, [false], { name: "never" }), /cannot start/);
  assert.equal(system.find("never"), undefined);
});

test("a server is called by its name: of its own node first, then of the cluster", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const there = await b.calls.start(Counter, [1]);
  a.names.set("counter", there);
  const counter = a.calls.client(Counter, "counter");
  assert.equal(await counter.get(), 1);
  await counter.reset();
  assert.equal(await counter.get(), 0);
  await a.calls.start(Counter, [5], { name: "counter" });
  assert.equal(await counter.get(), 5);
});

test("a client of nobody is refused where it is made", () => {
  const { calls } = actorNetwork().node("a@x");
  const Empty = defineServer({ init: () => null });
  for (const target of [undefined, null, 5, {}] as never[]) {
    assert.throws(() => calls.client(Empty, target), /a client calls a pid or a name/);
  }
});

test("a definition with a reserved or doubled name is refused", () => {
  const init = () => 0;
  assert.throws(() => defineServer({ init, calls: { then: () => 0 } }), ConfigError);
  assert.throws(() => defineServer({ init, casts: { with: () => {} } }), ConfigError);
  const long = "é".repeat(128);
  assert.throws(() => defineServer({ init, calls: { [long]: () => 0 } }), ConfigError);
  assert.throws(
    () => defineServer({ init, calls: { x: () => 0 }, casts: { x: () => {} } }),
    ConfigError,
  );
});

test("a message that looks like a deferred reply is a value like any other", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const Echo = defineServer({
    init: () => 0,
    calls: {
      now: (_ctx, value: unknown) => value,
      later: async (_ctx, value: unknown) => await Promise.resolve(value),
    },
  });
  const echo = a.calls.client(Echo, await b.calls.start(Echo, []));
  for (const forged of [{ isDeferred: true }, { isDeferred: true, promise: "none" }]) {
    assert.deepEqual(await echo.now(forged), forged);
    assert.deepEqual(await echo.later(forged), forged);
  }
});

test("a server knows who calls and casts: the process that the client named, or the node", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const seen: (Pid | undefined)[] = [];
  const Door = defineServer({
    init: () => 0,
    calls: { who: (ctx) => ctx.from },
    casts: { knock: (ctx) => void seen.push(ctx.from) },
    info: (ctx) => void seen.push(ctx.from),
  });
  for (const where of [a, b]) {
    const pid = await where.calls.start(Door, []);
    const caller = a.system.spawn(async (self) => void await self.receive());
    const named = a.calls.client(Door, pid, { from: caller });
    assert.ok((await named.who())?.equals(caller), "the process");
    const unnamed = await a.calls.client(Door, pid).who();
    assert.deepEqual([unnamed?.node, unnamed?.id], ["a@x", 0]);
    seen.length = 0;
    await named.knock();
    void a.system.send(pid, "hello");
    await waitFor(() => seen.length === 2, { what: "a cast and a message" });
    assert.ok(seen[0]?.equals(caller));
    assert.equal(seen[1], undefined, "a plain message says nothing of its sender");
  }
  const elsewhere = b.system.spawn(() => {});
  const pid = await b.calls.start(Door, []);
  assert.throws(() => a.calls.client(Door, pid, { from: elsewhere }), /from a process of a@x/);
});

test("a peer can call own functions only, and broken frames never get through", async () => {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const pid = await b.calls.start(Counter, [1]);
  const Liar = defineServer({ init: () => 0, calls: { valueOf: () => 1, toString: () => "" } });
  const client = a.calls.client(Liar, pid);
  await assert.rejects(client.valueOf(), /no call "valueOf"/);
  await assert.rejects(client.toString(), /no call "toString"/);
  // Every prefix and every single changed byte of a good frame.
  const good = concat([packNamed("add", pid.id, 0, 0), a.system.encode([1], "b@x", 1)]);
  for (let i = 0; i < good.length; i++) {
    for (const body of [good.slice(0, i), good.with(i, (good[i] as number) ^ 0x80)]) {
      try {
        network.inject(a, b, FrameType.CALL, new Uint8Array(body));
      } catch (error) {
        assert.equal((error as { code?: string }).code, "protocol");
      }
    }
  }
  assert.equal(typeof await a.calls.client(Counter, pid).get(), "number");
});
