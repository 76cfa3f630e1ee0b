/** What a map is opened with, and its validator. */
import { messageOf } from "../base/errors.ts";

/**
 * A validator in the form that valibot, zod and arktype share (https://standardschema.dev). Only its
 * verdict counts: what a map holds is the value as it was written.
 */
export interface StandardSchema<V> {
  readonly "~standard": {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => unknown;
    readonly types?: { readonly input: unknown; readonly output: V } | undefined;
  };
}

/** A validator as a function: `false`, a text that says why not, or an exception refuse the value. */
export type Validator<V> = (value: V, key: string) => boolean | string | void;

/** Options of `node.maps.open`. */
export interface MapOptions<V = unknown> {
  /**
   * Keeps the entries in `dataDir/store.sqlite`, so that they survive a restart of all nodes. Without
   * a `dataDir` they are kept in memory. Nodes may differ. @default false
   */
  readonly persist?: boolean;
  /**
   * A presence map: an entry goes with the node that wrote it, when that leaves or is declared down.
   * Cluster-wide. @default false
   */
  readonly ephemeral?: boolean;
  /**
   * What values must look like, ours and those of others. A value of another node that does not
   * pass is held and passed on, so that all nodes agree, but not shown here. Must not be
   * asynchronous. Nodes may differ. @default any value
   */
  readonly schema?: StandardSchema<V> | Validator<V>;
}

/**
 * Options of a map in the node's option `maps`. Maps of all types of values stand beside each other
 * there, so a validator may ask for whichever it likes.
 */
export interface DeclaredMapOptions extends Omit<MapOptions, "schema"> {
  /** As of {@link MapOptions}. @default any value */
  readonly schema?: StandardSchema<unknown> | AnyValidator;
}

// Of a method, as the type checker then takes a function of a narrower type of values, too.
type AnyValidator = {
  judge(...args: Parameters<Validator<unknown>>): ReturnType<Validator<unknown>>;
}["judge"];

/** Says what is wrong with a value, in a few words; never throws. */
export function validatorOf<V>(
  schema: MapOptions<V>["schema"],
): (value: unknown, key: string) => string | undefined {
  if (schema === undefined) return () => undefined;
  return (value, key) => {
    try {
      // Some libraries' schemas are functions, too.
      return "~standard" in schema
        ? issueOf(schema["~standard"].validate(value))
        : refusalOf(schema(value as V, key));
    } catch (error) {
      return `the validator threw: ${messageOf(error)}`;
    }
  };
}

function refusalOf(verdict: unknown): string | undefined {
  if (verdict instanceof Promise) return asynchronous(verdict);
  if (verdict === false) return "the validator refused it";
  return typeof verdict === "string" ? verdict : undefined;
}

function issueOf(result: unknown): string | undefined {
  if (result instanceof Promise) return asynchronous(result);
  const issues = (result as { issues?: readonly { readonly message: string }[] }).issues;
  return issues === undefined ? undefined : issues[0]?.message ?? "the schema refused it";
}

function asynchronous(verdict: Promise<unknown>): string {
  verdict.catch(() => {});
  return "the validator is asynchronous";
}
