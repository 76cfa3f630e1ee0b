import assert from "node:assert/strict";
import { enter } from "../examples/chat/visit.ts";
import { createNode } from "../mod.ts";
import type { Node } from "../mod.ts";
import { scopedClock } from "../src/base/scoped_clock.ts";
import { realClock } from "../src/base/real.ts";
import { createMemoryNetwork } from "../src/transport/memory.ts";
import { startProgram } from "./processes.ts";
import type { Program, RuntimeName } from "./processes.ts";
import { afterEach, describe, runtime, test, waitFor } from "./harness.ts";

// The examples are run on the three runtimes from here: once is enough.
const skip = runtime !== "node" && "run on Node";

const programs: Program[] = [];
afterEach(async () => {
  await Promise.all(programs.splice(0).map((program) => program.kill("SIGKILL")));
});

function run(on: RuntimeName, example: string, ...args: string[]): Program {
  const program = startProgram(on, `examples/${example}/main.ts`, args);
  programs.push(program);
  return program;
}

const addressOf = async (program: Program) =>
  (await program.line(/--join (quic:\/\/\S+)/))[1] as string;

/** Waits until a line has come that often. */
function times(program: Program, match: RegExp, count: number): Promise<void> {
  return waitFor(() => program.output.filter((line) => match.test(line)).length >= count, {
    what: `${count} times ${match} in\n${program.output.join("\n")}`,
    deadlineMs: 30_000,
  });
}

test("the counter is used from another runtime, and comes back when it crashes", {
  skip,
  timeoutMs: 60_000,
}, async () => {
  const home = run("bun", "counter");
  const address = await addressOf(home);
  const user = run("node", "counter", "--join", address);
  await user.line(/Commands/);
  user.say("add 5");
  await user.line(/the counter is 5/);
  home.say("add 2");
  await home.line(/the counter is 7/);
  user.say("crash");
  user.say("nonsense");
  await user.line(/commands: add NUMBER/);
  await waitFor(() => {
    user.say("get");
    return user.output.some((line) => /the counter is 0/.test(line));
  }, { what: "it starts afresh" });
  user.say("quit");
  assert.equal(await user.exited, 0);
  home.child.kill("SIGINT");
  assert.equal(await home.exited, 0);
});

test("the pool gives every worker something to do, and finishes without one that dies", {
  skip,
  timeoutMs: 90_000,
}, async () => {
  const boss = run("node", "worker_pool", "--workers", "3", "--jobs", "300");
  const address = await addressOf(boss);
  const workers = (["deno", "bun", "node"] as const).map((on) =>
    run(on, "worker_pool", "--join", address)
  );
  await boss.line(/300 jobs/);
  await boss.line(/All done/, 60_000);
  const did = boss.output.flatMap((line) => {
    const match = / (\S+) \((\w+)\) did (\d+)/.exec(line);
    return match === null ? [] : [[match[2], Number(match[3])] as const];
  });
  assert.deepEqual(did.map(([on]) => String(on)).sort((x, y) => x < y ? -1 : 1), [
    "Bun",
    "Deno",
    "Node",
  ]);
  assert.equal(did.reduce((sum, [, count]) => sum + count, 0), 300);
  assert.ok(did.every(([, count]) => count >= 10), "nobody was left out");
  assert.equal(await boss.exited, 0);
  for (const worker of workers) {
    worker.child.kill("SIGINT");
    assert.equal(await worker.exited, 0);
  }
});

describe("the chat", () => {
  test("keeps what was said in two rooms of one name when they become one", {
    timeoutMs: 60_000,
  }, async () => {
    const clock = scopedClock(realClock);
    const network = createMemoryNetwork({ clock });
    const [a, b] = await Promise.all(["a", "b"].map((name) =>
      createNode({
        name: `${name}@x`,
        listen: [`mem://${name}`],
        transports: [network.host(name).transport],
      })
    )) as [Node, Node];
    const heard: Record<string, string[]> = { ann: [], ben: [] };
    const visits = ([[a, "ann"], [b, "ben"]] as const).map(([node, nick]) =>
      enter(node, "lobby", nick, (event) => {
        if (event.type === "said") heard[nick]?.push(event.line.text);
      })
    );
    visits[0]?.say("one");
    visits[1]?.say("two");
    await waitFor(() => heard["ann"]?.length === 1 && heard["ben"]?.length === 1, {
      what: "each alone in a room",
    });
    await b.membership.join("mem://a");
    await waitFor(() => visits[0]?.host() === visits[1]?.host(), { what: "one room" });
    visits[0]?.say("three");
    for (const nick of ["ann", "ben"]) {
      await waitFor(() => heard[nick]?.includes("three") === true, { what: `news for ${nick}` });
    }
    // Who lived in the room that stayed has heard the other's line, and nobody heard one twice.
    const winner = visits[0]?.host() === "a@x" ? "ann" : "ben";
    await waitFor(() => heard[winner]?.length === 3, { what: "what was said in the other room" });
    assert.deepEqual([...heard[winner] ?? []].sort(), ["one", "three", "two"]);
    for (const nick of ["ann", "ben"]) {
      assert.equal(new Set(heard[nick]).size, heard[nick]?.length, `${nick} heard all once`);
    }
    await Promise.all([a.close(), b.close()]);
    clock.close();
  });

  test("goes on when whoever made the room leaves, with all that was said", {
    skip,
    timeoutMs: 120_000,
  }, async () => {
    const alice = run("deno", "chat", "--nick", "alice");
    const address = await addressOf(alice);
    await alice.line(/you are in lobby, you are the first/);
    const bob = run("bun", "chat", "--nick", "bob", "--join", address);
    await bob.line(/you are in lobby, with alice/);
    const carol = run("node", "chat", "--nick", "carol", "--join", address);
    await carol.line(/you are in lobby, with alice, bob/);
    await alice.line(/carol has come/);
    bob.say("hello from bob");
    for (const one of [alice, bob, carol]) await one.line(/bob {2}hello from bob/);
    carol.say("/who");
    await carol.line(/alice on chat-/);

    alice.child.kill("SIGINT");
    assert.equal(await alice.exited, 0);
    for (const one of [bob, carol]) await one.line(/the room lives on chat-/, 45_000);
    carol.say("still here");
    for (const one of [bob, carol]) await one.line(/carol {2}still here/);

    // A newcomer sees what was said in both homes.
    bob.say("/invite");
    const dave = run("deno", "chat", "--nick", "dave", "--join", await addressOf(bob));
    await dave.line(/you are in lobby, with/);
    await dave.line(/bob {2}hello from bob/);
    await dave.line(/carol {2}still here/);

    // A home that dies without a word is no different.
    bob.say("/who");
    dave.say("/who");
    const [, home] = await dave.line(/the room lives on (chat-\d+)/);
    const host = [bob, carol].find(({ pid }) => home === `chat-${pid}`) as Program;
    assert.ok(host, `one of them is the home, not ${home}`);
    const rest = [bob, carol, dave].filter((one) => one !== host);
    await host.kill("SIGKILL");
    for (const one of rest) await times(one, /the room's home has gone/, one === dave ? 1 : 2);
    for (const one of rest) {
      await times(one, /the room lives on chat-\S+ now/, one === dave ? 1 : 2);
    }
    dave.say("and on it goes");
    for (const one of rest) await one.line(/dave {2}and on it goes/);
    for (const one of rest) {
      one.say("/quit");
      assert.equal(await one.exited, 0);
    }
  });

  test("has other rooms, and refuses nonsense", { skip, timeoutMs: 60_000 }, async () => {
    const alice = run("node", "chat", "--nick", "alice", "--room", "tea");
    const address = await addressOf(alice);
    await alice.line(/you are in tea/);
    const bob = run("bun", "chat", "--nick", "bob", "--room", "coffee", "--join", address);
    await bob.line(/you are in coffee, you are the first/);
    bob.say("/rooms");
    await bob.line(/coffee, tea/);
    bob.say("/join tea");
    await alice.line(/bob has come/);
    alice.say("\u001b[2Jwelcome");
    await bob.line(/alice {2}\[2Jwelcome/);
    bob.child.stdin?.end();
    assert.equal(await bob.exited, 0);
    await alice.line(/bob has left/);
    alice.say("/help");
    await alice.line(/\/invite +how others get here/);
  });
});

test("an example that is stopped early, or finds nobody, says no more than that", {
  skip,
  timeoutMs: 60_000,
}, async () => {
  const boss = run("node", "worker_pool");
  await addressOf(boss);
  boss.child.kill("SIGINT");
  assert.equal(await boss.exited, 0);
  assert.deepEqual(boss.output.filter((line) => /at a time|have gone/.test(line)), []);
  const user = run("node", "counter", "--join", "quic://127.0.0.1:1");
  await user.line(/has not joined/);
  assert.equal(await user.exited, 1);
  assert.deepEqual(user.output.filter((line) => /Commands/.test(line)), []);
});

test("each example explains itself and refuses nonsense", { skip, timeoutMs: 60_000 }, async () => {
  const nonsense = {
    counter: [["--port", "x"], ["--what"]],
    worker_pool: [["--jobs", "0"]],
    chat: [["--nick", "a b"]],
    shared_counter: [["--what"]],
    relay: [["--what"]],
  };
  await Promise.all(
    Object.entries(nonsense).map(async ([example, calls]) => {
      const help = run("node", example, "--help");
      await help.line(/--help {3}/);
      assert.equal(await help.exited, 0);
      for (const args of calls) {
        const program = run("node", example, ...args);
        await program.line(/must be a number|Unknown option|has 1 to 24 letters/);
        assert.equal(await program.exited, 2);
      }
    }),
  );
});
