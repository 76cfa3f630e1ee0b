import { compareBytes, concat, equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock, Timer } from "../base/clock.ts";
import {
  ClosedError,
  messageOf,
  OverloadedError,
  ProtocolError,
  TransportError,
} from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import { Ring } from "../base/ring.ts";
import type { Meter } from "../metrics/meter.ts";
import type { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { CloseCode } from "./close_codes.ts";
import type { Authenticated } from "./connector.ts";
import { Link } from "./link.ts";
import type { GoodbyeReason, LinkOwner } from "./link.ts";
import type { LinkSettings } from "./options.ts";
import type {
  Channel,
  LinkDownReason,
  LinkEvent,
  Links,
  PeerIdentity,
  SignalPort,
} from "./ports.ts";

/** Frame types below this ride the control pipe. */
const FIRST_DATA_TYPE = 0x30;
/** Frame types from here on are signals of actors. */
const FIRST_SIGNAL_TYPE = 0x40;

/** What the table is made of. */
export interface LinkTableOptions {
  readonly self: PeerIdentity;
  readonly settings: LinkSettings;
  readonly maxMessageBytes: number;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly meter: Meter;
  /** Makes an authenticated connection; injected, so that this table never sees a transport. */
  readonly dial: (address: string, publicKey?: Uint8Array) => Promise<Authenticated>;
  /** Where a node can be reached, best first, and its key where it is known. */
  readonly resolve: (
    name: NodeName,
  ) => Promise<{ addresses: readonly string[]; publicKey?: Uint8Array }>;
  /** Called with a peer that has proved its key, before its link is used; may refuse by throwing. */
  readonly admit: (authenticated: Authenticated) => Promise<void>;
  /** Whether the overlay needs the link to this peer. */
  readonly isNeeded: (name: NodeName) => boolean;
}

/** A row of `node.links.list()`. */
export interface LinkInfo {
  readonly node: NodeName;
  /** The URL scheme of the connection. */
  readonly transport: string;
  readonly address: string;
  /** Round trip, milliseconds; `undefined` where the stack does not say. */
  readonly rttMs: number | undefined;
  /** Bytes that wait to be sent. */
  readonly bufferedBytes: number;
}

/** The table of links: one per peer, opened on demand. */
export interface LinkTable extends Links {
  readonly signals: SignalPort;
  /** Takes a connection that a peer opened. */
  accept(authenticated: Authenticated): void;
  /** The live links. */
  list(): LinkInfo[];
  /** The round trip over the control pipe. @throws TimeoutError, ClosedError without a link */
  ping(name: NodeName, timeoutMs: number): Promise<number>;
  /** How many frames have come over the link to `name`: unchanged means silence. */
  heard(name: NodeName): number | undefined;
  /** Whether a monitor or a process link crosses the link, or it was used of late. */
  isInUse(name: NodeName): boolean;
  /** Ends the link to a peer that breaks the rules or does not read. */
  expel(name: NodeName, reason: LinkDownReason, text: string): void;
  /** Says goodbye to everybody and waits. */
  close(): Promise<void>;
}

interface Queued {
  readonly epoch: number;
  readonly key: number;
  readonly type: number;
  readonly body: Bytes;
}

interface Entry {
  link: Link | undefined;
  dialing: Promise<PeerIdentity> | undefined;
  /** The link that was replaced and still drains: nothing may overtake it. */
  draining: Link | undefined;
  readonly queue: Ring<Queued>;
  queuedBytes: number;
  holds: number;
  /** Activity at the last sweep, and since when it has not changed. */
  seen: number;
  quietSince: number;
  drained: { promise: Promise<void>; resolve: () => void } | undefined;
  /** A link that went because another takes over, which is not here yet. */
  handover: { readonly peer: PeerIdentity; readonly timer: Timer } | undefined;
}

/** How long a link may be gone for its successor before that is told, milliseconds. */
const HANDOVER_MS = 2_000;

/** Creates an empty table. */
export function createLinkTable(options: LinkTableOptions): LinkTable {
  const { self, settings, clock, logger, meter } = options;
  const entries = new Map<NodeName, Entry>();
  const channels = new Map<number, Channel>();
  const listeners = new Set<(event: LinkEvent) => void>();
  const pending = new Set<Link>();
  const ready = new Map<Link, (() => void)[]>();
  const once = logOnce(logger, 1_024);
  let isClosed = false;
  let whenEmpty: (() => void) | undefined;

  const entryOf = (name: NodeName): Entry => {
    let entry = entries.get(name);
    if (entry === undefined) {
      entry = {
        link: undefined,
        dialing: undefined,
        draining: undefined,
        queue: new Ring(),
        queuedBytes: 0,
        holds: 0,
        seen: 0,
        quietSince: clock.now(),
        drained: undefined,
        handover: undefined,
      };
      entries.set(name, entry);
    }
    return entry;
  };

  // A connection to the peer has authenticated and waits for its pipes.
  const isPending = (name: NodeName) => {
    for (const link of pending) if (link.peer.name === name) return true;
    return false;
  };

  const ownPending = (name: NodeName) =>
    [...pending].find(({ peer, connection }) => peer.name === name && connection.role === "client");

  const tidy = (name: NodeName, entry: Entry) => {
    const isIdle = !entry.link && !entry.dialing && !entry.draining && entry.holds === 0 &&
      entry.queue.length === 0 && !entry.drained && !entry.handover;
    if (isIdle) entries.delete(name);
  };

  const emit = (event: LinkEvent) => {
    meter.gauge("barrel_links", [...entries.values()].filter((entry) => entry.link).length);
    for (const listener of [...listeners]) listener(event);
  };

  const linkOwner: LinkOwner = {
    onFrame(link, type, body) {
      if (type >= FIRST_SIGNAL_TYPE) {
        link.isUsedByActors = true;
        return signals.onSignal?.(type as FrameType, body, link.peer);
      }
      const channel = channels.get(type);
      if (channel?.onFrame === undefined) {
        throw new ProtocolError("unknown_frame", `nobody here takes frames of type ${type}`);
      }
      channel.onFrame(body, link.peer);
    },
    onReady(link) {
      pending.delete(link);
      adopt(link);
      for (const resolve of ready.get(link) ?? []) resolve();
      ready.delete(link);
    },
    onDrain(link) {
      const entry = entries.get(link.peer.name);
      if (entry === undefined || entry.link !== link) return;
      releaseWriters(link.peer.name, entry);
    },
    onRefused(link, error) {
      const { reason } = error;
      const { name } = link.peer;
      meter.count("barrel_frames_refused_total", { reason });
      once(`${name} ${reason}`, "warn", `${name} broke the protocol: ${error.message}`, {
        peer: name,
        reason,
      });
    },
    onDown(link, reason) {
      pending.delete(link);
      down(link, reason);
    },
  };

  const begin = (authenticated: Authenticated) => {
    const { connection, control, earlyPipes, peer } = authenticated;
    const link = new Link({
      connection,
      control,
      earlyPipes,
      peer: {
        name: peer.name,
        publicKey: peer.publicKey,
        epoch: peer.epoch,
        addresses: peer.addresses,
      },
      owner: linkOwner,
      clock,
      dataPipes: settings.dataStreams,
      maxMessageBytes: options.maxMessageBytes,
    });
    pending.add(link);
    return link;
  };

  // A second link to one peer: a new life or a new connection replaces the old at once; of two
  // that both ends opened at the same time the one dialled by the smaller key stays, and the other
  // drains, so that nothing is lost or reordered.
  const adopt = (link: Link) => {
    const { name } = link.peer;
    const entry = entryOf(name);
    const old = entry.link;
    if (isClosed) return link.close("left");
    if (old === undefined) return install(entry, link);
    if (link.peer.epoch < old.peer.epoch) return link.abort("replaced", "an older life");
    const isSame = isSameLife(link.peer, old.peer);
    if (!isSame || link.connection.role === old.connection.role) {
      entry.link = undefined;
      old.abort("replaced", isSame ? "a newer connection" : "a newer life");
      emit({ type: "linkDown", peer: old.peer, reason: isSame ? "lost" : "replaced" });
      return install(entry, link);
    }
    const weDialSmaller = compareBytes(self.publicKey, link.peer.publicKey) < 0;
    const isWinner = (link.connection.role === "client") === weDialSmaller;
    if (!isWinner) return link.close("replaced");
    entry.link = link;
    entry.draining = old;
    old.close("replaced");
  };

  const install = (entry: Entry, link: Link) => {
    entry.link = link;
    entry.quietSince = clock.now();
    const { handover } = entry;
    const isSuccessor = handover !== undefined && isSameLife(handover.peer, link.peer);
    if (!isSuccessor) endHandover(entry, "lost");
    handover?.timer.cancel();
    entry.handover = undefined;
    if (!isSuccessor) emit({ type: "linkUp", peer: link.peer });
    flush(link.peer.name, entry);
  };

  const endHandover = (entry: Entry, reason: LinkDownReason) => {
    const { handover } = entry;
    if (handover === undefined) return;
    entry.handover = undefined;
    handover.timer.cancel();
    emit({ type: "linkDown", peer: handover.peer, reason });
  };

  const down = (link: Link, reason: LinkDownReason) => {
    const { name } = link.peer;
    const entry = entries.get(name);
    if (entry === undefined) return;
    if (entry.draining === link) {
      entry.draining = undefined;
      flush(name, entry);
    } else if (entry.link === link) {
      entry.link = undefined;
      meter.count("barrel_link_down_total", { reason });
      const level = reason === "protocol" || reason === "overloaded" ? "warn" : "debug";
      once(`${name} ${reason}`, level, `the link to ${name} ended: ${reason}`, {
        peer: name,
        reason,
      });
      releaseWriters(name, entry);
      if (reason === "replaced") {
        const timer = clock.after(HANDOVER_MS, () => {
          endHandover(entry, "lost");
          tidy(name, entry);
        });
        entry.handover = { peer: link.peer, timer };
      } else emit({ type: "linkDown", peer: link.peer, reason });
    }
    if (entry.queue.length > 0 && !entry.link && !isPending(name)) startDial(name, entry);
    tidy(name, entry);
    if (pending.size === 0 && ![...entries.values()].some((one) => one.link ?? one.draining)) {
      whenEmpty?.();
    }
  };

  const flush = (name: NodeName, entry: Entry) => {
    const { link } = entry;
    if (link === undefined || entry.draining !== undefined) return;
    for (let frame = entry.queue.shift(); frame !== undefined; frame = entry.queue.shift()) {
      entry.queuedBytes -= frame.body.length;
      if (frame.epoch !== 0 && frame.epoch !== link.peer.epoch) {
        undelivered(name, [frame], "another life of the node");
      } else if (frame.type < FIRST_DATA_TYPE) link.sendControl(frame.type, frame.body);
      else {
        link.isUsedByActors ||= frame.type >= FIRST_SIGNAL_TYPE;
        link.sendData(frame.key, frame.type, frame.body, NOTHING);
      }
    }
    releaseWriters(name, entry);
  };

  const undelivered = (name: NodeName, frames: readonly Queued[], reason: string) => {
    const epochs = new Set<number>();
    for (const frame of frames) {
      meter.count("barrel_undelivered_total", { reason: "no_link" });
      if (frame.type >= FIRST_SIGNAL_TYPE) epochs.add(frame.epoch);
      else channels.get(frame.type)?.onUndelivered?.(name, reason);
    }
    for (const epoch of epochs) signals.onUndelivered?.(name, epoch, reason);
  };

  const dropQueue = (name: NodeName, entry: Entry, reason: string) => {
    const frames: Queued[] = [];
    for (let frame = entry.queue.shift(); frame; frame = entry.queue.shift()) frames.push(frame);
    entry.queuedBytes = 0;
    releaseWriters(name, entry);
    if (frames.length > 0) undelivered(name, frames, reason);
  };

  const startDial = (name: NodeName, entry: Entry) => {
    if (entry.dialing !== undefined || isClosed) return;
    entry.dialing = dialByName(name).finally(() => {
      entry.dialing = undefined;
    });
    entry.dialing.catch((error) => {
      if (entry.link === undefined) dropQueue(name, entry, messageOf(error));
      tidy(name, entry);
    });
  };

  const dialByName = async (name: NodeName): Promise<PeerIdentity> => {
    const { addresses, publicKey } = await options.resolve(name);
    let failure: unknown = new TransportError(
      "unreachable",
      `no address of ${name} is known; join a contact that knows it, or give one by discovery`,
    );
    for (const address of addresses) {
      // The peer may have dialled us meanwhile.
      const live = entries.get(name)?.link;
      if (live !== undefined) return live.peer;
      try {
        return await dialAddress(address, name, publicKey);
      } catch (error) {
        failure = error;
      }
    }
    const live = entries.get(name)?.link;
    if (live !== undefined) return live.peer;
    throw failure;
  };

  const dialAddress = async (
    address: string,
    name: NodeName | undefined,
    publicKey: Uint8Array | undefined,
  ): Promise<PeerIdentity> => {
    const authenticated = await options.dial(address, publicKey);
    const { connection, peer } = authenticated;
    if (name !== undefined && peer.name !== name) {
      connection.close(CloseCode.GOODBYE, "another node");
      throw new TransportError("unreachable", `${address} is ${peer.name}, not ${name}`);
    }
    // Two dials of ours may have met: the first link stays, the second is never used.
    const live = entries.get(peer.name)?.link ?? ownPending(peer.name);
    if (live !== undefined && isSameLife(live.peer, peer)) {
      connection.close(CloseCode.REPLACED, "a link is there already");
      return entries.get(peer.name)?.link?.peer ?? await whenUp(live);
    }
    await admit(authenticated);
    const link = begin(authenticated);
    const up = whenUp(link);
    link.start();
    return await up;
  };

  const admit = async (authenticated: Authenticated) => {
    try {
      if (isClosed) throw new ClosedError("this node is closing");
      await options.admit(authenticated);
    } catch (error) {
      authenticated.connection.close(CloseCode.HANDSHAKE, "internal");
      throw error;
    }
  };

  // Resolves when there is a link to the peer: this one, or the one that won over it.
  const whenUp = (link: Link): Promise<PeerIdentity> =>
    new Promise((resolve, reject) => {
      const { name } = link.peer;
      ready.set(link, [...ready.get(link) ?? [], () => resolve(link.peer)]);
      void link.connection.closed.then(() => {
        ready.delete(link);
        if (entries.get(name)?.link !== undefined) resolve(link.peer);
        else reject(new TransportError("closed", `the connection to ${name} ended as it began`));
      });
    });

  const releaseWriters = (name: NodeName, entry: Entry) => {
    if (entry.drained === undefined) return;
    const buffered = entry.queuedBytes + (entry.link?.buffered ?? 0);
    if (buffered > settings.highWaterMark / 2) return;
    entry.drained.resolve();
    entry.drained = undefined;
    tidy(name, entry);
  };

  const enqueue = (name: NodeName, entry: Entry, frame: Queued) => {
    entry.queue.push(frame);
    entry.queuedBytes += frame.body.length;
    if (entry.link === undefined && !isPending(name)) startDial(name, entry);
  };

  const backPressure = (entry: Entry, buffered: number): void | Promise<void> => {
    if (buffered <= settings.highWaterMark) return;
    entry.drained ??= Promise.withResolvers<void>();
    return entry.drained.promise;
  };

  const signals: SignalPort = {
    onSignal: undefined,
    onUndelivered: undefined,
    send(peer, epoch, streamKey, type, head, payload) {
      const entry = entryOf(peer);
      const { link } = entry;
      if (link?.isOpen && entry.draining === undefined) {
        if (epoch !== 0 && epoch !== link.peer.epoch) {
          return void signals.onUndelivered?.(peer, epoch, "another life of the node");
        }
        checkRoom(peer, link.buffered);
        link.isUsedByActors = true;
        link.sendData(streamKey, type, head, payload);
        return backPressure(entry, link.buffered);
      }
      checkRoom(peer, entry.queuedBytes);
      enqueue(peer, entry, { epoch, key: streamKey, type, body: concat([head, payload]) });
      return backPressure(entry, entry.queuedBytes);
    },
    connected: (peer) => entries.get(peer)?.link !== undefined || isPending(peer),
    hold: (peer) => void entryOf(peer).holds++,
    release(peer) {
      const entry = entries.get(peer);
      if (entry === undefined || entry.holds === 0) return;
      entry.holds--;
      tidy(peer, entry);
    },
    onLink: (listener) => on(listener),
  };

  const checkRoom = (peer: NodeName, buffered: number) => {
    if (buffered < settings.maxBufferedBytes) return;
    throw new OverloadedError(
      `${buffered} bytes wait for ${peer} already; await the promise that send returns`,
    );
  };

  const createChannel = (type: FrameType): Channel => ({
    onFrame: undefined,
    onUndelivered: undefined,
    send(peer, body) {
      if (isClosed) return;
      const entry = entryOf(peer);
      const { link } = entry;
      if (link?.isOpen && entry.draining === undefined) {
        if (link.buffered > settings.maxBufferedBytes) {
          // A protocol cannot wait for one peer: it is the slow consumer who goes.
          return link.abort("overloaded", "does not take what is sent to it");
        }
        if (type < FIRST_DATA_TYPE) link.sendControl(type, body);
        else link.sendData(type, type, body, NOTHING);
      } else if (entry.queuedBytes > settings.maxBufferedBytes) {
        undelivered(peer, [{ epoch: 0, key: type, type, body }], "too much is queued");
      } else {
        enqueue(peer, entry, { epoch: 0, key: type, type, body });
      }
    },
  });

  const on = (listener: (event: LinkEvent) => void) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };

  const sweep = () => {
    if (isClosed) return;
    const now = clock.now();
    for (const [name, entry] of entries) {
      const { link } = entry;
      if (link === undefined) continue;
      if (link.activity !== entry.seen || entry.holds > 0 || options.isNeeded(name)) {
        entry.seen = link.activity;
        entry.quietSince = now;
      } else if (now - entry.quietSince >= settings.idleAfterMs) {
        link.close("idle");
      }
    }
    clock.after(settings.idleSweepMs, sweep);
  };
  clock.after(settings.idleSweepMs, sweep);

  const goodbye = (name: NodeName, reason: GoodbyeReason): Promise<void> => {
    const link = entries.get(name)?.link;
    if (link === undefined) return Promise.resolve();
    return new Promise((resolve) => {
      const off = on((event) => {
        if (event.type !== "linkDown" || event.peer.name !== name) return;
        off();
        resolve();
      });
      link.close(reason);
    });
  };

  return {
    self,
    signals,
    channel(type) {
      if (channels.has(type)) throw new Error(`frame type ${type} has an owner already`);
      const channel = createChannel(type);
      channels.set(type, channel);
      return channel;
    },
    peers: () => [...entries.values()].flatMap(({ link }) => (link ? [link.peer] : [])),
    peer: (name) => entries.get(name)?.link?.peer,
    async connect(name) {
      const entry = entryOf(name);
      if (entry.link !== undefined) return entry.link.peer;
      if (isClosed) throw new ClosedError("this node is closed");
      startDial(name, entry);
      return await (entry.dialing as Promise<PeerIdentity>);
    },
    connectAddress: (address) => dialAddress(address, undefined, undefined),
    disconnect: (name) => goodbye(name, "goodbye"),
    on,
    accept(authenticated) {
      admit(authenticated).then(() => begin(authenticated).start(), (error) => {
        once(
          `admit ${authenticated.peer.name}`,
          "warn",
          `refused ${authenticated.peer.name}: ${messageOf(error)}`,
        );
      });
    },
    list: () =>
      [...entries.values()].flatMap(({ link }) => {
        if (link === undefined) return [];
        const address = link.connection.remoteAddress;
        return [{
          node: link.peer.name,
          transport: address.slice(0, address.indexOf(":")),
          address,
          rttMs: link.connection.stats?.().rttMs,
          bufferedBytes: link.buffered,
        }];
      }),
    async ping(name, timeoutMs) {
      const link = entries.get(name)?.link;
      if (link === undefined) throw new ClosedError(`there is no link to ${name}`);
      return await link.ping(timeoutMs);
    },
    heard: (name) => entries.get(name)?.link?.heard,
    isInUse(name) {
      const entry = entries.get(name);
      if (entry?.link === undefined) return false;
      return entry.holds > 0 || entry.link.isUsedByActors;
    },
    expel: (name, reason, text) => entries.get(name)?.link?.abort(reason, text),
    async close() {
      if (isClosed) return;
      isClosed = true;
      for (const [name, entry] of entries) dropQueue(name, entry, "this node is closing");
      const links = [...entries.values()].flatMap(({ link, draining }) => [link, draining]);
      const emptied = new Promise<void>((resolve) => (whenEmpty = resolve));
      for (const link of pending) link.abort("goodbye", "closing");
      let waits = false;
      for (const link of links) {
        if (link === undefined) continue;
        waits = true;
        link.close("left");
      }
      if (waits) await emptied;
      listeners.clear();
    },
  };
}

type Life = Pick<PeerIdentity, "epoch" | "publicKey">;

function isSameLife(a: Life, b: Life): boolean {
  return a.epoch === b.epoch && equalBytes(a.publicKey, b.publicKey);
}

const NOTHING = new Uint8Array(0);
