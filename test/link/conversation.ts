import assert from "node:assert/strict";
import { FrameType } from "../../src/wire/frame_types.ts";
import type { LinkNode } from "./world.ts";

/** Streams of messages whose order counts. */
export const KEYS = 8;

/** What one node sends to another, and what has come of it. */
export interface Conversation {
  /** How many have been sent, by key. */
  readonly sent: number[];
  /** The numbers that have arrived, by key, in their order. */
  readonly arrived: number[][];
  readonly isComplete: boolean;
  send(key: number): void;
  /** @throws AssertionError when one is lost, doubled or overtaken */
  check(): void;
}

/** Sends numbered signals on several keys, some of them large, and remembers what arrives. */
export function conversation(from: LinkNode, to: LinkNode): Conversation {
  const sent = Array<number>(KEYS).fill(0);
  const arrived = Array.from({ length: KEYS }, (): number[] => []);
  to.links.signals.onSignal = (_type, body) => {
    const view = new DataView(body.buffer, body.byteOffset);
    arrived[view.getUint8(0)]?.push(view.getUint32(1));
  };
  return {
    sent,
    arrived,
    send(key: number) {
      const number = sent[key] as number;
      sent[key] = number + 1;
      const head = new Uint8Array(5);
      new DataView(head.buffer).setUint8(0, key);
      new DataView(head.buffer).setUint32(1, number);
      const payload = new Uint8Array(number % 17 === 3 ? 200_000 : number % 90);
      void from.links.signals.send(to.self.name, 0, key, FrameType.SEND, head, payload);
    },
    get isComplete() {
      return arrived.every((numbers, key) => numbers.length === sent[key]);
    },
    check() {
      for (const [key, numbers] of arrived.entries()) {
        assert.deepEqual(numbers, Array.from({ length: sent[key] as number }, (_, i) => i));
      }
    },
  };
}
