/** What the processes of the streams' measurement share. */

/** How much a client measures. */
export interface StreamPlan {
  /** Interleaved rounds, after one that only warms up. */
  readonly rounds: number;
  /** How long each rate is measured, milliseconds. */
  readonly rateMs: number;
  /** Streams that are opened and closed one after the other. */
  readonly opens: number;
}

/** What one client measured against one server: medians of the rounds. */
export interface StreamFigures {
  /** One way in writes of 64 KiB over a bare pipe of the transport, MiB a second. */
  readonly rawMiBPerSecond: number;
  /** The same over a tagged stream, each write awaited. */
  readonly streamMiBPerSecond: number;
  /** Over a tagged stream with `pipeTo`. */
  readonly pipeToMiBPerSecond: number;
  /** Medians of the rounds' ratios to the bare pipe. */
  readonly streamToRaw: number;
  readonly pipeToToRaw: number;
  /** Writes of 1 KiB over a tagged stream, MiB a second. */
  readonly smallMiBPerSecond: number;
  /** From `open` to a stream that both ends have, median, microseconds. */
  readonly openUs: number;
}

/** Reads everything, answers with the number of bytes in decimal. */
export const SINK_TAG = "bench.sink";
