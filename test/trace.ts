/** Traces of simulated worlds: one number for all that happened, in order. */

const words = new Uint32Array(2);
const float = new Float64Array(words.buffer);

/** Mixes one more 32-bit word into a hash. */
export function mixed(hash: number, word: number): number {
  const h = Math.imul(hash ^ word, 0x9e3779b1);
  return Math.imul(h ^ (h >>> 15), 0x85ebca6b) >>> 0;
}

/** The trace after a frame that arrived at `now` (ms) from one end at another. */
export function traced(
  trace: number,
  now: number,
  from: number,
  to: number,
  frame: Uint8Array,
): number {
  float[0] = now;
  let hash = mixed(mixed(trace, words[0] as number), words[1] as number);
  hash = mixed(mixed(mixed(hash, from), to), frame.length);
  for (let i = 0; i < frame.length; i++) hash = Math.imul(hash ^ (frame[i] as number), 0x01000193);
  return mixed(hash, hash >>> 13);
}
