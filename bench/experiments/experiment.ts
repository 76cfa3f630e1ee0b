/** The frame of an experiment: settings in, metrics and plots out. */

/** What the command line asks for. */
export interface Settings {
  /** Nodes, in place of the experiment's own number. */
  readonly nodes: number | undefined;
  readonly seeds: Iterable<number>;
  /** The papers' pseudo-code in place of our machines. */
  readonly isPaper: boolean;
  readonly progress: (line: string) => void;
}

/**
 * A limit: `["<=", 9]` is kept when the median of all seeds keeps it. What must never be is a limit of
 * each seed, and one seed that misses it is enough: `["<=", 0, "each seed"]`.
 */
export type Limit = readonly [order: "<=" | ">=", bound: number, by?: "each seed"];

/** One figure, of each seed. */
export interface Metric {
  readonly name: string;
  /** The figure of the paper, as it is to be printed. */
  readonly published?: string;
  /** As good as the reference. */
  readonly good?: Limit;
  readonly goal?: Limit;
  readonly values: readonly number[];
}

/** One point of a curve. */
export type Point = readonly [x: number, y: number];

/** A curve. */
export interface Series {
  readonly name: string;
  readonly points: readonly Point[];
}

/** What a plot is of, and what its axes are. */
export interface Axes {
  readonly title: string;
  readonly x: string;
  readonly y: string;
}

/** A plot of curves. */
export interface Plot extends Axes {
  readonly series: readonly Series[];
}

/** What came out. */
export interface Result {
  /** Nodes that took part. */
  readonly nodes: number;
  readonly metrics: readonly Metric[];
  readonly plots: readonly Plot[];
  /** One hash a seed: the same seed and commit give the same. */
  readonly traces: readonly number[];
}

/** One experiment; add it to the list in `list.ts`. */
export interface Experiment {
  readonly id: string;
  readonly title: string;
  /** How it is set up, and what is counted how, in a few sentences. */
  readonly about: string;
  /** What keeps a figure from its goal, where it does. */
  readonly limits?: string;
  readonly run: (settings: Settings) => Result | Promise<Result>;
}

/** An experiment threw; `cause` is what. */
export class SeedError extends Error {
  /** The one seed that was under way. */
  readonly seed: number;

  constructor(seed: number, cause: unknown) {
    super(`it failed with seed ${seed}`, { cause });
    this.seed = seed;
  }
}

/** Runs an experiment over seeds. @throws SeedError */
export async function runSeeds(
  { run }: Pick<Experiment, "run">,
  all: readonly number[],
  settings: Omit<Settings, "seeds">,
): Promise<Result> {
  let seed = all[0] as number;
  const seeds = {
    *[Symbol.iterator]() {
      for (const next of all) yield seed = next;
    },
  };
  try {
    return await run({ ...settings, seeds });
  } catch (cause) {
    throw new SeedError(seed, cause);
  }
}

/** The value that stands for all seeds. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1
    ? sorted[middle] as number
    : ((sorted[middle - 1] as number) + (sorted[middle] as number)) / 2;
}

/** The worst value, seen from the metric's limit. */
export function worst({ values, good, goal }: Pick<Metric, "values" | "good" | "goal">): number {
  return (good ?? goal)?.[0] === ">=" ? Math.min(...values) : Math.max(...values);
}

/** Whether a limit is kept, by the median or by each seed; `undefined` where there is none. */
export function keeps(metric: Metric, limit: Limit | undefined): boolean | undefined {
  if (limit === undefined) return undefined;
  const [order, bound, by] = limit;
  const { values } = metric;
  const value = by === "each seed" ? worst({ values, good: limit }) : median(values);
  return order === "<=" ? value <= bound : value >= bound;
}

/** The metrics that are not as good as the reference. */
export function missed({ metrics }: Pick<Result, "metrics">): Metric[] {
  return metrics.filter((metric) => keeps(metric, metric.good) === false);
}

/** Points that a curve has at most, so that files stay small. */
const MAX_POINTS = 400;

// What took for ever has no place on a plot; the last point is where a curve ends.
function drawable(points: readonly Point[]): Point[] {
  const step = Math.ceil(points.length / MAX_POINTS);
  return points.filter(([x, y], i) =>
    (i % step === 0 || i === points.length - 1) && Number.isFinite(x) && Number.isFinite(y)
  );
}

/** Metrics and plots by their names, over several seeds. */
export class Collected {
  readonly #metrics = new Map<string, { metric: Metric; values: number[] }>();
  readonly #plots = new Map<string, { axes: Axes; series: Series[] }>();

  /** Adds one seed's value. */
  add(name: string, value: number, limits: Omit<Metric, "name" | "values"> = {}): void {
    const known = this.#metrics.get(name);
    if (known !== undefined) known.values.push(value);
    else {
      const values = [value];
      this.#metrics.set(name, { metric: { name, values, ...limits }, values });
    }
  }

  /** Adds a curve to the plot of this title, unless it has one of this name, of an earlier seed. */
  draw(axes: Axes, name: string, points: readonly Point[]): void {
    const plot = this.#plots.get(axes.title) ?? { axes, series: [] };
    this.#plots.set(axes.title, plot);
    if (plot.series.some((series) => series.name === name)) return;
    plot.series.push({ name, points: drawable(points) });
  }

  /** All metrics in the order in which they came up. */
  get metrics(): Metric[] {
    return [...this.#metrics.values()].map(({ metric }) => metric);
  }

  /** All plots in the order in which they came up. */
  get plots(): Plot[] {
    return [...this.#plots.values()].map(({ axes, series }) => ({ ...axes, series }));
  }
}
