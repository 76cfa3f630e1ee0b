import type { Clock } from "../base/clock.ts";
import type { Crypto } from "../base/crypto.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/random.ts";
import type { SecretFiles } from "../base/secret_files.ts";
import type { DeclaredMapOptions } from "../map/options.ts";
import type { DurableStore } from "../storage/contract.ts";
import type { TrustMode } from "../identity/trust.ts";
import type { LinkSettings } from "../link/options.ts";
import type { MembershipOptions } from "../membership/options.ts";
import type { MemoryMeter } from "../metrics/meter.ts";
import type { LivenessOptions } from "../roster/options.ts";
import type { Transport } from "../transport/contract.ts";
import type { NodeName } from "../wire/node_name.ts";

/** How peers prove themselves; `auth` of the node's options. */
export interface AuthOptions {
  /** `tofu` pins a key at first contact; `strict` wants it pinned before. @default "tofu" */
  readonly trustMode: TrustMode;
  /** Deadline of a handshake, ms. @default 10_000 */
  readonly handshakeTimeoutMs: number;
  /**
   * Node names, `*` allowed, that need only the cookie: for probes. Both ends must list the other.
   * Needs a cookie. @default []
   */
  readonly cookieOnlyNodes: readonly string[];
}

/** Caps; `limits` of the node's options. */
export interface LimitOptions {
  /** The largest message, bytes. Cluster-wide. @default 16 MiB */
  readonly maxMessageBytes: number;
  /** How far ahead of our clock a peer's stamp may be, ms. Cluster-wide. @default 5_000 */
  readonly maxDriftMs: number;
  /** Messages waiting in one mailbox that are a reason to warn. This node. @default 10_000 */
  readonly mailboxHighWater: number;
}

/** Options of `createNode`. */
export interface NodeOptions {
  /** `name@host`, unique in the cluster. */
  readonly name: NodeName;
  /** Addresses to bind; `[]` only dials. @default ["quic://0.0.0.0:0"] */
  readonly listen?: readonly string[];
  /** Addresses told to others, when they differ from those bound. @default from `listen` */
  readonly advertise?: readonly string[];
  /** Addresses to join through; tried in the background for ever. @default [] */
  readonly contactNodes?: readonly string[];
  /** Folder of keys, pins and `store.sqlite`. @default none: everything in memory */
  readonly dataDir?: string;
  /** Nodes of other clusters are refused. Cluster-wide. @default "default" */
  readonly cluster?: string;
  /** A secret that all nodes share, 16 bytes or more. Cluster-wide. @default none */
  readonly cookie?: string | undefined;
  readonly auth?: Partial<AuthOptions>;
  readonly membership?: Partial<MembershipOptions>;
  readonly links?: Partial<LinkSettings>;
  readonly liveness?: Partial<LivenessOptions>;
  readonly limits?: Partial<LimitOptions>;
  /** Maps to open before the node joins, by name. @default {} */
  readonly maps?: Readonly<Record<string, DeclaredMapOptions>>;
  /** How to reach other nodes. @default the runtime's QUIC */
  readonly transports?: readonly Transport[];
  /** The world, injected; see `@barrel/p2p/testing`. */
  readonly clock?: Clock;
  readonly random?: Random;
  readonly crypto?: Crypto;
  readonly storage?: SecretFiles;
  /** Where persistent maps are kept; the node does not close it. @default `dataDir/store.sqlite` */
  readonly store?: DurableStore;
  /** Where log lines go. @default errors to `console.error`, the rest nowhere */
  readonly logger?: Logger;
  readonly meter?: MemoryMeter;
}

/** Defaults of {@link AuthOptions}. */
export const AUTH_DEFAULTS: AuthOptions = Object.freeze({
  trustMode: "tofu",
  handshakeTimeoutMs: 10_000,
  cookieOnlyNodes: [],
});

/** Defaults of {@link LimitOptions}. */
export const LIMIT_DEFAULTS: LimitOptions = Object.freeze({
  maxMessageBytes: 16 << 20,
  maxDriftMs: 5_000,
  mailboxHighWater: 10_000,
});
