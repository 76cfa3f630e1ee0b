/** Sizes of the views and of the random walks. Nodes may differ. */
export interface MembershipOptions {
  /** Peers we gossip with. Larger views repair faster and cost connections. @default 5 (paper §5.1) */
  readonly activeSize: number;
  /** Peers to turn to when a neighbour is lost. @default 30 (paper §5.1) */
  readonly passiveSize: number;
  /** Hops of the walk that spreads a newcomer, and of a shuffle; at most 255. @default 6 */
  readonly arwl: number;
  /** Hops left at which a newcomer enters a passive view on that walk. @default 3 */
  readonly prwl: number;
  /** Neighbours told in one shuffle. @default 3 */
  readonly shuffleActive: number;
  /** Passive peers told in one shuffle; with `shuffleActive` at most 16. @default 4 */
  readonly shufflePassive: number;
  /**
   * Milliseconds between two shuffles of a node whose views change; up to eight times that while
   * nothing happens. @default 10,000
   */
  readonly shuffleIntervalMs: number;
}

/** The settings of the paper. */
export const membershipDefaults: MembershipOptions = Object.freeze({
  activeSize: 5,
  passiveSize: 30,
  arwl: 6,
  prwl: 3,
  shuffleActive: 3,
  shufflePassive: 4,
  shuffleIntervalMs: 10_000,
});
