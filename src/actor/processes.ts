/** What can be seen of processes from outside: who is there, what they hold, what they get. */
import { Pid } from "../wire/pid.ts";
import { readable } from "./call.ts";
import { NoProcessError } from "./errors.ts";
import type { ExitReason } from "./messages.ts";
import type { Process, ProcessKind } from "./process.ts";
import type { ActorSystem } from "./system.ts";

/** A process in a list. */
export interface ProcessSummary {
  readonly pid: Pid;
  /** Its name on this node. */
  readonly name: string | undefined;
  readonly kind: ProcessKind;
  /** `waiting` for a message; `running`, or awaiting something else. */
  readonly status: "running" | "waiting";
  /** Messages that wait for it. */
  readonly mailboxLength: number;
}

/** A process in detail. */
export interface ProcessInfo extends ProcessSummary {
  readonly trapExit: boolean;
  readonly links: readonly Pid[];
  /** Processes and names that it watches. */
  readonly monitors: readonly (Pid | string)[];
  /** Processes that watch it; one that watches twice is here twice. */
  readonly monitoredBy: readonly Pid[];
  /** Messages that it sends later. */
  readonly timers: number;
  /** Calls that it has not answered. */
  readonly unanswered: number;
}

/** What happened to a traced process. A call or cast shows as `{ call | cast, args }`. */
export type TraceEvent =
  | { readonly type: "arrived"; readonly message: unknown }
  /** A receive took it. */
  | { readonly type: "taken"; readonly message: unknown }
  | { readonly type: "ended"; readonly reason: ExitReason };

/** `node.processes`: the processes of this node. */
export interface Processes {
  /** The live ones, oldest first. */
  list(): ProcessSummary[];
  /** One of them, by pid or name; nothing when it has ended. */
  info(target: Pid | string): ProcessInfo | undefined;
  /**
   * Calls `listener` with each message of one process as it arrives and as it is taken, and with
   * its end; returns what ends that. Others are not slowed down by it. @throws NoProcessError
   */
  trace(target: Pid | string, listener: (event: TraceEvent) => void): () => void;
}

/** Shows the processes of an actor system. */
export function createProcesses(system: ActorSystem): Processes {
  const summary = ({ pid, name, kind, mailbox }: Process): ProcessSummary => ({
    pid,
    name,
    kind,
    status: mailbox.isWaiting ? "waiting" : "running",
    mailboxLength: mailbox.length,
  });

  return {
    list: () => system.all().map(summary),
    info(target) {
      const process = system.find(target);
      if (process === undefined) return undefined;
      const { links, monitors, watchers, timers, requests, trapExit } = process;
      return {
        ...summary(process),
        trapExit,
        links: [...links?.values() ?? []].flatMap(({ pid, unlinking }) =>
          unlinking === 0 ? [pid] : []
        ),
        monitors: [...monitors?.values() ?? []].map((monitor) => monitor.target),
        monitoredBy: [...watchers?.values() ?? []].map(({ node, epoch, id }) =>
          new Pid(system.life.other(node, epoch), id)
        ),
        timers: timers?.size ?? 0,
        unanswered: process.isServer ? requests?.size ?? 0 : 0,
      };
    },
    trace(target, listener) {
      const process = system.find(target);
      if (process === undefined) throw new NoProcessError(String(target), "noproc");
      const tell = (event: TraceEvent) => {
        try {
          listener(event);
        } catch (error) {
          system.warnOnce(`trace ${process.pid}`, error);
        }
      };
      const untrace = process.mailbox.trace((type, message) =>
        tell({ type, message: readable(message) })
      );
      const ended = (pid: Pid, reason: ExitReason) => {
        if (!pid.equals(process.pid)) return;
        stop();
        tell({ type: "ended", reason });
      };
      const stop = () => {
        untrace();
        system.exitListeners.delete(ended);
      };
      system.exitListeners.add(ended);
      return stop;
    },
  };
}
