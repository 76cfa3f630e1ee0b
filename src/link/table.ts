import { afterwards } from "../base/afterwards.ts";
import { concat, equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import {
  ClosedError,
  messageOf,
  OverloadedError,
  ProtocolError,
  TransportError,
} from "../base/errors.ts";
import { logOnce } from "../base/logger.ts";
import type { Logger } from "../base/logger.ts";
import type { Meter } from "../metrics/meter.ts";
import type { FrameType } from "../wire/frame_types.ts";
import type { NodeName } from "../wire/node_name.ts";
import { CloseCode } from "./close_codes.ts";
import type { Authenticated, DialRequest } from "./connector.ts";
import { createDialing } from "./dialing.ts";
import { createHandover, noLinks } from "./handover.ts";
import type { PeerLinks } from "./handover.ts";
import { Link } from "./link.ts";
import type { GoodbyeReason, LinkOwner } from "./link.ts";
import { linkInfo, linkStats } from "./link_info.ts";
import type { LinkInfo, LinkStats } from "./link_info.ts";
import { moveLink } from "./migration.ts";
import type { ConnectOptions, LinkSettings } from "./options.ts";
import { Outbox } from "./outbox.ts";
import type { QueuedFrame } from "./outbox.ts";
import { startReaper } from "./reaper.ts";
import { StreamCode } from "./stream_pipes.ts";
import type {
  Channel,
  LinkDownReason,
  LinkEvent,
  Links,
  PeerIdentity,
  SignalPort,
  StreamPort,
} from "./ports.ts";

const NOTHING = new Uint8Array(0);
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
  readonly dial: (address: string, request?: DialRequest) => Promise<Authenticated>;
  /** Where a node can be reached, best first, and its key where it is known. */
  readonly resolve: (
    name: NodeName,
  ) => Promise<{ addresses: readonly string[]; publicKey?: Uint8Array }>;
  /** Called with a peer that has proved its key, before its link is used; may refuse by throwing. */
  readonly admit: (authenticated: Authenticated) => Promise<void>;
  /** Whether the overlay needs the link to this peer. */
  readonly isNeeded: (name: NodeName) => boolean;
}

/** The table of links: one per peer, opened on demand. */
export interface LinkTable extends Links {
  readonly signals: SignalPort;
  readonly streams: StreamPort;
  /** Takes a connection that a peer opened. */
  accept(authenticated: Authenticated): void;
  /** The live links. */
  list(): LinkInfo[];
  /** What is known of the link to `name`; `undefined` without one. */
  stats(name: NodeName): LinkStats | undefined;
  /** From now on dials to `name` follow these; `undefined` forgets them. */
  setConnectOptions(name: NodeName, connectOptions: ConnectOptions | undefined): void;
  /**
   * Moves the link to `name` to a new local path: the live connection where its stack can, else by
   * a new connection that takes over behind what was sent on the old one. Nobody is told that a
   * link went.
   *
   * @throws TransportError `not_connected`, `timeout`, or what the dial threw
   */
  migrate(name: NodeName, timeoutMs: number): Promise<void>;
  /** The round trip over the control pipe. @throws TimeoutError, ClosedError without a link */
  ping(name: NodeName, timeoutMs: number): Promise<number>;
  /** How many frames have come over the link to `name`: unchanged means silence. */
  heard(name: NodeName): number | undefined;
  /** Leaves the link to `name` to the reaper, as if an actor had used it. */
  keep(name: NodeName): void;
  /** Closes the link to `name` that we dialled, unless the overlay or more than protocols uses it. */
  letGo(name: NodeName): void;
  /** Whether a monitor or a process link crosses the link, or more than protocols has used it. */
  isInUse(name: NodeName): boolean;
  /** A peer goes on under another key: so do the links to it. */
  rekey(name: NodeName, from: Bytes, to: Bytes): void;
  /** Ends the link to a peer that breaks the rules or does not read. */
  expel(name: NodeName, reason: LinkDownReason, text: string): void;
  /** Says goodbye to everybody and waits. */
  close(): Promise<void>;
}

/** What is kept of one peer. */
interface Entry extends PeerLinks {
  readonly name: NodeName;
  dialing: Promise<PeerIdentity> | undefined;
  readonly outbox: Outbox;
  holds: number;
  drained: PromiseWithResolvers<void> | undefined;
  connectOptions: ConnectOptions | undefined;
  migrating: Promise<void> | undefined;
}

/** Creates an empty table. */
export function createLinkTable(options: LinkTableOptions): LinkTable {
  const { self, settings, clock, logger, meter } = options;
  const entries = new Map<NodeName, Entry>();
  const channels = new Map<number, Channel>();
  const listeners = new Set<(event: LinkEvent) => void>();
  const pending = new Set<Link>();
  // Handed over, but for the streams that began on them.
  const lingering = new Set<Link>();
  const once = logOnce(logger, 1_024);
  let isClosed = false;
  let whenEmpty: (() => void) | undefined;

  const entryOf = (name: NodeName): Entry => {
    let entry = entries.get(name);
    if (entry === undefined) {
      entry = {
        ...noLinks(),
        name,
        dialing: undefined,
        outbox: new Outbox(),
        holds: 0,
        drained: undefined,
        connectOptions: undefined,
        migrating: undefined,
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

  const live = () => [...entries.values()].flatMap(({ link }) => link ?? []);

  const tidy = (entry: Entry) => {
    const isIdle = !entry.link && !entry.dialing && entry.draining.size === 0 &&
      !entry.challenger && entry.holds === 0 && entry.outbox.isEmpty && !entry.drained &&
      !entry.handover && !entry.connectOptions && !entry.migrating;
    if (isIdle) entries.delete(entry.name);
  };

  const emit = (event: LinkEvent) => {
    meter.gauge("barrel_links", live().length);
    for (const listener of [...listeners]) listener(event);
  };

  const linkOwner: LinkOwner = {
    onFrame(link, type, body) {
      if (type >= FIRST_SIGNAL_TYPE) {
        link.isKept = true;
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
      handover.adopt(entryOf(link.peer.name), link);
      dialing.ready(link);
    },
    onStream(link, pipe, tag) {
      link.isKept = true;
      streams.onStream(pipe, tag);
    },
    onPipeRefused(link, reason) {
      const { name } = link.peer;
      meter.count("barrel_streams_refused_total", { reason });
      once(`${name} ${reason}`, "warn", `refused a pipe of ${name}: ${reason}`, {
        peer: name,
        reason,
      });
    },
    onDrain(link) {
      const entry = entries.get(link.peer.name);
      if (entry === undefined || entry.link !== link) return;
      releaseWriters(entry);
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
      if (link.isLingering) {
        lingering.add(link);
        void link.connection.closed.then(() => lingering.delete(link));
      }
      down(link, reason);
    },
  };

  // The client's HELLO says what its connection replaces: ours is known to the caller alone.
  const begin = (authenticated: Authenticated, replaces: Bytes) => {
    const { connection, control, earlyPipes, peer, id } = authenticated;
    const link = new Link({
      id,
      replaces,
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

  const handover = createHandover<Entry>({
    self,
    clock,
    isClosed: () => isClosed,
    emit,
    onUsable: (entry) => flush(entry),
    onForsaken: (entry) => tidy(entry),
  });

  const down = (link: Link, reason: LinkDownReason) => {
    const { name } = link.peer;
    const entry = entries.get(name);
    if (entry === undefined) return;
    if (entry.challenger === link) entry.challenger = undefined;
    if (entry.draining.has(link)) handover.drained(entry, link);
    else if (entry.link === link) {
      meter.count("barrel_link_down_total", { reason });
      const level = reason === "protocol" || reason === "overloaded" ? "warn" : "debug";
      once(`${name} ${reason}`, level, `the link to ${name} ended: ${reason}`, {
        peer: name,
        reason,
      });
      entry.link = undefined;
      releaseWriters(entry);
      handover.vacated(entry, link, reason);
    }
    if (!entry.outbox.isEmpty && !entry.link && !isPending(name)) startDial(entry);
    tidy(entry);
    if (pending.size > 0) return;
    if (![...entries.values()].some((one) => one.link ?? one.draining.size > 0)) whenEmpty?.();
  };

  const flush = (entry: Entry) => {
    const { link, name } = entry;
    // One that says goodbye takes no more: what waits goes over the next.
    if (!link?.isOpen || entry.draining.size > 0) return;
    for (let frame = entry.outbox.shift(); frame !== undefined; frame = entry.outbox.shift()) {
      if (frame.epoch !== 0 && frame.epoch !== link.peer.epoch) {
        undelivered(name, [frame], "another life of the node");
      } else if (frame.type < FIRST_DATA_TYPE) link.sendControl(frame.type, frame.body);
      else {
        link.isKept ||= frame.type >= FIRST_SIGNAL_TYPE;
        link.sendData(frame.key, frame.type, frame.body, NOTHING);
      }
    }
    releaseWriters(entry);
  };

  const undelivered = (name: NodeName, frames: readonly QueuedFrame[], reason: string) => {
    const epochs = new Set<number>();
    for (const frame of frames) {
      meter.count("barrel_undelivered_total", { reason: "no_link" });
      if (frame.type >= FIRST_SIGNAL_TYPE) epochs.add(frame.epoch);
      else channels.get(frame.type)?.onUndelivered?.(name, reason);
    }
    for (const epoch of epochs) signals.onUndelivered?.(name, epoch, reason);
  };

  const dropOutbox = (entry: Entry, reason: string) => {
    const frames = entry.outbox.clear();
    releaseWriters(entry);
    if (frames.length > 0) undelivered(entry.name, frames, reason);
  };

  const startDial = (entry: Entry) => {
    if (entry.dialing !== undefined || isClosed) return;
    entry.dialing = afterwards(dialing.byName(entry.name), () => {
      entry.dialing = undefined;
    });
    entry.dialing.catch((error) => {
      if (entry.link === undefined) dropOutbox(entry, messageOf(error));
      tidy(entry);
    });
  };

  const dialing = createDialing({
    self,
    dial: options.dial,
    resolve: options.resolve,
    connectOptions: (name) => entries.get(name)?.connectOptions,
    live: (name) => entries.get(name)?.link,
    ownPending: (name) =>
      [...pending].find(({ peer, connection }) =>
        peer.name === name && connection.role === "client"
      ),
    admit: (authenticated) => admit(authenticated),
    begin,
  });

  const migrate = (name: NodeName, timeoutMs: number): Promise<void> => {
    const entry = entries.get(name);
    if (entry?.link === undefined) {
      const text = `there is no link to ${name} to be moved`;
      return Promise.reject(new TransportError("not_connected", text));
    }
    const { link } = entry;
    if (!(timeoutMs > 0 && timeoutMs < Infinity)) {
      const text = `timeoutMs must be a number of milliseconds above 0, not ${timeoutMs}`;
      return Promise.reject(new RangeError(text));
    }
    entry.migrating ??= afterwards(
      moveLink(link, {
        clock,
        dial: (address, request) => {
          const datagrams = entry.connectOptions?.datagrams;
          return options.dial(
            address,
            datagrams === undefined ? request : { ...request, datagrams },
          );
        },
        async addresses() {
          const chosen = entry.connectOptions?.address;
          if (chosen !== undefined) return [chosen];
          const reached = link.role === "client" ? [link.connection.remoteAddress] : [];
          return [...reached, ...(await options.resolve(name)).addresses];
        },
        isReplaced: () =>
          entry.handover !== undefined || (entry.link !== undefined && entry.link !== link),
        takeOver: (authenticated, address, replaces) =>
          dialing.takeOver(authenticated, address, name, replaces),
      }, timeoutMs).then(
        (way) => meter.count("barrel_migrations_total", { way }),
        (error) => {
          meter.count("barrel_migrations_total", { way: "failed" });
          throw error;
        },
      ),
      () => {
        entry.migrating = undefined;
        tidy(entry);
      },
    );
    return entry.migrating;
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

  const releaseWriters = (entry: Entry) => {
    if (entry.drained === undefined) return;
    const buffered = entry.outbox.bytes + (entry.link?.buffered ?? 0);
    if (buffered > settings.highWaterMark / 2) return;
    entry.drained.resolve();
    entry.drained = undefined;
    tidy(entry);
  };

  const enqueue = (entry: Entry, frame: QueuedFrame) => {
    entry.outbox.push(frame);
    if (entry.link === undefined && !isPending(entry.name)) startDial(entry);
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
      if (isClosed) return void signals.onUndelivered?.(peer, epoch, "this node is closed");
      const entry = entryOf(peer);
      const { link } = entry;
      if (link?.isOpen && entry.draining.size === 0) {
        if (epoch !== 0 && epoch !== link.peer.epoch) {
          return void signals.onUndelivered?.(peer, epoch, "another life of the node");
        }
        checkRoom(peer, link.buffered);
        link.isKept = true;
        link.sendData(streamKey, type, head, payload);
        return backPressure(entry, link.buffered);
      }
      checkRoom(peer, entry.outbox.bytes);
      enqueue(entry, { epoch, key: streamKey, type, body: concat([head, payload]) });
      return backPressure(entry, entry.outbox.bytes);
    },
    connected: (peer) => entries.get(peer)?.link !== undefined || isPending(peer),
    hold: (peer) => void entryOf(peer).holds++,
    release(peer) {
      const entry = entries.get(peer);
      if (entry === undefined || entry.holds === 0) return;
      entry.holds--;
      tidy(entry);
    },
    onLink: (listener) => on(listener),
  };

  const streams: StreamPort = {
    onStream({ framed, done }) {
      framed.abort(StreamCode.NO_ACCEPTOR, "no streams here");
      done();
    },
    async open(peer, tag) {
      for (;;) {
        await connect(peer);
        const link = entries.get(peer)?.link;
        if (link?.isOpen) {
          link.isKept = true;
          return await link.streams.open(tag);
        }
        // It says goodbye: the next one takes over, or is dialled, when it carries nothing more. Its
        // streams may hold its connection for much longer.
        await link?.over;
      }
    },
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
    room(peer) {
      const entry = entries.get(peer);
      if (entry === undefined || isClosed) return;
      return backPressure(entry, entry.outbox.bytes + (entry.link?.buffered ?? 0));
    },
    send(peer, body) {
      if (isClosed) return;
      const entry = entryOf(peer);
      const { link } = entry;
      if (link?.isOpen && entry.draining.size === 0) {
        if (link.buffered > settings.maxBufferedBytes) {
          // A protocol cannot wait for one peer: it is the slow consumer who goes.
          return link.abort("overloaded", "does not take what is sent to it");
        }
        if (type < FIRST_DATA_TYPE) link.sendControl(type, body);
        else link.sendData(type, type, body, NOTHING);
      } else if (entry.outbox.bytes > settings.maxBufferedBytes) {
        undelivered(peer, [{ epoch: 0, key: type, type, body }], "too much is queued");
      } else {
        enqueue(entry, { epoch: 0, key: type, type, body });
      }
    },
  });

  const on = (listener: (event: LinkEvent) => void) => {
    listeners.add(listener);
    return () => void listeners.delete(listener);
  };

  const connect = async (name: NodeName): Promise<PeerIdentity> => {
    const entry = entryOf(name);
    if (entry.link !== undefined) return entry.link.peer;
    if (isClosed) throw new ClosedError("this node is closed");
    startDial(entry);
    return await (entry.dialing as Promise<PeerIdentity>);
  };

  const { letGo } = startReaper({
    settings,
    clock,
    entries,
    isNeeded: options.isNeeded,
    isClosed: () => isClosed,
  });

  const goodbye = (name: NodeName, reason: GoodbyeReason): Promise<void> => {
    const link = entries.get(name)?.link;
    if (link === undefined) return Promise.resolve();
    link.close(reason);
    return link.over;
  };

  return {
    self,
    signals,
    streams,
    channel(type) {
      if (channels.has(type)) throw new Error(`frame type ${type} has an owner already`);
      const channel = createChannel(type);
      channels.set(type, channel);
      return channel;
    },
    peers: () => live().map(({ peer }) => peer),
    peer: (name) => entries.get(name)?.link?.peer,
    connect,
    connectAddress: dialing.byAddress,
    disconnect: (name) => goodbye(name, "goodbye"),
    on,
    accept(authenticated) {
      const { replaces } = authenticated.peer;
      admit(authenticated).then(() => begin(authenticated, replaces).start(), (error) => {
        once(
          `admit ${authenticated.peer.name}`,
          "warn",
          `refused ${authenticated.peer.name}: ${messageOf(error)}`,
        );
      });
    },
    list: () => live().map((link) => linkInfo(link, clock.now())),
    stats(name) {
      const link = entries.get(name)?.link;
      return link === undefined ? undefined : linkStats(link, clock.now());
    },
    setConnectOptions(name, connectOptions) {
      const entry = entryOf(name);
      entry.connectOptions = connectOptions;
      tidy(entry);
    },
    migrate,
    async ping(name, timeoutMs) {
      const link = entries.get(name)?.link;
      if (link === undefined) throw new ClosedError(`there is no link to ${name}`);
      return await link.ping(timeoutMs);
    },
    heard: (name) => entries.get(name)?.link?.heard,
    keep(name) {
      const link = entries.get(name)?.link;
      if (link !== undefined) link.isKept = true;
    },
    letGo,
    isInUse(name) {
      const entry = entries.get(name);
      if (entry?.link === undefined) return false;
      return entry.holds > 0 || entry.link.isKept || entry.link.streams.count > 0;
    },
    rekey(name, from, to) {
      const entry = entries.get(name);
      const handedOver = entry?.handover?.peer;
      const peers = [entry?.link, entry?.challenger, ...entry?.draining ?? [], ...pending]
        .flatMap((link) => link?.peer.name === name ? link.peer : []);
      for (const peer of handedOver === undefined ? peers : [...peers, handedOver]) {
        if (equalBytes(peer.publicKey, from)) peer.publicKey = to;
      }
    },
    expel: (name, reason, text) => entries.get(name)?.link?.abort(reason, text),
    async close() {
      if (isClosed) return;
      isClosed = true;
      for (const entry of entries.values()) dropOutbox(entry, "this node is closing");
      const links = [...entries.values()].flatMap(({ link, draining }) => [link, ...draining]);
      const emptied = new Promise<void>((resolve) => (whenEmpty = resolve));
      for (const link of [...pending, ...lingering]) link.abort("goodbye", "closing");
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
