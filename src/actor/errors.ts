import { BarrelError, messageOf } from "../base/errors.ts";
import type { NodeName } from "../wire/node_name.ts";

/** A call got no answer in time. The server may still carry it out; its answer goes nowhere. */
export class CallTimeoutError extends BarrelError {
  constructor(target: string, method: string, timeoutMs: number) {
    super("call_timeout", `${target} did not answer ${method}() within ${timeoutMs} ms`);
  }
}

/** There is no such process, or it ended before it answered. */
export class NoProcessError extends BarrelError {
  /** Why it ended; `"noproc"` when it was not there. */
  readonly reason: unknown;
  constructor(target: string, reason: unknown) {
    const why = reason === "noproc" ? "there is no such process" : `it ended: ${text(reason)}`;
    super("no_process", `${target}: ${why}`);
    this.reason = reason;
  }
}

/** The node exposes no procedure of this name. */
export class NoProcedureError extends BarrelError {
  constructor(node: NodeName, procedure: string) {
    super("no_procedure", `${node} exposes no procedure "${procedure}"`);
  }
}

/** The node of the called process cannot be reached, or the link to it broke during the call. */
export class NodeDownError extends BarrelError {
  readonly node: NodeName;
  constructor(node: NodeName, why: string) {
    super("node_down", `${node} cannot be reached: ${why}`);
    this.node = node;
  }
}

/** The server threw. `name`, `message` and `data` are those of what it threw. */
export class RemoteError extends BarrelError {
  /** `data` of the thrown error, or the thrown value where it was no error. */
  readonly data: unknown;
  constructor(thrown: unknown) {
    const isError = thrown instanceof Error;
    super("remote", isError ? thrown.message : `the server threw ${text(thrown)}`, {
      cause: thrown,
    });
    if (isError) this.name = thrown.name;
    this.data = isError ? (thrown as { data?: unknown }).data : thrown;
  }
}

/** Printable form of an exit reason or of any value; never throws, whatever the value does. */
export function text(value: unknown): string {
  try {
    if (typeof value === "string") return value;
    if (value instanceof Error) return `${value.name}: ${value.message}`;
    return JSON.stringify(value) ?? String(value);
  } catch {
    return asString(value);
  }
}

function asString(value: unknown): string {
  try {
    return String(value);
  } catch {
    return "a value that cannot be printed";
  }
}

/** Units of a text that is told in place of what cannot travel: it fits into any message. */
const TOLD = 100;

/** As {@link text}, short and well-formed: this can always travel. */
export function told(value: unknown): string {
  return text(value).slice(0, TOLD).toWellFormed();
}

/** What a caller is told in place of a result or a thrown value that cannot travel. */
export function unsendable(value: unknown, problem: unknown): Error {
  const why = told(messageOf(problem));
  if (!(value instanceof Error)) return new TypeError(`the result cannot be sent: ${why}`);
  try {
    const error = new Error(`${told(value.message)} (the rest of it cannot be sent: ${why})`);
    error.name = told(value.name);
    const { code } = value as { code?: unknown };
    return typeof code === "string" ? Object.assign(error, { code: told(code) }) : error;
  } catch {
    return new TypeError(`the result cannot be sent: ${why}`);
  }
}
