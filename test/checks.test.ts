/** The checks are checked: each planted mistake is found, and a tree without one passes. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import process from "node:process";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, runtime, test } from "./harness.ts";

const root = fileURLToPath(new URL("..", import.meta.url));

/** A small package in the shape of this one, with nothing wrong in it. */
const SOUND: Record<string, string> = {
  "mod.ts": `/** A number. */
export { two } from "./src/link/two.ts";

/** Loads an adapter. */
export async function load(): Promise<number> {
  return (await import("./adapters/quic/mod.ts")).three;
}
`,
  "src/base/one.ts": `/** A number. */
export const one: number = 1;
`,
  "src/base/real.ts": `/** The host's time. */
export const wall: () => number = () => Date.now();
`,
  "src/link/two.ts": `import { one } from "../base/one.ts";
import { wall } from "../base/real.ts";

/** A number. */
export const two: number = wall() > 0 ? one + 1 : 0;
`,
  "src/storage/files.ts": `import { readFileSync } from "node:fs";

/** A file's text. */
export const read = (path: string): string => readFileSync(path, "utf8");
`,
  "adapters/quic/mod.ts": `import { one } from "../../src/base/one.ts";

/** A number. */
export const three: number = one + 2;
`,
  "test/one.test.ts": `import { one } from "../src/base/one.ts";
import { read } from "../src/storage/files.ts";
import { test } from "./harness.ts";

test("one is a number", () => {
  if (one !== 1 || read === undefined) throw new Error("it is not");
});
`,
};

/** A file, its text, the check that must refuse it, and what the refusal says. */
type Planted = readonly [path: string, text: string, check: string, says: RegExp];

const numbered = (expression: string) =>
  `/** A number. */\nexport const planted: number = ${expression};\n`;

const PLANTED: Record<string, Planted> = {
  "an import from a floor above": [
    "src/wire/planted.ts",
    `/** A number. */\nexport { two } from "../link/two.ts";\n`,
    "layers",
    /src\/wire\/planted\.ts imports src\/link\/two\.ts: that floor is above/,
  ],
  "a type-only import from a floor above": [
    "src/base/planted.ts",
    `import type { two } from "../link/two.ts";\n\n/** A type. */\nexport type Two = typeof two;\n`,
    "layers",
    /src\/base\/planted\.ts imports src\/link\/two\.ts/,
  ],
  "a dynamic import from a floor above": [
    "src/crdt/planted.ts",
    `/** A module. */\nexport const planted: () => Promise<unknown> = () => import("../link/two.ts");\n`,
    "layers",
    /src\/crdt\/planted\.ts imports src\/link\/two\.ts/,
  ],
  "an import from a room of the same floor": [
    "src/transport/planted.ts",
    `/** A function. */\nexport { read } from "../storage/files.ts";\n`,
    "layers",
    /rooms of one floor are strangers/,
  ],
  "a room without a floor": [
    "src/attic/planted.ts",
    `/** A number. */\nexport { one } from "../base/one.ts";\n`,
    "layers",
    /src\/attic has no floor/,
  ],
  "a static import of an adapter": [
    "src/node/planted.ts",
    `/** A number. */\nexport { three } from "../../adapters/quic/mod.ts";\n`,
    "layers",
    /adapters are loaded by/,
  ],
  "an adapter that knows a link": [
    "adapters/quic/planted.ts",
    `/** A number. */\nexport { two } from "../../src/link/two.ts";\n`,
    "layers",
    /an adapter sees base/,
  ],
  "a runtime's global in the core": [
    "src/wire/planted.ts",
    numbered("Deno.pid"),
    "lint",
    /'Deno'/,
  ],
  "a runtime's global behind globalThis": [
    "src/wire/planted.ts",
    numbered("(globalThis as unknown as { process: { pid: number } }).process.pid"),
    "lint",
    /'globalThis'/,
  ],
  "a runtime's module in the core": [
    "src/link/planted.ts",
    `/** A function. */\nexport { readFile } from "node:fs/promises";\n`,
    "lint",
    /node:fs\/promises/,
  ],
  "the wall clock in a machine": [
    "src/membership/planted.ts",
    numbered("Date.now()"),
    "lint",
    /Date\.now/,
  ],
  "a monotonic clock in a machine": [
    "src/membership/planted.ts",
    numbered("performance.now()"),
    "lint",
    /'performance'/,
  ],
  "chance in a machine": [
    "src/broadcast/planted.ts",
    numbered("Math.random()"),
    "lint",
    /Math\.random/,
  ],
  "a timer in a machine": [
    "src/broadcast/planted.ts",
    `/** Waits. */\nexport const planted = (fn: () => void): void => void setTimeout(fn, 1);\n`,
    "lint",
    /'setTimeout'/,
  ],
  "a promise that nobody awaits": [
    "adapters/quic/planted.ts",
    `/** Forgets. */\nexport function planted(): void {\n  Promise.reject(new Error("lost"));\n}\n`,
    "lint",
    /no-floating-promises/,
  ],
  "a runtime's type in the core": [
    "src/crdt/planted.ts",
    numbered("process.pid"),
    "core",
    /src\/crdt\/planted\.ts.*'process'/,
  ],
  "a wrong type": ["src/crdt/planted.ts", numbered(`"one"`), "types", /src\/crdt\/planted\.ts/],
  "a wrong type, for Deno": ["src/crdt/planted.ts", numbered(`"one"`), "deno", /crdt\/planted\.ts/],
  "bad format": ["src/base/planted.ts", numbered(" 1"), "format", /src\/base\/planted\.ts/],
  "an export that nobody uses": [
    "src/base/one.ts",
    SOUND["src/base/one.ts"] + numbered("2"),
    "unused",
    /planted +src\/base\/one\.ts/,
  ],
  "a file that nobody imports": [
    "src/base/planted.ts",
    numbered("2"),
    "unused",
    /src\/base\/planted\.ts/,
  ],
};

// The checks are programs for Node, whatever runtime the code under check is for.
const skip = runtime === "node" ? false : "the checks run on Node";

/** A copy of the repository's checks around a small sound package. */
interface Copy {
  plant(path: string, text: string): void;
  script(name: string, ...args: string[]): Promise<{ code: number | string; output: string }>;
}

function inCopy(body: (copy: Copy) => Promise<void>): () => Promise<void> {
  return async () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), "barrel-checks-")));
    const copy: Copy = {
      plant(path, text) {
        mkdirSync(dirname(join(folder, path)), { recursive: true });
        writeFileSync(join(folder, path), text);
      },
      script(name, ...args) {
        // A runner inside a runner would report to the outer one.
        const { NODE_TEST_CONTEXT: _, ...env } = process.env;
        const file = join(folder, "scripts", name);
        return new Promise((resolve) => {
          execFile(process.execPath, [file, ...args], { cwd: folder, env }, (error, out, err) => {
            resolve({ code: error === null ? 0 : error.code ?? "killed", output: out + err });
          });
        });
      },
    };
    try {
      cpSync(join(root, "scripts"), join(folder, "scripts"), { recursive: true });
      for (const name of readdirSync(root)) {
        if (/^(tsconfig.*|deno|knip|\.oxlintrc)\.json$/.test(name)) {
          cpSync(join(root, name), join(folder, name));
        }
      }
      symlinkSync(join(root, "node_modules"), join(folder, "node_modules"));
      const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as object;
      const bare = {
        ...manifest,
        dependencies: {},
        peerDependencies: {},
        devDependencies: { typescript: "*" },
      };
      copy.plant("package.json", `${JSON.stringify(bare, null, 2)}\n`);
      copy.plant("test/harness.ts", readFileSync(join(root, "test/harness.ts"), "utf8"));
      for (const [path, text] of Object.entries(SOUND)) copy.plant(path, text);
      await body(copy);
    } finally {
      rmSync(folder, { recursive: true });
    }
  };
}

describe("the checks", () => {
  const names = [...new Set(Object.values(PLANTED).map(([, , check]) => check))];
  test(
    "pass a tree without a mistake",
    { skip },
    inCopy(async ({ script }) => {
      const { code, output } = await script("check.ts", ...names);
      assert.equal(code, 0, output);
      assert.match(output, new RegExp(`^${names.length} passed, 0 failed$`, "m"));
    }),
  );

  for (const [mistake, [path, text, check, says]] of Object.entries(PLANTED)) {
    test(
      `find ${mistake}`,
      { skip },
      inCopy(async ({ plant, script }) => {
        plant(path, text);
        const { code, output } = await script("check.ts", check);
        assert.equal(code, 1, output);
        assert.match(output, says);
        assert.match(output, /^0 passed, 1 failed$/m);
      }),
    );
  }

  test(
    "are listed when one is asked for that does not exist",
    { skip },
    inCopy(async ({ script }) => {
      const { code, output } = await script("check.ts", "spelling");
      assert.equal(code, 1);
      assert.match(output, /no check is called spelling; there are .*layers/);
    }),
  );
});

describe("the sum over the runtimes", () => {
  test(
    "counts what passed on each",
    { skip },
    inCopy(async ({ script }) => {
      const { code, output } = await script("unit.ts");
      assert.equal(code, 0, output);
      assert.match(output, /^3 passed, 0 failed$/m);
    }),
  );

  test(
    "counts a test that fails, and shows why",
    { skip },
    inCopy(async ({ plant, script }) => {
      plant(
        "test/two.test.ts",
        `import { test } from "./harness.ts";
test('a <failure> & "more"', () => { throw new Error("planted"); });
test("skipped", { skip: true }, () => {});
`,
      );
      const { code, output } = await script("unit.ts");
      assert.equal(code, 1);
      for (const name of ["deno", "bun", "node"]) {
        assert.match(output, new RegExp(`FAIL tests on ${name}.*1 passed, 1 failed, 1 skipped`));
      }
      assert.equal(output.match(/error: planted/gi)?.length, 3, output);
      assert.match(output, /^3 passed, 3 failed$/m);
    }),
  );

  test(
    "counts a file that breaks outside a test",
    { skip },
    inCopy(async ({ plant, script }) => {
      plant("test/two.test.ts", `throw new Error("planted");\n`);
      const { code, output } = await script("unit.ts");
      assert.equal(code, 1);
      assert.match(output, /^\d passed, 3 failed$/m);
    }),
  );

  test(
    "counts a rejection that nobody handles",
    { skip },
    inCopy(async ({ plant, script }) => {
      plant(
        "test/two.test.ts",
        `import { test } from "./harness.ts";
test("forgets", async () => {
  void Promise.reject(new Error("planted"));
  await new Promise((resolve) => setTimeout(resolve, 10));
});
`,
      );
      const { code, output } = await script("unit.ts");
      assert.equal(code, 1, output);
      assert.match(output, /^\d passed, 3 failed$/m);
    }),
  );

  test(
    "fails when a runtime ran no test",
    { skip },
    inCopy(async ({ plant, script }) => {
      plant("test/two.test.ts", "export {};\n");
      const { code, output } = await script("unit.ts", "two");
      assert.equal(code, 1);
      for (const name of ["deno", "bun", "node"]) {
        assert.match(output, new RegExp(`no test ran on ${name}`));
      }
      assert.match(output, /^0 passed, 3 failed$/m);
    }),
  );
});
