/** `npm run test:unit [-- path… --runtime deno,bun,node]`: tests without the checks. */
import process from "node:process";
import { parseArgs } from "node:util";
import { close } from "./lib/tasks.ts";
import { runTests, runtimes, testFiles } from "./lib/tests.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { runtime: { type: "string", multiple: true } },
});
const wanted = (values.runtime ?? []).flatMap((names) => names.split(","));
const unknown = wanted.filter((name) => runtimes.every((runtime) => runtime !== name));
const files = testFiles(positionals);
if (unknown.length > 0) fail(`no runtime is called ${unknown.join(", ")}: ${runtimes.join(", ")}`);
else if (files.length === 0) fail(`no test file's path contains ${positionals.join(" or ")}`);
else {
  const on = runtimes.filter((runtime) => wanted.length === 0 || wanted.includes(runtime));
  close([await runTests(files, on)]);
}

function fail(why: string): void {
  console.error(why);
  process.exitCode = 1;
}
