import { ConfigError } from "./errors.ts";

/**
 * Refuses what are no options, those that nobody knows, since a misspelt one would be ignored in
 * silence, and a `timeoutMs` that is no time. Cheap enough for every receive.
 *
 * @throws ConfigError with the option's name, or `options`
 */
export function knownOptions(options: object | undefined, known: readonly string[]): void {
  if (options === undefined) return;
  if (typeof options !== "object" || options === null) {
    throw new ConfigError("options", `must be an object, not ${String(options)}`);
  }
  for (const key in options) {
    if (!known.includes(key)) {
      throw new ConfigError(key, "there is no such option; check the spelling");
    }
  }
  const { timeoutMs } = options as { timeoutMs?: unknown };
  if (timeoutMs === undefined || (typeof timeoutMs === "number" && timeoutMs >= 0)) return;
  throw new ConfigError("timeoutMs", "must be a number of milliseconds from 0 up");
}
