/** How users describe a supervision tree, and its check. */
import * as v from "valibot";
import { checkConfig } from "../base/check_config.ts";
import { ConfigError } from "../base/errors.ts";
import type { StartOptions } from "./calls.ts";
import type { AnyServer, InitArguments } from "./gen_server.ts";
import type { Behaviour } from "./process.ts";
import { isName } from "./signals.ts";
import type { Intensity, Restart, Strategy } from "./supervision.ts";
import type { SpawnOptions } from "./system.ts";

/** What starts a child, again and again; made by {@link child}. */
export type ChildStart =
  | {
    readonly type: "server";
    readonly definition: AnyServer;
    readonly args: unknown[];
    readonly options: StartOptions;
  }
  // oxlint-disable-next-line typescript/no-explicit-any -- takes whatever messages it takes
  | { readonly type: "process"; readonly behaviour: Behaviour<any>; readonly options: SpawnOptions }
  | { readonly type: "supervisor"; readonly spec: SupervisorSpec };

/** One child of a supervisor. */
export interface ChildSpec {
  /** Unique within its supervisor. */
  readonly id: string;
  /** What to run: {@link child} makes it. */
  readonly start: ChildStart;
  /** Which ends bring it back. @default "permanent" */
  readonly restart?: Restart;
  /**
   * How long it may take to shut down before it is killed, ms; 0 kills at once.
   * @default 5_000, and Infinity for a supervisor
   */
  readonly shutdownMs?: number;
}

/** A supervisor: who is started, in which order, and what their ends mean. */
export interface SupervisorSpec {
  /** Whom the end of one child takes along. @default "oneForOne" */
  readonly strategy?: Strategy;
  /** More restarts than this end the supervisor. @default 3 restarts within 5,000 ms */
  readonly intensity?: Partial<Intensity>;
  /** Started in this order, stopped in the reverse. @default [] */
  readonly children?: readonly ChildSpec[];
  /** A name on this node. */
  readonly name?: string;
}

const DEFAULT_INTENSITY: Intensity = { restarts: 3, withinMs: 5_000 };
const DEFAULT_SHUTDOWN_MS = 5_000;

/**
 * What a supervisor starts: a server with its arguments, a process, or a supervisor of its own.
 *
 * @example
 * ```ts
 * import { child, createNode, defineServer } from "@barrel/p2p";
 *
 * const Counter = defineServer({ init: (_ctx, start: number) => ({ n: start }) });
 * await using node = await createNode({ name: "node1@127.0.0.1", listen: [] });
 * await node.supervise({
 *   strategy: "oneForOne",
 *   children: [
 *     { id: "counter", start: child(Counter, [0], { name: "counter" }) },
 *     { id: "workers", start: child({ strategy: "oneForAll", children: [] }) },
 *   ],
 * });
 * ```
 */
export function child<D extends AnyServer>(
  definition: D,
  args: InitArguments<D>,
  options?: StartOptions,
): ChildStart;
export function child<Msg>(behaviour: Behaviour<Msg>, options?: SpawnOptions): ChildStart;
export function child(spec: SupervisorSpec): ChildStart;
export function child(
  what: AnyServer | Behaviour<unknown> | SupervisorSpec,
  second?: unknown,
  third?: StartOptions,
): ChildStart {
  if (typeof what === "function") {
    return { type: "process", behaviour: what, options: (second ?? {}) as SpawnOptions };
  }
  if ("init" in what) {
    return {
      type: "server",
      definition: what,
      args: (second ?? []) as unknown[],
      options: third ?? {},
    };
  }
  return { type: "supervisor", spec: what };
}

const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const name = v.pipe(v.string(), v.check(isName, "must have 1 to 255 bytes of UTF-8"));

const childSchema = v.strictObject({
  id: name,
  start: v.custom<ChildStart>(
    (value) => typeof value === "object" && value !== null && "type" in value,
    "must be made by child()",
  ),
  restart: v.optional(v.picklist(["permanent", "transient", "temporary"])),
  shutdownMs: v.optional(v.pipe(v.number(), v.minValue(0))),
});

const schema = v.strictObject({
  strategy: v.optional(v.picklist(["oneForOne", "oneForAll", "restForOne"])),
  intensity: v.optional(v.strictObject({
    restarts: v.optional(count),
    withinMs: v.optional(v.pipe(v.number(), v.finite(), v.minValue(1))),
  })),
  children: v.optional(v.array(childSchema)),
  name: v.optional(name),
});

/** A child with every default filled in. */
export type FullChild = Required<ChildSpec>;

/** A supervisor with every default filled in. */
export interface FullSpec {
  readonly strategy: Strategy;
  readonly intensity: Intensity;
  readonly children: readonly FullChild[];
  readonly name: string | undefined;
}

/** Checks a whole tree and fills in its defaults. @throws ConfigError with the path of the mistake */
export function checkSpec(spec: SupervisorSpec, at = ""): FullSpec {
  checkConfig(schema, spec, at);
  const ids = new Set<string>();
  const children = (spec.children ?? []).map((given, index) => {
    const path = join(at, `children.${index}`);
    if (ids.has(given.id)) throw new ConfigError(join(path, "id"), `"${given.id}" is there twice`);
    ids.add(given.id);
    return fill(given, path);
  });
  return {
    strategy: spec.strategy ?? "oneForOne",
    intensity: { ...DEFAULT_INTENSITY, ...spec.intensity },
    children,
    name: spec.name,
  };
}

/** Checks one child and fills in its defaults. @throws ConfigError with the path of the mistake */
export function checkChild(given: ChildSpec): FullChild {
  checkConfig(childSchema, given);
  return fill(given, "");
}

function fill(given: ChildSpec, path: string): FullChild {
  const { start } = given;
  // A mistake deep in the tree shows at once, not at some restart.
  if (start.type === "supervisor") checkSpec(start.spec, join(path, "start"));
  return {
    restart: "permanent",
    shutdownMs: start.type === "supervisor" ? Infinity : DEFAULT_SHUTDOWN_MS,
    ...given,
  };
}

function join(at: string, path: string): string {
  return at === "" || path === "" ? at + path : `${at}.${path}`;
}
