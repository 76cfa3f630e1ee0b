/** The composition root: where the rooms become a node. */
import { createCalls } from "../actor/calls.ts";
import type { StartOptions } from "../actor/calls.ts";
import type { AnyServer, CallOptions, InitArguments, ServerClient } from "../actor/gen_server.ts";
import type { ExitReason } from "../actor/messages.ts";
import type { Behaviour } from "../actor/process.ts";
import { createProcesses } from "../actor/processes.ts";
import type { Processes } from "../actor/processes.ts";
import { createRpc } from "../actor/rpc.ts";
import type { Rpc } from "../actor/rpc.ts";
import { createSupervisors } from "../actor/supervisor.ts";
import type { Supervisor } from "../actor/supervisor.ts";
import type { SupervisorSpec } from "../actor/supervisor_spec.ts";
import { ActorSystem } from "../actor/system.ts";
import type { SpawnOptions } from "../actor/system.ts";
import type { Bytes } from "../base/bytes.ts";
import { ClosedError, ConflictError, messageOf, TimeoutError } from "../base/errors.ts";
import { Emitter } from "../base/events.ts";
import type { EventsOptions, Overflow } from "../base/events.ts";
import { knownOptions } from "../base/known_options.ts";
import { HybridLogicalClock } from "../crdt/hlc.ts";
import type { Stamp } from "../crdt/hlc.ts";
import { fingerprint } from "../identity/keys.ts";
import type { TrustStore } from "../identity/trust.ts";
import type { LinkInfo, LinkStats } from "../link/link_info.ts";
import type { ConnectOptions } from "../link/options.ts";
import { createMaps } from "../map/maps.ts";
import type { Maps, MapsDriver } from "../map/maps.ts";
import { createReplicas } from "../map/merged.ts";
import type { Replicas, ReplicasDriver } from "../map/merged.ts";
import { membershipDefaults } from "../membership/options.ts";
import type { MetricsSnapshot } from "../metrics/meter.ts";
import { createRegistry } from "../registry/registry.ts";
import type { Registry, RegistryDriver } from "../registry/registry.ts";
import { createReplication } from "../replica/driver.ts";
import type { Replication } from "../replica/driver.ts";
import { createRoster } from "../roster/driver.ts";
import type { RosterDriver } from "../roster/driver.ts";
import { LIVENESS_DEFAULTS } from "../roster/options.ts";
import { createStreams } from "../stream/streams.ts";
import type { Streams } from "../stream/streams.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import { coalesce } from "./events.ts";
import type { NodeEvent } from "./events.ts";
import { layFoundation, makeWorld } from "./foundation.ts";
import type { Foundation } from "./foundation.ts";
import { broadcastService, membershipService } from "./gossip.ts";
import type { NodeOptions } from "./options.ts";
import { createIdentity, followPeer } from "./rotation.ts";
import type { Identity } from "./rotation.ts";
import { addStateful, createServices } from "./services.ts";
import type { Service } from "./services.ts";
import {
  validateConnectOptions,
  validateContact,
  validateMapOptions,
  validateNodeName,
  validateOptions,
  validateReplicaOptions,
  validateTopic,
} from "./validate.ts";

/** A member as `members()` lists it. */
export interface MemberInfo {
  readonly name: NodeName;
  readonly epoch: number;
  readonly status: "alive" | "unreachable";
  readonly addresses: readonly string[];
}

/** `node.membership`. */
export interface Membership {
  /**
   * Joins through a contact's address; retried in the background. Resolves once the node has a
   * neighbour, through whichever contact.
   *
   * @throws ConfigError when it is no address
   */
  join(contact: string): Promise<void>;
  /**
   * Leaves the cluster; others are told. From then on `members()` lists this node alone and nothing is
   * told of others, until the node joins again: then what has become of them meanwhile.
   */
  leave(): Promise<void>;
  /**
   * Declares an unreachable node down, by an operator's word, where the cluster waits with its verdict:
   * here at once, and wherever another member than this one finds it unreachable too.
   *
   * Nothing happens when nobody by that name is known here, or it is down already.
   *
   * @throws ConfigError; ConflictError when the node is alive as far as is known here, or is this one
   */
  forget(name: NodeName): void;
  /** The neighbours we gossip with. */
  activeView(): NodeName[];
  /** Whom we would turn to next. */
  passiveView(): NodeName[];
  /** Every live member known, this node among them. */
  members(): MemberInfo[];
  /**
   * Each transition once, in order. When 1,024 wait for a slow subscriber, those that cancel each
   * other are left out, so that the rest still tells of a way to the present. Where that is not
   * enough, `overflow` says how many were lost: read the views and the members anew.
   */
  events(options?: EventsOptions): AsyncIterableIterator<NodeEvent | Overflow>;
  on(listener: (event: NodeEvent) => void): () => void;
}

/** A running node. */
export interface Node extends AsyncDisposable {
  readonly name: NodeName;
  readonly publicKey: Bytes;
  /** SHA-256 of the public key, hexadecimal. */
  readonly fingerprint: string;
  /** Where others can reach it. */
  readonly addresses: readonly string[];
  /** Tells this life from earlier ones. */
  readonly epoch: number;
  readonly membership: Membership;
  readonly registry: Registry;
  readonly streams: Streams;
  readonly maps: Maps;
  readonly replicas: Replicas;
  readonly links: {
    /** The live links. */
    list(): LinkInfo[];
    /** Opens a link. @throws TransportError, HandshakeError; ConfigError for what is no node name */
    connect(name: NodeName): Promise<void>;
    /** Says goodbye and closes. */
    disconnect(name: NodeName): Promise<void>;
    /** What is known of the link to a node; `undefined` without one. */
    stats(name: NodeName): LinkStats | undefined;
    /** How to reach a node from now on; `undefined` goes back to what it tells itself. */
    setConnectOptions(name: NodeName, options: ConnectOptions | undefined): void;
    /**
     * Moves a link to a new local path, within `timeoutMs` (10,000 by default): the live connection
     * where the runtime's QUIC can, else by a new connection that takes over. No message is lost or
     * reordered, and no `peerDown` follows.
     *
     * @throws TransportError `not_connected`, `no_conn`, `peer_disable_migration`, `timeout`,
     *   `unreachable`; ConfigError; ClosedError
     */
    migrate(name: NodeName, options?: { timeoutMs?: number }): Promise<void>;
  };
  readonly trust: TrustStore;
  /** The node's own key. */
  readonly identity: Identity;
  readonly broadcast: {
    /**
     * Sends bytes to every live member, at most once each. Resolves at once while the neighbours'
     * links take more, else when they do: await it before the next one. A neighbour that does not
     * read holds it up for 10 s at most.
     *
     * @throws BarrelError `broadcast` when the bytes are above 1 MiB or the topic has not 1 to 250;
     * TypeError for what are no bytes; OverloadedError, with nothing sent, when 4,096 of them or 16 MiB wait already; ClosedError
     */
    publish(topic: string, bytes: Uint8Array): Promise<void>;
    /**
     * Called with what others publish; returns the function that ends it.
     *
     * @throws BarrelError `broadcast` for a topic that has not 1 to 250 bytes; TypeError
     */
    subscribe(topic: string, handler: (bytes: Bytes) => void): () => void;
  };
  /** The processes of this node, seen from outside. */
  readonly processes: Processes;
  /** Procedures of this node for others, and clients of theirs. */
  readonly rpc: Rpc;
  readonly metrics: { snapshot(): MetricsSnapshot };
  /** The node's hybrid logical clock: stamps that grow with causality. */
  readonly hlc: { now(): Stamp };
  /** Resolves once a contact accepted us. @throws TimeoutError, ClosedError */
  joined(options?: { timeoutMs?: number }): Promise<void>;
  /** Starts a process. @throws ConflictError */
  spawn<Msg>(behaviour: Behaviour<Msg>, options?: SpawnOptions): Pid<Msg>;
  /** Sends to a pid or a name: of this node first, then of the registry. */
  send(target: Pid | string, message: unknown): void | Promise<void>;
  /** Sends an exit signal; `"kill"` cannot be trapped. */
  exit(pid: Pid, reason: ExitReason): void;
  /** Starts a server; resolves when its `init` has. */
  start<D extends AnyServer>(
    definition: D,
    args: InitArguments<D>,
    options?: StartOptions,
  ): Promise<Pid>;
  /** A typed client of a pid or a name. */
  client<D extends AnyServer>(
    definition: D,
    target: Pid | string,
    options?: CallOptions,
  ): ServerClient<D>;
  /**
   * Starts a supervisor and its children; resolves when all run. When one does not start, those
   * that did are stopped in reverse order.
   *
   * @throws ConfigError; ConflictError; BarrelError `child_not_started`
   */
  supervise(spec: SupervisorSpec): Promise<Supervisor>;
  /** Stops the supervision trees, leaves, drains, frees every handle. Idempotent. */
  close(): Promise<void>;
}

const LEAVE_MS = 1_000;
/** How long a migration may take unless it is told, milliseconds. */
const MIGRATE_MS = 10_000;
/** How long the supervision trees have when the node closes. */
const SHUTDOWN_MS = 10_000;

/**
 * Starts a node. Contacts are joined, and retried, in the background.
 *
 * @throws ConfigError with the option's path; TransportError when an address cannot be bound or the
 * host has no QUIC
 */
export async function createNode(options: NodeOptions): Promise<Node> {
  const valid = validateOptions(options);
  const world = await makeWorld(valid);
  const node = compose(valid, await layFoundation(valid, world));
  try {
    for (const [name, map] of Object.entries(valid.maps ?? {})) await node.maps.open(name, map);
  } catch (error) {
    await node.close();
    throw error;
  }
  return node;
}

function compose(options: NodeOptions, foundation: Foundation): Node {
  const { world, self, ring, follower, trust, links, connector, limits, resolvers, needs } =
    foundation;
  const { clock, random, crypto, logger, meter, files } = world;
  const events = new Emitter<NodeEvent>((error) => {
    logger.log("error", `a listener of membership events threw: ${messageOf(error)}`);
  }, coalesce);

  const system = new ActorSystem({
    node: self.name,
    epoch: self.epoch,
    port: links.signals,
    clock,
    logger,
    meter,
    maxMessageBytes: limits.maxMessageBytes,
    mailboxHighWater: limits.mailboxHighWater,
    resolveName: (name) => registry.whereis(name),
    isMember: (name) => ["alive", "unreachable"].includes(roster.member(name)?.status ?? ""),
  });
  const calls = createCalls(system, {
    register: (name, pid, meta) => registry.register(name, pid, meta),
  });
  const supervisors = createSupervisors({ system, calls });
  const rpc = createRpc(system);
  const processes = createProcesses(system);

  const services = createServices({ system, supervisors, clock, links, logger });
  const broadcast = broadcastService(
    services,
    { random, logger, meter, sha256: (data) => crypto.sha256(data) },
    () => membership.activeView(),
  );
  const replicating: Service<Replication> = addStateful(
    services,
    "replication",
    (guarded) =>
      createReplication({
        ...guarded,
        keysOf: (publicKey) => ring.keysOf(publicKey),
        random,
        crypto,
        logger,
        meter,
        publish: (body) => void broadcast.publish(REPLICA_TOPIC, body),
        admission: { isMember: (author) => roster.nameOf(author) !== undefined },
      }),
  );
  const replication = replicating.current;
  broadcast.subscribe(REPLICA_TOPIC, (body) => replicating.run(() => replication.receive(body)));

  const rostering: Service<RosterDriver> = addStateful(
    services,
    "roster",
    (guarded) =>
      createRoster({
        ...guarded,
        replication,
        liveness: { ...LIVENESS_DEFAULTS, ...options.liveness },
        random,
        logger,
        meter,
        ephemeral: !files.durable,
        heard: (peer) => links.heard(peer),
        letGo: (peer) => links.letGo(peer),
        ping: (peer, timeoutMs) => links.ping(peer, timeoutMs),
        probeHost: (address, timeoutMs) => connector.probe(address, timeoutMs),
        isAcceptable: (name, publicKey) =>
          trust.check(name, publicKey) !== "mismatch" && !follower.isSuperseded(name, publicKey),
        hasFollowed: (name, from, to) => follower.hasFollowed(name, from, to),
        async follow(name, publicKey, chain) {
          await followPeer(name, publicKey, chain, links, follower);
        },
        onOldKey: (publicKey, epoch) => lifeOf("forget", publicKey, epoch, [registering]),
        successions: () => ring.chain,
        onReturn: (member, isCut) => membership.returned(member, isCut),
        onLife(what, member) {
          const { name, publicKey, epoch } = member;
          lifeOf(what, publicKey, epoch, [registering, replicating]);
          // Shared rows stay under the key with which a life began; the node's own moved, and do not return.
          for (const old of follower.followedBy(name, publicKey)) {
            const stores = what === "restore" ? [replicating] : [registering, replicating];
            lifeOf(what, old, epoch, stores);
          }
          if (what !== "retire") return;
          trust.forgetEphemeral(member.name);
        },
      }),
  );
  const roster = rostering.current;
  const registering: Service<RegistryDriver> = addStateful(
    services,
    "registry",
    (guarded) =>
      createRegistry({
        ...guarded,
        system,
        replication,
        roster: {
          nameOf: (publicKey) => roster.nameOf(publicKey),
          hasLeft(name) {
            const member = roster.member(name);
            return member?.status === "down" && member.downReason === "left";
          },
          on: (listener) => roster.on(listener),
        },
        neighbours: () => membership.activeView(),
        random,
        logger,
        meter,
      }),
  );
  const registry = registering.current;

  const hlc = new HybridLogicalClock(clock, limits.maxDriftMs);
  const mapContext = {
    replication,
    hlc,
    maxDriftMs: limits.maxDriftMs,
    decode: { own: system.life, peer: system.life },
    clock,
    logger,
    meter,
  };
  const maps: MapsDriver = createMaps(mapContext, () => world.disk.open());
  const replicas: ReplicasDriver = createReplicas(mapContext, () => world.disk.open());

  const identity = createIdentity({
    world,
    ring,
    links,
    follower,
    dataDir: options.dataDir,
    onRotated() {
      connector.rekey();
      roster.rekeyed();
      replication.rekey();
    },
  });

  const membership = membershipService(services, {
    options: { ...membershipDefaults, ...options.membership },
    random,
    logger,
    meter,
    isNeeded: (peer) => links.isInUse(peer),
    members: () => roster.members(),
  });
  const streams = createStreams({ self, port: links.streams, system, clock, logger, meter });
  resolvers.push((name) => links.peer(name)?.addresses ?? []);
  resolvers.push((name) => roster.member(name)?.addresses ?? []);
  resolvers.push((name) => membership.addressesOf(name));
  needs.push((name) => membership.activeView().includes(name));

  membership.on((event) => {
    if (event.type === "peerUp") {
      broadcast.neighbourUp(event.node);
      replicating.run(() => replication.neighbourUp(event.node));
      rostering.run(() => roster.neighbourUp(event.node));
    } else if (event.type === "peerDown") {
      broadcast.neighbourDown(event.node);
      replicating.run(() => replication.neighbourDown(event.node));
      rostering.run(() => roster.neighbourDown(event.node));
    }
    events.emit(event);
  });
  roster.on((event) => {
    if (event.type === "nodeDown") {
      const epoch = roster.member(event.node)?.epoch ?? 0;
      const hasLink = links.peer(event.node)?.epoch === epoch;
      membership.nodeDown(event.node, epoch);
      if (event.reason === "left" && hasLink) {
        // Its word that it leaves overtakes what it sent before; its goodbye comes behind that.
        const off = links.on(({ type, peer }) => {
          if (type !== "linkDown" || peer.name !== event.node || peer.epoch !== epoch) return;
          off();
          system.nodeDown(event.node);
        });
      } else {
        // Nothing comes over its link any more; goodbyes would only wait for it.
        if (hasLink) links.expel(event.node, "lost", "declared down");
        system.nodeDown(event.node);
      }
    }
    events.emit(event);
  });
  for (const contact of options.contactNodes ?? []) membership.join(contact);
  services.start();

  let closing: Promise<void> | undefined;
  // Those who wait for the node to have joined.
  const joining = new Set<() => void>();
  // Neighbours that do not answer must not keep us.
  const awhile = (said: Promise<void>) =>
    Promise.race([
      said.catch(() => {}),
      new Promise<void>((resolve) => void clock.after(LEAVE_MS, resolve)),
    ]);
  const leave = async () => {
    await awhile(roster.leave());
    membership.leave();
    await Promise.all(links.peers().map(({ name }) => links.disconnect(name)));
  };
  const close = async () => {
    for (const isClosed of joining) isClosed();
    try {
      await windUp();
    } finally {
      // Whatever went wrong: another node must be able to use the folder.
      clock.close();
      await world.unlock();
    }
  };
  const windUp = async () => {
    services.release();
    await Promise.race([
      supervisors.close(),
      new Promise<void>((resolve) => void clock.after(SHUTDOWN_MS, resolve)),
    ]);
    system.close();
    streams.close();
    // How our processes ended goes before our word that we leave, which hides it.
    await awhile(registry.flushed());
    await awhile(roster.leave());
    membership.leave();
    membership.close();
    await links.close();
    await identity.settled();
    maps.close();
    replicas.close();
    registry.close();
    roster.close();
    replication.close();
    await world.disk.close();
    broadcast.close();
    await connector.close();
    await follower.settled();
    events.close();
  };

  const refuseWhenClosed = () => {
    if (closing !== undefined) throw new ClosedError(`${self.name} is closed`);
  };

  const node: Node = {
    name: self.name,
    get publicKey() {
      return self.publicKey;
    },
    get fingerprint() {
      return fingerprint(self.publicKey, crypto);
    },
    identity: {
      async rotate() {
        refuseWhenClosed();
        return await identity.rotate();
      },
    },
    addresses: self.addresses,
    epoch: self.epoch,
    registry,
    streams: { accept: streams.accept, open: streams.open, list: streams.list },
    rpc,
    processes,
    maps: {
      async open(name, mapOptions) {
        validateMapOptions(mapOptions);
        return await maps.open(name, mapOptions);
      },
      names: () => maps.names(),
    },
    replicas: {
      async create(created) {
        validateReplicaOptions(created);
        return await replicas.create(created);
      },
    },
    trust: {
      mode: trust.mode,
      check: (name, publicKey) => trust.check(name, publicKey),
      lookup: (name) => trust.lookup(name),
      list: () => trust.list(),
      async pin(name, publicKey, pinOptions) {
        validateNodeName(name);
        await trust.pin(name, publicKey, pinOptions);
        // What it has written may be believed now.
        roster.reread(name);
      },
      async unpin(name) {
        follower.forget(name);
        await trust.unpin(name);
      },
      forgetEphemeral: (name) => trust.forgetEphemeral(name),
    },
    membership: {
      async join(contact) {
        const address = validateContact(contact);
        roster.rejoin();
        membership.join(address);
        await node.joined();
      },
      leave,
      forget(name) {
        const status = name === self.name ? "alive" : roster.member(validateNodeName(name))?.status;
        if (status === "alive") {
          throw new ConflictError(
            `${name} is alive as far as is known here: only the dead are forgotten`,
          );
        }
        roster.forget(name);
      },
      activeView: () => membership.activeView(),
      passiveView: () => membership.passiveView(),
      members: () => [
        { name: self.name, epoch: self.epoch, status: "alive", addresses: self.addresses },
        ...roster.members().map(({ name, epoch, status, addresses }) => {
          return { name, epoch, status: status as "alive" | "unreachable", addresses };
        }),
      ],
      on: (listener) => events.on(listener),
      events: (eventsOptions) => events.events(eventsOptions),
    },
    links: {
      list: () => links.list(),
      async connect(name) {
        await links.connect(validateNodeName(name));
        links.keep(name);
      },
      async disconnect(name) {
        await links.disconnect(validateNodeName(name));
      },
      stats: (name) => links.stats(name),
      setConnectOptions(name, connectOptions) {
        links.setConnectOptions(validateNodeName(name), validateConnectOptions(connectOptions));
      },
      async migrate(name, { timeoutMs = MIGRATE_MS } = {}) {
        validateNodeName(name);
        refuseWhenClosed();
        await links.migrate(name, timeoutMs);
      },
    },
    broadcast: {
      // Promised, so that what it throws is a rejection.
      publish(topic, bytes) {
        return new Promise((resolve) => {
          refuseWhenClosed();
          validateTopic(topic);
          if (!(bytes instanceof Uint8Array)) throw new TypeError("publish takes a Uint8Array");
          resolve(broadcast.offer(`${USER_TOPIC}${topic}`, new Uint8Array(bytes)));
        });
      },
      subscribe(topic, handler) {
        validateTopic(topic);
        if (typeof handler !== "function") throw new TypeError("subscribe takes a function");
        return broadcast.subscribe(`${USER_TOPIC}${topic}`, handler);
      },
    },
    metrics: { snapshot: () => meter.snapshot() },
    hlc,
    joined(joinedOptions = {}) {
      knownOptions(joinedOptions, ["timeoutMs"]);
      const { timeoutMs } = joinedOptions;
      if (closing !== undefined) return Promise.reject(new ClosedError(`${self.name} is closed`));
      if (membership.activeView().length > 0) return Promise.resolve();
      return new Promise((resolve, reject) => {
        const isClosed = () => {
          off();
          reject(new ClosedError(`${self.name} was closed before it had joined`));
        };
        joining.add(isClosed);
        const timer = timeoutMs === undefined ? undefined : clock.after(timeoutMs, () => {
          off();
          joining.delete(isClosed);
          const contacts = options.contactNodes?.join(", ") ||
            "nobody: give contactNodes or join()";
          reject(
            new TimeoutError(
              `${self.name} has not joined within ${timeoutMs} ms; it still tries ${contacts}`,
            ),
          );
        });
        const off = membership.on((event) => {
          if (event.type !== "peerUp") return;
          off();
          joining.delete(isClosed);
          timer?.cancel();
          resolve();
        });
      });
    },
    spawn: (behaviour, spawnOptions) => system.spawn(behaviour, spawnOptions),
    send: (target, message) =>
      typeof target === "string" ? system.sendTo(target, message) : system.send(target, message),
    exit: (pid, reason) => system.exit(pid, reason),
    start: (definition, args, startOptions) => calls.start(definition, args, startOptions),
    supervise: (spec) => supervisors.supervise(spec),
    client: (definition, target, callOptions) => calls.client(definition, target, callOptions),
    close: () => closing ??= close(),
    [Symbol.asyncDispose]: () => node.close(),
  };
  return node;
}

/** Topics of the library and of users are kept apart. */
const REPLICA_TOPIC = "barrel:replica";
const USER_TOPIC = "user:";

// Tells stores what became of a life; one that fails over it keeps it from no other.
function lifeOf(
  what: "retire" | "restore" | "forget",
  publicKey: Bytes,
  epoch: number,
  stores: readonly Service<Pick<Replication, "onLife">>[],
): void {
  for (const store of stores) store.run((current) => current.onLife(what, publicKey, epoch));
}
