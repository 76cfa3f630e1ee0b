import { equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import { isAcceptableKey } from "../base/ed25519_rules.ts";
import { ConfigError, ConflictError } from "../base/errors.ts";
import type { SecretFiles } from "../base/secret_files.ts";
import { fileNameOf, isNodeName, nodeName } from "../wire/node_name.ts";
import type { NodeName } from "../wire/node_name.ts";

/** `tofu` pins a key at first contact; `strict` accepts keys that were pinned before. */
export type TrustMode = "tofu" | "strict";

/** What the store says of a name and a key. */
export type TrustVerdict = "pinned" | "first_contact" | "mismatch" | "unknown";

/** One pinned key. */
export interface Pin {
  readonly node: NodeName;
  readonly publicKey: Bytes;
  /** Whether it is kept on disk. */
  readonly durable: boolean;
}

/**
 * Which key belongs to which node name. A pin is never overwritten; only the word of a pinned key
 * itself puts another in its place (`succession.ts`).
 */
export interface TrustStore {
  readonly mode: TrustMode;
  /** What to make of a peer that shows this key under this name. */
  check(name: NodeName, publicKey: Uint8Array): TrustVerdict;
  /** The pinned key of a node. */
  lookup(name: NodeName): Bytes | undefined;
  /** All pins, by name. */
  list(): Pin[];
  /**
   * Pins a key. `durable: false` keeps it in memory: for nodes without a disk of their own.
   *
   * @throws ConflictError when another key is pinned; ConfigError when the key is none
   */
  pin(name: NodeName, publicKey: Uint8Array, options?: { durable?: boolean }): Promise<void>;
  /** Removes a pin; nothing happens when there is none. */
  unpin(name: NodeName): Promise<void>;
  /** Drops a pin that was kept in memory only: its node left or was declared down. */
  forgetEphemeral(name: NodeName): void;
}

/** The store as the node itself sees it. */
export interface PinnedTrust extends TrustStore {
  /**
   * Puts the key in the place of the pinned one, which has named it as its successor; the caller has
   * checked that. Nothing happens when another key is pinned than `from`.
   */
  succeed(name: NodeName, from: Bytes, to: Bytes): Promise<void>;
}

const FOLDER = "trusted";
const SUFFIX = ".pub";

/** Opens the pins below `trusted/`. @throws ConfigError when a file there is damaged */
export async function openTrustStore(files: SecretFiles, mode: TrustMode): Promise<PinnedTrust> {
  const pins = new Map<NodeName, Pin>();
  for (const file of await files.list(FOLDER)) {
    if (!file.endsWith(SUFFIX)) continue;
    const name = decodeFileName(file.slice(0, -SUFFIX.length));
    const publicKey = await files.read(`${FOLDER}/${file}`);
    if (name === undefined || publicKey === undefined || !isAcceptableKey(publicKey)) {
      throw new ConfigError(
        "dataDir",
        `${FOLDER}/${file} is not a pinned key (a node name and 32 bytes); mend or remove it`,
      );
    }
    pins.set(name, { node: name, publicKey, durable: true });
  }
  // One change of the folder at a time, so that the file and the memory end up equal.
  let last: Promise<void> = Promise.resolve();
  const inOrder = (work: () => Promise<void>): Promise<void> => {
    const done = last.then(work);
    last = done.catch(() => {});
    return done;
  };
  return {
    mode,
    check(name, publicKey) {
      const pin = pins.get(name);
      if (pin !== undefined) return equalBytes(pin.publicKey, publicKey) ? "pinned" : "mismatch";
      return mode === "tofu" ? "first_contact" : "unknown";
    },
    lookup: (name) => pins.get(name)?.publicKey,
    list: () => [...pins.values()].sort((a, b) => (a.node < b.node ? -1 : 1)),
    async pin(name, publicKey, { durable = true } = {}) {
      nodeName(name);
      if (!isAcceptableKey(publicKey)) {
        throw new ConfigError("publicKey", "not an Ed25519 public key (32 bytes)");
      }
      const pin = pins.get(name);
      if (pin !== undefined && !equalBytes(pin.publicKey, publicKey)) {
        throw new ConflictError(
          `another key is pinned for ${name}; unpin it first if you know why it changed`,
        );
      }
      if (pin?.durable || (pin !== undefined && !durable)) return;
      const key = new Uint8Array(publicKey);
      // In memory first: two handshakes at once must not pin two keys.
      pins.set(name, { node: name, publicKey: key, durable });
      if (!durable) return;
      try {
        await inOrder(() => files.write(pathOf(name), key));
      } catch (error) {
        // Still pinned, but in memory: the next attempt writes again.
        const current = pins.get(name);
        if (current?.publicKey === key) pins.set(name, { ...current, durable: false });
        throw error;
      }
    },
    async succeed(name, from, to) {
      const pin = pins.get(name);
      if (pin === undefined || !equalBytes(pin.publicKey, from)) return;
      const next: Pin = { ...pin, publicKey: new Uint8Array(to) };
      pins.set(name, next);
      if (!pin.durable) return;
      try {
        await inOrder(() => files.write(pathOf(name), next.publicKey));
      } catch (error) {
        // On the disk is the old one: the chain is shown again, and tried again.
        if (pins.get(name) === next) pins.set(name, pin);
        throw error;
      }
    },
    async unpin(name) {
      const pin = pins.get(name);
      pins.delete(name);
      if (pin?.durable) await inOrder(() => files.remove(pathOf(name)));
    },
    forgetEphemeral(name) {
      if (pins.get(name)?.durable === false) pins.delete(name);
    },
  };
}

function pathOf(name: NodeName): string {
  return `${FOLDER}/${fileNameOf(name)}${SUFFIX}`;
}

function decodeFileName(file: string): NodeName | undefined {
  try {
    const name = decodeURIComponent(file);
    return isNodeName(name) && fileNameOf(name) === file ? name : undefined;
  } catch {
    return undefined;
  }
}
