import { EMPTY } from "../../../src/base/bytes.ts";
import type { Bytes } from "../../../src/base/bytes.ts";
import type { Pipe } from "../../../src/transport/contract.ts";
import { Incoming } from "../incoming.ts";
import { Outgoing, WRITE_LIMIT } from "../outgoing.ts";
import { SHUTDOWN_READ, SHUTDOWN_WRITE } from "./binding.ts";
import type { QuicheHandle } from "./binding.ts";

/** Most that is read at once, bytes. */
const READ_BYTES = 64 * 1024;
/** What all pipes read into. */
let spare: Bytes | undefined;

/** What a pipe needs of its connection. */
export interface PipeOwner {
  readonly handle: QuicheHandle;
  /** The pipe has something to send: call `flush` when this turn's writes are in. */
  wrote(pipe: QuichePipe): void;
  /** quiche takes no more of it: call `flush` when the peer has been heard. */
  blocked(pipe: QuichePipe): void;
  /** What quiche holds for the pipe can be read now. */
  arrived(): void;
  /** Packets are to be sent. */
  markDirty(): void;
  /** quiche knows the stream now. */
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
  #isQueued = false;
  #waited = false;
  #ending = false;
  #touched = false;
  #writeOver: boolean;
  #readOver: boolean;

  constructor(id: number, local: boolean, owner: PipeOwner) {
    super();
    this.id = id;
    this.local = local;
    this.kind = (id & 2) === 0 ? "bidirectional" : "unidirectional";
    this.#owner = owner;
    this.#touched = !local;
    this.#writeOver = this.kind === "unidirectional" && !local;
    this.#readOver = this.kind === "unidirectional" && local;
  }

  write(chunk: Uint8Array): boolean {
    if (this.#writeOver || this.#ending) return false;
    this.#queue.push(chunk);
    this.#wrote();
    const room = this.#queue.bytes < WRITE_LIMIT;
    if (!room) this.#waited = true;
    return room;
  }

  end(): void {
    if (this.#writeOver || this.#ending) return;
    this.#ending = true;
    this.#wrote();
  }

  destroy(): void {
    // The peer's limit counts a stream that it has never heard of, too.
    if (!this.#touched) this.#send(EMPTY, true);
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
    this.#isQueued = false;
    if (this.#writeOver) return;
    this.#push();
    if (this.#writeOver) {
      if (this.#readOver) this.#owner.forget(this.id);
    } else if (this.#waited && this.#queue.bytes < WRITE_LIMIT) {
      this.#waited = false;
      this.onDrain?.();
    }
  }

  /** Reads all that has arrived. */
  read(): void {
    const buffer = spare ?? new Uint8Array(READ_BYTES);
    // Whoever is given a chunk may read another pipe.
    spare = undefined;
    spare = this.#readInto(buffer);
  }

  // Returns the buffer that is free when there is no more: another than it was given, perhaps.
  #readInto(given: Bytes): Bytes {
    let buffer = given;
    // Whoever does not listen yet is not sent more than a chunk: quiche's window holds the rest.
    while (!this.#readOver && !this.isHolding) {
      let result: [number, boolean] | null;
      try {
        result = this.#owner.handle.streamRecv(this.id, buffer);
      } catch {
        this.#endReading(false);
        break;
      }
      if (result === null) break;
      const [length, fin] = result;
      // Little is copied out, or it would hold much memory.
      if (length < READ_BYTES / 2) {
        if (length > 0) this.deliver(buffer.slice(0, length));
      } else if (!this.deliver(buffer.subarray(0, length))) buffer = new Uint8Array(READ_BYTES);
      if (fin) {
        this.#endReading(true);
        break;
      }
      if (length < READ_BYTES) break;
    }
    return buffer;
  }

  protected override caughtUp(): void {
    if (!this.#readOver) this.#owner.arrived();
  }

  #wrote(): void {
    if (this.#isQueued) return;
    this.#isQueued = true;
    this.#owner.wrote(this);
  }

  #push(): void {
    for (;;) {
      const chunk = this.#partial ?? this.#queue.take() ?? EMPTY;
      const last = this.#ending && this.#queue.bytes === 0;
      if (chunk.length === 0 && !last) return;
      const sent = this.#send(chunk, last);
      if (this.#writeOver) return;
      if (sent < chunk.length) {
        this.#partial = chunk.subarray(sent);
        this.#isQueued = true;
        return this.#owner.blocked(this);
      }
      this.#partial = undefined;
      if (last) return this.#stopWriting();
    }
  }

  #send(chunk: Uint8Array, last: boolean): number {
    try {
      const sent = this.#owner.handle.streamSend(this.id, chunk, last) ?? 0;
      if (!this.#touched) {
        this.#touched = true;
        this.#owner.touched(this.id);
      }
      return sent;
    } catch {
      // The peer stopped reading, or the connection is closing: what waits is lost with it.
      this.#stopWriting();
      return 0;
    }
  }

  #endReading(clean: boolean): void {
    this.#readOver = true;
    this.deliverEnd(clean);
    if (this.#writeOver) this.#owner.forget(this.id);
  }

  #stopWriting(): void {
    this.#writeOver = true;
    this.#partial = undefined;
    this.#queue.clear();
  }

  #shutdown(direction: number): void {
    try {
      this.#owner.handle.streamShutdown(this.id, direction, 1);
    } catch {
      // It is over already.
    }
  }
}
