/**
 * What a supervisor decides, as a pure machine after OTP's `supervisor`: which children start, stop
 * and start again, in which order, and when to give up. One operation runs at a time; what happens
 * meanwhile waits for its end, as in OTP. The driver is `supervisor.ts`.
 */
import type { ExitReason } from "./messages.ts";

/**
 * Whom the end of one child takes along: nobody, all the others, or those that were started after
 * it.
 */
export type Strategy = "oneForOne" | "oneForAll" | "restForOne";

/**
 * Which ends bring a child back: every one, those that are neither `"normal"` nor `"shutdown"`, or
 * none.
 */
export type Restart = "permanent" | "transient" | "temporary";

/** How many restarts are too many. */
export interface Intensity {
  /** Restarts that are still fine within the time. */
  readonly restarts: number;
  /** The time, milliseconds. */
  readonly withinMs: number;
}

/** What the machine knows of a child. */
export interface ChildRules {
  readonly id: string;
  readonly restart: Restart;
  /** How long it may take to shut down before it is killed, ms; 0 kills at once. */
  readonly shutdownMs: number;
}

/** `waiting`: it does not run now, and its entry stays. */
export type ChildStatus = "waiting" | "starting" | "running" | "stopping";

/** What happens to a supervisor. A `life` is one attempt to run a child. */
export type SupervisionEvent =
  | { readonly type: "begin" }
  | { readonly type: "add"; readonly child: ChildRules; readonly request: number }
  | { readonly type: "remove"; readonly id: string; readonly request: number }
  | { readonly type: "started"; readonly life: number }
  /** It did not start; nothing of it runs. */
  | { readonly type: "failed"; readonly life: number; readonly reason: unknown }
  | { readonly type: "ended"; readonly life: number; readonly reason: ExitReason }
  /** Ends the supervisor, its children first. */
  | { readonly type: "stop"; readonly reason: ExitReason }
  | { readonly type: "tick" };

/** What a supervisor wants done. */
export type SupervisionEffect =
  | { readonly type: "start"; readonly id: string; readonly life: number }
  | { readonly type: "signal"; readonly life: number; readonly reason: "shutdown" | "kill" }
  /** Every child of the beginning runs. */
  | { readonly type: "ready" }
  | { readonly type: "added" | "removed"; readonly request: number }
  | {
    readonly type: "refused";
    readonly request: number;
    readonly why: "exists" | "missing" | "failed";
    readonly reason?: unknown;
  }
  /** A child's entry is gone for good. */
  | { readonly type: "forget"; readonly id: string }
  /** A child ended, and comes back. */
  | { readonly type: "restart"; readonly id: string; readonly reason: ExitReason }
  /** Too many restarts: all children stop, and so does the supervisor. */
  | { readonly type: "gaveUp"; readonly id: string; readonly reason: ExitReason }
  /** Nothing runs any more. `failed`: the child that kept the supervisor from starting. */
  | {
    readonly type: "end";
    readonly reason: ExitReason;
    readonly failed?: { readonly id: string; readonly reason: unknown };
  };

/** What a supervisor is made of. */
export interface SupervisionOptions {
  readonly strategy: Strategy;
  readonly intensity: Intensity;
  /** In the order of their start. */
  readonly children: readonly ChildRules[];
}

interface Child {
  readonly rules: ChildRules;
  status: ChildStatus;
  life: number;
  /** It ended before the word came that it had started. */
  early: { readonly reason: ExitReason } | undefined;
}

type Task =
  | { readonly type: "add"; readonly child: ChildRules; readonly request: number }
  | { readonly type: "remove"; readonly id: string; readonly request: number }
  | { readonly type: "ended"; readonly life: number; readonly id: string; reason: ExitReason }
  | { readonly type: "stop"; readonly reason: ExitReason };

/** One operation under way: children to stop, then children to start, then what it was for. */
interface Plan {
  readonly stops: string[];
  readonly starts: string[];
  /** Stopped children whose entries go. */
  readonly forgets: (child: Child) => boolean;
  /** The child that is being started or stopped. */
  current: Child | undefined;
  readonly done: () => void;
  readonly failed: (child: Child, reason: unknown) => void;
}

/** The machine. */
export class Supervision {
  readonly #strategy: Strategy;
  readonly #intensity: Intensity;
  // In the order of their start.
  readonly #children = new Map<string, Child>();
  readonly #byLife = new Map<number, Child>();
  readonly #tasks: Task[] = [];
  #plan: Plan | undefined;
  /** When the restarts of late happened. */
  #restarts: number[] = [];
  #lastLife = 0;
  #killAt = Infinity;
  #hasEnded = false;
  #now = 0;
  #effects: SupervisionEffect[] = [];

  constructor(options: SupervisionOptions) {
    this.#strategy = options.strategy;
    this.#intensity = options.intensity;
    for (const rules of options.children) this.#insert(rules);
  }

  /** The children, in the order of their start. */
  children(): { id: string; restart: Restart; status: ChildStatus; life: number }[] {
    return [...this.#children.values()].map(({ rules: { id, restart }, status, life }) => {
      return { id, restart, status, life };
    });
  }

  /** When `tick` is wanted. */
  wakeAt(): number {
    return this.#killAt;
  }

  /** Takes one event. */
  handle(event: SupervisionEvent, now: number): SupervisionEffect[] {
    this.#now = now;
    if (!this.#hasEnded) this.#take(event);
    const effects = this.#effects;
    this.#effects = [];
    return effects;
  }

  #take(event: SupervisionEvent): void {
    switch (event.type) {
      case "begin":
        this.#begin([], [...this.#children.keys()], {
          done: () => this.#effects.push({ type: "ready" }),
          failed: ({ rules: { id } }, reason) => this.#end("shutdown", { id, reason }),
        });
        break;
      case "add":
      case "remove":
      case "stop":
        this.#tasks.push(event);
        break;
      case "started":
        this.#started(event.life);
        break;
      case "failed":
        this.#failed(event.life, event.reason);
        break;
      case "ended":
        this.#ended(event.life, event.reason);
        break;
      case "tick":
        this.#tick();
    }
    this.#advance();
  }

  // ---- what happens to children

  #started(life: number): void {
    const child = this.#byLife.get(life);
    if (child?.status !== "starting") return;
    child.status = "running";
    if (this.#plan?.current === child) this.#plan.current = undefined;
    const { early } = child;
    child.early = undefined;
    if (early !== undefined) this.#ended(life, early.reason);
  }

  #failed(life: number, reason: unknown): void {
    const child = this.#byLife.get(life);
    if (child?.status !== "starting") return;
    this.#rest(child);
    const plan = this.#plan;
    if (plan?.current !== child) return;
    this.#plan = undefined;
    plan.failed(child, reason);
  }

  #ended(life: number, reason: ExitReason): void {
    const child = this.#byLife.get(life);
    if (child === undefined) return;
    if (child.status === "starting") {
      child.early = { reason };
      return;
    }
    const wasStopping = child.status === "stopping";
    this.#rest(child);
    if (!wasStopping) {
      this.#tasks.push({ type: "ended", id: child.rules.id, life, reason });
    } else if (this.#plan?.current === child) this.#stopped(this.#plan, child);
  }

  #tick(): void {
    if (this.#now < this.#killAt) return;
    this.#killAt = Infinity;
    const child = this.#plan?.current;
    if (child?.status === "stopping") this.#signal(child, "kill");
  }

  // It does not run any more.
  #rest(child: Child): void {
    this.#byLife.delete(child.life);
    child.status = "waiting";
    child.early = undefined;
  }

  // ---- one operation after the other

  #advance(): void {
    while (!this.#hasEnded) {
      if (this.#plan !== undefined) {
        if (!this.#step(this.#plan)) return;
        continue;
      }
      const task = this.#tasks.shift();
      if (task === undefined) return;
      this.#run(task);
    }
  }

  #begin(
    stops: string[],
    starts: string[],
    { forgets = () => false, done = () => {}, failed = () => {} }: Partial<
      Pick<Plan, "forgets" | "done" | "failed">
    >,
  ): void {
    this.#plan = { stops, starts, forgets, done, failed, current: undefined };
  }

  // False while it has to wait for a child.
  #step(plan: Plan): boolean {
    if (plan.current !== undefined) return false;
    const stop = plan.stops.shift();
    if (stop !== undefined) {
      const child = this.#children.get(stop);
      if (child === undefined) return true;
      if (child.status === "running") {
        plan.current = child;
        child.status = "stopping";
        this.#shutDown(child);
      } else this.#stopped(plan, child);
      return true;
    }
    const start = plan.starts.shift();
    if (start !== undefined) {
      const child = this.#children.get(start);
      if (child === undefined) return true;
      plan.current = child;
      child.status = "starting";
      child.life = ++this.#lastLife;
      this.#byLife.set(child.life, child);
      this.#effects.push({ type: "start", id: start, life: child.life });
      return true;
    }
    this.#plan = undefined;
    plan.done();
    return true;
  }

  #shutDown(child: Child): void {
    const { shutdownMs } = child.rules;
    this.#killAt = shutdownMs === 0 ? Infinity : this.#now + shutdownMs;
    this.#signal(child, shutdownMs === 0 ? "kill" : "shutdown");
  }

  #signal(child: Child, reason: "shutdown" | "kill"): void {
    this.#effects.push({ type: "signal", life: child.life, reason });
  }

  #stopped(plan: Plan, child: Child): void {
    plan.current = undefined;
    this.#killAt = Infinity;
    // Word of its end may wait in line: it says nothing new.
    child.life = 0;
    if (plan.forgets(child)) this.#forget(child.rules.id);
  }

  #run(task: Task): void {
    switch (task.type) {
      case "add":
        return this.#add(task.child, task.request);
      case "remove":
        return this.#remove(task.id, task.request);
      case "ended":
        return this.#afterEnd(task.id, task.life, task.reason);
      case "stop":
        return this.#end(task.reason);
    }
  }

  #add(rules: ChildRules, request: number): void {
    const { id } = rules;
    if (this.#children.has(id)) {
      this.#effects.push({ type: "refused", request, why: "exists" });
      return;
    }
    this.#insert(rules);
    this.#begin([], [id], {
      done: () => this.#effects.push({ type: "added", request }),
      failed: (_child, reason) => {
        this.#forget(id);
        this.#effects.push({ type: "refused", request, why: "failed", reason });
      },
    });
  }

  #remove(id: string, request: number): void {
    if (!this.#children.has(id)) {
      this.#effects.push({ type: "refused", request, why: "missing" });
      return;
    }
    this.#begin([id], [], {
      forgets: () => true,
      done: () => this.#effects.push({ type: "removed", request }),
    });
  }

  #end(
    reason: ExitReason,
    failed?: { readonly id: string; readonly reason: unknown },
  ): void {
    this.#begin([...this.#children.keys()].reverse(), [], {
      done: () => {
        this.#hasEnded = true;
        this.#effects.push({ type: "end", reason, ...(failed === undefined ? {} : { failed }) });
      },
    });
  }

  // ---- restarts

  #afterEnd(id: string, life: number, reason: ExitReason): void {
    const child = this.#children.get(id);
    // It was stopped, forgotten or started again since.
    if (child?.life !== life || child.status !== "waiting") return;
    const { restart } = child.rules;
    if (restart === "temporary") return this.#forget(id);
    if (restart === "transient" && (reason === "normal" || reason === "shutdown")) return;
    this.#restarts = this.#restarts.filter((at) => this.#now - at < this.#intensity.withinMs);
    this.#restarts.push(this.#now);
    if (this.#restarts.length > this.#intensity.restarts) {
      this.#effects.push({ type: "gaveUp", id, reason });
      return this.#end("shutdown");
    }
    this.#effects.push({ type: "restart", id, reason });
    const { stops, starts } = this.#group(id);
    this.#begin(stops, starts, {
      forgets: ({ rules }) => rules.restart === "temporary",
      // As in OTP it is tried again, and counts again: what never starts ends the supervisor.
      failed: ({ rules, life: last }, why) => {
        this.#tasks.push({ type: "ended", id: rules.id, life: last, reason: why });
      },
    });
  }

  #group(id: string): { stops: string[]; starts: string[] } {
    const ids = [...this.#children.keys()];
    const isKept = (one: string) => this.#children.get(one)?.rules.restart !== "temporary";
    switch (this.#strategy) {
      case "oneForOne":
        return { stops: [], starts: [id] };
      case "oneForAll":
        return { stops: ids.toReversed(), starts: ids.filter(isKept) };
      case "restForOne": {
        const rest = ids.slice(ids.indexOf(id) + 1);
        return { stops: rest.toReversed(), starts: [id, ...rest.filter(isKept)] };
      }
    }
  }

  #insert(rules: ChildRules): void {
    this.#children.set(rules.id, { rules, status: "waiting", life: 0, early: undefined });
  }

  #forget(id: string): void {
    this.#children.delete(id);
    this.#effects.push({ type: "forget", id });
  }
}
