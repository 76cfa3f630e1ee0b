/**
 * Proxies: processes of this node that pass what they get on to a live instance of a service,
 * wherever that is now, calls and casts of servers included. One a name. Messages keep their order;
 * at most 32 wait for the service or for room towards it, and what does not fit is counted, as a
 * `send` to a dead pid would be; a call is refused.
 */
import type { Process, Self } from "../actor/process.ts";
import type { ActorSystem } from "../actor/system.ts";
import type { Clock, Timer } from "../base/clock.ts";
import type { Meter } from "../metrics/meter.ts";
import type { Pid } from "../wire/pid.ts";

/** What proxies need. */
export interface ProxyOptions {
  readonly system: Pick<
    ActorSystem,
    "spawn" | "find" | "terminate" | "exitListeners" | "forward" | "refuse"
  >;
  readonly clock: Clock;
  readonly meter: Meter;
  /** An instance that is known. */
  readonly pick: (name: string) => Pid | undefined;
  readonly whereis: (name: string) => Promise<Pid | undefined>;
}

/** Messages that wait in one proxy. */
const MAX_WAITING = 32;
/** A proxy whose service has had no instance for so long ends with `noproc`. */
const REAP_MS = 30_000;

interface Proxy {
  readonly pid: Pid;
  waiting: number;
  tail: Promise<void>;
  reaper: Timer | undefined;
}

/** The proxies of a node. */
export class Proxies {
  readonly #options: ProxyOptions;
  readonly #byName = new Map<string, Proxy>();
  /** Names by the number of their proxy: processes end often, proxies seldom. */
  readonly #names = new Map<number, string>();
  readonly #onExit: (pid: Pid) => void;

  constructor(options: ProxyOptions) {
    this.#options = options;
    this.#onExit = (pid) => this.#ended(pid);
    options.system.exitListeners.add(this.#onExit);
  }

  /** The proxy of a name, made when there is none. */
  get(name: string): Pid {
    const known = this.#byName.get(name);
    if (known !== undefined) return known.pid;
    const { system } = this.#options;
    const pid = system.spawn((self: Self<unknown>) => this.#run(name, self));
    // Calls and casts come through its mailbox like everything else, and keep their place.
    const process = system.find(pid) as Process;
    process.isServer = true;
    process.kind = "proxy";
    this.#names.set(pid.id, name);
    this.#byName.set(name, { pid, waiting: 0, tail: Promise.resolve(), reaper: undefined });
    this.serviceChanged(name);
    return pid;
  }

  /** An instance of the name came or went. */
  serviceChanged(name: string): void {
    const proxy = this.#byName.get(name);
    if (proxy === undefined) return;
    if (this.#options.pick(name) !== undefined) {
      proxy.reaper?.cancel();
      proxy.reaper = undefined;
    } else {
      proxy.reaper ??= this.#options.clock.after(REAP_MS, () => this.#reap(proxy));
    }
  }

  /** Stops; the processes end with their node. */
  close(): void {
    this.#options.system.exitListeners.delete(this.#onExit);
    for (const { reaper } of this.#byName.values()) reaper?.cancel();
    this.#byName.clear();
  }

  async #run(name: string, self: Self<unknown>): Promise<void> {
    for await (const message of self.mailbox) this.#forward(name, message);
  }

  #forward(name: string, message: unknown): void {
    const { pick, whereis, system } = this.#options;
    const proxy = this.#byName.get(name);
    if (proxy === undefined) return;
    if (proxy.waiting >= MAX_WAITING) return this.#dropped(message, "busy");
    if (proxy.waiting === 0) {
      const pid = pick(name);
      if (pid !== undefined) {
        return this.#await(proxy, message, () => system.forward(pid, message));
      }
    }
    const before = proxy.tail;
    this.#await(proxy, message, async () => {
      await before;
      const pid = pick(name) ?? await whereis(name);
      if (pid === undefined) this.#dropped(message, "no_service");
      else await system.forward(pid, message);
    });
  }

  #await(proxy: Proxy, message: unknown, send: () => void | Promise<void>): void {
    let sent: void | Promise<void>;
    try {
      sent = send();
    } catch {
      return this.#dropped(message, "not_sent");
    }
    if (sent === undefined) return;
    proxy.waiting++;
    proxy.tail = sent.catch(() => this.#dropped(message, "not_sent"))
      .then(() => void proxy.waiting--);
  }

  #reap(proxy: Proxy): void {
    const process: Process | undefined = this.#options.system.find(proxy.pid);
    if (process !== undefined) this.#options.system.terminate(process, "noproc");
  }

  #ended(pid: Pid): void {
    const name = this.#names.get(pid.id);
    if (name === undefined) return;
    this.#names.delete(pid.id);
    this.#byName.get(name)?.reaper?.cancel();
    this.#byName.delete(name);
  }

  #dropped(message: unknown, reason: string): void {
    this.#options.system.refuse(message, "noproc");
    this.#options.meter.count("barrel_proxy_dropped_total", { reason });
  }
}
