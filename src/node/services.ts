/**
 * The node's own services, as processes that its root supervisor watches over. A service whose code
 * throws goes down, which shows among the processes, in the log and in the metrics, and comes up
 * again: as a new one, or, where what it holds must outlive it, around the state that it had.
 */
import { child } from "../actor/supervisor_spec.ts";
import { SERVICE_PREFIX } from "../actor/process.ts";
import type { Self } from "../actor/process.ts";
import type { Supervisors } from "../actor/supervisor.ts";
import type { ActorSystem } from "../actor/system.ts";
import type { Clock } from "../base/clock.ts";
import { messageOf, ProtocolError } from "../base/errors.ts";
import type { Logger } from "../base/logger.ts";
import type { Channel, Links } from "../link/ports.ts";
import type { FrameType } from "../wire/frame_types.ts";

/** Name of the root supervisor, and what stands before those of its services. */
const PREFIX = SERVICE_PREFIX;
const ROOT_NAME = `${PREFIX}root`;
/** A service that came up again more often than that is left down for a while, as are all others. */
const INTENSITY = { restarts: 10, withinMs: 10_000 };
/** How long they stay down then, milliseconds. */
const PAUSE_MS = 5_000;

/** What a service works with: what is thrown in a timer or for a frame takes the service down. */
export interface ServiceWorld {
  readonly clock: Clock;
  readonly links: Links;
  /** Takes the service down over what was thrown elsewhere: for a promise, or one effect of many. */
  readonly failed: (error: unknown) => void;
}

/** One part of the node that can go down and come up again. */
export interface ServiceSpec<T> {
  readonly name: string;
  readonly make: (world: ServiceWorld) => T;
  /** Takes it down: it does nothing more of its own accord. */
  readonly stop: (current: T) => void;
  /** The one that works in place of `former`, which was stopped. @default makes a new one */
  readonly renew?: (former: T) => T;
  /** Called when `now` has been put in place of one that went down. */
  readonly renewed?: (now: T) => void;
}

/** A service that is there, whichever life of it. */
export interface Service<T> {
  /** The one that works, or worked last. */
  readonly current: T;
  /** Runs a part of it: what it throws takes it down. */
  run(part: (current: T) => void): void;
}

/** What the services stand on. */
export interface ServicesOptions {
  readonly system: ActorSystem;
  readonly supervisors: Supervisors;
  readonly clock: Clock;
  readonly links: Links;
  readonly logger: Logger;
}

/** The services of one node. */
export interface Services {
  /** Makes a service at once; its process is there once `start` has been called. */
  add<T>(spec: ServiceSpec<T>): Service<T>;
  /** Starts the root supervisor. */
  start(): void;
  /** From now on the end of a process says nothing about its service: the node closes. */
  release(): void;
}

/** In the mailbox of a service's process. */
class Crash {
  readonly error: unknown;
  constructor(error: unknown) {
    this.error = error;
  }
}

/** Prepares the services of a node. */
export function createServices(options: ServicesOptions): Services {
  const { system, supervisors, clock, links, logger } = options;
  const behaviours = new Map<string, (self: Self<unknown>) => Promise<void>>();
  let isReleased = false;

  const add = <T>(spec: ServiceSpec<T>): Service<T> => {
    const { name, make, stop, renew = () => make(world), renewed } = spec;
    let hasCrashed = false;
    const down = () => {
      try {
        stop(current);
      } catch (error) {
        logger.log("error", `"${name}" could not be stopped: ${messageOf(error)}`);
      }
    };
    const crash = (error: unknown) => {
      if (isReleased) return;
      if (hasCrashed) {
        // What others told it while it was down.
        return logger.log("error", `"${name}" failed again before it was up: ${messageOf(error)}`);
      }
      hasCrashed = true;
      // It does nothing more with what it may have left half done.
      down();
      system.find(PREFIX + name)?.mailbox.push(new Crash(error));
    };
    const world = guard(clock, links, crash);
    let current = make(world);
    let isFirst = true;
    behaviours.set(name, async (self) => {
      const process = system.find(self.pid);
      if (process !== undefined) process.kind = "service";
      if (!isFirst || hasCrashed) {
        hasCrashed = false;
        current = renew(current);
        renewed?.(current);
      }
      isFirst = false;
      self.signal.addEventListener("abort", () => {
        if (!isReleased && !hasCrashed) down();
      }, { once: true });
      for await (const message of self.mailbox) if (message instanceof Crash) throw message.error;
    });
    return {
      get current() {
        return current;
      },
      run(part) {
        try {
          part(current);
        } catch (error) {
          crash(error);
        }
      },
    };
  };

  const start = () => {
    if (isReleased) return;
    const children = [...behaviours].map(([name, behaviour]) => ({
      id: name,
      start: child(behaviour, { name: PREFIX + name }),
    }));
    let isOver = false;
    const over = (reason: unknown) => {
      if (isReleased || isOver) return;
      isOver = true;
      logger.log("error", `the node's services are down for ${PAUSE_MS} ms: ${messageOf(reason)}`);
      clock.after(PAUSE_MS, start);
    };
    supervisors.root({ name: ROOT_NAME, intensity: INTENSITY, children }, over).catch(over);
  };

  return { add, start, release: () => void (isReleased = true) };
}

/**
 * Adds a service that is never made anew: what it holds, and has signed, must outlive its crashes.
 * It goes down by `pause`, and comes up by `resume`, around the state that it had.
 */
export function addStateful<T extends { pause(): void; resume(): void }>(
  services: Services,
  name: string,
  make: (world: ServiceWorld) => T,
): Service<T> {
  return services.add({
    name,
    make,
    stop: (current) => current.pause(),
    renew(former) {
      former.resume();
      return former;
    },
  });
}

function guard(clock: Clock, links: Links, crash: (error: unknown) => void): ServiceWorld {
  const channels = new Map<FrameType, Channel>();
  const watched = (fn: () => void) => () => {
    try {
      fn();
    } catch (error) {
      crash(error);
    }
  };
  return {
    failed: crash,
    clock: {
      now: () => clock.now(),
      wall: () => clock.wall(),
      after: (ms, fn) => clock.after(ms, watched(fn)),
      nextTurn: (fn) => clock.nextTurn(watched(fn)),
    },
    links: {
      ...links,
      self: links.self,
      channel(type) {
        // Each frame type has one owner, whichever life of it.
        let channel = channels.get(type);
        if (channel === undefined) {
          channels.set(type, channel = guardChannel(links.channel(type), crash));
        }
        return channel;
      },
      on: (listener) => links.on((event) => watched(() => listener(event))()),
    },
  };
}

function guardChannel(channel: Channel, crash: (error: unknown) => void): Channel {
  return {
    send: (peer, body) => channel.send(peer, body),
    room: (peer) => channel.room(peer),
    get onFrame() {
      return channel.onFrame;
    },
    set onFrame(handler) {
      channel.onFrame = handler && ((body, from) => {
        try {
          handler(body, from);
        } catch (error) {
          // A peer that breaks the rules loses its link, and so does one whose frame we fail over.
          if (!(error instanceof ProtocolError)) crash(error);
          throw error;
        }
      });
    },
    get onUndelivered() {
      return channel.onUndelivered;
    },
    set onUndelivered(handler) {
      channel.onUndelivered = handler && ((peer, reason) => {
        try {
          handler(peer, reason);
        } catch (error) {
          crash(error);
        }
      });
    },
  };
}
