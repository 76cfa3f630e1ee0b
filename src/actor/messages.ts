import type { NodeName } from "../wire/node_name.ts";
import type { Pid } from "../wire/pid.ts";
import type { Ref } from "../wire/ref.ts";

/**
 * Why a process ended, as in OTP: `"normal"`, `"kill"`/`"killed"`, `"noproc"`, `"noconnection"`,
 * `"shutdown"`, or any value that can be sent, such as an error.
 */
export type ExitReason = unknown;

/** A monitored process, or the connection to it, is gone. Comes once per monitor. */
export class Down {
  readonly ref: Ref;
  /** The pid, or the name that was monitored. */
  readonly target: Pid | string;
  readonly reason: ExitReason;
  constructor(ref: Ref, target: Pid | string, reason: ExitReason) {
    this.ref = ref;
    this.target = target;
    this.reason = reason;
  }
}

/** An exit signal that reached a process that traps exits. */
export class Exit {
  readonly from: Pid;
  readonly reason: ExitReason;
  constructor(from: Pid, reason: ExitReason) {
    this.from = from;
    this.reason = reason;
  }
}

/** A node that `monitorNode` watches was declared down. */
export class NodeDown {
  readonly node: NodeName;
  constructor(node: NodeName) {
    this.node = node;
  }
}

/** Nothing came to a server within the time that it gave to `timeoutAfter`. */
export class Timeout {
  /** The time, milliseconds. */
  readonly ms: number;
  constructor(ms: number) {
    this.ms = ms;
  }
}

/** What the library itself puts into mailboxes. */
export type SystemMessage = Down | Exit | NodeDown;
