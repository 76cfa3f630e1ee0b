import type { MessageId } from "./messages.ts";

/** Bits of a new window and of the largest: a sender's messages are told apart that far back. */
const FIRST_WINDOW = 256;
const LARGEST_WINDOW = 65_536;
/** Windows of one origin. */
const MAX_WINDOWS = 4;
/** Origins remembered; the one that was silent longest goes first. */
const MAX_ORIGINS = 32_768;

/** One bit for each of the `size` sequence numbers up to `top`, at `seq % size`. */
interface Window {
  first: number;
  top: number;
  size: number;
  bits: Uint32Array;
}

/**
 * Which messages were seen before: a bitmap a sender, not a set of ids, so that a million messages
 * cost no more than thousands.
 *
 * A number far from the others opens a window of its own and leaves the others alone: whoever
 * invents high numbers in another's name cannot make its true messages look old.
 */
export class SeenIds {
  readonly #byOrigin = new Map<number, Window[]>();

  /** How many origins are remembered. */
  get origins(): number {
    return this.#byOrigin.size;
  }

  /** Whether a message was seen. */
  has(id: MessageId): boolean {
    return this.#byOrigin.get(id.origin)?.some((window) => isSet(window, id.seq)) ?? false;
  }

  /** Notes a message; whether it is new. */
  add(id: MessageId): boolean {
    const { origin, seq } = id;
    const windows = this.#byOrigin.get(origin);
    if (windows === undefined) {
      if (this.#byOrigin.size >= MAX_ORIGINS) {
        const oldest = this.#byOrigin.keys().next().value;
        if (oldest !== undefined) this.#byOrigin.delete(oldest);
      }
      this.#byOrigin.set(origin, [open(seq)]);
      return true;
    }
    // The map keeps its keys in order of insertion: the one used last goes to the end.
    this.#byOrigin.delete(origin);
    this.#byOrigin.set(origin, windows);
    // Windows may come to overlap, so each is asked.
    if (windows.some((window) => isSet(window, seq))) return false;
    let home: Window | undefined;
    for (const window of windows) {
      if (covers(window, seq)) home = window;
      else if (reaches(window, seq) && (home === undefined || home.top < window.top)) home = window;
    }
    if (home !== undefined) {
      if (windows[0] !== home) windows.unshift(...windows.splice(windows.indexOf(home), 1));
      note(home, seq);
      return true;
    }
    windows.unshift(open(seq));
    if (windows.length > MAX_WINDOWS) windows.pop();
    return true;
  }
}

function open(seq: number): Window {
  const window = {
    first: seq,
    top: seq,
    size: FIRST_WINDOW,
    bits: new Uint32Array(FIRST_WINDOW / 32),
  };
  mark(window, seq);
  return window;
}

function covers(window: Window, seq: number): boolean {
  return seq <= window.top && seq > window.top - window.size;
}

/** Whether `seq` is near enough above for the window to move there. */
function reaches(window: Window, seq: number): boolean {
  return seq > window.top && seq - window.top <= LARGEST_WINDOW / 2;
}

function note(window: Window, seq: number): void {
  window.first = Math.min(window.first, seq);
  if (seq > window.top) {
    // Nothing that was noted slides out before the window has its full size.
    while (window.size < LARGEST_WINDOW && seq - window.first >= window.size) grow(window);
    const steps = Math.min(seq - window.top, window.size);
    for (let i = 1; i <= steps; i++) clear(window, seq - steps + i);
    window.top = seq;
  }
  mark(window, seq);
}

function grow(window: Window): void {
  const { bits, size, top } = window;
  window.bits = new Uint32Array(bits.length * 2);
  window.size = size * 2;
  for (let seq = Math.max(0, top - size + 1); seq <= top; seq++) {
    const at = seq % size;
    if (((bits[at >>> 5] as number) >>> (at & 31)) & 1) mark(window, seq);
  }
}

function mark(window: Window, seq: number): void {
  const at = seq % window.size;
  window.bits[at >>> 5] = (window.bits[at >>> 5] as number) | (1 << (at & 31));
}

function clear(window: Window, seq: number): void {
  const at = seq % window.size;
  window.bits[at >>> 5] = (window.bits[at >>> 5] as number) & ~(1 << (at & 31));
}

function isSet(window: Window, seq: number): boolean {
  if (!covers(window, seq)) return false;
  const at = seq % window.size;
  return (((window.bits[at >>> 5] as number) >>> (at & 31)) & 1) === 1;
}
