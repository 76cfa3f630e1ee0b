/** `npm run fuzz`: random and mutated packets and frames at a node of each runtime. */
import process from "node:process";
import { parseArgs } from "node:util";
import { createNode, defineServer } from "../../mod.ts";
import { silentLogger } from "../../src/base/logger.ts";
import { randomBelow, seededRandom } from "../../src/base/random.ts";
import { layFoundation, makeWorld } from "../../src/node/foundation.ts";
import { quicUnderTest } from "../conformance/world.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import type { RuntimeName } from "../processes.ts";
import { flood, memberLies, mutated, noise, recorded, strangerTalks } from "./attacks.ts";

const HELP = `npm run fuzz -- [options]

Attacks a node on each runtime over real QUIC while an honest node keeps calling it: random packets,
changed copies of real ones, strangers that talk nonsense behind TLS, members that send nonsense of
every frame type. The node must go on answering, take no more memory than a bound, and let an honest
newcomer in afterwards; else the exit code is 1 and the seed is printed.

  --packets N      packets (100000)
  --connections N  connections of strangers, and as many of members (2000)
  --runtime R      one runtime only: deno, bun or node
  --seed S         what is left to chance (1)
  --help           this text
`;

const { values } = parseArgs({
  options: {
    packets: { type: "string", default: "100000" },
    connections: { type: "string", default: "2000" },
    runtime: { type: "string" },
    seed: { type: "string", default: "1" },
    help: { type: "boolean", default: false },
  },
});
if (values.help) {
  process.stdout.write(HELP);
  process.exit(0);
}
const packets = Number(values.packets), connections = Number(values.connections);
const seed = Number(values.seed);
const runtimes = RUNTIMES.filter((one) => values.runtime === undefined || values.runtime === one);
if (![packets, connections, seed].every(Number.isSafeInteger) || runtimes.length === 0) {
  console.error(`numbers and a runtime are wanted\n\n${HELP}`);
  process.exit(2);
}

const Echo = defineServer({ init: () => 0, calls: { echo: (_ctx, value: number) => value } });
/** Longest silence of the attacked node, and its growth. */
const MAX_SILENCE_MS = 10_000;
const MAX_GROWTH_BYTES = 256 * 2 ** 20;

async function attack(runtime: RuntimeName): Promise<string[]> {
  const problems: string[] = [];
  const random = seededRandom(seed);
  const victim = startProgram(runtime, "test/fuzz/victim_program.ts");
  const [, address = ""] = await victim.line(/^ready (\S+)$/, 30_000);
  const port = Number(/:(\d+)$/.exec(address)?.[1]);
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
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  try {
    await honest.joined({ timeoutMs: 20_000 });
    await honest.registry.whereis("echo", { retries: 20 });
    const client = honest.client(Echo, "echo");
    await client.echo(0);
    const [before = 0] = await status();
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
    const real = await recorded(transport, port);
    await flood(
      port,
      packets / 2,
      () => mutated(random, real[randomBelow(random, real.length)] as Uint8Array),
      (done) => tell(`${done} changed packets`),
    );
    let frames = 0, refused = 0;
    for (let i = 0; i < connections; i++) {
      await strangerTalks(transport, address, random).then((sent) => void (frames += sent), () => {
        refused++;
      });
      if (i % 500 === 499) tell(`${i + 1} strangers`);
    }
    const options = { name: "liar@127.0.0.1", listen: [], logger: silentLogger };
    const liar = await layFoundation(options, await makeWorld(options));
    for (let i = 0; i < connections; i++) {
      await memberLies(liar, address, random).then((sent) => void (frames += sent), () => {
        refused++;
      });
      if (i % 500 === 499) tell(`${i + 1} lying members`);
    }
    await liar.links.close();
    await liar.connector.close();
    liar.world.clock.close();
    isOver = true;
    await calling;
    const [after = 0, counted = 0] = await status();
    const newcomer = await createNode({
      name: "new@127.0.0.1",
      listen: [],
      contactNodes: [address],
    });
    await newcomer.joined({ timeoutMs: 30_000 }).catch((error) => problems.push(`${error}`));
    await newcomer.close();
    const grown = after - before;
    if (grown > MAX_GROWTH_BYTES) problems.push(`it grew by ${grown >> 20} MiB`);
    if (counted === 0) problems.push("nothing was counted as refused");
    console.log(
      `${runtime}: ${packets} packets, ${frames} frames on ${2 * connections} connections ` +
        `(${refused} refused at the dial), ${answers} honest calls answered, the slowest in ` +
        `${Math.round(longestMs)} ms, memory ${(grown / 2 ** 20).toFixed(1)} MiB more, ` +
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
