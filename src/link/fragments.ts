import type { Bytes } from "../base/bytes.ts";
import { FrameType } from "../wire/frame_types.ts";
import { ByteReader, varintLength, writeVarint } from "../wire/varint.ts";
import { frameBytes, LEAD_BYTES } from "./frame_writer.ts";

/** Bytes of a large message in one fragment: small enough that others slip in between. */
export const FRAGMENT_BYTES: number = 16 * 1024;
/** Large messages that may be under way on one pipe at once. */
export const MAX_TRANSFERS = 64;

/** A large message being sent piece by piece. */
export interface Transfer {
  readonly key: number;
  /** Its FRAGMENT frames, one behind the other. */
  readonly frames: Bytes;
  /** Bytes of `frames` that have left: whole frames. */
  sent: number;
}

/**
 * Lays a message out as the frames in which it leaves, so that it is copied once. The body of each is
 * `varint transfer | type byte | varint total | piece`.
 */
export function layOut(id: number, type: number, head: Uint8Array, payload: Uint8Array): Bytes {
  const total = head.length + payload.length;
  const headBytes = varintLength(id) + 1 + varintLength(total);
  const count = Math.ceil(total / FRAGMENT_BYTES);
  const lastBytes = total - (count - 1) * FRAGMENT_BYTES;
  const size = LEAD_BYTES + (count - 1) * frameBytes(headBytes + FRAGMENT_BYTES) +
    frameBytes(headBytes + lastBytes);
  const frames = new Uint8Array(size);
  let offset = LEAD_BYTES;
  for (let at = 0; at < total; at += FRAGMENT_BYTES) {
    const end = Math.min(at + FRAGMENT_BYTES, total);
    offset = writeVarint(frames, offset, 1 + headBytes + end - at);
    frames[offset++] = FrameType.FRAGMENT;
    offset = writeVarint(frames, offset, id);
    frames[offset++] = type;
    offset = writeVarint(frames, offset, total);
    const ofHead = head.subarray(at, end);
    frames.set(ofHead, offset);
    offset += ofHead.length;
    const from = Math.max(0, at - head.length);
    const ofPayload = payload.subarray(from, Math.max(0, end - head.length));
    frames.set(ofPayload, offset);
    offset += ofPayload.length;
  }
  return frames.subarray(LEAD_BYTES);
}

/** The bytes of the next frame of a transfer. */
export function nextFrameBytes({ frames, sent }: Transfer): number {
  const length = new ByteReader(frames.subarray(sent, sent + 8)).varint();
  return varintLength(length) + length;
}
