import type { Bytes } from "../base/bytes.ts";
import { Ring } from "../base/ring.ts";
import { QUEUED_COST } from "./framed_pipe.ts";

/** A frame that waits for a link. */
export interface QueuedFrame {
  /** The life of the peer it is meant for; 0 for whichever lives. */
  readonly epoch: number;
  /** Frames with one key stay in order. */
  readonly key: number;
  readonly type: number;
  readonly body: Bytes;
}

/** What waits towards one peer while there is no link that may be used, and how many bytes it takes. */
export class Outbox {
  readonly #frames = new Ring<QueuedFrame>();
  #bytes = 0;

  get bytes(): number {
    return this.#bytes;
  }

  get isEmpty(): boolean {
    return this.#frames.length === 0;
  }

  push(frame: QueuedFrame): void {
    this.#frames.push(frame);
    this.#bytes += QUEUED_COST + frame.body.length;
  }

  shift(): QueuedFrame | undefined {
    const frame = this.#frames.shift();
    if (frame !== undefined) this.#bytes -= QUEUED_COST + frame.body.length;
    return frame;
  }

  /** Takes everything out. */
  clear(): QueuedFrame[] {
    const frames: QueuedFrame[] = [];
    for (let frame = this.shift(); frame !== undefined; frame = this.shift()) frames.push(frame);
    return frames;
  }
}
