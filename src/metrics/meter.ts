/** Labels of one measurement: few, short, never taken from a stranger's bytes unchecked. */
export type Labels = Readonly<Record<string, string>>;

/** Where counts go, injected. Names come from `metrics/catalogue.ts`. */
export interface Meter {
  /** Adds `by` (default 1) to a counter. */
  count(name: string, labels?: Labels, by?: number): void;
  /** Sets a gauge. */
  gauge(name: string, value: number, labels?: Labels): void;
}

/** One instrument's value: `labels` rendered as `{a="b"}` after the name where there are any. */
export type MetricsSnapshot = Readonly<Record<string, number>>;

/** A meter that keeps its values in memory; `snapshot` reads them. */
export interface MemoryMeter extends Meter {
  /** All values by rendered name, such as `barrel_handshake_refused{reason="bad_signature"}`. */
  snapshot(): MetricsSnapshot;
}

/** Distinct label sets kept in all; further ones are summed under `labels="other"`. */
const SERIES_LIMIT = 4096;

/** Keeps counters and gauges in a map, bounded. */
export function memoryMeter(): MemoryMeter {
  const values = new Map<string, number>();
  const slot = (name: string, labels?: Labels) => {
    const key = render(name, labels);
    if (values.has(key) || values.size < SERIES_LIMIT) return key;
    return `${name}{labels="other"}`;
  };
  return {
    count(name, labels, by = 1) {
      const key = slot(name, labels);
      values.set(key, (values.get(key) ?? 0) + by);
    },
    gauge(name, value, labels) {
      values.set(slot(name, labels), value);
    },
    snapshot: () => Object.fromEntries(values),
  };
}

function render(name: string, labels?: Labels): string {
  if (labels === undefined) return name;
  const parts = Object.keys(labels).sort().map((key) => `${key}=${JSON.stringify(labels[key])}`);
  return parts.length === 0 ? name : `${name}{${parts.join(",")}}`;
}
