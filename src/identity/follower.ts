/** Follows peers to their new keys, by the word of the old ones: the only way a pin ever changes. */
import { decodeHex, encodeHex } from "@std/encoding/hex";
import { afterwards } from "../base/afterwards.ts";
import { equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto } from "../base/crypto.ts";
import { messageOf } from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { Meter } from "../metrics/meter.ts";
import type { NodeName } from "../wire/node_name.ts";
import { predecessors } from "./succession.ts";
import type { PinnedTrust } from "./trust.ts";

/** What is known of the keys that nodes have had. */
export interface Follower {
  /**
   * Takes what a node shows of its rotations. With `tofu`, a pin of an earlier key becomes one of
   * `publicKey`; with `strict` it stays, and nothing else changes either. Never rejects.
   *
   * @returns whether the chain leads from `from` to `publicKey`, whatever became of the pin
   */
  learn(name: NodeName, publicKey: Bytes, chain: Bytes, from?: Bytes): Promise<boolean>;
  /** Whether `to` has followed `from` as the key of the node, and we go along with that. */
  hasFollowed(name: NodeName, from: Bytes, to: Bytes): boolean;
  /** Settles when nothing is being learned any more. */
  settled(): Promise<void>;
  /** The keys that this one of the node has followed, as far as we know. */
  followedBy(name: NodeName, publicKey: Bytes): Bytes[];
  /** An operator decides anew whom to believe: what the node said of its keys counts no more. */
  forget(name: NodeName): void;
  /** Whether the node has had a newer key than this. */
  isSuperseded(name: NodeName, publicKey: Bytes): boolean;
}

/** Old keys that are remembered; beyond, the oldest go. */
const MAX_OLD_KEYS = 10_000;

/** Makes a follower over the node's pins. */
export function createFollower(options: {
  readonly trust: PinnedTrust;
  readonly crypto: Crypto;
  readonly logger: Logger;
  readonly meter: Meter;
}): Follower {
  const { trust, crypto, logger, meter } = options;
  const once = logOnce(logger, 1_024);
  // By name and old key: the key that followed last.
  const successors = new Map<string, string>();
  const idOf = (name: NodeName, key: Bytes) => `${name} ${encodeHex(key)}`;

  const remember = (name: NodeName, old: Bytes, publicKey: Bytes) => {
    const id = idOf(name, old);
    successors.delete(id);
    const oldest = successors.keys().next().value;
    if (successors.size >= MAX_OLD_KEYS && oldest !== undefined) successors.delete(oldest);
    successors.set(id, encodeHex(publicKey));
  };

  const moveOn = async (name: NodeName, pin: Bytes, publicKey: Bytes): Promise<boolean> => {
    if (trust.mode === "strict") {
      const text =
        `${name} has a new key, ${encodeHex(publicKey)}, as its old one says; trust is ` +
        "strict: unpin the old one and pin this one to go along";
      once(`${name} strict`, "warn", text, { peer: name });
      return false;
    }
    try {
      await trust.succeed(name, pin, publicKey);
    } catch (error) {
      logger.log("error", `the new key of ${name} could not be kept: ${messageOf(error)}`);
      return false;
    }
    meter.count("barrel_keys_followed_total");
    logger.log("info", `${name} has a new key, ${encodeHex(publicKey)}, as its old one says`);
    return true;
  };

  const learn = async (name: NodeName, publicKey: Bytes, chain: Bytes, from?: Bytes) => {
    const old = await predecessors(chain, name, publicKey, crypto);
    const leads = from !== undefined && old.some((key) => equalBytes(key, from));
    const pin = trust.lookup(name);
    if (pin !== undefined && !equalBytes(pin, publicKey)) {
      if (!old.some((key) => equalBytes(key, pin))) return leads;
      if (!await moveOn(name, pin, publicKey)) return leads;
    }
    for (const key of old) remember(name, key, publicKey);
    return leads;
  };
  const learning = new Set<Promise<unknown>>();

  return {
    learn(name, publicKey, chain, from) {
      const learned = learn(name, publicKey, chain, from);
      learning.add(learned);
      return afterwards(learned, () => learning.delete(learned));
    },
    async settled() {
      await Promise.allSettled(learning);
    },
    hasFollowed: (name, from, to) => successors.get(idOf(name, from)) === encodeHex(to),
    followedBy(name, publicKey) {
      const newest = encodeHex(publicKey);
      const old: Bytes[] = [];
      for (const [id, key] of successors) {
        if (key === newest && id.startsWith(`${name} `)) {
          old.push(decodeHex(id.slice(name.length + 1)));
        }
      }
      return old;
    },
    forget(name) {
      for (const id of successors.keys()) if (id.startsWith(`${name} `)) successors.delete(id);
    },
    isSuperseded: (name, publicKey) => successors.has(idOf(name, publicKey)),
  };
}
