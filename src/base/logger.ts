/** How much a line matters: error = a person must act; warn = degraded; info = life cycle; debug = per peer. */
export type LogLevel = "debug" | "info" | "warn" | "error";

/** Where log lines go, injected. `fields` are flat and printable. */
export interface Logger {
  log(level: LogLevel, message: string, fields?: Readonly<Record<string, unknown>>): void;
}

/** Drops every line. */
export const silentLogger: Logger = { log() {} };

/** Lets each key through once, until `capacity` keys have been seen: for "logged once" lines. */
export function logOnce(logger: Logger, capacity: number): (
  key: string,
  level: LogLevel,
  message: string,
  fields?: Readonly<Record<string, unknown>>,
) => void {
  const seen = new Set<string>();
  return (key, level, message, fields) => {
    if (seen.has(key)) return;
    if (seen.size >= capacity) {
      const oldest = seen.values().next().value;
      if (oldest !== undefined) seen.delete(oldest);
    }
    seen.add(key);
    logger.log(level, message, fields);
  };
}
