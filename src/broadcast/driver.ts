/** Runs a {@link Plumtree}: frames, the alarm, topics and their subscribers. */
import { Alarm } from "../base/alarm.ts";
import { utf8Length } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { Clock } from "../base/clock.ts";
import { BarrelError, ClosedError, messageOf } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import { notify } from "../base/notify.ts";
import { Ring } from "../base/ring.ts";
import type { Random } from "../base/random.ts";
import type { Links } from "../link/ports.ts";
import type { Meter } from "../metrics/meter.ts";
import { FrameType } from "../wire/frame_types.ts";
import { MAX_NAME_BYTES } from "../wire/limits.ts";
import type { NodeName } from "../wire/node_name.ts";
import { decodeControl, decodeGossip, encodeControl, encodeGossip, originOf } from "./messages.ts";
import { Plumtree } from "./plumtree.ts";
import { createRoom } from "./room.ts";
import type { SeenIds } from "./seen_ids.ts";
import type { PlumtreeEffect, PlumtreeEvent } from "./events.ts";

/** What broadcast needs of the node. */
export interface BroadcastOptions {
  readonly links: Pick<Links, "self" | "channel">;
  readonly clock: Clock;
  readonly random: Random;
  readonly logger: Logger;
  readonly meter: Meter;
  readonly sha256: (data: Uint8Array) => Uint8Array;
  /** How often broadcast has begun anew in this life of the node. @default 0 */
  readonly restarts?: number;
  /** What it had before it began anew. */
  readonly seen?: SeenIds;
}

/** Messages to all members. */
export interface Broadcast {
  /**
   * Sends bytes to every live member, at most once each, not to ourselves. The bytes are kept for
   * those who miss them: they must not change afterwards. While broadcast is down nothing is sent,
   * which is counted: it is for those who say it again, as replication does.
   *
   * @throws BarrelError `broadcast` when the payload is above 1 MiB or the topic above 255 bytes
   */
  publish(topic: string, payload: Bytes): void;
  /**
   * As `publish`, for those who can wait: nothing when the neighbours' links take more, else a
   * promise to await before the next one. One neighbour that does not read holds it up for 10 s.
   *
   * @throws BarrelError `broadcast` as `publish`; ClosedError while broadcast is down; OverloadedError, with nothing sent, when 4,096
   * messages or 16 MiB of this node wait already
   */
  offer(topic: string, payload: Bytes): void | Promise<void>;
  /** Called with each message of the topic; returns the function that ends it. */
  subscribe(topic: string, handler: (payload: Bytes) => void): () => void;
  neighbourUp(peer: NodeName): void;
  neighbourDown(peer: NodeName): void;
  close(): void;
}

/** The largest payload of one broadcast, bytes. */
const MAX_BROADCAST_BYTES: number = 1024 * 1024;

/** Starts broadcast. */
export function createBroadcast(options: BroadcastOptions): Broadcast {
  const { links, clock, logger, meter, random } = options;
  const { publicKey, epoch } = links.self;
  const machine = new Plumtree(
    originOf(publicKey, epoch, options.sha256, options.restarts),
    random,
    options.seen,
  );
  const gossip = links.channel(FrameType.PLUMTREE_GOSSIP);
  const control = links.channel(FrameType.PLUMTREE_CONTROL);
  const subscribers = new Map<string, Set<(payload: Bytes) => void>>();
  const queue = new Ring<PlumtreeEffect>();
  let isDraining = false;
  let isClosed = false;

  const feed = (event: PlumtreeEvent): PlumtreeEffect[] => {
    if (isClosed) return [];
    const effects = machine.handle(event, clock.now());
    for (const effect of effects) queue.push(effect);
    if (isDraining) return effects;
    isDraining = true;
    try {
      for (let effect = queue.shift(); effect !== undefined; effect = queue.shift()) {
        carryOut(effect);
      }
    } finally {
      isDraining = false;
      if (!isClosed) alarm.set(machine.wakeAt);
      measure();
    }
    return effects;
  };

  const measure = () => {
    const { cached, cachedBytes, missing, waiting } = machine.sizes;
    meter.gauge("barrel_broadcast_kept", cached);
    meter.gauge("barrel_broadcast_kept_bytes", cachedBytes);
    meter.gauge("barrel_broadcast_missing", missing);
    meter.gauge("barrel_broadcast_waiting", waiting);
  };

  const carryOut = (effect: PlumtreeEffect): void => {
    switch (effect.type) {
      case "push": {
        const body = encodeGossip(effect.gossip);
        meter.count("barrel_broadcast_sent_total", { kind: "gossip" }, effect.peers.length);
        // A channel owns what it is given: one copy each, but for the last.
        effect.peers.forEach((peer, i) =>
          gossip.send(peer, i === effect.peers.length - 1 ? body : new Uint8Array(body))
        );
        return;
      }
      case "send":
        meter.count("barrel_broadcast_sent_total", { kind: effect.message.type });
        return control.send(effect.peer, encodeControl(effect.message));
      case "deliver":
        return deliver(effect.gossip.topic, effect.gossip.payload);
      case "count":
        return meter.count("barrel_broadcast_events_total", { what: effect.what });
    }
  };

  const deliver = (topic: string, payload: Bytes) => {
    meter.count("barrel_broadcast_delivered_total");
    for (const handler of [...subscribers.get(topic) ?? []]) {
      // What is kept for those who missed it must stay as it came.
      notify(handler, payload.slice(), (error) => {
        logger.log("error", `a subscriber of "${topic}" threw: ${messageOf(error)}`);
      });
    }
  };

  gossip.onFrame = (body, from) => {
    const message = decodeGossip(body, MAX_BROADCAST_BYTES);
    // The message is kept: a small one must not keep the large chunk that it came in.
    const spacious = message.payload.buffer.byteLength > 2 * message.payload.length;
    const payload = spacious ? message.payload.slice() : message.payload;
    feed({ type: "gossip", from: from.name, gossip: { ...message, payload } });
  };
  control.onFrame = (body, from) => {
    feed({ type: "control", from: from.name, message: decodeControl(body) });
  };
  gossip.onUndelivered = control.onUndelivered = (peer) => feed({ type: "undelivered", peer });
  const alarm = new Alarm(clock, () => feed({ type: "tick" }));
  const room = createRoom(clock, (peer) => gossip.room(peer));

  const check = (topic: string, payload: Bytes) => {
    if (payload.length > MAX_BROADCAST_BYTES) {
      throw new BarrelError(
        "broadcast",
        `a broadcast of ${payload.length} bytes; ${MAX_BROADCAST_BYTES} are allowed, ` +
          "send larger data over a stream",
      );
    }
    if (topic === "" || utf8Length(topic) > MAX_NAME_BYTES) {
      throw new BarrelError("broadcast", `a topic has 1 to ${MAX_NAME_BYTES} bytes`);
    }
  };

  return {
    publish(topic, payload) {
      check(topic, payload);
      if (isClosed) meter.count("barrel_broadcast_events_total", { what: "unsent" });
      feed({ type: "publish", topic, payload });
    },
    offer(topic, payload) {
      check(topic, payload);
      if (isClosed) throw new ClosedError("broadcast is down for now: nothing was sent, try again");
      room.check(payload.length);
      const effects = feed({ type: "publish", topic, payload });
      const peers = effects.flatMap((effect) => effect.type === "push" ? effect.peers : []);
      return room.after(peers, payload.length);
    },
    subscribe(topic, handler) {
      const handlers = subscribers.get(topic) ?? new Set();
      subscribers.set(topic, handlers);
      const own = (payload: Bytes): unknown => handler(payload);
      handlers.add(own);
      return () => {
        handlers.delete(own);
        if (handlers.size === 0 && subscribers.get(topic) === handlers) subscribers.delete(topic);
      };
    },
    neighbourUp: (peer) => void feed({ type: "neighbourUp", peer }),
    neighbourDown: (peer) => void feed({ type: "neighbourDown", peer }),
    close() {
      room.close();
      isClosed = true;
      alarm.cancel();
      // Another one may take its place soon: who speaks to us meanwhile does nothing wrong.
      gossip.onFrame = control.onFrame = () =>
        meter.count("barrel_broadcast_events_total", { what: "unheard" });
      gossip.onUndelivered = control.onUndelivered = undefined;
      subscribers.clear();
    },
  };
}
