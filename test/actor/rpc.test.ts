import assert from "node:assert/strict";
import {
  CallTimeoutError,
  NodeDownError,
  NoProcedureError,
  NoProcessError,
  RemoteError,
} from "../../src/actor/errors.ts";
import { packCall } from "../../src/actor/rpc_messages.ts";
import type { Rpc } from "../../src/actor/rpc.ts";
import { concat } from "../../src/base/bytes.ts";
import {
  ConfigError,
  ConflictError,
  EncodeError,
  OverloadedError,
  ProtocolError,
} from "../../src/base/errors.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { packNumbers } from "../../src/actor/signals.ts";
import { afterEach, describe, test, waitFor } from "../harness.ts";
import { actorNetwork, closeNetworks } from "./network.ts";

afterEach(closeNetworks);

/** Procedures, and what became of them. */
function mathApi(rpc?: Rpc) {
  const seen = { produced: 0, returned: 0, aborted: 0, peers: [] as string[] };
  const api = {
    add: (a: number, b: number) => a + b,
    list: (n: number) => Array.from({ length: n }, (_, i) => i),
    who: () => {
      const peer = rpc?.context().peer;
      seen.peers.push(String(peer));
      return peer;
    },
    *upTo(n: number): Generator<number> {
      for (let i = 0; i < n; i++) {
        seen.produced++;
        yield i;
      }
    },
    async *forever(): AsyncGenerator<number> {
      try {
        for (let i = 0;; i++) {
          seen.produced++;
          yield i;
        }
      } finally {
        seen.returned++;
      }
    },
    async *breaksAt(n: number): AsyncGenerator<number> {
      for (let i = 0; i < n; i++) yield i;
      throw new RangeError(`no ${n}`);
    },
    *halfAPair(text: string): Generator<unknown> {
      yield 1;
      throw new Error(`no such name ${text.slice(0, -1)}`);
    },
    *unsendableAt(n: number): Generator<unknown> {
      for (let i = 0; i < n; i++) yield i;
      yield () => {};
    },
    fail: () => {
      throw Object.assign(new RangeError("no such thing"), { data: { code: 7 } });
    },
    unsendable: () => () => {},
    hang: () => {
      const { signal } = (rpc as Rpc).context();
      signal.addEventListener("abort", () => seen.aborted++);
      return new Promise<never>(() => {});
    },
  };
  return { api, seen };
}

/** Two nodes, the second of which exposes the procedures; calls go there, or stay. */
function world() {
  const network = actorNetwork();
  const a = network.node("a@x"), b = network.node("b@x");
  const { api, seen } = mathApi(b.rpc);
  b.rpc.expose("math", api);
  const remote = a.rpc.client<typeof api>("b@x", "math");
  const local = b.rpc.client<typeof api>("b@x", "math");
  return { network, a, b, api, seen, remote, local };
}

describe("a remote procedure", () => {
  test("gives its value to whoever awaits it, here and on another node", async () => {
    const { remote, local, seen } = world();
    for (const math of [remote, local]) {
      const sum: number = await math.add(1, 2);
      assert.equal(sum, 3);
      assert.deepEqual(await math.list(3), [0, 1, 2]);
      await math.who();
    }
    assert.deepEqual(seen.peers, ["a@x", "b@x"]);
  });

  test("gives many items at once or one after the other, array or stream alike", async () => {
    const { remote, local } = world();
    for (const math of [remote, local]) {
      for (const count of [0, 1, 15, 16, 17, 100]) {
        const expected = Array.from({ length: count }, (_, i) => i);
        const all: number[] = await math.upTo(count);
        assert.deepEqual(all, expected);
        for (const result of [math.upTo(count), math.list(count)]) {
          const items: number[] = [];
          for await (const item of result) items.push(item);
          assert.deepEqual(items, expected);
        }
      }
      const single: number[] = [];
      for await (const item of math.add(1, 1)) single.push(item);
      assert.deepEqual(single, [2]);
    }
  });

  test("waits with its next item until the caller has room for it", async () => {
    const { remote, local, seen, b } = world();
    for (const math of [remote, local]) {
      seen.produced = 0;
      const items = math.forever()[Symbol.asyncIterator]();
      await waitFor(() => seen.produced === 16, { what: "the window is full" });
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.equal(seen.produced, 16, "nobody took any");
      for (let i = 0; i < 100; i++) assert.deepEqual(await items.next(), { done: false, value: i });
      await new Promise((resolve) => setTimeout(resolve, 20));
      assert.ok(seen.produced > 100 && seen.produced <= 116, `${seen.produced} for 100 taken`);
      await items.return?.();
      await waitFor(() => b.system.all().length === 0, { what: "the producer has ended" });
      assert.deepEqual(await items.next(), { done: true, value: undefined });
    }
    assert.equal(seen.returned, 2, "each generator was told");
  });

  test("lets timers run, also where both ends are on one node", async () => {
    const { local } = world();
    let isOver = false;
    setTimeout(() => (isOver = true), 5);
    for await (const _ of local.forever()) if (isOver) break;
  });

  test("is cancelled by leaving the loop, by a signal and by a lost connection", async () => {
    const { network, a, b, remote, seen } = world();
    for await (const item of remote.forever()) if (item === 20) break;
    await waitFor(() => seen.returned === 1, { what: "the generator has returned" });

    const abort = new AbortController();
    const loop = async () => {
      for await (const item of remote.with({ signal: abort.signal }).forever()) {
        if (item === 20) abort.abort(new Error("changed my mind"));
      }
    };
    await assert.rejects(loop(), /changed my mind/);
    await waitFor(() => seen.returned === 2, { what: "the generator has returned" });
    await assert.rejects(
      Promise.resolve(remote.with({ signal: AbortSignal.abort(new Error("too late")) }).add(1, 1)),
      /too late/,
    );

    const stream = remote.forever()[Symbol.asyncIterator]();
    const hanging = Promise.resolve(remote.hang());
    await stream.next();
    network.cut(a, b);
    await assert.rejects(hanging, NodeDownError);
    const rest = async () => {
      while (!(await stream.next()).done);
    };
    await assert.rejects(rest(), NodeDownError);
    await waitFor(() => seen.returned === 3 && seen.aborted === 1, { what: "all was told" });
    assert.deepEqual([a, b].flatMap(({ system }) => system.all()), []);
  });

  test("fails by name", async () => {
    const { a, b, remote, local } = world();
    for (const math of [remote, local]) {
      const error = await Promise.resolve(math.fail()).catch((thrown: unknown) => thrown);
      assert.ok(error instanceof RemoteError);
      assert.deepEqual([error.name, error.message, error.data], [
        "RangeError",
        "no such thing",
        { code: 7 },
      ]);
      await assert.rejects(
        Promise.resolve(math.with({ timeoutMs: 10 }).hang()),
        CallTimeoutError,
      );
      const items: number[] = [];
      const broken = async () => {
        for await (const item of math.breaksAt(20)) items.push(item);
      };
      await assert.rejects(broken(), /no 20/);
      assert.equal(items.length, 20, "what came before the error was not lost");
    }
    for (const math of [remote, local]) {
      await assert.rejects(Promise.resolve(math.unsendable()), /the result cannot be sent/);
      await assert.rejects(Promise.resolve(math.unsendableAt(3)), /the result cannot be sent/);
      await assert.rejects(async () => {
        for await (const item of math.halfAPair("\u{1F600}")) assert.equal(item, 1);
      }, /no such name/);
      assert.throws(() => math.add(Symbol("x") as unknown as number, 1), EncodeError);
    }
    const away = a.rpc.client<{ x(): void }>("c@x", "math");
    await assert.rejects(Promise.resolve(away.x()), NodeDownError);
    // A call is a process of the called node, and can be killed there.
    const hanging = Promise.resolve(remote.hang());
    await waitFor(() => b.system.all().length === 1, { what: "the call has begun" });
    for (const { pid } of b.system.all()) b.system.exit(pid, "kill");
    await assert.rejects(
      hanging,
      (error) => error instanceof NoProcessError && error.reason === "killed",
    );
  });

  test("answers slowly or not at all without a trace, once it has timed out", async () => {
    const { b, remote, seen } = world();
    await assert.rejects(Promise.resolve(remote.with({ timeoutMs: 5 }).hang()), CallTimeoutError);
    await waitFor(() => b.system.all().length === 0, { what: "the call has ended there" });
    assert.equal(seen.aborted, 1);
    assert.equal(await remote.add(2, 2), 4);
  });

  test("is one of the object's own functions, and nothing else", async () => {
    const { a, b } = world();
    class Service {
      secret = "x";
      run = () => "ran";
      inherited(): string {
        return "inherited";
      }
    }
    assert.throws(() => b.rpc.expose("service", new Service() as never), ConfigError);
    const { run } = new Service();
    const takeBack = b.rpc.expose("service", { run });
    const service = a.rpc.client<{ run(): string }>("b@x", "service");
    assert.equal(await service.run(), "ran");
    const callOf = (name: string) => (Reflect.get(service, name) as () => Promise<unknown>)();
    for (const name of ["constructor", "__proto__", "toString", "valueOf", "inherited", "hasOwn"]) {
      await assert.rejects(Promise.resolve(callOf(name)), NoProcedureError, name);
    }
    const nothing = a.rpc.client<{ run(): void }>("b@x", "toString");
    await assert.rejects(Promise.resolve(nothing.run()), NoProcedureError);
    assert.throws(() => b.rpc.expose("service", { run }), ConflictError);
    for (const name of ["then", "with", "constructor", "", "é".repeat(128)]) {
      assert.throws(() => b.rpc.expose("other", { [name]: run }), ConfigError);
    }
    assert.throws(() => b.rpc.expose("empty", {}), ConfigError);
    assert.throws(() => b.rpc.context(), ConfigError);
    takeBack();
    await assert.rejects(Promise.resolve(service.run()), NoProcedureError);
    assert.equal(await Promise.resolve(service), service, "a client is no promise");
  });
});

describe("of a hostile peer", () => {
  const call = (id: number, procedure: string, credit = 16) =>
    packCall({ type: "call", id, credit, service: "math", procedure, args: [] }).slice();

  test("more calls than a peer may run at once are refused, and others are served", async () => {
    const { network, a, b, api } = world();
    const math = a.rpc.client<typeof api>("b@x", "math").with({ timeoutMs: Infinity });
    const abort = new AbortController();
    const hanging = Array.from(
      { length: 1_024 },
      () => Promise.resolve(math.with({ signal: abort.signal }).hang()),
    );
    await assert.rejects(Promise.resolve(math.add(1, 1)), OverloadedError);
    const c = network.node("c@x");
    assert.equal(await c.rpc.client<typeof api>("b@x", "math").add(1, 1), 2);
    assert.equal(b.meter.snapshot()['barrel_rpc_refused_total{reason="busy"}'], 1);
    abort.abort(new Error("enough"));
    assert.equal((await Promise.allSettled(hanging)).length, 1_024);
    await waitFor(() => b.system.all().length === 0, { what: "all have ended" });
    assert.equal(await math.add(1, 1), 2);
  });

  test("a number used twice, too much credit and items unasked for end the link", async () => {
    const { network, a, b } = world();
    const args = a.system.encode([], "b@x", 1).slice();
    const refused = (type: number, ...parts: Uint8Array[]) =>
      assert.throws(() => network.inject(a, b, type, concat(parts)), ProtocolError);
    network.inject(a, b, FrameType.RPC_CALL, concat([call(9, "hang"), args]));
    refused(FrameType.RPC_CALL, call(9, "hang"), args);
    refused(FrameType.RPC_CALL, call(10, "add", 1_025), args);
    refused(FrameType.RPC_CREDIT, packNumbers(9, 0));
    refused(FrameType.RPC_CREDIT, packNumbers(9, 1_024));
    refused(FrameType.RPC_CALL, call(11, "add"), a.system.encode({}, "b@x", 1).slice());
    // The called side may not send more than it was asked for, either.
    const item = concat([packNumbers(1).slice(), a.system.encode("x", "a@x", 1).slice()]);
    const api = { hang: () => {} };
    const hanging = Promise.resolve(a.rpc.client<typeof api>("b@x", "math").hang());
    assert.throws(() => network.inject(b, a, FrameType.RPC_ITEM, item), ProtocolError);
    network.inject(network.node("c@x"), a, FrameType.RPC_ITEM, item);
    network.cut(a, b);
    await assert.rejects(hanging, NodeDownError);
  });

  test("broken frames never get through", async () => {
    const { network, a, b, remote } = world();
    const good = concat([call(99, "add"), a.system.encode([1, 2], "b@x", 1)]);
    for (const type of [FrameType.RPC_CALL, FrameType.RPC_CREDIT, FrameType.RPC_CANCEL]) {
      for (let i = 0; i < good.length; i++) {
        for (const body of [good.slice(0, i), good.with(i, (good[i] as number) ^ 0x80)]) {
          try {
            network.inject(a, b, type, new Uint8Array(body));
          } catch (error) {
            assert.equal((error as { code?: string }).code, "protocol");
          }
        }
      }
    }
    assert.equal(await remote.add(1, 2), 3);
  });
});
