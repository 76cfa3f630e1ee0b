import { bin, run } from "../lib/command.ts";
import type { Check, Verdict } from "../lib/tasks.ts";
import { checkDocs } from "./docs.ts";
import { checkLayers } from "./layers.ts";
import {
  checkBuild,
  checkBundle,
  checkDeclarations,
  checkImports,
  checkInstall,
  checkPublint,
  checkPublish,
  checkTypeResolution,
} from "./package.ts";

const command = (program: string, ...args: string[]) => async (): Promise<Verdict> => {
  const { ok, output } = await run(bin(program), args);
  return { ok, output };
};

/** Every check but the tests; the slow ones first, so that the quick ones run beside them. */
export const checks: readonly Check[] = [
  { name: "build", title: "build", run: checkBuild },
  { name: "install", title: "package: install", run: checkInstall },
  { name: "types", title: "types: tsc", run: command("tsc", "-p", "tsconfig.json") },
  {
    name: "core",
    title: "types: core without a runtime",
    run: command("tsc", "-p", "tsconfig.core.json"),
  },
  { name: "deno", title: "types: deno", run: command("deno", "check", "--quiet", ".") },
  { name: "format", title: "format", run: command("deno", "fmt", "--check") },
  { name: "lint", title: "lint and purity", run: command("oxlint", "--format=unix") },
  { name: "layers", title: "layers", run: checkLayers },
  { name: "unused", title: "unused code", run: command("knip", "--no-progress") },
  { name: "docs", title: "documentation: examples", run: checkDocs },
  { name: "imports", title: "package: imports", run: checkImports },
  { name: "declarations", title: "package: declarations", run: checkDeclarations },
  { name: "publint", title: "package: publint", run: checkPublint },
  { name: "resolution", title: "package: type resolution", run: checkTypeResolution },
  { name: "publish", title: "package: deno publish", run: checkPublish },
  { name: "bundle", title: "package: bundle", run: checkBundle },
];
