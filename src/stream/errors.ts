import { BarrelError } from "../base/errors.ts";

/**
 * Why a stream failed. `no_acceptor`: nobody accepts the tag there. `too_many`: the peer has too many
 * streams already. `closing`: the peer is closing. `aborted`: the other end gave up writing.
 * `stopped`: the other end reads no more. `acceptor_failed`: who accepted it threw. `lost`: the link
 * ended. `moved`: the link was handed over just then; `open` tries again by itself.
 */
export type StreamFailure =
  | "no_acceptor"
  | "too_many"
  | "closing"
  | "aborted"
  | "stopped"
  | "acceptor_failed"
  | "lost"
  | "moved";

/** A tagged stream could not be opened, or broke. */
export class StreamError extends BarrelError {
  /** Why, in a stable word. */
  readonly reason: StreamFailure;
  constructor(reason: StreamFailure, message: string, options?: ErrorOptions) {
    super("stream", message, options);
    this.reason = reason;
  }
}
