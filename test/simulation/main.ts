/** `npm run simulate`: whole nodes under faults, seed after seed; a failing one says how to repeat it. */
import { execFileSync } from "node:child_process";
import process from "node:process";
import { readOptions, refuse } from "../../examples/arguments.ts";
import { runFaults } from "./faults.ts";

const HELP = `npm run simulate -- [--nodes 200] [--rounds 40] [--seed 1] [--seeds 1]
Whole nodes on virtual time under churn and faults.`;

const values = readOptions(HELP, { nodes: "200", rounds: "40", seed: "1", seeds: "1" });
const nodes = Number(values.nodes), rounds = Number(values.rounds), first = Number(values.seed);
if (![nodes, rounds, first, Number(values.seeds)].every(Number.isSafeInteger) || nodes < 1) {
  refuse("numbers are wanted", HELP);
}
const commit = execFileSync("git", ["describe", "--always", "--dirty"], { encoding: "utf8" })
  .trim();

const at = (sorted: readonly number[], part: number) =>
  ((sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? 0) / 1000).toFixed(1);

let failed = 0;
for (let seed = first; seed < first + Number(values.seeds); seed++) {
  const start = performance.now();
  try {
    const result = await runFaults({ seed, nodes, rounds });
    const { faults, detectionMs, messages, virtualMs, trace } = result;
    const took = ((performance.now() - start) / 1000).toFixed(0);
    const made = Object.entries(faults).map(([name, count]) => `${name} ${count}`).join(", ");
    console.log(
      `seed ${seed}  commit ${commit}  ok  ${nodes} nodes, ${(virtualMs / 1000).toFixed(0)} s ` +
        `virtual in ${took} s  ${made}; ${messages} messages\n` +
        `  detection ${at(detectionMs, 0.5)} s median, ${at(detectionMs, 0.99)} s 99 %, ` +
        `${at(detectionMs, 1)} s last of ${detectionMs.length}; wrong verdicts 0\n  trace ${trace}`,
    );
  } catch (error) {
    failed++;
    console.log(`seed ${seed}  commit ${commit}  FAILED`);
    console.log(error);
    console.log(
      `repeat it with: npm run simulate -- --nodes ${nodes} --rounds ${rounds} --seed ${seed}`,
    );
  }
}
process.exit(failed > 0 ? 1 : 0);
