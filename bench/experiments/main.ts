/** `npm run experiments`: the protocols against the papers, on virtual time. */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { arch, cpus } from "node:os";
import process from "node:process";
import { parseArgs } from "node:util";
import { runSeeds, SeedError } from "./experiment.ts";
import type { Result } from "./experiment.ts";
import { experiments } from "./list.ts";
import { closing, page, table } from "./report.ts";
import { svgOf } from "./svg.ts";

const HELP = `npm run experiments -- [E1 E2 …] [options]

Runs experiments on the simulator, prints each figure beside the published one and the goal, and
writes a page and plots to docs/experiments/. A limit is kept when the median of all seeds keeps it;
one marked "each seed" when all of them do. When a limit of the column "as good" is missed, the last
line names it and the command exits with 1; --paper has no such duty.

${experiments.map(({ id, title }) => `  ${id.padEnd(5)}${title}`).join("\n")}

  --nodes N    nodes in place of the experiment's own number
  --seeds K    K seeds (default 1)
  --seed S     the first seed (default 1)
  --paper      the papers' pseudo-code in place of our machines, where there is one
  --out DIR    where pages go (default docs/experiments); "-" writes none
  --help       this text
`;

const { values, positionals } = parse();

function parse() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        nodes: { type: "string" },
        seeds: { type: "string", default: "1" },
        seed: { type: "string", default: "1" },
        paper: { type: "boolean", default: false },
        out: { type: "string", default: "docs/experiments" },
        help: { type: "boolean", default: false },
      },
    });
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${HELP}`);
    process.exit(2);
  }
}

function wholeNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= least) return value;
  console.error(`--${name} ${text}: a whole number from ${least} up`);
  process.exit(2);
}

async function run(): Promise<void> {
  const unknown = positionals.filter((id) => experiments.every((known) => known.id !== id));
  if (values.help || unknown.length > 0) {
    if (unknown.length > 0) console.error(`no experiment is called ${unknown.join(", ")}\n`);
    console.log(HELP);
    process.exitCode = unknown.length > 0 ? 2 : 0;
    return;
  }
  const first = wholeNumber("seed", values.seed, 0);
  const count = wholeNumber("seeds", values.seeds, 1);
  const seeds = Array.from({ length: count }, (_, i) => first + i);
  const nodes = values.nodes === undefined ? undefined : wholeNumber("nodes", values.nodes, 10);
  const commit = execFileSync("git", ["describe", "--always", "--dirty", "--abbrev=10"], {
    encoding: "utf8",
  }).trim();
  const machine = `${cpus()[0]?.model ?? arch()}, node ${process.versions.node}`;
  const results = new Map<string, Result>();
  for (const experiment of experiments) {
    if (positionals.length > 0 && !positionals.includes(experiment.id)) continue;
    const commandOf = (seed: number, seeds: number) =>
      [
        `npm run experiments -- ${experiment.id}`,
        ...(nodes === undefined ? [] : ["--nodes", nodes]),
        ...(seeds === 1 ? [] : ["--seeds", seeds]),
        ...(seed === 1 ? [] : ["--seed", seed]),
        ...(values.paper ? ["--paper"] : []),
      ].join(" ");
    const command = commandOf(first, count);
    console.log(`\n${experiment.id}: ${experiment.title}${values.paper ? " (the paper's)" : ""}`);
    const before = process.cpuUsage();
    let result;
    try {
      result = await runSeeds(experiment, seeds, {
        nodes,
        isPaper: values.paper,
        progress: (line) => console.error(`  ${experiment.id}: ${line}`),
      });
    } catch (error) {
      if (error instanceof SeedError) {
        const again = commandOf(error.seed, 1);
        console.error(`${experiment.id} failed with seed ${error.seed}; at ${commit}: ${again}`);
      }
      throw error;
    }
    const used = process.cpuUsage(before);
    console.log(table(result));
    results.set(experiment.id, result);
    if (values.out === "-") continue;
    mkdirSync(values.out, { recursive: true });
    const name = `${experiment.id.toLowerCase()}${values.paper ? "_paper" : ""}`;
    const plots = result.plots.map((plot, i) => {
      const file = `${name}${i === 0 ? "" : `_${i + 1}`}.svg`;
      writeFileSync(`${values.out}/${file}`, svgOf(plot));
      return file;
    });
    const seconds = (used.user + used.system) / 1e6;
    const how = { command, seeds, commit, seconds, machine };
    const file = `${values.out}/${name}.md`;
    writeFileSync(file, page(experiment, result, how, plots));
    execFileSync("node_modules/.bin/deno", ["fmt", "--quiet", file]);
  }
  const { line, isGood } = closing(results);
  console.log(`\n${line}`);
  if (!isGood && !values.paper) process.exitCode = 1;
}

await run();
