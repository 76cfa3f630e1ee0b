/** Rotation of the node's key while it runs, and peers that rotate theirs. */
import { afterwards } from "../base/afterwards.ts";
import { concat, equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { isAcceptableKey } from "../base/ed25519_rules.ts";
import { messageOf, ProtocolError } from "../base/errors.ts";
import type { Hello } from "../identity/handshake_messages.ts";
import { tlsIdentity } from "../identity/certificate.ts";
import type { Follower } from "../identity/follower.ts";
import { fingerprint } from "../identity/keys.ts";
import { rotateKeys } from "../identity/rotation.ts";
import { isChain } from "../identity/succession.ts";
import type { TrustStore, TrustVerdict } from "../identity/trust.ts";
import type { LinkTable } from "../link/table.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { KeyRing } from "./credentials.ts";
import type { World } from "./foundation.ts";

/** What a rotation led to. */
export interface RotationResult {
  readonly publicKey: Bytes;
  /** SHA-256 of the public key, hexadecimal. */
  readonly fingerprint: string;
  /** The folder with the old keys: below `dataDir`, or in memory without one. */
  readonly backup: string;
}

/** `node.identity`. */
export interface Identity {
  /**
   * Gives the node a new key, from the next handshake on, without a restart: links, processes and
   * pids stay. Peers are told by a record that both keys sign: with `tofu` they follow, also those
   * that are away now; with `strict` they refuse the node at the next handshake until somebody pins
   * the new key there.
   *
   * @throws ConfigError when the new keys cannot be written; the old ones then hold; ClosedError
   */
  rotate(): Promise<RotationResult>;
}

/** The same as the node itself sees it. */
export interface OwnIdentity extends Identity {
  /** Resolves when no rotation is under way: the folder may be given up then. */
  settled(): Promise<void>;
}

const KEY_BYTES = 32;

/** What a peer's key is to us, when it may have followed another; settles at once when it has not. */
export function trustOf(
  peer: Hello,
  links: () => LinkTable,
  trust: TrustStore,
  follower: Follower,
): TrustVerdict | "conflict" | Promise<TrustVerdict | "conflict"> {
  const { name, publicKey, successions } = peer;
  const judge = () => {
    const live = links().peer(name)?.publicKey;
    const isAnother = live !== undefined && !equalBytes(live, publicKey);
    return isAnother ? "conflict" : trust.check(name, publicKey);
  };
  const verdict = judge();
  if (successions.length === 0 || (verdict !== "conflict" && verdict !== "mismatch")) {
    return verdict;
  }
  return followPeer(name, publicKey, successions, links(), follower).then((isSuccessor) => {
    const now = judge();
    // It is the same node, but its new key is not provisioned here.
    return now === "conflict" && isSuccessor ? trust.check(name, publicKey) : now;
  });
}

/** Learns how a peer came to its key; the links to it go along. Whether it is who the links lead to. */
export async function followPeer(
  name: NodeName,
  publicKey: Bytes,
  chain: Bytes,
  links: LinkTable,
  follower: Follower,
): Promise<boolean> {
  const live = links.peer(name)?.publicKey;
  const isSuccessor = await follower.learn(name, publicKey, chain, live);
  if (live !== undefined && isSuccessor && follower.hasFollowed(name, live, publicKey)) {
    links.rekey(name, live, publicKey);
  }
  return isSuccessor;
}

/** Starts rotations of our own key, and listens for those of linked peers. */
export function createIdentity(options: {
  readonly world: World;
  readonly ring: KeyRing;
  readonly links: LinkTable;
  readonly follower: Follower;
  readonly dataDir: string | undefined;
  /** The key of the ring has changed: listeners and rows are to follow. */
  readonly onRotated: () => void;
}): OwnIdentity {
  const { world, ring, links, follower } = options;
  const { clock, crypto, files, logger, meter } = world;
  const channel = links.channel(FrameType.SUCCESSION);
  const learning = new Set<NodeName>();
  channel.onFrame = (body, { name }) => {
    const publicKey = body.slice(0, KEY_BYTES);
    const chain = body.slice(KEY_BYTES);
    if (!isAcceptableKey(publicKey) || !isChain(chain) || chain.length === 0) {
      throw new ProtocolError("malformed", "a SUCCESSION does not follow the protocol");
    }
    // Signatures cost time: one at a time a peer. What is missed comes with its record.
    if (learning.has(name)) return;
    learning.add(name);
    const followed = followPeer(name, publicKey, chain, links, follower);
    void afterwards(followed, () => learning.delete(name));
  };
  const tell = (peer: NodeName) => channel.send(peer, concat([ring.self.publicKey, ring.chain]));
  // A handshake that was under way with the old key ends as a link of the old key.
  let hasRotated = false;
  links.on((event) => {
    if (hasRotated && event.type === "linkUp") tell(event.peer.name);
  });

  const rotate = async (): Promise<RotationResult> => {
    const { name } = ring.self;
    const old = { name, keys: ring.keys, chain: ring.chain };
    const rotated = await rotateKeys(files, crypto, old, clock.wall());
    const { keys, chain, unfinished } = rotated;
    if (unfinished !== undefined) {
      logger.log("error", `the next start finishes the rotation on disk: ${unfinished}`);
    }
    ring.become(keys, chain, await tlsIdentity(keys, crypto));
    hasRotated = true;
    options.onRotated();
    for (const peer of links.peers()) tell(peer.name);
    meter.count("barrel_keys_rotated_total");
    const print = fingerprint(keys.publicKey, crypto);
    const { dataDir } = options;
    const backup = dataDir === undefined ? rotated.backup : `${dataDir}/${rotated.backup}`;
    logger.log("info", `the node's key is new: ${print}; the old one is in ${backup}`);
    return { publicKey: keys.publicKey, fingerprint: print, backup };
  };
  let last: Promise<unknown> = Promise.resolve();
  return {
    rotate() {
      const done = last.then(rotate);
      last = done.catch((error: unknown) => {
        logger.log("error", `the key was not rotated: ${messageOf(error)}`);
      });
      return done;
    },
    async settled() {
      await last;
    },
  };
}
