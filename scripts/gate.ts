/** `npm test`: everything that must hold, on the three runtimes. */
import { checks } from "./checks/all.ts";
import { close, runChecks } from "./lib/tasks.ts";
import { runTests, runtimes, testFiles } from "./lib/tests.ts";

close([await runChecks(checks), await runTests(testFiles([]), runtimes)]);
