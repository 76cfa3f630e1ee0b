/**
 * Version vectors for single-writer origins: how far we know each origin. One origin has one
 * living epoch, so its component is a pair, and a later epoch replaces everything of an earlier.
 */

/** How far one origin is known: its life and the last sequence number of that life. */
export interface Version {
  /** The origin's life; grows with each start of the node. */
  readonly epoch: number;
  /** The last operation of that life that is covered; 0 before the first. */
  readonly seq: number;
}

/** The version of an origin that we know nothing of. */
export const NO_VERSION: Version = { epoch: 0, seq: 0 };

/** The order of two versions of one origin: negative, zero or positive. */
export function compareVersions(a: Version, b: Version): number {
  return a.epoch - b.epoch || a.seq - b.seq;
}
