import * as v from "valibot";
import { ConfigError } from "./errors.ts";

/**
 * Holds what a user gave against a schema; `at` is the path of the value itself, which is called
 * `options` where it has none.
 *
 * @throws ConfigError with the path of what is wrong
 */
export function checkConfig(expected: v.GenericSchema, value: unknown, at = ""): void {
  const result = v.safeParse(expected, value);
  if (result.success) return;
  const [issue] = result.issues;
  const within = v.getDotPath(issue) ?? "";
  const path = at === "" || within === "" ? at + within || "options" : `${at}.${within}`;
  if (issue.type === "strict_object" && issue.expected === "never") {
    throw new ConfigError(path, "there is no such option; check the spelling");
  }
  throw new ConfigError(path, describe(issue));
}

function describe(issue: v.BaseIssue<unknown>): string {
  if (issue.received === "undefined") return "is missing";
  if (["check", "custom", "regex"].includes(issue.type)) return issue.message;
  const expected = issue.expected === null ? issue.message : `must be ${issue.expected}`;
  return `${expected}, not ${issue.received}`;
}
