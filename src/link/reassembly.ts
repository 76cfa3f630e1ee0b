import { concat } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { ByteReader } from "../wire/varint.ts";
import { MAX_TRANSFERS } from "./fragments.ts";

/**
 * Room that the messages under way on one pipe may take, in all, beyond as much as has come of each:
 * so that a message of 1 MiB and its head has its whole place at its first piece.
 */
const ADVANCED_BYTES = 1024 * 1024 + 64 * 1024;

/** A message that has not come whole. */
interface Open {
  readonly type: number;
  readonly total: number;
  /** Bytes that have come. */
  bytes: number;
  /** Its beginning: one block, or several that are joined at the end. */
  readonly full: Bytes[];
  /** The block that is being filled, and how far it is. */
  block: Bytes;
  filled: number;
}

/**
 * Puts large messages together again, each piece copied straight to its place. Memory follows what has
 * arrived, never what is claimed: room for as much again, and {@link ADVANCED_BYTES} for all.
 */
export class Reassembly {
  readonly #maxMessageBytes: number;
  readonly #open = new Map<number, Open>();
  // Room that nothing has come for yet.
  #empty = 0;

  constructor(maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /** Bytes of memory that messages take which have not come whole. */
  get held(): number {
    let bytes = this.#empty;
    for (const open of this.#open.values()) bytes += open.bytes;
    return bytes;
  }

  /**
   * Takes the body of a FRAGMENT frame, which is copied; returns the message when it is complete.
   *
   * @throws ProtocolError `message_too_large`, `too_many_transfers`, `bad_fragment`
   */
  add(fragment: Bytes): { type: number; body: Bytes } | undefined {
    const reader = new ByteReader(fragment);
    const id = reader.varint();
    const type = reader.byte();
    const total = reader.varint();
    const part = reader.rest();
    if (total > this.#maxMessageBytes) {
      throw new ProtocolError("message_too_large", `a message of ${total} bytes`);
    }
    const known = this.#open.get(id);
    if (known === undefined && this.#open.size >= MAX_TRANSFERS) {
      throw new ProtocolError("too_many_transfers", `more than ${MAX_TRANSFERS} at once`);
    }
    const open = known ?? { type, total, bytes: 0, full: [], block: NOTHING, filled: 0 };
    const broken = open.type !== type || open.total !== total ||
      open.bytes + part.length > total || part.length === 0;
    if (broken) throw new ProtocolError("bad_fragment", "the pieces of a message disagree");
    if (known === undefined) this.#open.set(id, open);
    this.#fill(open, part);
    if (open.bytes < total) return undefined;
    this.#open.delete(id);
    const body = open.full.length === 0 ? open.block : concat([...open.full, open.block]);
    return { type, body };
  }

  #fill(open: Open, part: Bytes): void {
    for (let at = 0; at < part.length;) {
      if (open.filled === open.block.length) this.#grow(open, part.length - at);
      const piece = part.subarray(at, at + open.block.length - open.filled);
      open.block.set(piece, open.filled);
      open.filled += piece.length;
      open.bytes += piece.length;
      this.#empty -= piece.length;
      at += piece.length;
    }
  }

  #grow(open: Open, needed: number): void {
    if (open.filled > 0) open.full.push(open.block);
    const room = Math.max(needed, open.bytes, ADVANCED_BYTES - this.#empty);
    const size = Math.min(room, open.total - open.bytes);
    open.block = new Uint8Array(size);
    open.filled = 0;
    this.#empty += size;
  }
}

const NOTHING: Bytes = new Uint8Array(0);
