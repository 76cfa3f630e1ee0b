import process from "node:process";
import { parseArgs } from "node:util";

/** The options of an example: each takes a value; `--help` is there always. */
export function readOptions<K extends string>(
  help: string,
  defaults: Record<K, string | undefined>,
): Record<K, string | undefined> {
  const options = Object.fromEntries(
    Object.keys(defaults).map((name) => [name, { type: "string" as const }]),
  );
  let values: Record<string, string | boolean | undefined>;
  try {
    ({ values } = parseArgs({ options: { ...options, help: { type: "boolean" } } }));
  } catch (error) {
    return refuse((error as Error).message, help);
  }
  if (values["help"] === true) {
    console.log(help);
    process.exit(0);
  }
  return { ...defaults, ...values } as Record<K, string | undefined>;
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
