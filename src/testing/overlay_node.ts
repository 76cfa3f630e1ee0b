import { EMPTY } from "../base/bytes.ts";
import type { Plumtree } from "../broadcast/plumtree.ts";
import type { HyParView } from "../membership/hyparview.ts";
import type { PeerEntry } from "../membership/peer_entry.ts";
import type { OverlayLink } from "./overlay_network.ts";

/** One node of an {@link OverlaySim}: its machines, and what is known of it from outside. */
export class SimNode {
  readonly index: number;
  readonly name: string;
  /** How far its clock is ahead of the others', ms. */
  readonly clockOffsetMs: number;
  /** What its clock showed last, ms. */
  clock: number = -Infinity;
  epoch: number = 1;
  alive: boolean = true;
  /** Those of its present life, which the simulation makes. */
  hyparview!: HyParView;
  plumtree!: Plumtree;
  /** The active view as told by events alone. */
  readonly view: Set<string> = new Set();
  /** Each membership event, newest last. */
  readonly events: string[] = [];
  readonly links: Map<SimNode, OverlayLink> = new Map();
  /** When its machines are woken, in virtual time. */
  wakeAt: number = Infinity;
  /** Frames towards this node take so much longer, milliseconds: it reads slowly. */
  lagMs: number = 0;
  /** Nodes of different sides cannot reach each other. */
  side: number = 0;
  /** It stands still until then, in virtual time. */
  stalledUntil: number = -Infinity;
  /** What it is to do when it goes on. */
  held: (() => void)[] = [];

  constructor(index: number, clockOffsetMs: number) {
    this.index = index;
    this.name = `n${index}@sim`;
    this.clockOffsetMs = clockOffsetMs;
  }

  get entry(): PeerEntry {
    return { name: this.name, epoch: this.epoch, addresses: [this.address], record: EMPTY };
  }

  get address(): string {
    return `sim://${this.index}`;
  }
}
