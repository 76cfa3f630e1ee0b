/** A stream from a node to itself: the pipes of two ends, joined. */
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { FramedPipe } from "../link/framed_pipe.ts";
import type { PeerIdentity, StreamPipe } from "../link/ports.ts";
import { STREAM_SETTINGS } from "../link/stream_pipes.ts";
import type { Pipe } from "../transport/contract.ts";

/** Bytes that wait for the next turn before `write` says to wait. */
const WRITE_LIMIT = 256 * 1024;

/** The two ends of a stream within one node: who opened it first. */
export function loopback(self: PeerIdentity, clock: Clock): [StreamPipe, StreamPipe] {
  const ours = new LoopbackPipe(true, clock), theirs = new LoopbackPipe(false, clock);
  ours.other = theirs;
  theirs.other = ours;
  return [streamPipe(self, ours), streamPipe(self, theirs)];
}

function streamPipe(self: PeerIdentity, pipe: Pipe): StreamPipe {
  const ignored = { onFrame() {}, onEnd() {}, onAbort() {}, onFailure() {}, onDrain() {} };
  const framed = new FramedPipe(pipe, ignored, STREAM_SETTINGS);
  return {
    peer: self,
    framed,
    lost: undefined,
    onLost() {},
    answered() {},
    // This node keeps its own rules: both ends fail, as they would with a link.
    fail() {
      framed.destroy();
      this.onLost("protocol");
    },
    done() {},
  };
}

class LoopbackPipe implements Pipe {
  readonly kind = "bidirectional";
  readonly local: boolean;
  onDrain: (() => void) | undefined;
  onData: ((chunk: Bytes) => void) | undefined;
  onEnd: ((clean: boolean) => void) | undefined;
  other: LoopbackPipe | undefined;
  readonly #clock: Clock;
  #chunks: Bytes[] = [];
  #bytes = 0;
  #end: "no" | "clean" | "broken" | "told" = "no";
  #isScheduled = false;

  constructor(local: boolean, clock: Clock) {
    this.local = local;
    this.#clock = clock;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#end !== "no") return false;
    this.#chunks.push(chunk as Bytes);
    this.#bytes += chunk.length;
    this.#schedule();
    return this.#bytes < WRITE_LIMIT;
  }

  end(): void {
    if (this.#end !== "no") return;
    this.#end = "clean";
    this.#schedule();
  }

  destroy(): void {
    if (this.#end === "told") return;
    this.#chunks = [];
    this.#end = "broken";
    this.#schedule();
  }

  // By turns, so that bytes from a node to itself leave room for everything else.
  #schedule(): void {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    this.#clock.nextTurn(() => {
      this.#isScheduled = false;
      const chunks = this.#chunks;
      const hasWaited = this.#bytes >= WRITE_LIMIT;
      this.#chunks = [];
      this.#bytes = 0;
      for (const chunk of chunks) this.other?.onData?.(chunk);
      if (this.#end === "clean" || this.#end === "broken") {
        const isClean = this.#end === "clean";
        this.#end = "told";
        this.other?.onEnd?.(isClean);
      } else if (hasWaited) this.onDrain?.();
    });
  }
}
