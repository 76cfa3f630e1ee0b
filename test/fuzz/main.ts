/** `npm run fuzz`: random and mutated packets and frames at a node of each runtime. */
import process from "node:process";
import { readOptions, refuse } from "../../examples/arguments.ts";
import { createNode, defineServer } from "../../mod.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import { layFoundation, makeWorld } from "../../src/node/foundation.ts";
import { quicUnderTest } from "../conformance/world.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import type { RuntimeName } from "../processes.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { FOUND } from "./found.ts";
import { realFrames } from "./real_frames.ts";
import { flood, memberLies, mutated, noise, recorded, strangerTalks } from "./attacks.ts";

const HELP = `npm run fuzz -- [options]

Attacks a node on each runtime over real QUIC while an honest node keeps calling it: random packets,
changed copies of real ones, strangers that talk nonsense and changed handshakes behind TLS, members
that send changed copies of real frames of every protocol. The node must go on answering, take no
more memory than a bound, and let an honest newcomer in afterwards; else the exit code is 1 and the
seed is printed. Seeds that once found something run with every other.

  --packets N      packets (100000)
  --connections N  connections of strangers (2000)
  --frames N       frames of members (100000)
  --runtime R      one runtime only: deno, bun or node
  --seed S         what is left to chance (1)
  --help           this text
`;

const values = readOptions(HELP, {
  packets: "100000",
  connections: "2000",
  frames: "100000",
  runtime: undefined,
  seed: "1",
});
const packets = Number(values.packets), connections = Number(values.connections);
const frames = Number(values.frames), seed = Number(values.seed);
const runtimes = RUNTIMES.filter((one) => values.runtime === undefined || values.runtime === one);
if (![packets, connections, frames, seed].every(Number.isSafeInteger) || runtimes.length === 0) {
  refuse("numbers and a runtime are wanted", HELP);
}

const Echo = defineServer({ init: () => 0, calls: { echo: (_ctx, value: number) => value } });
/** Longest silence of the attacked node, and its growth. */
const MAX_SILENCE_MS = 10_000;
const MAX_GROWTH_BYTES = 384 * 2 ** 20;
const MAX_LATE_GROWTH_BYTES = 96 * 2 ** 20;
/** The same of what is reachable, behind a collection. */
const MAX_HEAP_GROWTH_BYTES = 48 * 2 ** 20;
/** Members that lie at once. */
const LIARS = 8;
/** Types of the handshake are below. */
const FIRST_OF_MEMBERS = 0x18;

async function attack(runtime: RuntimeName): Promise<string[]> {
  const problems: string[] = [];
  const random = seededRandom(seed);
  const victim = startProgram(runtime, "test/fuzz/victim_program.ts", [], { exposesGc: true });
  const [, address = ""] = await victim.line(/^ready (\S+)$/, 30_000);
  const port = Number(/:(\d+)$/.exec(address)?.[1]);
  let gone: number | string | undefined;
  void victim.exited.then((code) => (gone = code));
  let answers = 0, isOver = false, longestMs = 0;
  const honest = await createNode({
    name: "honest@127.0.0.1",
    listen: ["quic://127.0.0.1:0"],
    contactNodes: [address],
  });
  const tell = (text: string) => console.log(`${runtime}: ${text}, ${answers} calls answered`);
  const status = async () => {
    const seen = victim.output.length;
    victim.say("status");
    for (;;) {
      const line = victim.output.slice(seen).find((one) => one.startsWith("status "));
      if (line !== undefined) return line.split(" ").slice(1).map(Number);
      if (gone !== undefined) throw new Error(`the node ended with ${gone}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  try {
    await honest.joined({ timeoutMs: 20_000 });
    await honest.registry.whereis("echo", { retries: 20 });
    const client = honest.client(Echo, "echo");
    await client.echo(0);
    const real = await realFrames(address);
    const [before = 0, , heapBefore = 0] = await status();
    const calling = (async () => {
      while (!isOver) {
        const start = performance.now();
        const ok = await client.with({ timeoutMs: MAX_SILENCE_MS }).echo(answers).then(
          (value) => value === answers,
          (error) => void problems.push(`an honest call failed: ${error}`),
        );
        longestMs = Math.max(longestMs, performance.now() - start);
        if (ok !== true) return;
        answers++;
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
    const transport = await quicUnderTest();
    await flood(
      port,
      packets / 2,
      () => noise(random, 1_400),
      (done) => tell(`${done} random packets`),
    );
    const captured = await recorded(transport, port);
    await flood(
      port,
      packets / 2,
      () => mutated(random, captured[randomBelow(random, captured.length)] as Uint8Array),
      (done) => tell(`${done} changed packets`),
    );
    let ofStrangers = 0, ofMembers = 0, refused = 0;
    const handshakes = real.filter(({ type }) =>
      type >= FrameType.HELLO && type < FIRST_OF_MEMBERS
    );
    for (let i = 0; i < connections && gone === undefined; i++) {
      await strangerTalks(transport, address, random, handshakes).then(
        (sent) => void (ofStrangers += sent),
        () => void refused++,
      );
      if (i % 500 === 499) tell(`${i + 1} strangers`);
    }
    const lies = async (name: string, from: number, count: number) => {
      const options = { name: `${name}@127.0.0.1`, listen: [], logger: silentLogger };
      const liar = await layFoundation(options, await makeWorld(options));
      const chance = seededRandom(from);
      let told = 0;
      for (let sent = 0; sent < count && gone === undefined;) {
        const more = await memberLies(liar, address, chance, real).catch(() => {
          refused++;
          // Else a node that lets nobody in would be asked for ever.
          return 1;
        });
        sent += more;
        ofMembers += more;
        if (sent - told < 10_000) continue;
        told = sent;
        tell(`${sent} frames of ${name}`);
      }
      await liar.links.close();
      await liar.connector.close();
      liar.world.clock.close();
    };
    // What ended links leave is dropped within moments.
    const settled = async () => {
      await new Promise((resolve) => setTimeout(resolve, 3_000));
      return await status();
    };
    for (const found of FOUND) await lies(`again${found.seed}`, found.seed, found.frames);
    // The first half fills caches, pools and the allocator: the second must add little.
    const half = async (part: number) => {
      const share = Math.ceil(frames / 2 / LIARS);
      const liars = Array.from({ length: LIARS }, (_, i) => part * LIARS + i);
      await Promise.all(liars.map((i) => lies(`liar${i}`, seed * 2 * LIARS + i, share)));
      return await settled();
    };
    const [warm = 0, , heapWarm = 0] = await half(0);
    const [after = 0, counted = 0, heapAfter = 0, hasCollected] = await half(1);
    isOver = true;
    await calling;
    const newcomer = await createNode({
      name: "new@127.0.0.1",
      listen: [],
      contactNodes: [address],
    });
    await newcomer.joined({ timeoutMs: 30_000 }).catch((error) => problems.push(`${error}`));
    await newcomer.close();
    const mib = (bytes: number) => Number((bytes / 2 ** 20).toFixed(1));
    const limit = (what: string, bytes: number, most: number) => {
      if (bytes > most) problems.push(`${what} grew by ${mib(bytes)} MiB`);
    };
    limit("its memory", after - before, MAX_GROWTH_BYTES);
    limit("its memory in the second half", after - warm, MAX_LATE_GROWTH_BYTES);
    if (hasCollected === 1) limit("its heap", heapAfter - heapBefore, MAX_HEAP_GROWTH_BYTES);
    if (refused > (connections + frames / 20) / 10) problems.push(`${refused} were not let in`);
    if (counted === 0) problems.push("nothing was counted as refused");
    console.log(
      `${runtime}: ${packets} packets, ${ofStrangers} frames of strangers, ${ofMembers} of members ` +
        `(${refused} refused at the dial), ${answers} honest calls answered, the slowest in ` +
        `${Math.round(longestMs)} ms, memory ${mib(after - before)} MiB more ` +
        `(${mib(after - warm)} in the second half), heap ${mib(heapAfter - heapBefore)} ` +
        `(${mib(heapAfter - heapWarm)}), ` +
        `${counted} refusals counted`,
    );
  } finally {
    isOver = true;
    await honest.close();
    await victim.kill("SIGKILL");
  }
  return problems;
}

for (const runtime of runtimes) {
  const problems = await attack(runtime);
  for (const problem of problems) console.error(`${runtime}, seed ${seed}: ${problem}`);
  if (problems.length > 0) process.exitCode = 1;
}
