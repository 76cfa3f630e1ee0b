/** Results as lines for the terminal and as Markdown. */
import { keeps, median, missed, worst } from "./experiment.ts";
import type { Experiment, Limit, Metric, Result } from "./experiment.ts";

/** Where and how the result came about. */
export interface Circumstances {
  readonly command: string;
  readonly seeds: readonly number[];
  readonly commit: string;
  readonly seconds: number;
  readonly machine: string;
}

const HEAD = ["metric", "published", "measured", "worst", "as good", "", "goal", ""];

function row(metric: Metric): string[] {
  return [
    metric.name,
    metric.published ?? "",
    figure(median(metric.values)),
    figure(worst(metric)),
    limit(metric.good),
    verdict(metric, metric.good),
    limit(metric.goal),
    verdict(metric, metric.goal),
  ];
}

/** A number as it is printed. */
export function figure(value: number): string {
  if (Number.isInteger(value)) return value.toLocaleString("en");
  return Math.abs(value) >= 1000
    ? Math.round(value).toLocaleString("en")
    : String(Number(value.toPrecision(4)));
}

// One of each seed says so.
function limit(limit: Limit | undefined): string {
  if (limit === undefined) return "";
  const [order, bound, by] = limit;
  return `${order === "<=" ? "≤" : "≥"} ${figure(bound)}${by === undefined ? "" : `, ${by}`}`;
}

function verdict(metric: Metric, limit: Limit | undefined): string {
  const kept = keeps(metric, limit);
  return kept === undefined ? "" : kept ? "pass" : "FAIL";
}

/** The metrics as a table for the terminal. */
export function table(result: Result): string {
  const rows = [HEAD, ...result.metrics.map(row)];
  const widths = HEAD.map((_, i) => Math.max(...rows.map((cells) => (cells[i] ?? "").length)));
  return rows.map((cells) =>
    cells.map((cell, i) => cell.padEnd(widths[i] ?? 0)).join("  ").trimEnd()
  ).join("\n");
}

/** The last line of a run: which limits of the column "as good" were missed, if any. */
export function closing(
  results: ReadonlyMap<string, Result>,
): { readonly line: string; readonly isGood: boolean } {
  const short = [...results].flatMap(([id, result]) =>
    missed(result).map(({ name, ...metric }) => {
      const value = metric.good?.[2] === "each seed" ? worst(metric) : median(metric.values);
      return `${id}: ${name} is ${figure(value)} (${limit(metric.good)})`;
    })
  );
  const line = short.length === 0
    ? `as good as the reference: ${[...results.keys()].join(", ")}`
    : `NOT as good as the reference: ${short.join(" | ")}`;
  return { line, isGood: short.length === 0 };
}

/** The result as a page; `plots` are the plots' file names. */
export function page(
  experiment: Experiment,
  result: Result,
  how: Circumstances,
  plots: readonly string[],
): string {
  const rows = [HEAD, HEAD.map(() => "---"), ...result.metrics.map(row)];
  return [
    `# ${experiment.id}: ${experiment.title}`,
    experiment.about,
    rows.map((cells) => `| ${cells.join(" | ")} |`).join("\n"),
    ...plots.map((file) => `![plot](${file})`),
    ...(experiment.limits === undefined ? [] : [experiment.limits]),
    [
      `- ${figure(result.nodes)} nodes; seeds ${
        how.seeds.join(", ")
      }: median and worst; a limit is of the median, or of each seed where it says so`,
      `- traces ${result.traces.map((trace) => trace.toString(16).padStart(8, "0")).join(", ")}`,
      `- commit ${how.commit}; ${
        figure(Math.round(how.seconds))
      } s of processor time on ${how.machine}`,
      `- \`${how.command}\``,
    ].join("\n"),
    "",
  ].join("\n\n").trimEnd() + "\n";
}
