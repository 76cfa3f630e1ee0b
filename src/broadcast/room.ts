import type { Clock } from "../base/clock.ts";
import { OverloadedError } from "../base/errors.ts";
import type { NodeName } from "../wire/node_name.ts";

/** Messages of this node that wait for room at once, and their bytes: more are refused. */
const MAX_WAITING = 4096;
const MAX_WAITING_BYTES = 16 * 1024 * 1024;
/**
 * One neighbour holds a publisher up for so long, ms, and then not again before it has caught up:
 * its link fills up to the limit at which a slow consumer is expelled, and the others are served.
 */
const MAX_WAIT_MS = 10_000;

/** Back-pressure for those who publish. */
export interface Room {
  /** @throws OverloadedError when so much waits already that `bytes` more find no place */
  check(bytes: number): void;
  /** Nothing when the links to these peers take more, else a promise that waits for them. */
  after(peers: readonly NodeName[], bytes: number): void | Promise<void>;
  /** Nobody waits any longer. */
  close(): void;
}

/** `roomOf` says how a link takes what is sent: nothing for freely, else a promise to await. */
export function createRoom(
  clock: Clock,
  roomOf: (peer: NodeName) => void | Promise<void>,
): Room {
  const endings = new Set<() => void>();
  const slow = new Set<NodeName>();
  let waitingBytes = 0;

  const passOver = (peer: NodeName) => {
    const room = roomOf(peer);
    if (room === undefined) return;
    slow.add(peer);
    void room.then(() => slow.delete(peer));
  };

  return {
    check(bytes) {
      const isFull = endings.size >= MAX_WAITING ||
        (endings.size > 0 && waitingBytes + bytes > MAX_WAITING_BYTES);
      if (!isFull) return;
      throw new OverloadedError(
        `${endings.size} broadcasts of ${waitingBytes} bytes wait for the neighbours already; ` +
          "await the promise that publish returns",
      );
    },
    after(peers, bytes) {
      const left = new Map<NodeName, Promise<void>>();
      for (const peer of peers) {
        const room = slow.has(peer) ? undefined : roomOf(peer);
        if (room !== undefined) left.set(peer, room);
      }
      if (left.size === 0) return;
      return new Promise<void>((resolve) => {
        const end = () => {
          if (!endings.delete(end)) return;
          waitingBytes -= bytes;
          timer.cancel();
          resolve();
        };
        const timer = clock.after(MAX_WAIT_MS, () => {
          for (const peer of left.keys()) passOver(peer);
          end();
        });
        endings.add(end);
        waitingBytes += bytes;
        for (const [peer, room] of left) {
          void room.then(() => {
            left.delete(peer);
            if (left.size === 0) end();
          });
        }
      });
    },
    close() {
      for (const end of [...endings]) end();
    },
  };
}
