/** `npm run experiments:state`: what replicated state costs and withstands, on virtual time. */
import process from "node:process";
import { parseArgs } from "node:util";
import type { Metric } from "./figures.ts";
import { mapModel, oneClockOff } from "./maps.ts";
import { lateJoin, lookUps, stateHeals } from "./rows.ts";

const experiments = [stateHeals, lookUps, lateJoin, oneClockOff, mapModel];

const HELP = `npm run experiments:state -- [E14 …] [options]

${experiments.map(({ id, title }) => `  ${id.padEnd(6)}${title}`).join("\n")}

  --nodes N    nodes in place of the experiment's own number (E21: histories)
  --seeds K    K seeds (default 1)
  --seed S     the first seed (default 1)
  --help       this text
`;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    nodes: { type: "string" },
    seeds: { type: "string", default: "1" },
    seed: { type: "string", default: "1" },
    help: { type: "boolean", default: false },
  },
});

function line({ name, values: found, good, goal }: Metric): string {
  const sorted = [...found].sort((a, b) => a - b);
  const middle = sorted[sorted.length >> 1] as number;
  const worst = sorted[sorted.length - 1] as number;
  const limits = [
    good === undefined ? "" : `as good ${good.join(" ")}`,
    goal === undefined ? "" : `goal ${goal.join(" ")}${middle <= goal[1] ? "" : ", missed"}`,
  ];
  const number = (value: number) => String(Math.round(value * 100) / 100);
  const columns = [name.padEnd(62), number(middle).padStart(10), number(worst).padStart(10)];
  return [...columns, ...limits].join("  ").trimEnd();
}

function run(): void {
  const unknown = positionals.filter((id) => experiments.every((known) => known.id !== id));
  const first = Number(values.seed);
  const count = Number(values.seeds);
  const nodes = values.nodes === undefined ? undefined : Number(values.nodes);
  const isSound = Number.isInteger(first) && count >= 1 && (nodes === undefined || nodes >= 10);
  if (values.help || unknown.length > 0 || !isSound) {
    console.log(HELP);
    process.exitCode = values.help ? 0 : 2;
    return;
  }
  const seeds = Array.from({ length: count }, (_, i) => first + i);
  for (const experiment of experiments) {
    if (positionals.length > 0 && !positionals.includes(experiment.id)) continue;
    console.log(`\n${experiment.id}: ${experiment.title} (median and worst of ${count} seeds)`);
    const progress = (text: string) => console.error(`  ${experiment.id}: ${text}`);
    const { metrics } = experiment.run({ nodes, seeds, progress });
    for (const metric of metrics) console.log(line(metric));
  }
}

run();
