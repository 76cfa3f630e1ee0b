/**
 * Supervisors: processes that start others, watch them and start them again. What they decide is
 * in `supervision.ts`; here it is carried out.
 */
import { Alarm } from "../base/alarm.ts";
import { BarrelError, ConflictError } from "../base/errors.ts";
import type { Pid } from "../wire/pid.ts";
import type { Calls, Parent } from "./calls.ts";
import { NoProcessError, text } from "./errors.ts";
import { Down, Exit } from "./messages.ts";
import type { ExitReason } from "./messages.ts";
import { Requests } from "./requests.ts";
import type { Self } from "./process.ts";
import type { ProcessSelf } from "./self.ts";
import { Supervision } from "./supervision.ts";
import type { ChildStatus, Restart, SupervisionEffect, SupervisionEvent } from "./supervision.ts";
import { checkChild, checkSpec } from "./supervisor_spec.ts";
import type { ChildSpec, FullChild, FullSpec, SupervisorSpec } from "./supervisor_spec.ts";
import type { ActorSystem } from "./system.ts";

/** A child as `children()` lists it. */
export interface ChildInfo {
  readonly id: string;
  /** The process that runs now. */
  readonly pid: Pid | undefined;
  readonly restart: Restart;
  /** `waiting`: it ended and is not to come back by itself, or is about to. */
  readonly status: ChildStatus;
  /** The child itself, where it is a supervisor that runs. */
  readonly supervisor: Supervisor | undefined;
}

/** A running supervisor. */
export interface Supervisor {
  readonly pid: Pid;
  /** Stops the children in reverse order, then the supervisor. Resolves when all have ended. */
  stop(reason?: ExitReason): Promise<void>;
  /**
   * Starts a further child; resolves with its pid when it runs.
   *
   * @throws ConfigError; ConflictError when the id is taken; what the child's start throws;
   * NoProcessError when the supervisor ends
   */
  startChild(spec: ChildSpec): Promise<Pid>;
  /** Stops a child and forgets it. @throws NoProcessError */
  terminateChild(id: string): Promise<void>;
  /** The children, in the order of their start. */
  children(): ChildInfo[];
}

/** What supervisors are made of. */
export interface SupervisorOptions {
  readonly system: ActorSystem;
  readonly calls: Pick<Calls, "start">;
}

/** The supervisors of a node. */
export interface Supervisors {
  /**
   * Starts a supervisor and its children; resolves when all run. When one does not start, those
   * that did are stopped in reverse order, and so is the supervisor.
   *
   * @throws ConfigError; ConflictError; BarrelError `child_not_started`, whose cause is what the
   * child's start threw
   */
  supervise(spec: SupervisorSpec): Promise<Supervisor>;
  /**
   * As `supervise`, for the node's own tree, which `close` leaves alone; `onOver` is told why it
   * ended.
   */
  root(spec: SupervisorSpec, onOver: (reason: ExitReason) => void): Promise<Supervisor>;
  /** Stops every tree, the youngest first. */
  close(): Promise<void>;
}

/** Adds supervisors to an actor system. */
export function createSupervisors(options: SupervisorOptions): Supervisors {
  const roots = new Set<Driver>();
  return {
    async supervise(spec) {
      const root: Driver = new Driver(
        options,
        checkSpec(spec),
        undefined,
        () => roots.delete(root),
      );
      roots.add(root);
      return await root.started;
    },
    async root(spec, onOver) {
      return await new Driver(options, checkSpec(spec), undefined, onOver).started;
    },
    async close() {
      for (const root of [...roots].toReversed()) await root.stop("shutdown");
    },
  };
}

/** In the supervisor's own mailbox: what the machine is told. */
class Order {
  readonly event: SupervisionEvent;
  constructor(event: SupervisionEvent) {
    this.event = event;
  }
}

interface Life {
  readonly id: string;
  pid: Pid | undefined;
  supervisor: Supervisor | undefined;
}

interface Request {
  readonly id: string;
  resolve(): void;
  reject(error: unknown): void;
}

class Driver implements Supervisor {
  readonly started: Promise<Supervisor>;
  readonly #options: SupervisorOptions;
  readonly #parent: Pid | undefined;
  readonly #process: ProcessSelf;
  readonly #machine: Supervision;
  readonly #specs = new Map<string, FullChild>();
  readonly #lives = new Map<number, Life>();
  /** Lives by the number of the monitor that watches them. */
  readonly #watched = new Map<number, number>();
  readonly #requests = new Map<number, Request>();
  /** The process of each child that was started last. */
  readonly #pids = new Map<string, Pid>();
  readonly #alarm: Alarm;
  readonly #onOver: (reason: ExitReason) => void;
  #lastRequest = 0;
  #settle: { resolve(): void; reject(error: unknown): void } | undefined;

  constructor(
    options: SupervisorOptions,
    spec: FullSpec,
    parent: Parent | undefined,
    onOver: (reason: ExitReason) => void = () => {},
  ) {
    const { system } = options;
    this.#options = options;
    this.#onOver = onOver;
    this.#parent = parent?.pid;
    this.#machine = new Supervision(spec);
    for (const one of spec.children) this.#specs.set(one.id, one);
    this.#process = system.create(spec.name === undefined ? {} : { name: spec.name });
    this.#process.trapExit = true;
    this.#process.kind = "supervisor";
    this.#alarm = new Alarm(system.options.clock, () => this.#order({ type: "tick" }));
    parent?.adopt(this.#process);
    this.started = new Promise((resolve, reject) => {
      this.#settle = { resolve: () => resolve(this), reject };
    });
    (this.#process.requests ??= new Requests()).add({ refuse: (reason) => this.#over(reason) });
    system.run(this.#process, (self) => this.#run(self));
  }

  get pid(): Pid {
    return this.#process.pid;
  }

  async stop(reason: ExitReason = "normal"): Promise<void> {
    if (!this.#process.isAlive) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    (this.#process.requests ??= new Requests()).add({ refuse: () => resolve() });
    this.#order({ type: "stop", reason });
    await promise;
  }

  async startChild(spec: ChildSpec): Promise<Pid> {
    const full = checkChild(spec);
    if (this.#specs.has(full.id)) throw this.#taken(full.id);
    this.#specs.set(full.id, full);
    return await this.#ask(
      full.id,
      (request) => ({ type: "add", child: full, request }),
      () => this.#pids.get(full.id) as Pid,
    );
  }

  terminateChild(id: string): Promise<void> {
    return this.#ask(id, (request) => ({ type: "remove", id, request }), () => {});
  }

  children(): ChildInfo[] {
    if (!this.#process.isAlive) return [];
    return this.#machine.children().map(({ id, restart, status, life }) => {
      const { pid, supervisor } = this.#lives.get(life) ?? {};
      return { id, restart, status, pid, supervisor };
    });
  }

  // ---- the process

  async #run(self: Self<unknown>): Promise<void> {
    this.#tell({ type: "begin" });
    for await (const message of self.mailbox) {
      if (message instanceof Order) this.#tell(message.event);
      else if (message instanceof Down) this.#ended(message);
      else if (message instanceof Exit && this.#obeys(message.from)) {
        this.#tell({ type: "stop", reason: message.reason });
      }
      // Children's exit signals come as `Down`, too; the rest is not for a supervisor.
    }
  }

  // A supervisor that nobody started belongs to its node.
  #obeys(from: Pid): boolean {
    if (this.#parent !== undefined) return from.equals(this.#parent);
    return from.id === 0 && this.#options.system.isLocal(from);
  }

  #order(event: SupervisionEvent): void {
    this.#process.mailbox.push(new Order(event));
  }

  #tell(event: SupervisionEvent): void {
    const effects = this.#machine.handle(event, this.#options.system.options.clock.now());
    for (const effect of effects) this.#perform(effect);
    if (this.#process.isAlive) this.#alarm.set(this.#machine.wakeAt());
  }

  #perform(effect: SupervisionEffect): void {
    const { system } = this.#options;
    switch (effect.type) {
      case "start":
        return void this.#start(effect.id, effect.life);
      case "signal": {
        const pid = this.#lives.get(effect.life)?.pid;
        if (pid !== undefined) system.exit(pid, effect.reason, this.pid);
        return;
      }
      case "ready":
        this.#settle?.resolve();
        this.#settle = undefined;
        return;
      case "added":
      case "removed":
        this.#requests.get(effect.request)?.resolve();
        this.#requests.delete(effect.request);
        return;
      case "refused":
        return this.#refused(effect);
      case "forget":
        this.#specs.delete(effect.id);
        this.#pids.delete(effect.id);
        return;
      case "restart":
        system.options.meter.count("barrel_supervisor_restarts_total");
        return this.#log("warn", `child "${effect.id}" ended and starts again`, effect);
      case "gaveUp":
        return this.#log("error", `gave up: child "${effect.id}" ended too often`, effect);
      case "end":
        return this.#end(effect);
    }
  }

  #log(
    level: "warn" | "error",
    what: string,
    { id, reason }: { id: string; reason: ExitReason },
  ): void {
    const fields = { supervisor: String(this.pid), child: id, reason: text(reason) };
    const message = `supervisor ${this.pid}: ${what}: ${fields.reason}`;
    this.#options.system.options.logger.log(level, message, fields);
  }

  async #start(id: string, number: number): Promise<void> {
    const life: Life = { id, pid: undefined, supervisor: undefined };
    this.#lives.set(number, life);
    try {
      await this.#launch(id, life, number);
      this.#order({ type: "started", life: number });
    } catch (error) {
      this.#lives.delete(number);
      this.#order({ type: "failed", life: number, reason: error });
    }
  }

  async #launch(id: string, life: Life, number: number): Promise<void> {
    const { system, calls } = this.#options;
    const { start } = this.#specs.get(id) as FullChild;
    const parent: Parent = {
      pid: this.pid,
      adopt: (process) => {
        // Linked before its first step: it never outlives us, and we never miss its end.
        system.link(this.#process, process.pid);
        this.#watched.set(system.monitor(this.#process, process.pid).id, number);
        life.pid = process.pid;
        this.#pids.set(id, process.pid);
      },
    };
    switch (start.type) {
      case "server":
        return void await calls.start(start.definition, start.args, start.options, parent);
      case "supervisor":
        life.supervisor = await new Driver(this.#options, checkSpec(start.spec), parent).started;
        return;
      case "process": {
        const process = system.create(start.options);
        parent.adopt(process);
        system.run(process, start.behaviour);
      }
    }
  }

  #ended({ ref, reason }: Down): void {
    const life = this.#watched.get(ref.id);
    if (life === undefined) return;
    this.#watched.delete(ref.id);
    this.#lives.delete(life);
    this.#tell({ type: "ended", life, reason });
  }

  #end({ reason, failed }: SupervisionEffect & { type: "end" }): void {
    if (failed === undefined) return this.#options.system.terminate(this.#process, reason);
    const error = new BarrelError(
      "child_not_started",
      `child "${failed.id}" did not start: ${text(failed.reason)}`,
      { cause: failed.reason },
    );
    const settle = this.#settle;
    this.#settle = undefined;
    this.#options.system.terminate(this.#process, error);
    settle?.reject(error);
  }

  // ---- those who ask

  #ask<T>(
    id: string,
    make: (request: number) => SupervisionEvent,
    result: () => T,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      if (!this.#process.isAlive) return reject(new NoProcessError(String(this.pid), "noproc"));
      const request = ++this.#lastRequest;
      this.#requests.set(request, { id, resolve: () => resolve(result()), reject });
      this.#order(make(request));
    });
  }

  #refused({ request, why, reason }: SupervisionEffect & { type: "refused" }): void {
    const asked = this.#requests.get(request);
    this.#requests.delete(request);
    if (why === "failed") asked?.reject(reason);
    else if (why === "exists") asked?.reject(this.#taken(asked.id));
    else asked?.reject(new NoProcessError(`child "${asked.id}" of ${this.pid}`, "noproc"));
  }

  #taken(id: string): ConflictError {
    return new ConflictError(`${this.pid} has a child "${id}" already`);
  }

  // The process has ended, for whatever reason.
  #over(reason: ExitReason): void {
    this.#alarm.cancel();
    this.#onOver(reason);
    const error = new NoProcessError(String(this.pid), reason);
    this.#settle?.reject(error);
    this.#settle = undefined;
    for (const { reject } of this.#requests.values()) reject(error);
    this.#requests.clear();
  }
}
