/**
 * One test style on three runtimes: the same `describe`, `test` and hooks over `Deno.test`,
 * `bun:test` and `node:test`, assertions from `node:assert/strict`.
 */

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
interface BunTest {
  test(name: string, fn: Body, timeoutMs: number): void;
  "test.skip"?: never;
}

const bun = runtime === "bun"
  ? await import("bun:test" as string) as { test: BunTest["test"] & { skip: BunTest["test"] } }
  : undefined;
const node = runtime === "node" ? await import("node:test") : undefined;

const prefixes: string[] = [];

/** Groups tests: the titles of its tests carry `title` in front. */
export function describe(title: string, body: () => void): void {
  prefixes.push(title);
  try {
    body();
  } finally {
    prefixes.pop();
  }
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
  const name = [...prefixes, title].join(" › ") + reason;
  const body = withDeadline(fn, timeoutMs, name);
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
