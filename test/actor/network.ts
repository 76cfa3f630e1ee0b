import type { Bytes } from "../../src/base/bytes.ts";
import { concat } from "../../src/base/bytes.ts";
import { realClock } from "../../src/base/real.ts";
import { scopedClock } from "../../src/base/scoped_clock.ts";
import type { ScopedClock } from "../../src/base/scoped_clock.ts";
import { ActorSystem } from "../../src/actor/system.ts";
import { createCalls } from "../../src/actor/calls.ts";
import type { Calls } from "../../src/actor/calls.ts";
import { createProcesses } from "../../src/actor/processes.ts";
import type { Processes } from "../../src/actor/processes.ts";
import { createRpc } from "../../src/actor/rpc.ts";
import type { Rpc } from "../../src/actor/rpc.ts";
import { createSupervisors } from "../../src/actor/supervisor.ts";
import type { Supervisors } from "../../src/actor/supervisor.ts";
import type { LinkEvent, PeerIdentity, SignalPort } from "../../src/link/ports.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import type { MemoryMeter } from "../../src/metrics/meter.ts";
import type { FrameType } from "../../src/wire/frame_types.ts";
import type { Pid } from "../../src/wire/pid.ts";

/** A node of nothing but actors. */
export interface ActorNode {
  readonly identity: PeerIdentity;
  readonly system: ActorSystem;
  readonly calls: Calls;
  readonly supervisors: Supervisors;
  readonly rpc: Rpc;
  readonly processes: Processes;
  readonly meter: MemoryMeter;
  /** What it logged: level and message. */
  readonly log: string[];
  readonly names: Map<string, Pid>;
  readonly holds: Map<string, number>;
}

const clocks: ScopedClock[] = [];

/** Frees the timers of every network made so far. */
export function closeNetworks(): void {
  for (const clock of clocks.splice(0)) clock.close();
}

/** Actor systems joined by a network that delivers in later microtasks, or not at all. */
export function actorNetwork(): {
  node(name: string, epoch?: number): ActorNode;
  cut(a: ActorNode, b: ActorNode): void;
  inject(from: ActorNode, to: ActorNode, type: number, body: Bytes): void;
} {
  const ports = new Map<
    string,
    { port: SignalPort; identity: PeerIdentity; listeners: Set<(event: LinkEvent) => void> }
  >();
  const cuts = new Set<string>();
  const clock = scopedClock(realClock);
  clocks.push(clock);
  const node = (name: string, epoch = 1): ActorNode => {
    const identity: PeerIdentity = {
      name,
      epoch,
      publicKey: new Uint8Array(32),
      addresses: [],
    };
    const listeners = new Set<(event: LinkEvent) => void>();
    const holds = new Map<string, number>();
    const port: SignalPort = {
      onSignal: undefined,
      onUndelivered: undefined,
      send(peer, toEpoch, _key, type, head, payload) {
        const body = concat([head, payload]);
        queueMicrotask(() => {
          const target = ports.get(peer);
          if (target === undefined || cuts.has(`${name} ${peer}`)) {
            return port.onUndelivered?.(peer, toEpoch, "no link");
          }
          if (toEpoch !== 0 && toEpoch !== target.identity.epoch) {
            return port.onUndelivered?.(peer, toEpoch, "another life");
          }
          target.port.onSignal?.(type, body, identity);
        });
      },
      connected: (peer) => ports.has(peer) && !cuts.has(`${name} ${peer}`),
      hold: (peer) => void holds.set(peer, (holds.get(peer) ?? 0) + 1),
      release: (peer) => void holds.set(peer, (holds.get(peer) ?? 0) - 1),
      onLink(listener) {
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    };
    const names = new Map<string, Pid>();
    const meter = memoryMeter();
    const log: string[] = [];
    const system = new ActorSystem({
      node: name,
      epoch,
      port,
      clock,
      logger: { log: (level, message) => void log.push(`${level}: ${message}`) },
      meter,
      maxMessageBytes: 1 << 20,
      mailboxHighWater: 1_000,
      resolveName: (wanted) => Promise.resolve(names.get(wanted)),
      isMember: (peer) => ports.has(peer),
    });
    ports.set(name, { port, identity, listeners });
    const calls = createCalls(system, {
      register: (wanted, pid) => Promise.resolve(void names.set(wanted, pid)),
    });
    const supervisors = createSupervisors({ system, calls });
    return {
      identity,
      system,
      calls,
      supervisors,
      rpc: createRpc(system),
      processes: createProcesses(system),
      meter,
      log,
      names,
      holds,
    };
  };
  return {
    node,
    cut(a, b) {
      cuts.add(`${a.identity.name} ${b.identity.name}`);
      cuts.add(`${b.identity.name} ${a.identity.name}`);
      for (const [from, to] of [[a, b], [b, a]] as const) {
        for (const listener of ports.get(from.identity.name)?.listeners ?? []) {
          listener({ type: "linkDown", peer: to.identity, reason: "lost" });
        }
      }
    },
    inject(from, to, type, body) {
      ports.get(to.identity.name)?.port.onSignal?.(type as FrameType, body, from.identity);
    },
  };
}
