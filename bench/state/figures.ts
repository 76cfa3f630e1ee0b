/** Figures of experiments with replicated state: settings in, metrics out. */

/** What the command line asks for. */
export interface Settings {
  /** Nodes, in place of the experiment's own number. */
  readonly nodes: number | undefined;
  readonly seeds: readonly number[];
  readonly progress: (line: string) => void;
}

/** A limit that a value must keep: `["<=", 9]`. */
export type Limit = readonly ["<=" | ">=", number];

/** One figure, of each seed. */
export interface Metric {
  readonly name: string;
  /** As good as the reference. */
  readonly good?: Limit;
  readonly goal?: Limit;
  readonly values: readonly number[];
}

/** What came out. */
export interface Result {
  /** Nodes that took part. */
  readonly nodes: number;
  readonly metrics: readonly Metric[];
  readonly plots: readonly never[];
  /** One number a seed: the same seed and commit give the same. */
  readonly traces: readonly number[];
}

/** One experiment. */
export interface Experiment {
  readonly id: string;
  readonly title: string;
  /** How it is set up, and what is counted how, in a few sentences. */
  readonly about: string;
  /** What keeps a figure from its goal, where it does. */
  readonly limits?: string;
  readonly run: (settings: Settings) => Result;
}

/** A metric of one name over several seeds. */
export class Collected {
  readonly #metrics = new Map<string, { metric: Metric; values: number[] }>();

  /** Adds one seed's value. */
  add(name: string, value: number, limits: Omit<Metric, "name" | "values"> = {}): void {
    const known = this.#metrics.get(name);
    if (known !== undefined) known.values.push(value);
    else {
      const values = [value];
      this.#metrics.set(name, { metric: { name, values, ...limits }, values });
    }
  }

  /** All metrics in the order in which they came up. */
  get metrics(): Metric[] {
    return [...this.#metrics.values()].map(({ metric }) => metric);
  }
}
