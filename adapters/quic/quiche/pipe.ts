import type { Bytes } from "../../../src/base/bytes.ts";
import type { Pipe } from "../../../src/transport/contract.ts";
import { Incoming } from "../incoming.ts";
import { Outgoing, WRITE_LIMIT } from "../outgoing.ts";
import { SHUTDOWN_READ, SHUTDOWN_WRITE } from "./binding.ts";
import type { QuicheHandle } from "./binding.ts";

const NOTHING = new Uint8Array(0);

/** What a pipe needs of its connection. */
export interface PipeOwner {
  readonly handle: QuicheHandle;
  /** Packets are to be sent. */
  markDirty(): void;
  /** Something was written to the stream. */
  touched(id: number): void;
  /** The pipe needs no further attention. */
  forget(id: number): void;
}

/** One stream of a quiche connection. */
export class QuichePipe extends Incoming implements Pipe {
  readonly kind: "bidirectional" | "unidirectional";
  readonly local: boolean;
  readonly id: number;
  onDrain: (() => void) | undefined;
  readonly #owner: PipeOwner;
  readonly #queue = new Outgoing();
  #partial: Uint8Array | undefined;
  #waited = false;
  #ending = false;
  #writeOver: boolean;
  #readOver: boolean;

  constructor(id: number, local: boolean, owner: PipeOwner) {
    super();
    this.id = id;
    this.local = local;
    this.kind = (id & 2) === 0 ? "bidirectional" : "unidirectional";
    this.#owner = owner;
    this.#writeOver = this.kind === "unidirectional" && !local;
    this.#readOver = this.kind === "unidirectional" && local;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#writeOver || this.#ending) return false;
    this.#queue.push(chunk);
    this.flush();
    const room = this.#queue.bytes < WRITE_LIMIT;
    if (!room) this.#waited = true;
    return room;
  }

  end(): void {
    if (this.#writeOver || this.#ending) return;
    this.#ending = true;
    this.flush();
  }

  destroy(): void {
    if (!this.#readOver) this.#shutdown(SHUTDOWN_READ);
    if (!this.#writeOver) this.#shutdown(SHUTDOWN_WRITE);
    this.#readOver = true;
    this.#stopWriting();
    this.#owner.markDirty();
    this.#owner.forget(this.id);
  }

  /** The connection is gone. */
  lost(): void {
    this.#stopWriting();
    if (this.#readOver) return;
    this.#readOver = true;
    this.deliverEnd(false);
  }

  /** Hands what waits to quiche, as far as the peer's windows allow. */
  flush(): void {
    if (this.#writeOver) return;
    try {
      for (;;) {
        const chunk = this.#partial ?? this.#queue.take();
        if (chunk === undefined) break;
        const sent = this.#owner.handle.streamSend(this.id, chunk, false) ?? 0;
        this.#owner.touched(this.id);
        this.#owner.markDirty();
        this.#partial = sent < chunk.length ? chunk.subarray(sent) : undefined;
        if (this.#partial !== undefined) return;
      }
      if (this.#ending) {
        this.#owner.handle.streamSend(this.id, NOTHING, true);
        this.#owner.touched(this.id);
        this.#owner.markDirty();
        this.#stopWriting();
        this.#forgetWhenOver();
      }
    } catch {
      // The peer stopped reading, or the connection is closing: what waits is lost with it.
      this.#stopWriting();
      this.#forgetWhenOver();
    }
    if (this.#waited && this.#queue.bytes < WRITE_LIMIT && !this.#writeOver) {
      this.#waited = false;
      this.onDrain?.();
    }
  }

  /** Reads all that has arrived, through the shared `scratch`. */
  read(scratch: Uint8Array): void {
    while (!this.#readOver) {
      let result: [number, boolean] | null;
      try {
        result = this.#owner.handle.streamRecv(this.id, scratch);
      } catch {
        return this.#endReading(false);
      }
      if (result === null) return;
      const [length, fin] = result;
      if (length > 0) this.deliver(scratch.slice(0, length) as Bytes);
      if (fin) return this.#endReading(true);
    }
  }

  #endReading(clean: boolean): void {
    this.#readOver = true;
    this.deliverEnd(clean);
    this.#forgetWhenOver();
  }

  #stopWriting(): void {
    this.#writeOver = true;
    this.#partial = undefined;
    this.#queue.clear();
  }

  #forgetWhenOver(): void {
    if (this.#writeOver && this.#readOver) this.#owner.forget(this.id);
  }

  #shutdown(direction: number): void {
    try {
      this.#owner.handle.streamShutdown(this.id, direction, 1);
    } catch {
      // It is over already.
    }
  }
}
