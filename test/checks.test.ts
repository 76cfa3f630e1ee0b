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
const reexported = (name: string, from: string) =>
  `/** Another's. */\nexport { ${name} } from "${from}";\n`;

const PLANTED: Record<string, Planted> = {
  "an import from a floor above": [
    "src/wire/climbs.ts",
    reexported("two", "../link/two.ts"),
    "layers",
    /src\/wire\/climbs\.ts imports src\/link\/two\.ts: that floor is above/,
  ],
  "a type-only import from a floor above": [
    "src/base/types.ts",
    `import type { two } from "../link/two.ts";\n\n/** A type. */\nexport type Two = typeof two;\n`,
    "layers",
    /src\/base\/types\.ts imports src\/link\/two\.ts: that floor is above/,
  ],
  "a dynamic import from a floor above": [
    "src/crdt/late.ts",
    `/** A module. */\nexport const late: () => Promise<unknown> = () => import("../link/two.ts");\n`,
    "layers",
    /src\/crdt\/late\.ts imports src\/link\/two\.ts: that floor is above/,
  ],
  "an import from a room of the same floor": [
    "src/transport/visits.ts",
    reexported("read", "../storage/files.ts"),
    "layers",
    /src\/transport\/visits\.ts imports .*: rooms of one floor are strangers/,
  ],
  "a room without a floor": [
    "src/attic/lost.ts",
    reexported("one", "../base/one.ts"),
    "layers",
    /src\/attic has no floor/,
  ],
  "a static import of an adapter": [
    "src/node/loads.ts",
    reexported("three", "../../adapters/quic/mod.ts"),
    "layers",
    /src\/node\/loads\.ts imports .*: adapters are loaded by/,
  ],
  "an adapter that knows a link": [
    "adapters/quic/knows.ts",
    reexported("two", "../../src/link/two.ts"),
    "layers",
    /adapters\/quic\/knows\.ts imports .*: an adapter sees/,
  ],
  "a runtime's global in the core": [
    "src/wire/global.ts",
    numbered("Deno.pid"),
    "lint",
    /src\/wire\/global\.ts.*'Deno'/,
  ],
  "a runtime's global behind globalThis": [
    "src/wire/behind.ts",
    numbered("(globalThis as unknown as { process: { pid: number } }).process.pid"),
    "lint",
    /src\/wire\/behind\.ts.*'globalThis'/,
  ],
  "a runtime's module in the core": [
    "src/link/module.ts",
    reexported("readFile", "node:fs/promises"),
    "lint",
    /src\/link\/module\.ts.*node:fs\/promises/,
  ],
  "the wall clock in a machine": [
    "src/membership/wall.ts",
    numbered("Date.now()"),
    "lint",
    /src\/membership\/wall\.ts.*Date\.now/,
  ],
  "a monotonic clock in a machine": [
    "src/membership/monotonic.ts",
    numbered("performance.now()"),
    "lint",
    /src\/membership\/monotonic\.ts.*'performance'/,
  ],
  "chance in a machine": [
    "src/broadcast/chance.ts",
    numbered("Math.random()"),
    "lint",
    /src\/broadcast\/chance\.ts.*Math\.random/,
  ],
  "a timer in a machine": [
    "src/broadcast/timer.ts",
    `/** Waits. */\nexport const wait = (fn: () => void): void => void setTimeout(fn, 1);\n`,
    "lint",
    /src\/broadcast\/timer\.ts.*'setTimeout'/,
  ],
  "a promise that nobody awaits": [
    "adapters/quic/forgets.ts",
    `/** Forgets. */\nexport function forget(): void {\n  Promise.reject(new Error("lost"));\n}\n`,
    "lint",
    /adapters\/quic\/forgets\.ts.*no-floating-promises/,
  ],
  "a runtime's type in the core": [
    "src/crdt/process.ts",
    numbered("process.pid"),
    "core",
    /src\/crdt\/process\.ts.*'process'/,
  ],
  "a wrong type": ["src/crdt/wrong.ts", numbered(`"one"`), "types", /src\/crdt\/wrong\.ts/],
  "a wrong type, as Deno sees it": [
    "src/crdt/wrong.ts",
    numbered(`"one"`),
    "deno",
    /src\/crdt\/wrong\.ts/,
  ],
  "bad format": ["src/base/format.ts", numbered(" 1"), "format", /src\/base\/format\.ts/],
  "an export that nobody uses": [
    "src/base/one.ts",
    SOUND["src/base/one.ts"] + numbered("2"),
    "unused",
    /planted +src\/base\/one\.ts/,
  ],
  "a file that nobody imports": [
    "src/base/alone.ts",
    numbered("2"),
    "unused",
    /src\/base\/alone\.ts/,
  ],
};

// The checks are programs for Node, whatever runtime the code under check is for.
const skip = runtime === "node" ? false : "the checks run on Node";

/** A copy of the repository's checks around a small sound package. */
interface Copy {
  plant(path: string, text: string): void;
  script(name: string, ...args: string[]): Promise<{ code: number | string; output: string }>;
}

function inCopy<T>(body: (copy: Copy) => Promise<T>): () => Promise<T> {
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
        devDependencies: { "fast-check": "*", typescript: "*" },
      };
      copy.plant("package.json", `${JSON.stringify(bare, null, 2)}\n`);
      copy.plant("test/harness.ts", readFileSync(join(root, "test/harness.ts"), "utf8"));
      for (const [path, text] of Object.entries(SOUND)) copy.plant(path, text);
      return await body(copy);
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

  // A check runs once for all the mistakes that it must find.
  const reports = new Map<string, Promise<string>>();
  const reportOf = (check: string) =>
    inCopy(async ({ plant, script }) => {
      for (const [path, text, by] of Object.values(PLANTED)) if (by === check) plant(path, text);
      const { code, output } = await script("check.ts", check);
      assert.equal(code, 1, output);
      assert.match(output, /^0 passed, 1 failed$/m);
      return output;
    })();
  for (const [mistake, [, , check, says]] of Object.entries(PLANTED)) {
    test(`find ${mistake}`, { skip }, async () => {
      const report = reports.get(check) ?? reportOf(check);
      reports.set(check, report);
      assert.match(await report, says);
    });
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
