/** `npm run check [-- name…]`: the checks without the tests, or some of them. */
import process from "node:process";
import { checks } from "./checks/all.ts";
import { close, runChecks } from "./lib/tasks.ts";

const names = process.argv.slice(2);
const unknown = names.filter((name) => checks.every((check) => check.name !== name));
if (unknown.length > 0) {
  const known = checks.map((check) => check.name).join(", ");
  console.error(`no check is called ${unknown.join(", ")}; there are ${known}`);
  process.exitCode = 1;
} else {
  const wanted = checks.filter((check) => names.length === 0 || names.includes(check.name));
  close([await runChecks(wanted)]);
}
