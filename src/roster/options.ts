/** Settings of liveness; `liveness` of the node's options. Nodes may differ, but should not. */
export interface LivenessOptions {
  /** Silence after which a neighbour is suspected and others are asked, ms. @default 3_000 */
  readonly suspicionMs: number;
  /** Silence after which a node accuses without further proof, ms. @default 12_000 */
  readonly silenceMs: number;
  /** How long a side with a majority waits before it declares many nodes down, ms. @default 30_000 */
  readonly partitionHoldMs: number;
  /** When a node that is down is forgotten altogether, ms. @default 3_600_000 */
  readonly forgetAfterMs: number;
}

/** The defaults of {@link LivenessOptions}. */
export const LIVENESS_DEFAULTS: LivenessOptions = Object.freeze({
  suspicionMs: 3_000,
  silenceMs: 12_000,
  partitionHoldMs: 30_000,
  forgetAfterMs: 3_600_000,
});
