/** Replication drivers with real keys, beside each other. */
import type { Bytes } from "../../src/base/bytes.ts";
import type { Crypto, KeyPair } from "../../src/base/crypto.ts";
import type { LogLevel } from "../../src/base/logger.ts";
import { realClock, realCrypto, realRandom } from "../../src/base/real.ts";
import type { Channel, PeerIdentity } from "../../src/link/ports.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import type { MemoryMeter } from "../../src/metrics/meter.ts";
import { createReplication } from "../../src/replica/driver.ts";
import type { Replication, Store } from "../../src/replica/driver.ts";
import type { Change } from "../../src/replica/store_state.ts";
import type { FrameType } from "../../src/wire/frame_types.ts";

/** A node with its replication and nothing else. */
export interface Peer {
  readonly identity: PeerIdentity;
  readonly keys: KeyPair;
  readonly replication: Replication;
  readonly channels: Map<FrameType, Channel>;
  readonly meter: MemoryMeter;
  readonly log: [LogLevel, string][];
  /** The fields of each line. */
  readonly fields: unknown[];
}

/** What a frame or a broadcast becomes on its way; undefined drops it. */
export type Tamper = (
  type: FrameType | "broadcast",
  from: Peer,
  to: Peer,
  body: Bytes,
) => Bytes | undefined;

/** Real crypto and real time; frames arrive in later microtasks, broadcasts everywhere. */
export async function network(
  crypto?: (base: Crypto) => Crypto,
  tamper: Tamper = (_type, _from, _to, body) => body,
): Promise<{
  add(name: string): Promise<Peer>;
  link(a: Peer, b: Peer): void;
  close(): void;
}> {
  const base = await realCrypto();
  const peers = new Map<string, Peer>();
  const add = async (name: string): Promise<Peer> => {
    const keys = await base.generateKeyPair();
    const identity = { name, publicKey: keys.publicKey, epoch: 1, addresses: [] };
    const channels = new Map<FrameType, Channel>();
    const channel = (type: FrameType): Channel => {
      const own: Channel = {
        room() {},
        onFrame: undefined,
        onUndelivered: undefined,
        send: (to, body) =>
          queueMicrotask(() => {
            const target = peers.get(to);
            if (target === undefined) return own.onUndelivered?.(to, "no link");
            const arrived = tamper(type, peer, target, body);
            if (arrived !== undefined) target.channels.get(type)?.onFrame?.(arrived, identity);
          }),
      };
      channels.set(type, own);
      return own;
    };
    const meter = memoryMeter();
    const log: [LogLevel, string][] = [];
    const fields: unknown[] = [];
    const replication = createReplication({
      links: { self: identity, channel },
      keysOf: () => keys,
      clock: realClock,
      random: realRandom,
      crypto: crypto?.(base) ?? base,
      logger: {
        log(level, message, more) {
          log.push([level, message]);
          fields.push(more);
        },
      },
      meter,
      publish: (body) =>
        queueMicrotask(() => {
          for (const to of peers.values()) {
            const arrived = to === peer ? undefined : tamper("broadcast", peer, to, body.slice());
            if (arrived !== undefined) to.replication.receive(arrived);
          }
        }),
    });
    const peer: Peer = { identity, keys, replication, channels, meter, log, fields };
    peers.set(name, peer);
    return peer;
  };
  const link = (a: Peer, b: Peer) => {
    a.replication.neighbourUp(b.identity.name);
    b.replication.neighbourUp(a.identity.name);
  };
  const close = () => {
    for (const { replication } of peers.values()) replication.close();
  };
  return { add, link, close };
}

/** A store, and a promise for the first change that fits. */
export function open(peer: Peer, name = "test"): {
  store: Store;
  next(fits: (change: Change) => boolean): Promise<Change>;
} {
  const waiting = new Set<{ fits(change: Change): boolean; resolve(change: Change): void }>();
  const store = peer.replication.createStore({
    name,
    onChange(change) {
      for (const one of waiting) if (one.fits(change) && waiting.delete(one)) one.resolve(change);
    },
  });
  return {
    store,
    next: (fits) => new Promise((resolve) => void waiting.add({ fits, resolve })),
  };
}
