import process from "node:process";
import { parseArgs } from "node:util";

/** The options of a program: each takes a value, but for the `flags`; `--help` is there always. */
export function readOptions<K extends string, F extends string = never>(
  help: string,
  defaults: Record<K, string | undefined>,
  flags: readonly F[] = [],
): Record<K, string | undefined> & Record<F, boolean> {
  const options = Object.fromEntries([
    ...Object.keys(defaults).map((name) => [name, { type: "string" }] as const),
    ...["help", ...flags].map((name) => [name, { type: "boolean" }] as const),
  ]);
  let values: Record<string, unknown>;
  try {
    ({ values } = parseArgs({ options }));
  } catch (error) {
    return refuse((error as Error).message, help);
  }
  if (values["help"] === true) {
    console.log(help);
    process.exit(0);
  }
  const unset = Object.fromEntries(flags.map((name) => [name, false]));
  return { ...unset, ...defaults, ...values } as
    & Record<K, string | undefined>
    & Record<F, boolean>;
}

/** Ends the program because of how it was called. */
export function refuse(message: string, help: string): never {
  console.error(`${message}\n\n${help}`);
  process.exit(2);
}

/** The runtime that executes this. */
export const runtime: string = "Deno" in globalThis ? "Deno" : "Bun" in globalThis ? "Bun" : "Node";

/** The commands that run a program of this folder on each runtime. */
export function commands(program: string, args: string): string {
  return [
    `  npx deno run -A examples/${program} ${args}`,
    `  npx bun examples/${program} ${args}`,
    `  npx node examples/${program} ${args}`,
  ].join("\n");
}
