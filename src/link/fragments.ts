import { concat } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { ProtocolError } from "../base/errors.ts";
import { ByteReader, varintLength, writeVarint } from "../wire/varint.ts";

/** Bytes of a large message in one fragment: small enough that others slip in between. */
export const FRAGMENT_BYTES: number = 16 * 1024;
/** Large messages that may be under way on one pipe at once. */
export const MAX_TRANSFERS = 64;

/** A large message being sent piece by piece. */
export interface Transfer {
  readonly id: number;
  readonly key: number;
  readonly type: number;
  readonly body: Bytes;
  sent: number;
}

/** The head of a fragment: `varint transfer | type byte | varint total`; the piece follows. */
export function fragmentHead(transfer: Transfer): Bytes {
  const total = transfer.body.length;
  const head = new Uint8Array(varintLength(transfer.id) + 1 + varintLength(total));
  const offset = writeVarint(head, 0, transfer.id);
  head[offset] = transfer.type;
  writeVarint(head, offset + 1, total);
  return head;
}

/** Puts large messages together again. Memory follows what has arrived, never what is claimed. */
export class Reassembly {
  readonly #maxMessageBytes: number;
  readonly #open = new Map<
    number,
    { type: number; total: number; bytes: number; parts: Bytes[] }
  >();

  constructor(maxMessageBytes: number) {
    this.#maxMessageBytes = maxMessageBytes;
  }

  /**
   * Takes the body of a FRAGMENT frame; returns the message when it is complete.
   *
   * @throws ProtocolError `message_too_large`, `too_many_transfers`, `bad_fragment`
   */
  add(fragment: Bytes): { type: number; body: Bytes } | undefined {
    const reader = new ByteReader(fragment);
    const id = reader.varint();
    const type = reader.byte();
    const total = reader.varint();
    if (total > this.#maxMessageBytes) {
      throw new ProtocolError("message_too_large", `a message of ${total} bytes`);
    }
    let open = this.#open.get(id);
    if (open === undefined) {
      if (this.#open.size >= MAX_TRANSFERS) {
        throw new ProtocolError("too_many_transfers", `more than ${MAX_TRANSFERS} at once`);
      }
      open = { type, total, bytes: 0, parts: [] };
      this.#open.set(id, open);
    }
    const part = reader.rest();
    open.bytes += part.length;
    const broken = open.type !== type || open.total !== total || open.bytes > total ||
      part.length === 0;
    if (broken) throw new ProtocolError("bad_fragment", "the pieces of a message disagree");
    open.parts.push(part);
    if (open.bytes < total) return undefined;
    this.#open.delete(id);
    return { type, body: concat(open.parts) };
  }
}
