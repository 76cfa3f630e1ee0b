/**
 * One test style on three runtimes: the same `describe`, `test` and hooks over `Deno.test`,
 * `bun:test` and `node:test`, assertions from `node:assert/strict`.
 */

import { configureGlobal } from "fast-check";
import process from "node:process";

// Properties are tried with the same values everywhere, unless a seed is given.
configureGlobal({ seed: Number(process.env["PROPERTY_SEED"] ?? 2026) });

/** The runtime that executes this file. */
export const runtime: "deno" | "bun" | "node" = "Deno" in globalThis
  ? "deno"
  : "Bun" in globalThis
  ? "bun"
  : "node";

/** Per-test settings. */
export interface TestOptions {
  /** Milliseconds until the test counts as failed. Default 30,000. */
  readonly timeoutMs?: number;
  /** Skips when true, or with a reason. */
  readonly skip?: boolean | string;
}

type Body = () => void | Promise<void>;

interface DenoTest {
  test(definition: {
    name: string;
    ignore: boolean;
    sanitizeOps: boolean;
    sanitizeResources: boolean;
    fn: Body;
  }): void;
}
type DeclareBunTest = (name: string, fn: Body, timeoutMs: number) => void;

const bun = runtime === "bun"
  ? await import("bun:test" as string) as { test: DeclareBunTest & { skip: DeclareBunTest } }
  : undefined;
const node = runtime === "node" ? await import("node:test") : undefined;

/** The groups around the test being declared, outermost first. */
interface Group {
  readonly title: string;
  readonly before: Body[];
  readonly after: Body[];
}
const groups: Group[] = [{ title: "", before: [], after: [] }];

/** Groups tests: the titles of its tests carry `title` in front. */
export function describe(title: string, body: () => void): void {
  groups.push({ title, before: [], after: [] });
  try {
    body();
  } finally {
    groups.pop();
  }
}

/** Runs `fn` before each test declared in this group, outer groups first. */
export function beforeEach(fn: Body): void {
  groups.at(-1)?.before.push(fn);
}

/** Runs `fn` after each test declared in this group, inner groups first, even if the test failed. */
export function afterEach(fn: Body): void {
  groups.at(-1)?.after.unshift(fn);
}

/** Declares a test whose title is a sentence about behaviour. */
export function test(title: string, fn: Body): void;
export function test(title: string, options: TestOptions, fn: Body): void;
export function test(title: string, second: TestOptions | Body, third?: Body): void {
  const options = typeof second === "function" ? {} : second;
  const fn = (typeof second === "function" ? second : third) as Body;
  const timeoutMs = options.timeoutMs ?? 30_000;
  const skip = options.skip !== undefined && options.skip !== false;
  const reason = typeof options.skip === "string" ? ` # skipped: ${options.skip}` : "";
  const name = [...groups.slice(1).map((group) => group.title), title].join(" › ") + reason;
  const body = telling(withDeadline(withHooks(fn, [...groups]), timeoutMs, name));
  if (runtime === "deno") {
    (globalThis as unknown as { Deno: DenoTest }).Deno.test({
      name,
      ignore: skip,
      sanitizeOps: true,
      sanitizeResources: true,
      fn: body,
    });
  } else if (bun) {
    (skip ? bun.test.skip : bun.test)(name, body, timeoutMs + 5_000);
  } else {
    void node?.test(name, { skip, timeout: timeoutMs + 5_000 }, body);
  }
}

// Most simulations have their seed in the test: the command that repeats it is the test's own.
function telling(body: Body): Body {
  const file = /test\/[\w/]+\.test\.ts/.exec(new Error().stack ?? "")?.[0];
  return async () => {
    try {
      await body();
    } catch (error) {
      console.error(`repeat it with: npm run test:unit -- ${file} --runtime ${runtime}`);
      throw error;
    }
  };
}

// Hooks are part of the test's body, because the three runtimes disagree about a hook that throws:
// Bun counts it as no failure at all. Whole-file setup is a plain top-level await.
function withHooks(fn: Body, around: readonly Group[]): Body {
  return async () => {
    try {
      for (const group of around) for (const hook of group.before) await hook();
      await fn();
    } finally {
      for (const group of around.toReversed()) for (const hook of group.after) await hook();
    }
  };
}

function withDeadline(fn: Body, timeoutMs: number, name: string): Body {
  return async () => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const deadline = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`"${name}" did not end within ${timeoutMs} ms`)),
        timeoutMs,
      );
    });
    try {
      await Promise.race([Promise.resolve().then(fn), deadline]);
    } finally {
      clearTimeout(timer);
      // A signature that was under way when the node closed ends here, before Deno looks for leaks.
      if (runtime === "deno") await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
}

/**
 * Polls until `condition` holds: for tests with real processes and sockets only. Prefer an event.
 */
export async function waitFor(
  condition: () => boolean | Promise<boolean>,
  options: { what: string; deadlineMs?: number },
): Promise<void> {
  const deadlineMs = options.deadlineMs ?? 20_000;
  const end = performance.now() + deadlineMs;
  while (!(await condition())) {
    if (performance.now() > end) {
      throw new Error(`waited ${deadlineMs} ms in vain for: ${options.what}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
