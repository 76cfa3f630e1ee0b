import type { Bytes } from "../../src/base/bytes.ts";
import type { Pipe } from "../../src/transport/contract.ts";

/** One end of a pipe of tests. */
export interface TestPipe extends Pipe {
  /** When true, `write` asks to wait and nothing is delivered until it is false again. */
  stalled: boolean;
  /** Bytes handed to `write` so far. */
  readonly written: number;
  /** Delivers bytes as if the other end had written them. */
  inject(bytes: Uint8Array): void;
}

interface End extends Omit<TestPipe, "written"> {
  written: number;
  other: End | undefined;
  deliver(chunk: Uint8Array): void;
}

/** Two ends of a pipe that deliver in microtasks, in chunks of at most `chunkBytes`. */
export function pipePair(chunkBytes: number = Infinity): [TestPipe, TestPipe] {
  const make = (local: boolean): End => {
    let stalled = false;
    let queue: Uint8Array[] = [];
    const pipe: End = {
      kind: "bidirectional",
      local,
      written: 0,
      other: undefined,
      onData: undefined,
      onEnd: undefined,
      onDrain: undefined,
      get stalled() {
        return stalled;
      },
      set stalled(value) {
        stalled = value;
        if (value) return;
        const waiting = queue;
        queue = [];
        for (const chunk of waiting) pipe.deliver(chunk);
        queueMicrotask(() => pipe.onDrain?.());
      },
      deliver(chunk) {
        for (let i = 0; i < chunk.length; i += chunkBytes) {
          const part = chunk.slice(i, i + chunkBytes) as Bytes;
          queueMicrotask(() => pipe.other?.onData?.(part));
        }
      },
      write(chunk) {
        pipe.written += chunk.length;
        if (stalled) {
          queue.push(chunk);
          return false;
        }
        pipe.deliver(chunk);
        return true;
      },
      end: () => queueMicrotask(() => pipe.other?.onEnd?.(true)),
      destroy: () => queueMicrotask(() => pipe.other?.onEnd?.(false)),
      inject: (bytes) => pipe.onData?.(bytes as Bytes),
    };
    return pipe;
  };
  const a = make(true), b = make(false);
  a.other = b;
  b.other = a;
  return [a, b];
}
