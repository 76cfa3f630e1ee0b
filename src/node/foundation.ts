/** The lower half of a node: identity, transports, links. */
import { utf8 } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Crypto } from "../base/crypto.ts";
import { TransportError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/random.ts";
import { errorLogger, realClock, realCrypto, realRandom } from "../base/real.ts";
import { scopedClock } from "../base/scoped_clock.ts";
import type { ScopedClock } from "../base/scoped_clock.ts";
import { memoryStore } from "../storage/memory.ts";
import type { DurableStore } from "../storage/contract.ts";
import { memoryFiles } from "../base/secret_files.ts";
import type { SecretFiles } from "../base/secret_files.ts";
import { createFollower } from "../identity/follower.ts";
import type { Follower } from "../identity/follower.ts";
import { loadKeys, nextEpoch } from "../identity/keys.ts";
import { loadChain } from "../identity/rotation.ts";
import { openTrustStore } from "../identity/trust.ts";
import type { TrustStore } from "../identity/trust.ts";
import { createConnector } from "../link/connector.ts";
import type { Authenticated, Connector } from "../link/connector.ts";
import { LINK_DEFAULTS } from "../link/options.ts";
import type { PeerIdentity } from "../link/ports.ts";
import { createLinkTable } from "../link/table.ts";
import type { LinkTable } from "../link/table.ts";
import { memoryMeter } from "../metrics/meter.ts";
import type { MemoryMeter, Meter } from "../metrics/meter.ts";
import { LIVENESS_DEFAULTS } from "../roster/options.ts";
import type { Listener, Transport } from "../transport/contract.ts";
import type { NodeName } from "../wire/node_name.ts";
import { advertised } from "./advertise.ts";
import { createKeyRing } from "./credentials.ts";
import type { KeyRing } from "./credentials.ts";
import { trustOf } from "./rotation.ts";
import { AUTH_DEFAULTS, LIMIT_DEFAULTS } from "./options.ts";
import type { AuthOptions, LimitOptions, NodeOptions } from "./options.ts";

/** The injected world with its defaults filled in. */
export interface World {
  /** Ends with the node. */
  readonly clock: ScopedClock;
  readonly random: Random;
  readonly crypto: Crypto;
  readonly logger: Logger;
  readonly meter: MemoryMeter;
  readonly files: SecretFiles;
  readonly transports: readonly Transport[];
  readonly disk: Disk;
  /** Gives `dataDir` back to other processes. */
  readonly unlock: () => Promise<void>;
}

/** The node's durable store, opened at the first need. */
export interface Disk {
  open(): Promise<DurableStore>;
  /** Closes it if it was opened here. */
  close(): Promise<void>;
}

/** What the upper rooms of a node stand on. */
export interface Foundation {
  readonly world: World;
  readonly self: PeerIdentity;
  readonly ring: KeyRing;
  readonly follower: Follower;
  readonly trust: TrustStore;
  readonly links: LinkTable;
  readonly connector: Connector;
  readonly limits: LimitOptions;
  /** Told where a node can be reached; asked in order. */
  readonly resolvers: ((name: NodeName) => readonly string[])[];
  /** Who needs a link to stay. */
  readonly needs: ((name: NodeName) => boolean)[];
}

/** Fills in the world. @throws TransportError `unavailable` when the host has no QUIC */
export async function makeWorld(options: NodeOptions): Promise<World> {
  const { dataDir, storage } = options;
  const logger = options.logger ?? errorLogger;
  const crypto = options.crypto ?? await realCrypto();
  const transports = options.transports ?? [await defaultTransport()];
  const meter = options.meter ?? memoryMeter();
  const isOurs = dataDir !== undefined && storage === undefined;
  return {
    unlock: isOurs ? await lock(dataDir) : () => Promise.resolve(),
    disk: diskOf(options, logger, meter),
    clock: scopedClock(options.clock ?? realClock),
    random: options.random ?? realRandom,
    crypto,
    logger,
    meter,
    files: storage ?? (dataDir === undefined ? memoryFiles() : await durable(dataDir)),
    transports,
  };
}

function diskOf(
  { store, dataDir, clock = realClock }: NodeOptions,
  logger: Logger,
  meter: Meter,
): Disk {
  let opening: Promise<DurableStore> | undefined;
  const open = async (): Promise<DurableStore> => {
    if (store !== undefined) return store;
    if (dataDir === undefined) return memoryStore();
    const { sqliteStore } = await import("../storage/sqlite.ts");
    const path = `${dataDir}/store.sqlite`;
    return await sqliteStore({ path, logger, meter, now: clock.wall() });
  };
  return {
    open() {
      if (opening !== undefined) return opening;
      const attempt = opening = open();
      // A disk that was full may have room the next time.
      attempt.catch(() => void (opening = undefined));
      return attempt;
    },
    async close() {
      if (store === undefined) await opening?.then((opened) => opened.close(), () => {});
    },
  };
}

// Loaded when wanted: hosts without files or UDP never see these modules.
async function durable(dataDir: string): Promise<SecretFiles> {
  const { durableFiles } = await import("../storage/files.ts");
  return durableFiles(dataDir);
}

async function lock(dataDir: string): Promise<() => Promise<void>> {
  const { lockFolder } = await import("../storage/lock.ts");
  return await lockFolder(dataDir);
}

async function defaultTransport(): Promise<Transport> {
  const { quic } = await import("../../adapters/quic/mod.ts");
  return await quic();
}

/** Loads the identity, binds the addresses and starts the links. */
export async function layFoundation(options: NodeOptions, world: World): Promise<Foundation> {
  try {
    return await build(options, world);
  } catch (error) {
    world.clock.close();
    await world.unlock();
    throw error;
  }
}

async function build(options: NodeOptions, world: World): Promise<Foundation> {
  const { clock, crypto, files, logger, meter, random, transports } = world;
  const auth: AuthOptions = { ...AUTH_DEFAULTS, ...options.auth };
  const limits: LimitOptions = { ...LIMIT_DEFAULTS, ...options.limits };
  const liveness = { ...LIVENESS_DEFAULTS, ...options.liveness };
  const settings = { ...LINK_DEFAULTS, ...options.links };
  const keys = await loadKeys(files, crypto);
  const epoch = await nextEpoch(files, clock);
  const trust = await openTrustStore(files, auth.trustMode);
  const cookieOnly = auth.cookieOnlyNodes.map(pattern);
  const addresses: string[] = [];
  const chain = await loadChain(files, crypto, options.name, keys.publicKey);
  const ring = await createKeyRing({ name: options.name, epoch, addresses }, keys, chain, crypto);
  const { self } = ring;
  const follower = createFollower({ trust, crypto, logger, meter });
  if (cookieOnly.length > 0) {
    logger.log("warn", "auth.cookieOnlyNodes admits nodes by the cookie alone");
  }

  const connector = createConnector({
    transports,
    identity: () => ring.tls,
    handshake: {
      credentials: (connection) => ring.credentials(connection),
      cluster: options.cluster ?? "default",
      cookie: options.cookie === undefined ? undefined : utf8(options.cookie),
      isCookieOnly: (name) => cookieOnly.some((matches) => matches(name)),
      ephemeral: !files.durable,
      features: { maxMessageBytes: limits.maxMessageBytes, maxDriftMs: limits.maxDriftMs },
      timeoutMs: auth.handshakeTimeoutMs,
      clock,
      crypto,
      nonce: () => random.bytes(32) as Bytes,
      checkTrust: (peer) => trustOf(peer, () => links, trust, follower),
    },
    clock,
    random,
    crypto,
    logger,
    meter,
    maxMessageBytes: limits.maxMessageBytes,
    idleTimeoutMs: liveness.silenceMs,
    keepAliveMs: Math.floor(liveness.silenceMs / 4),
    onAccepted: (accepted) => links.accept(accepted),
  });

  const resolvers: Foundation["resolvers"] = [];
  const needs: Foundation["needs"] = [];
  const admit = async ({ peer, cookieOnly: byCookie }: Authenticated) => {
    if (byCookie || trust.check(peer.name, peer.publicKey) === "pinned") return;
    await trust.pin(peer.name, peer.publicKey, { durable: !peer.ephemeral });
  };
  const links = createLinkTable({
    self,
    settings,
    maxMessageBytes: limits.maxMessageBytes,
    clock,
    logger,
    meter,
    dial: (address, request) => connector.dial(address, request),
    resolve(name) {
      const found = [...new Set(resolvers.flatMap((resolver) => [...resolver(name)]))];
      const publicKey = trust.lookup(name);
      return Promise.resolve({
        addresses: found,
        ...(publicKey === undefined ? {} : { publicKey }),
      });
    },
    admit,
    isNeeded: (name) => needs.some((isNeeded) => isNeeded(name)),
  });

  try {
    const bound: string[] = [];
    for (const [index, address] of (options.listen ?? ["quic://0.0.0.0:0"]).entries()) {
      bound.push((await bind(connector, address, `listen.${index}`)).address);
    }
    addresses.push(...options.advertise ?? advertised(bound, options.name));
  } catch (error) {
    await connector.close();
    throw error;
  }
  return { world, self, ring, follower, trust, links, connector, limits, resolvers, needs };
}

// Says which of the addresses it was.
async function bind(connector: Connector, address: string, path: string): Promise<Listener> {
  try {
    return await connector.listen(address);
  } catch (error) {
    if (!(error instanceof TransportError)) throw error;
    throw new TransportError(error.reason, `${path}: ${error.message}`, { cause: error });
  }
}

// A pattern of node names: `*` stands for anything.
function pattern(text: string): (name: NodeName) => boolean {
  const parts = text.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${parts.join(".*")}$`);
  return (name) => expression.test(name);
}
