/** `npm run check [-- name…]`: the checks without the tests, or some of them. */
import process from "node:process";
import { checksNamed } from "./checks/all.ts";
import { close, runChecks } from "./lib/tasks.ts";

close([await runChecks(checksNamed(process.argv.slice(2)))]);
