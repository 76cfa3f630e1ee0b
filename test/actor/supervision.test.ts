import assert from "node:assert/strict";
import fc from "fast-check";
import { Supervision } from "../../src/actor/supervision.ts";
import type {
  ChildRules,
  Restart,
  Strategy,
  SupervisionEffect,
  SupervisionEvent,
} from "../../src/actor/supervision.ts";
import { describe, test } from "../harness.ts";

const rules = (id: string, restart: Restart = "permanent", shutdownMs = 100): ChildRules => ({
  id,
  restart,
  shutdownMs,
});
const CALM = { restarts: 1_000_000, withinMs: 1 };

/** What one machine does, with children that obey it when they are told to. */
class Stage {
  readonly machine: Supervision;
  now = 0;
  readonly log: string[] = [];
  /** Lives of the children that run, by id. */
  readonly running = new Map<string, number>();
  readonly #idOf = new Map<number, string>();
  /** What the next start of a child does; it runs when there is nothing here. */
  readonly failing = new Set<string>();
  end: (SupervisionEffect & { type: "end" }) | undefined;
  /** Answers start and stop by itself. */
  readonly #isPrompt: boolean;

  constructor(
    children: readonly ChildRules[],
    strategy: Strategy,
    intensity = CALM,
    isPrompt = true,
  ) {
    this.machine = new Supervision({ strategy, intensity, children });
    this.#isPrompt = isPrompt;
  }

  handle(event: SupervisionEvent): SupervisionEffect[] {
    const effects = this.machine.handle(event, this.now);
    for (const effect of effects) this.#perform(effect);
    return effects;
  }

  #perform(effect: SupervisionEffect): void {
    if (effect.type === "start") {
      assert.ok(!this.running.has(effect.id), `two lives of ${effect.id}`);
      this.#idOf.set(effect.life, effect.id);
      if (this.#isPrompt) this.start(effect.id, effect.life);
    } else if (effect.type === "signal") {
      const id = this.#idOf.get(effect.life) as string;
      assert.equal(this.running.get(id), effect.life, `${id} is told to stop and does not run`);
      if (this.#isPrompt) this.stop(id);
    } else if (effect.type === "end") {
      assert.equal(this.running.size, 0, "children outlive the supervisor");
      this.end = effect;
    }
  }

  start(id: string, life: number): void {
    if (this.failing.delete(id)) {
      this.log.push(`!${id}`);
      this.handle({ type: "failed", life, reason: "no start" });
    } else {
      this.log.push(`+${id}`);
      this.running.set(id, life);
      this.handle({ type: "started", life });
    }
  }

  stop(id: string): void {
    this.log.push(`-${id}`);
    this.crash(id, "shutdown");
  }

  crash(id: string, reason: string): void {
    const life = this.running.get(id);
    if (life === undefined) return;
    this.running.delete(id);
    this.handle({ type: "ended", life, reason });
  }

  /** What happened since it was asked last. */
  story(): string {
    return this.log.splice(0).join(" ");
  }
}

describe("a supervisor decides", () => {
  test("which children an end takes along, and stops in reverse order", () => {
    const abcd = ["a", "b", "c", "d"].map((id) => rules(id));
    for (
      const [strategy, story] of [
        ["oneForOne", "+b"],
        ["oneForAll", "-d -c -a +a +b +c +d"],
        ["restForOne", "-d -c +b +c +d"],
      ] as const
    ) {
      const stage = new Stage(abcd, strategy);
      stage.handle({ type: "begin" });
      assert.equal(stage.story(), "+a +b +c +d");
      stage.crash("b", "boom");
      assert.equal(stage.story(), story);
      stage.handle({ type: "stop", reason: "normal" });
      assert.equal(stage.story(), "-d -c -b -a");
      assert.equal(stage.end?.reason, "normal");
    }
  });

  test("which ends bring a child back", () => {
    const again = (restart: Restart, reason: string) => {
      const stage = new Stage([rules("a", restart)], "oneForOne");
      stage.handle({ type: "begin" });
      stage.crash("a", reason);
      return [stage.story(), stage.machine.children().map(({ status }) => status).join()];
    };
    const back = ["+a +a", "running"];
    const waits = ["+a", "waiting"];
    const gone = ["+a", ""];
    for (const reason of ["normal", "shutdown", "killed", "boom"]) {
      const isOrderly = reason === "normal" || reason === "shutdown";
      assert.deepEqual(again("permanent", reason), back);
      assert.deepEqual(again("transient", reason), isOrderly ? waits : back);
      assert.deepEqual(again("temporary", reason), gone);
    }
  });

  test("to give up when a child ends too often within the time, and not before", () => {
    const stage = new Stage([rules("a"), rules("b")], "oneForOne", { restarts: 3, withinMs: 100 });
    stage.handle({ type: "begin" });
    for (let i = 0; i < 20; i++) {
      stage.now += 40;
      stage.crash("a", "boom");
    }
    assert.equal(stage.end === undefined, true);
    stage.story();
    stage.crash("b", "boom");
    assert.equal(stage.story(), "-a");
    assert.equal(stage.end?.reason, "shutdown");
  });

  test("to try a restart that fails again, until that is too often", () => {
    const stage = new Stage([rules("a"), rules("b")], "restForOne", { restarts: 2, withinMs: 9 });
    stage.handle({ type: "begin" });
    stage.failing.add("b");
    stage.crash("a", "boom");
    assert.equal(stage.story(), "+a +b -b +a !b +b");
    stage.failing.add("a");
    stage.crash("a", "boom");
    assert.equal(stage.story(), "-b");
    assert.equal(stage.end?.reason, "shutdown");
  });

  test("to stop those that had started when one of the first does not start", () => {
    const stage = new Stage(["a", "b", "c", "d"].map((id) => rules(id)), "oneForOne");
    stage.failing.add("c");
    stage.handle({ type: "begin" });
    assert.equal(stage.story(), "+a +b !c -b -a");
    assert.deepEqual(stage.end?.failed, { id: "c", reason: "no start" });
  });

  test("to kill who does not shut down in time, and only then", () => {
    const stage = new Stage([rules("a"), rules("b", "permanent", 0)], "oneForOne", CALM, false);
    stage.handle({ type: "begin" });
    for (const id of ["a", "b"]) stage.start(id, id === "a" ? 1 : 2);
    const signals = (effects: SupervisionEffect[]) =>
      effects.flatMap((effect) => effect.type === "signal" ? [effect.reason] : []);
    assert.deepEqual(signals(stage.handle({ type: "stop", reason: "x" })), ["kill"]);
    assert.equal(stage.machine.wakeAt(), Infinity);
    stage.now = 50;
    stage.crash("b", "killed");
    assert.equal(stage.machine.wakeAt(), 150);
    stage.now = 149;
    assert.deepEqual(signals(stage.handle({ type: "tick" })), []);
    stage.now = 150;
    assert.deepEqual(signals(stage.handle({ type: "tick" })), ["kill"]);
    assert.equal(stage.end === undefined, true);
    stage.crash("a", "killed");
    assert.equal(stage.end?.reason, "x");
  });

  test("about children that come and go later", () => {
    const stage = new Stage([rules("a")], "restForOne");
    stage.handle({ type: "begin" });
    const add = (id: string, request: number) =>
      stage.handle({ type: "add", child: rules(id), request });
    add("b", 1);
    stage.failing.add("c");
    add("c", 2);
    add("c", 3);
    add("a", 4);
    assert.equal(stage.story(), "+a +b !c +c");
    stage.handle({ type: "remove", id: "b", request: 5 });
    stage.handle({ type: "remove", id: "b", request: 6 });
    stage.crash("a", "boom");
    assert.equal(stage.story(), "-b -c +a +c");
  });
});

// ---- against a model -----------------------------------------------------------------------

/** The rules once more, without time, requests or anything under way: what must be done, in order. */
class Model {
  readonly log: string[] = [];
  children: { id: string; restart: Restart; runs: boolean }[];
  readonly #strategy: Strategy;

  constructor(children: readonly ChildRules[], strategy: Strategy) {
    this.children = children.map(({ id, restart }) => ({ id, restart, runs: true }));
    this.#strategy = strategy;
  }

  crash(id: string, reason: string): void {
    const index = this.children.findIndex((child) => child.id === id);
    const child = this.children[index];
    if (child === undefined || !child.runs) return;
    child.runs = false;
    const isOrderly = reason === "normal" || reason === "shutdown";
    if (child.restart === "temporary") this.children.splice(index, 1);
    if (child.restart === "temporary" || (child.restart === "transient" && isOrderly)) return;
    const from = { oneForOne: index, oneForAll: 0, restForOne: index }[this.#strategy];
    const to = this.#strategy === "oneForOne" ? index + 1 : this.children.length;
    const group = this.children.slice(from, to);
    for (const one of group.toReversed()) if (one.runs) this.#stop(one);
    this.children = this.children.filter((one) =>
      !group.includes(one) || one.restart !== "temporary"
    );
    for (const one of group) {
      if (one.restart === "temporary") continue;
      one.runs = true;
      this.log.push(`+${one.id}`);
    }
  }

  remove(id: string): void {
    const child = this.children.find((one) => one.id === id);
    if (child?.runs) this.#stop(child);
    this.children = this.children.filter((one) => one !== child);
  }

  add({ id, restart }: ChildRules): void {
    if (this.children.some((child) => child.id === id)) return;
    this.children.push({ id, restart, runs: true });
    this.log.push(`+${id}`);
  }

  #stop(child: { id: string; runs: boolean }): void {
    child.runs = false;
    this.log.push(`-${child.id}`);
  }
}

const strategies = fc.constantFrom<Strategy>("oneForOne", "oneForAll", "restForOne");
const restarts = fc.constantFrom<Restart>("permanent", "transient", "temporary");
const reasons = fc.constantFrom("normal", "shutdown", "killed", "boom");
const ids = fc.constantFrom("a", "b", "c", "d", "e", "f");
const initial = fc.uniqueArray(fc.record({ id: ids, restart: restarts }), {
  selector: ({ id }) => id,
});

describe("whatever happens to children, a supervisor", () => {
  test("starts and stops exactly those that OTP would, in the same order", () => {
    const step = fc.oneof(
      fc.record({ type: fc.constant("crash" as const), id: ids, reason: reasons }),
      fc.record({ type: fc.constant("add" as const), id: ids, restart: restarts }),
      fc.record({ type: fc.constant("remove" as const), id: ids }),
    );
    fc.assert(
      fc.property(initial, strategies, fc.array(step, { maxLength: 30 }), (first, how, steps) => {
        const children = first.map(({ id, restart }) => rules(id, restart));
        const stage = new Stage(children, how);
        const model = new Model(children, how);
        stage.handle({ type: "begin" });
        stage.story();
        for (const [request, one] of steps.entries()) {
          if (one.type === "crash") {
            stage.crash(one.id, one.reason);
            model.crash(one.id, one.reason);
          } else if (one.type === "add") {
            const child = rules(one.id, one.restart);
            stage.handle({ type: "add", child, request });
            model.add(child);
          } else {
            stage.handle({ type: "remove", id: one.id, request });
            model.remove(one.id);
          }
          assert.equal(stage.story(), model.log.splice(0).join(" "));
          assert.deepEqual(
            stage.machine.children().map(({ id, status }) => [id, status === "running"]),
            model.children.map(({ id, runs }) => [id, runs]),
          );
        }
      }),
      { numRuns: 500 },
    );
  });

  test("never runs two lives of a child, answers each request once and leaves nobody behind", () => {
    // Starts, ends and deadlines come whenever they like.
    const step = fc.oneof(
      fc.record({ type: fc.constant("world" as const), pick: fc.nat(), fails: fc.boolean() }),
      fc.record({ type: fc.constant("crash" as const), id: ids, reason: reasons }),
      fc.record({ type: fc.constant("add" as const), id: ids, restart: restarts }),
      fc.record({ type: fc.constant("remove" as const), id: ids }),
      fc.record({ type: fc.constant("time" as const), ms: fc.integer({ min: 1, max: 200 }) }),
    );
    fc.assert(
      fc.property(initial, strategies, fc.array(step, { maxLength: 60 }), (first, how, steps) => {
        const children = first.map(({ id, restart }) => rules(id, restart));
        const stage = new Stage(children, how, { restarts: 5, withinMs: 500 }, false);
        const asked = new Set<number>();
        const answered: number[] = [];
        const starting = new Map<number, string>();
        const stopping = new Set<string>();
        const take = (effects: SupervisionEffect[]) => {
          for (const effect of effects) {
            if (effect.type === "start") starting.set(effect.life, effect.id);
            if (effect.type === "signal") {
              const [id] = [...stage.running].find(([, life]) => life === effect.life) ?? [];
              stopping.add(id as string);
            }
            if ("request" in effect) answered.push(effect.request);
          }
        };
        // The stage's own handling reports here, too.
        const handle = stage.machine.handle.bind(stage.machine);
        stage.machine.handle = (event, now) => {
          const effects = handle(event, now);
          queue.push(effects);
          return effects;
        };
        const queue: SupervisionEffect[][] = [];
        const drain = () => {
          for (const effects of queue.splice(0)) take(effects);
        };
        const world = (pick: number, fails: boolean) => {
          const choices = [...starting.keys(), ...stopping];
          const choice = choices[pick % Math.max(1, choices.length)];
          if (typeof choice === "number") {
            const id = starting.get(choice) as string;
            starting.delete(choice);
            if (fails) stage.failing.add(id);
            stage.start(id, choice);
          } else if (choice !== undefined) {
            stopping.delete(choice);
            stage.crash(choice, "shutdown");
          }
          drain();
        };
        stage.handle({ type: "begin" });
        drain();
        for (const [request, one] of steps.entries()) {
          if (one.type === "world") world(one.pick, one.fails);
          else if (one.type === "crash") {
            stopping.delete(one.id);
            stage.crash(one.id, one.reason);
          } else if (one.type === "time") {
            stage.now += one.ms;
            stage.handle({ type: "tick" });
          } else if (stage.end === undefined) {
            asked.add(request);
            stage.handle(
              one.type === "add"
                ? { type: "add", child: rules(one.id, one.restart), request }
                : { type: "remove", id: one.id, request },
            );
          }
          drain();
        }
        stage.handle({ type: "stop", reason: "normal" });
        drain();
        for (let i = 0; stage.end === undefined && i < 500; i++) world(0, false);
        assert.ok(stage.end !== undefined, "it never ends");
        assert.equal(stage.running.size, 0);
        assert.equal(new Set(answered).size, answered.length, "a request was answered twice");
        if (stage.end.reason === "normal") {
          assert.deepEqual(answered.toSorted((x, y) => x - y), [...asked]);
        }
      }),
      { numRuns: 500 },
    );
  });
});
