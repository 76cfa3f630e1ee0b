/**
 * The examples of README.md and docs/, as a reader would paste them: in a project of their own, with
 * the packed package installed.
 *
 * The word behind the language of a fence says what is done with it:
 *
 * - `ts`: a module of its own, type-checked;
 * - `ts run`: type-checked, and run to its end on each runtime;
 * - `ts continues`: the same module as the block before it;
 * - `ts sketch`: shown only, for what no compiler can read.
 */
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { bin, root, run } from "../lib/command.ts";
import { filesUnder } from "../lib/files.ts";
import type { Verdict } from "../lib/tasks.ts";
import { install } from "./package.ts";

interface Example {
  /** Where its first block stands. */
  readonly file: string;
  readonly line: number;
  readonly runs: boolean;
  /** Every line stands at the same number as in its page. */
  source: string;
}

const FENCE = /^```ts(?: +(\w+))?\n([\s\S]*?)^```$/gm;
// What would slip past that unchecked.
const STRAY = /^(?:[ \t]+```ts|[ \t]*```(?:tsx|typescript|js|javascript))\b/gm;

function examplesOf(file: string): Example[] {
  const page = readFileSync(root + file, "utf8");
  const examples: Example[] = [];
  for (const { 0: fence, index } of page.matchAll(STRAY)) {
    const line = page.slice(0, index).split("\n").length;
    throw new Error(`${file}:${line}: \`${fence.trim()}\`: examples are \`ts\`, and not indented`);
  }
  for (const { 1: word, 2: code = "", index } of page.matchAll(FENCE)) {
    const line = page.slice(0, index).split("\n").length + 1;
    switch (word) {
      case "sketch":
        continue;
      case "continues": {
        const before = examples.at(-1);
        if (before === undefined) throw new Error(`${file}:${line}: nothing stands before it`);
        before.source += "\n".repeat(line - before.source.split("\n").length) + code;
        continue;
      }
      case undefined:
      case "run":
        examples.push({ file, line, runs: word === "run", source: "\n".repeat(line - 1) + code });
        continue;
      default:
        throw new Error(`${file}:${line - 1}: "ts ${word}" is not a kind of example`);
    }
  }
  return examples;
}

/** Every example of the documentation compiles, and runs where it says so. */
export async function checkDocs(): Promise<Verdict> {
  const examples = ["README.md", ...filesUnder("docs", ".md")].flatMap(examplesOf);
  const { project } = await install();
  const modules = join(project, "node_modules");
  // The QUIC binding for Node, which a user installs too, and the types of Node.
  for (const name of ["@infisical", "@types"]) {
    symlinkSync(`${root}node_modules/${name}`, join(modules, name));
  }
  const folder = join(project, "examples");
  mkdirSync(folder);
  const named = examples.map((example) => {
    const name = `${example.file.replaceAll("/", "_")}_${example.line}.ts`;
    writeFileSync(join(folder, name), example.source);
    return { ...example, name };
  });
  writeFileSync(
    join(folder, "tsconfig.json"),
    JSON.stringify({
      compilerOptions: {
        target: "es2024",
        lib: ["es2024", "esnext.disposable", "dom", "dom.iterable", "dom.asynciterable"],
        module: "nodenext",
        moduleDetection: "force",
        types: ["node"],
        strict: true,
        skipLibCheck: true,
        noEmit: true,
      },
      files: named.map(({ name }) => name),
    }),
  );
  const typed = await run(bin("tsc"), ["-p", folder], { cwd: folder });
  const problems = typed.ok ? [] : [typed.output];
  const running = named.filter(({ runs }) => runs);
  const runtimes: [string, string[]][] = [
    ["deno", ["run", "--allow-all", "--unstable-net", "--no-check"]],
    ["bun", []],
    ["node", ["--disable-warning=ExperimentalWarning"]],
  ];
  for (const { file, line, name } of running) {
    for (const [runtime, args] of runtimes) {
      const finished = await run(bin(runtime), [...args, name], { cwd: folder, timeoutMs: 60_000 });
      if (!finished.ok) problems.push(`${file}:${line} on ${runtime}:\n${finished.output}`);
    }
  }
  const note = `${examples.length} examples, ${running.length} run`;
  return { ok: problems.length === 0, note, output: problems.join("\n") };
}
