/**
 * The package as a stranger gets it: built, packed, installed in an empty project, imported on every
 * runtime it claims.
 */
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { gzipSync } from "node:zlib";
import { bin, root, run } from "../lib/command.ts";
import type { Finished } from "../lib/command.ts";
import { Blocked } from "../lib/tasks.ts";
import type { Verdict } from "../lib/tasks.ts";

/** The oldest Node that the package claims. */
const OLDEST_NODE = "22.18.0";

interface Manifest {
  readonly name: string;
  readonly exports: Record<string, unknown>;
  readonly files: readonly string[];
}
const manifest = JSON.parse(readFileSync(`${root}package.json`, "utf8")) as Manifest;

// What users import: the package's name and each of its subpaths.
const specifiers: readonly string[] = Object.keys(manifest.exports)
  .filter((key) => !key.endsWith(".json")).map((key) => manifest.name + key.slice(1));

/** The packed package, and an empty project with it installed. */
export interface Installed {
  readonly tarball: string;
  readonly project: string;
}

const temporary = mkdtempSync(join(tmpdir(), "barrel-package-"));
process.once("exit", () => rmSync(temporary, { recursive: true }));
const stage = join(temporary, "stage");

let built: Promise<Finished> | undefined;
let installed: Promise<Installed> | undefined;

// Built and packed apart from the working tree, so that checks can run while others work in it.
function build(): Promise<Finished> {
  return built ??= run(bin("tsc"), ["-p", "tsconfig.build.json", "--outDir", join(stage, "dist")]);
}

async function needBuild(): Promise<void> {
  if (!(await build()).ok) throw new Blocked("the build failed");
}

/** The package installed in an empty project, once for all checks. */
export async function install(): Promise<Installed> {
  await needBuild();
  return await (installed ??= packAndInstall()).catch(() => {
    throw new Blocked("the package could not be installed");
  });
}

async function packAndInstall(): Promise<Installed> {
  for (const name of ["package.json", "README.md", "LICENSE", ...manifest.files]) {
    if (name !== "dist") cpSync(root + name, join(stage, name), { recursive: true });
  }
  const packing = ["pack", "--json", "--ignore-scripts", "--pack-destination", temporary];
  const packed = must(await run("npm", packing, { cwd: stage })).stdout;
  const [entry] = JSON.parse(packed) as { filename: string }[];
  const tarball = join(temporary, entry?.filename ?? "");
  const project = join(temporary, "project");
  mkdirSync(project);
  writeFileSync(
    join(project, "package.json"),
    JSON.stringify({ private: true, type: "module", allowScripts: { node: true } }),
  );
  const packages = [tarball, `node@${OLDEST_NODE}`];
  const installing = ["install", "--prefer-offline", "--no-audit", "--no-fund", ...packages];
  must(await run("npm", installing, { cwd: project }));
  return { tarball, project };
}

function must(finished: Finished): Finished {
  if (!finished.ok) throw new Blocked(finished.output);
  return finished;
}

const verdict = ({ ok, output }: Finished): Verdict => ({ ok, output });

/** The package builds. */
export async function checkBuild(): Promise<Verdict> {
  return verdict(await build());
}

/** The packed package installs in an empty project. */
export async function checkInstall(): Promise<Verdict> {
  await needBuild();
  await (installed ??= packAndInstall());
  return { ok: true, output: "" };
}

/**
 * Every subpath can be imported on every runtime, exports something, and does nothing by being
 * imported: Deno gives it no permission, and the process ends by itself.
 */
export async function checkImports(): Promise<Verdict> {
  const { project } = await install();
  const lines = specifiers.map((specifier, i) => `import * as m${i} from "${specifier}";`);
  const names = specifiers.map((_, i) => `m${i}`).join(", ");
  const program = join(project, "imports.mjs");
  writeFileSync(
    program,
    `${lines.join("\n")}
const counts = [${names}].map((names) => Object.keys(names).length);
if (counts.includes(0)) throw new Error("a subpath exports nothing: " + counts);
console.log(counts.join(" "));
`,
  );
  const oldest = join(project, "node_modules/.bin/node");
  const runtimes: [string, string, string[]][] = [
    [`Node ${OLDEST_NODE}`, oldest, []],
    ["Node", bin("node"), []],
    ["Bun", bin("bun"), []],
    ["Deno", bin("deno"), ["run", "--no-prompt"]],
  ];
  const problems: string[] = [];
  for (const [name, command, args] of runtimes) {
    const finished = await run(command, [...args, program], { cwd: project, timeoutMs: 30_000 });
    if (!finished.ok) problems.push(`${name}: ${finished.output}`);
  }
  const { stdout } = await run(oldest, ["--version"], { cwd: project });
  if (stdout.trim() !== `v${OLDEST_NODE}`) {
    problems.push(`Node ${stdout} ran instead of the oldest`);
  }
  const note = runtimes.map(([name]) => name).join(", ");
  return { ok: problems.length === 0, note, output: problems.join("\n") };
}

/** The declarations stand on their own: no runtime's types needed, checked without `skipLibCheck`. */
export async function checkDeclarations(): Promise<Verdict> {
  const { project } = await install();
  const program = join(project, "declarations.ts");
  writeFileSync(program, specifiers.map((specifier) => `import "${specifier}";\n`).join(""));
  const options = ["--module", "nodenext", "--target", "es2022", "--strict", "--types", ""];
  const args = ["--ignoreConfig", "--noEmit", ...options, "--lib", "es2024,esnext.disposable,dom"];
  return verdict(await run(bin("tsc"), [...args, program], { cwd: project }));
}

/** publint finds nothing. */
export async function checkPublint(): Promise<Verdict> {
  const { tarball } = await install();
  return verdict(await run(bin("publint"), ["run", tarball, "--strict"]));
}

/** Every way to resolve the types finds them. */
export async function checkTypeResolution(): Promise<Verdict> {
  const { tarball } = await install();
  const args = ["--profile", "esm-only", "--no-definitely-typed", "--no-emoji", tarball];
  return verdict(await run(bin("attw"), args));
}

/** JSR would take it, slow types and all. */
export async function checkPublish(): Promise<Verdict> {
  return verdict(await run(bin("deno"), ["publish", "--dry-run", "--allow-dirty"]));
}

/** How much a bundle of all that `mod.ts` exports weighs. Adapters are loaded apart. */
export async function checkBundle(): Promise<Verdict> {
  await needBuild();
  const modules = join(stage, "node_modules");
  if (!existsSync(modules)) symlinkSync(`${root}node_modules`, modules);
  const external = ["node:*", "@infisical/quic"].map((name) => `--external:${name}`);
  const args = [join(stage, "dist/mod.js"), "--bundle", "--minify", "--format=esm", ...external];
  const finished = await run(bin("esbuild"), [...args, "--platform=neutral", "--main-fields=main"]);
  const bytes = new TextEncoder().encode(finished.stdout);
  const kilobytes = (length: number) => `${Math.round(length / 1000)} kB`;
  const note = `${kilobytes(bytes.length)}, ${kilobytes(gzipSync(bytes).length)} gzipped`;
  return { ok: finished.ok, note, output: finished.output };
}
