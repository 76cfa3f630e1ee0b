/** Bytes to send over streams, and their checksum. */
import { createHash } from "node:crypto";

const BLOCK_BYTES = 256 * 1024;

/** `total` bytes in chunks of uneven sizes; `seen` gets each of them, too. */
export function noise(
  total: number,
  seen: (chunk: Uint8Array) => void = () => {},
): ReadableStream<Uint8Array> {
  const block = new Uint8Array(BLOCK_BYTES * 2);
  for (let i = 0, x = 1; i < block.length; i++) {
    // xorshift32
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    block[i] = x;
  }
  let left = total, turn = 0;
  return new ReadableStream({
    pull(controller) {
      if (left === 0) return controller.close();
      const length = Math.min(left, 1 + (++turn * 48_271) % BLOCK_BYTES);
      const at = (turn * 7_919) % BLOCK_BYTES;
      const chunk = block.subarray(at, at + length);
      left -= length;
      seen(chunk);
      controller.enqueue(chunk);
    },
  });
}

/** The SHA-256 of everything and the number of its bytes, as one text. */
export async function digestOf(readable: ReadableStream<Uint8Array>): Promise<string> {
  const hash = createHash("sha256");
  let count = 0;
  const reader = readable.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return `${hash.digest("hex")} ${count}`;
    hash.update(value);
    count += value.length;
  }
}
