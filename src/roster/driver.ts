/** Runs a {@link Roster}: rows of the replicated store, probes, pings and timers. */
import type { Bytes } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import { equalBytes } from "../base/bytes.ts";
import { messageOf } from "../base/errors.ts";
import { Emitter } from "../base/events.ts";
import type { EventSource } from "../base/events.ts";
import type { Logger } from "../base/logger.ts";
import type { Random } from "../base/random.ts";
import type { Links } from "../link/ports.ts";
import type { Meter } from "../metrics/meter.ts";
import type { Replication, Store } from "../replica/driver.ts";
import type { Change, Row } from "../replica/store_state.ts";
import { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import {
  ACCUSATION_PREFIX,
  decodeAccusation,
  decodeProbeRequest,
  decodeRecord,
  encodeAccusation,
  encodeProbeRequest,
  encodeRecord,
  SELF_KEY,
  validateRow,
} from "./messages.ts";
import type { Evidence, MemberRecord } from "./messages.ts";
import type { LivenessOptions } from "./options.ts";
import { Roster, TICK_MS } from "./roster.ts";
import type { Member, RosterChange, RosterEffect, RosterEvent } from "./roster.ts";

/** What the roster needs of the node. */
export interface RosterDriverOptions {
  readonly links: Pick<
    Links,
    "self" | "on" | "peers" | "peer" | "channel" | "connect" | "disconnect"
  >;
  readonly replication: Pick<Replication, "createStore">;
  readonly liveness: LivenessOptions;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly meter: Meter;
  /** Whether this node has no disk. */
  readonly ephemeral: boolean;
  /** Frames that have come from a peer so far; `undefined` without a link. */
  readonly heard: (peer: NodeName) => number | undefined;
  readonly ping: (peer: NodeName, timeoutMs: number) => Promise<number>;
  /** The link to a peer was opened for a question that has been answered. */
  readonly letGo: (peer: NodeName) => void;
  /** Whether the host says that nothing is bound there. */
  readonly probeHost: (address: string, timeoutMs: number) => Promise<"refused" | "unknown">;
  readonly isAcceptable: (name: NodeName, publicKey: Bytes) => boolean;
  /** Whether the second key has followed the first as that of this name. */
  readonly hasFollowed: (name: NodeName, from: Bytes, to: Bytes) => boolean;
  /** Checks how a node says that it came to its key; what follows from it is done when it settles. */
  readonly follow: (name: NodeName, publicKey: Bytes, chain: Bytes) => Promise<void>;
  /** A member has had another key for so long that its rows under the old one are to go. */
  readonly onOldKey: (publicKey: Bytes, epoch: number) => void;
  /** How this node came to its key. */
  readonly successions: () => Bytes;
  /** A member that is unreachable for some has a link with us; see the effect `returned`. */
  readonly onReturn: (member: Member, isCut: boolean) => void;
  /** A life was declared over, was not, or is forgotten: other stores follow. */
  readonly onLife: (what: "retire" | "restore" | "forget", member: Member) => void;
  /** Told of what has thrown where nobody else would hear of it. @default throws it */
  readonly failed?: (error: unknown) => void;
}

/** Who is in the cluster. */
export interface RosterDriver extends EventSource<RosterChange> {
  /** Members that are not down, without ourselves. */
  members(): Member[];
  member(name: NodeName): Member | undefined;
  /** The name that a key speaks for. */
  nameOf(publicKey: Uint8Array): NodeName | undefined;
  neighbourUp(peer: NodeName): void;
  neighbourDown(peer: NodeName): void;
  /** Tells everybody that we leave; settles when it is published. */
  leave(): Promise<void>;
  /** Takes back that we left, should we have said so. */
  rejoin(): void;
  /** Declares a node down by an operator's word. */
  forget(name: NodeName): void;
  /** `links.self` has another key: tells everybody. Call before the rows move to it. */
  rekeyed(): void;
  /** Somebody may speak for a node now who could not before. */
  reread(name: NodeName): void;
  /** Stops the ticks and the questions of others, until {@link resume}. Facts are still taken. */
  pause(): void;
  /** Goes on with who is known, and reads all rows again. */
  resume(): void;
  close(): void;
}

/** Members that we never had a link with: who makes some up leaves room for those who join here. */
const MAX_UNSEEN = 15_360;
/** The rows under a node's old key go so long after it is known to have a new one: these are there. */
const OLD_ROWS_MS = 30_000;
const PROBE_HOST_MS = 400;
const PROBE_PING_MS = 2_000;

/** Starts the roster; our own record is published at once. */
export function createRoster(options: RosterDriverOptions): RosterDriver {
  const { links, clock, logger, meter, random } = options;
  const { self } = links;
  const failed = options.failed ?? ((error: unknown) => {
    throw error;
  });
  const emitter = new Emitter<RosterChange>((error) => {
    logger.log("error", `a listener of the roster threw: ${messageOf(error)}`);
  });
  const names = new Map<string, NodeName>();
  const machine = new Roster({
    self,
    liveness: options.liveness,
    random,
    isAcceptable: options.isAcceptable,
    hasFollowed: options.hasFollowed,
  });
  const lastHeard = new Map<NodeName, number>();
  const probing = new Set<NodeName>();
  const toReread = new Set<NodeName>();
  let isClosed = false;
  let hasLeft = false;
  let ticking: Timer | undefined;

  const attempt = (part: () => void) => {
    try {
      part();
    } catch (error) {
      failed(error);
    }
  };

  const feed = (event: RosterEvent) => {
    if (isClosed) return;
    // One that cannot be carried out keeps nothing from the others.
    for (const effect of machine.handle(event, clock.now())) attempt(() => carryOut(effect));
  };

  const changed = ({ type, row }: Change) => {
    const { author, epoch, key, value } = row;
    const isThere = type === "put" || type === "restored";
    if (key === SELF_KEY) {
      if (isThere) readRecord(author, epoch, value);
    } else if (isThere) {
      feed({ type: "accusation", author, accusation: decodeAccusation(key, value) });
    } else {
      feed({ type: "withdrawn", author, target: key.slice(ACCUSATION_PREFIX.length) });
    }
  };

  const readRecord = (author: Bytes, epoch: number, value: Bytes) => {
    const record = decodeRecord(value);
    const known = machine.member(record.name)?.publicKey;
    const isKnown = known !== undefined && equalBytes(known, author);
    if (record.successions.length === 0 || isKnown || record.name === self.name) {
      return takeRecord(author, epoch, record);
    }
    void options.follow(record.name, author, record.successions).then(() => {
      if (!isClosed) attempt(() => takeRecord(author, epoch, record));
    });
  };

  const takeRecord = (author: Bytes, epoch: number, record: MemberRecord) => {
    if (record.name !== self.name && options.isAcceptable(record.name, author)) {
      names.set(idOf(author), record.name);
    }
    feed({ type: "record", author, epoch, record });
  };

  const store: Store = options.replication.createStore({
    name: "roster",
    validate: validateRow,
    // Who is a member is what the rows say; a link is its own proof.
    admission: {
      isMember: (author) => links.peers().some(({ publicKey }) => equalBytes(publicKey, author)),
      strangers: MAX_UNSEEN,
    },
    onChange: (change) => attempt(() => changed(change)),
  });
  names.set(idOf(self.publicKey), self.name);

  const publish = (incarnation: number, left: boolean) => {
    const { name, addresses } = self;
    const { ephemeral } = options;
    const successions = options.successions();
    const record = { name, incarnation, addresses, ephemeral, left, successions };
    store.put(SELF_KEY, encodeRecord(record));
  };

  const carryOut = (effect: RosterEffect): void => {
    switch (effect.type) {
      case "publish":
        return publish(effect.incarnation, effect.left);
      case "accuse": {
        const { accusation } = effect;
        meter.count("barrel_accusations_total", { evidence: accusation.evidence });
        return store.put(ACCUSATION_PREFIX + accusation.target, encodeAccusation(accusation));
      }
      case "withdraw":
        return void store.remove(ACCUSATION_PREFIX + effect.target);
      case "ping":
        return void options.ping(effect.peer, PROBE_PING_MS).catch(() => {});
      case "probe":
        return void probe(effect.member, effect.connect);
      case "askProbe":
        return channel.send(effect.to, encodeProbeRequest(effect.request));
      case "emit":
        return tell(effect.change);
      case "returned":
        return options.onReturn(effect.member, effect.isCut);
      case "rekeyed":
        return retireOldKey(effect.member, effect.oldKey);
      default:
        return life(effect.type, effect.member);
    }
  };

  const tell = (change: RosterChange) => {
    try {
      meter.count("barrel_members_changed_total", { type: change.type });
      logger.log("info", `${change.type}: ${change.node}`, { ...change });
    } finally {
      // Nobody would tell it a second time.
      emitter.emit(change);
    }
  };

  const life = (what: "retire" | "restore" | "forget", member: Member) => {
    options.onLife(what, member);
    if (what === "retire") {
      // Another key may have claimed the name meanwhile: a node without a disk that came back.
      if (toReread.size === 0) clock.nextTurn(rereadRecords);
      toReread.add(member.name);
    } else if (what === "forget") {
      names.delete(idOf(member.publicKey));
      store.retire(member.publicKey, member.epoch);
      store.forget(member.publicKey, member.epoch);
    }
  };

  const retireOldKey = (member: Member, publicKey: Bytes) => {
    logger.log("info", `${member.name} goes on under a new key`, { node: member.name });
    clock.after(OLD_ROWS_MS, () => {
      if (isClosed) return;
      options.onOldKey(publicKey, member.epoch);
      store.forget(publicKey, member.epoch);
      names.delete(idOf(publicKey));
    });
  };

  const rereadRecords = () => {
    const names = new Set(toReread);
    toReread.clear();
    if (isClosed) return;
    for (const { author, epoch, value } of store.rows(SELF_KEY)) {
      if (names.has(decodeRecord(value).name)) readRecord(author, epoch, value);
    }
  };

  const found = (peer: NodeName, result: "alive" | Evidence) =>
    attempt(() => feed({ type: "probed", peer, result }));

  // First the cheap question to its host, then a real connection and an answer over it.
  const probe = async (member: Member, connect: boolean) => {
    const { name, addresses } = member;
    if (probing.has(name)) return;
    probing.add(name);
    const hasLink = links.peer(name) !== undefined;
    try {
      const answers = await Promise.all(
        addresses.slice(0, 2).map((address) => options.probeHost(address, PROBE_HOST_MS)),
      );
      if (answers.length > 0 && answers.every((answer) => answer === "refused")) {
        return found(name, "refused");
      }
      if (!connect || (addresses.length === 0 && !hasLink)) return;
      const peer = await links.connect(name);
      await options.ping(name, PROBE_PING_MS);
      if (peer.epoch === member.epoch) found(name, "alive");
    } catch {
      if (connect) found(name, "silent");
    } finally {
      if (!hasLink) options.letGo(name);
      probing.delete(name);
    }
  };

  const channel = links.channel(FrameType.LIVENESS);
  const listen = () => {
    channel.onFrame = (body) => feed({ type: "probeRequest", request: decodeProbeRequest(body) });
  };
  listen();

  const offLinks = links.on((event) => {
    const { peer } = event;
    if (event.type === "linkUp") feed({ type: "linkUp", peer });
    else feed({ type: "linkDown", peer, reason: event.reason });
  });

  const tick = () => {
    if (isClosed) return;
    const heard: NodeName[] = [];
    for (const { name } of links.peers()) {
      const count = options.heard(name) ?? 0;
      if (lastHeard.get(name) === count) continue;
      lastHeard.set(name, count);
      heard.push(name);
    }
    for (const name of lastHeard.keys()) if (links.peer(name) === undefined) lastHeard.delete(name);
    ticking = clock.after(TICK_MS, tick);
    feed({ type: "tick", heard });
  };

  const rereadAll = () => {
    const rows = [...store.entries()];
    const isRecord = ({ key }: Row) => key === SELF_KEY;
    const accusations = rows.filter((row) => !isRecord(row));
    for (const row of [...accusations, ...rows.filter(isRecord)]) {
      try {
        changed({ type: "put", row });
      } catch (error) {
        // One that takes us down when it comes must not do so forever.
        logger.log("error", "a row cannot be read again", {
          error: messageOf(error),
          key: row.key,
        });
      }
    }
  };

  publish(0, false);
  ticking = clock.after(TICK_MS, tick);

  return {
    on: (listener) => emitter.on(listener),
    events: (eventsOptions) => emitter.events(eventsOptions),
    members: () => machine.members(),
    member: (name) => machine.member(name),
    nameOf: (publicKey) => names.get(idOf(publicKey)),
    neighbourUp: (peer) => feed({ type: "neighbourUp", peer }),
    neighbourDown: (peer) => feed({ type: "neighbourDown", peer }),
    async leave() {
      hasLeft = true;
      feed({ type: "leave" });
      await store.flushed();
    },
    rejoin() {
      if (!hasLeft) return;
      hasLeft = false;
      feed({ type: "rejoin" });
      rereadAll();
    },
    forget: (node) => feed({ type: "forget", node }),
    rekeyed() {
      names.set(idOf(self.publicKey), self.name);
      feed({ type: "rekeyed" });
    },
    reread(name) {
      toReread.add(name);
      rereadRecords();
    },
    pause() {
      ticking?.cancel();
      channel.onFrame = undefined;
    },
    resume() {
      if (isClosed) return;
      ticking?.cancel();
      ticking = clock.after(TICK_MS, tick);
      listen();
      feed({ type: "resumed" });
      rereadAll();
    },
    close() {
      isClosed = true;
      ticking?.cancel();
      offLinks();
      emitter.close();
    },
  };
}

function idOf(publicKey: Uint8Array): string {
  return String.fromCharCode(...publicKey);
}
