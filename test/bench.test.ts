/** That the measurement works; what it measures is not judged here. */
import assert from "node:assert/strict";
import process from "node:process";
import { describe, runtime, test } from "./harness.ts";
import { startProgram } from "./processes.ts";

const skip = runtime === "node" ? false : "once is enough: it starts programs of its own";
const PAIR = ["--quick", "--pair", "node-node"];

function pidsIn(output: readonly string[]): number[] {
  return output.flatMap((line) => {
    const pid = / process (\d+)$/.exec(line)?.[1];
    return pid === undefined ? [] : [Number(pid)];
  });
}

function assertGone(pids: readonly number[]): void {
  for (const pid of pids) {
    assert.throws(() => process.kill(pid, 0), { code: "ESRCH" }, `process ${pid} still lives`);
  }
}

describe("npm run bench", () => {
  test("measures a pair and a failing node, and leaves no process", {
    timeoutMs: 180_000,
    skip,
  }, async () => {
    const bench = startProgram("node", "bench/main.ts", [...PAIR, "--json"]);
    try {
      assert.equal(await bench.exited, 0, bench.output.join("\n"));
    } finally {
      await bench.kill();
    }
    const { output } = bench;
    const figures = JSON.parse(output.slice(output.indexOf("{")).join("\n")) as {
      pairs: Record<string, Record<string, number>>;
      down: { killed: string; survivor: string; afterMs: number }[];
    };
    const pair = figures.pairs["node-node"] ?? {};
    assert.deepEqual(Object.keys(pair).toSorted(), [
      "bulkMiBPerSecond",
      "callMedianUs",
      "callP99Us",
      "callToEcho",
      "callsPerSecond",
      "echoMedianUs",
      "echoP99Us",
      "joinMs",
      "largeMiBPerSecond",
      "messagesPerSecond",
    ]);
    for (const [name, value] of Object.entries(pair)) assert.ok(value > 0, `${name} is ${value}`);
    assert.equal(figures.down.length, 2);
    for (const { killed, survivor, afterMs } of figures.down) {
      assert.equal(`${killed} ${survivor}`, "node node");
      assert.ok(afterMs > 0, `nodeDown came ${afterMs} ms after the kill`);
    }
    const pids = pidsIn(output);
    assert.equal(pids.length, 5);
    assertGone(pids);
  });

  test("measures actors inside one node and across two", { timeoutMs: 180_000, skip }, async () => {
    const bench = startProgram("node", "bench/main.ts", ["actors", ...PAIR, "--json"]);
    try {
      assert.equal(await bench.exited, 0, bench.output.join("\n"));
    } finally {
      await bench.kill();
    }
    const { output } = bench;
    const { local } = JSON.parse(output.slice(output.indexOf("{")).join("\n")) as {
      local: Record<string, Record<string, number>>;
    };
    const figures = Object.entries(local["node"] ?? {});
    assert.equal(figures.length, 8);
    for (const [name, value] of figures) {
      // Of a few processes, memory says nothing.
      assert.ok(name.endsWith("Process") ? Number.isFinite(value) : value > 0, name);
    }
    assertGone(pidsIn(output));
  });

  test("measures links beside the bare transport", { timeoutMs: 180_000, skip }, async () => {
    const bench = startProgram("node", "bench/main.ts", ["links", ...PAIR, "--json"]);
    try {
      assert.equal(await bench.exited, 0, bench.output.join("\n"));
    } finally {
      await bench.kill();
    }
    const { output } = bench;
    const { links } = JSON.parse(output.slice(output.indexOf("{")).join("\n")) as {
      links: Record<string, { links: Record<string, number>; udp: Record<string, number> }>;
    };
    const { links: figures = {}, udp = {} } = links["node-node"] ?? {};
    assert.equal(Object.keys(figures).length, 16);
    for (const [name, value] of Object.entries({ ...figures, ...udp })) {
      // Of a few connections, memory says nothing; and it may shrink.
      if (name.endsWith("Kb")) assert.ok(Number.isFinite(value), name);
      else assert.ok(value > 0, `${name} is ${value}`);
    }
    assertGone(pidsIn(output));
  });

  test("measures streams beside a bare pipe", { timeoutMs: 180_000, skip }, async () => {
    const bench = startProgram("node", "bench/main.ts", ["streams", ...PAIR, "--json"]);
    try {
      assert.equal(await bench.exited, 0, bench.output.join("\n"));
    } finally {
      await bench.kill();
    }
    const { output } = bench;
    const { streams } = JSON.parse(output.slice(output.indexOf("{")).join("\n")) as {
      streams: Record<string, Record<string, number>>;
    };
    const figures = streams["node-node"] ?? {};
    assert.equal(Object.keys(figures).length, 7);
    for (const [name, value] of Object.entries(figures)) {
      assert.ok(value > 0, `${name} is ${value}`);
    }
    assertGone(pidsIn(output));
  });

  test("kills what it started when it is interrupted", { skip }, async () => {
    const bench = startProgram("node", "bench/main.ts", PAIR);
    await bench.line(/: client: join$/);
    await bench.kill("SIGINT");
    assert.equal(await bench.exited, 130);
    const pids = pidsIn(bench.output);
    assert.equal(pids.length, 2);
    assertGone(pids);
  });

  test("says what is wrong with its options", async () => {
    const bench = startProgram("node", "bench/main.ts", ["--pair", "node-perl"]);
    assert.equal(await bench.exited, 2);
    assert.match(bench.output.join("\n"), /node-perl is no pair of runtimes/);
    const part = startProgram("node", "bench/main.ts", ["speed"]);
    assert.equal(await part.exited, 2);
    assert.match(
      part.output.join("\n"),
      /there is no part speed; there are nodes, links, actors, streams/,
    );
  });
});
