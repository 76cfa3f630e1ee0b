/**
 * OTP's rules for signals between processes, one row each: the same words as in docs/actors.md,
 * and a play that shows it. A row runs between two processes of one node, of two nodes, and of two
 * nodes of a simulation.
 */
import assert from "node:assert/strict";
import { Down, Exit, NodeDown, TimeoutError } from "../../mod.ts";
import { Pid } from "../../mod.ts";
import type { Behaviour, ExitReason, Node, Self } from "../../mod.ts";

/** Where a row is played. */
export interface Stage {
  /** The node of the one who tells the story. */
  readonly here: Node;
  /** The node of the other one. */
  readonly there: Node;
  /** Breaks the connection between the two. Nothing on one node. */
  readonly cut: (() => Promise<void>) | undefined;
  /** Moves the connection between the two to a new one. */
  readonly migrate: (() => Promise<void>) | undefined;
  /** Gives the node of the other one a new life. */
  readonly reborn: (() => Promise<Node>) | undefined;
}

/** One rule. */
export interface Rule {
  readonly when: string;
  readonly then: string;
  /** Needs two nodes. */
  readonly needs?: "cut" | "migrate" | "reborn";
  play(self: Self<unknown>, stage: Stage, other: Other): Promise<void>;
}

/** Makes the other process. */
export interface Other {
  /** Does what it is told: `{ exit }`, `{ fail }`, "end". */
  spawn(options?: { trap?: boolean; name?: string }): Pid;
  /** All that any of them got. */
  readonly got: unknown[];
}

/** The behaviour of the other process. */
export function obedient(got: unknown[], trap: boolean): Behaviour<unknown> {
  return async (self) => {
    self.trapExit = trap;
    for await (const message of self.mailbox) {
      got.push(message);
      if (message === "end") return;
      if (message === "ping") continue;
      if (typeof message === "object" && message !== null) {
        if ("exit" in message) self.exit(message.exit);
        if ("fail" in message) throw new RangeError(String(message.fail));
        if ("answer" in message) void (message.answer as Pid).send("pong");
        if ("tell" in message) { for (let i = 0; i < 10; i++) void (message.tell as Pid).send(i); }
        if ("tell" in message) return;
      }
    }
  };
}

const IN_TIME = { timeoutMs: 30_000 };

async function down(self: Self<unknown>): Promise<ExitReason> {
  const message = await self.receive(IN_TIME);
  assert.ok(message instanceof Down, `a Down, not ${String(message)}`);
  return message.reason;
}

async function exit(self: Self<unknown>, from?: Pid): Promise<ExitReason> {
  const message = await self.receive(IN_TIME);
  assert.ok(message instanceof Exit, `an Exit, not ${String(message)}`);
  if (from !== undefined) assert.ok(message.from.equals(from));
  return message.reason;
}

async function silence(self: Self<unknown>): Promise<void> {
  await assert.rejects(self.receive({ timeoutMs: 60 }), TimeoutError);
}

/** Waits until the other process has handled everything that was sent to it before. */
async function settled(self: Self<unknown>, { here }: Stage, pid: Pid): Promise<void> {
  void here.send(pid, { answer: self.pid });
  await self.receive((message) => message === "pong" || undefined, IN_TIME);
}

export const RULES: readonly Rule[] = [
  // ---- exit signals
  {
    when: "`exit(pid, reason)`, not trapped",
    then: "it ends with that reason",
    async play(self, { here }, other) {
      const pid = other.spawn();
      self.monitor(pid);
      here.exit(pid, { why: ["because"] });
      assert.deepEqual(await down(self), { why: ["because"] });
    },
  },
  {
    when: '`exit(pid, "normal")`, not trapped',
    then: "nothing",
    async play(self, stage, other) {
      const pid = other.spawn();
      self.monitor(pid);
      stage.here.exit(pid, "normal");
      await settled(self, stage, pid);
      await silence(self);
    },
  },
  {
    when: '`exit(pid, reason)`, trapped, also `"normal"`',
    then: "it gets `Exit`",
    async play(self, stage, other) {
      const pid = other.spawn({ trap: true });
      await settled(self, stage, pid);
      for (const reason of ["boom", "normal"]) stage.here.exit(pid, reason);
      await settled(self, stage, pid);
      const reasons = other.got.flatMap((got) => got instanceof Exit ? [got.reason] : []);
      assert.deepEqual(reasons, ["boom", "normal"]);
    },
  },
  {
    when: '`exit(pid, "kill")`, trapped or not',
    then: 'it ends with `"killed"`',
    async play(self, stage, other) {
      for (const trap of [false, true]) {
        const pid = other.spawn({ trap });
        await settled(self, stage, pid);
        self.monitor(pid);
        stage.here.exit(pid, "kill");
        assert.equal(await down(self), "killed");
      }
    },
  },
  {
    when: "a message or exit signal to a process that has ended",
    then: "nothing",
    async play(self, { here }, other) {
      const pid = other.spawn();
      self.monitor(pid);
      here.exit(pid, "kill");
      await down(self);
      here.exit(pid, "boom");
      void here.send(pid, "hello");
      await silence(self);
    },
  },
  // ---- how a process ends
  {
    when: "its function returns",
    then: 'it ended with `"normal"`',
    async play(self, { here }, other) {
      const pid = other.spawn();
      self.monitor(pid);
      void here.send(pid, "end");
      assert.equal(await down(self), "normal");
    },
  },
  {
    when: "its function throws",
    then: "it ended with the error",
    async play(self, { here }, other) {
      const pid = other.spawn();
      self.monitor(pid);
      void here.send(pid, { fail: "on purpose" });
      const reason = await down(self);
      assert.ok(reason instanceof RangeError);
      assert.equal(reason.message, "on purpose");
    },
  },
  {
    when: "`self.exit(reason)`",
    then: "it ended with that reason",
    async play(self, { here }, other) {
      const pid = other.spawn();
      self.monitor(pid);
      void here.send(pid, { exit: "enough" });
      assert.equal(await down(self), "enough");
    },
  },
  {
    when: "a process ends, for whatever reason",
    then: "its name is free",
    async play(self, { there }, other) {
      for (const reason of ["kill", "boom"]) {
        self.monitor(other.spawn({ name: "the one" }));
        there.exit(other.spawn({ name: "another" }), "kill");
        there.exit(there.spawn(() => {}), reason);
        assert.throws(() => other.spawn({ name: "the one" }), /taken/);
        void there.send("the one", { exit: reason });
        await down(self);
      }
      there.exit(other.spawn({ name: "the one" }), "kill");
    },
  },
  // ---- links
  {
    when: "a linked process ends, not trapped",
    then: "the other ends with the same reason",
    async play(self, { here }, other) {
      const pid = other.spawn();
      const linked = here.spawn(async (inner) => {
        inner.link(pid);
        await inner.receive();
      });
      self.monitor(linked);
      void here.send(pid, { exit: "boom" });
      assert.equal(await down(self), "boom");
    },
  },
  {
    when: 'a linked process ends with `"normal"`, not trapped',
    then: "the other lives on, unlinked",
    async play(self, stage, other) {
      const { here } = stage;
      const pid = other.spawn();
      const linked = here.spawn(async (inner) => {
        inner.link(pid);
        for await (const message of inner.mailbox) {
          void (message as { answer: Pid }).answer.send("pong");
        }
      });
      self.monitor(pid);
      await settled(self, stage, linked);
      void here.send(pid, "end");
      assert.equal(await down(self), "normal");
      await settled(self, stage, linked);
    },
  },
  {
    when: "a linked process ends, trapped",
    then: "the other gets `Exit`, once",
    async play(self, { here }, other) {
      self.trapExit = true;
      for (const reason of ["boom", "normal"]) {
        const pid = other.spawn();
        self.link(pid);
        self.link(pid);
        void here.send(pid, { exit: reason });
        assert.equal(await exit(self, pid), reason);
      }
      await silence(self);
    },
  },
  {
    when: "a linked process is killed",
    then: 'the other gets `"killed"`, which can be trapped',
    async play(self, { here }, other) {
      self.trapExit = true;
      const pid = other.spawn();
      self.link(pid);
      here.exit(pid, "kill");
      assert.equal(await exit(self, pid), "killed");
    },
  },
  {
    when: 'a linked process ends itself with `"kill"`',
    then: 'the other gets `"kill"`, which can be trapped',
    async play(self, { here }, other) {
      self.trapExit = true;
      const pid = other.spawn();
      self.link(pid);
      void here.send(pid, { exit: "kill" });
      assert.equal(await exit(self, pid), "kill");
    },
  },
  {
    when: "linking makes both sides equal",
    then: "the end of who linked reaches the other",
    async play(self, stage, other) {
      const { here } = stage;
      const pid = other.spawn({ trap: true });
      await settled(self, stage, pid);
      const linker = here.spawn((inner) => {
        inner.link(pid);
        inner.exit("over");
      });
      self.monitor(linker);
      await down(self);
      await settled(self, stage, pid);
      const exits = other.got.filter((got): got is Exit => got instanceof Exit);
      assert.deepEqual(exits.map(({ reason }) => reason), ["over"]);
      assert.ok(exits[0]?.from.equals(linker));
    },
  },
  {
    when: "linking a process that has ended",
    then: 'the exit signal `"noproc"`',
    async play(self, { here }, other) {
      self.trapExit = true;
      const pid = other.spawn();
      self.monitor(pid);
      here.exit(pid, "kill");
      await down(self);
      self.link(pid);
      assert.equal(await exit(self, pid), "noproc");
    },
  },
  {
    when: "`unlink`",
    then: "no exit signal of that link any more, not even one on its way",
    async play(self, stage, other) {
      const { here, there } = stage;
      self.trapExit = true;
      const calm = other.spawn();
      self.link(calm);
      void here.send(calm, { exit: "boom" });
      self.unlink(calm);
      await silence(self);
      const pid = other.spawn();
      self.link(pid);
      await settled(self, stage, pid);
      const ended = Promise.withResolvers<void>();
      there.spawn(async (witness) => {
        witness.monitor(pid);
        there.exit(pid, "boom");
        await witness.receive();
        // Where it came from another node, its signal is on its way now.
        self.unlink(pid);
        ended.resolve();
      });
      await ended.promise;
      if (here === there) assert.equal(await exit(self, pid), "boom");
      await silence(self);
    },
  },
  {
    when: "`unlink` and `link` again",
    then: "linked, on both sides",
    async play(self, stage, other) {
      self.trapExit = true;
      const pid = other.spawn();
      for (let i = 0; i < 3; i++) {
        self.link(pid);
        self.unlink(pid);
      }
      self.link(pid);
      await settled(self, stage, pid);
      void stage.here.send(pid, { exit: "boom" });
      assert.equal(await exit(self, pid), "boom");
      await silence(self);
    },
  },
  // ---- monitors
  {
    when: "a monitored process ends, also normally",
    then: "`Down`, once for each monitor",
    async play(self, { here }, other) {
      const pid = other.spawn();
      const refs = [self.monitor(pid), self.monitor(pid)];
      void here.send(pid, "end");
      for (const _ of refs) {
        const message = await self.receive(IN_TIME);
        assert.ok(message instanceof Down && message.reason === "normal");
        assert.ok((message.target as Pid).equals(pid));
        refs.splice(refs.findIndex((ref) => ref.equals(message.ref)), 1, message.ref);
      }
      assert.ok(!refs[0]?.equals(refs[1]));
      await silence(self);
    },
  },
  {
    when: "monitoring a process or a name that is not there",
    then: '`Down` with `"noproc"`',
    async play(self, { here }, other) {
      const pid = other.spawn();
      self.monitor(pid);
      here.exit(pid, "kill");
      await down(self);
      self.monitor(pid);
      assert.equal(await down(self), "noproc");
      const ref = self.monitor("nobody");
      const message = await self.receive(IN_TIME);
      assert.ok(message instanceof Down && message.ref.equals(ref));
      assert.deepEqual([message.target, message.reason], ["nobody", "noproc"]);
    },
  },
  {
    when: "the watching process ends",
    then: "nothing",
    async play(self, stage, other) {
      const { here } = stage;
      const pid = other.spawn({ trap: true });
      const watcher = here.spawn((inner) => void inner.monitor(pid));
      self.monitor(watcher);
      await down(self);
      await settled(self, stage, pid);
      assert.ok(!other.got.some((got) => got instanceof Exit || got instanceof Down));
    },
  },
  {
    when: "`demonitor`, with `flush`",
    then: "no `Down` any more; none that had come stays",
    async play(self, { here }, other) {
      const pid = other.spawn();
      const [first, second, third] = [self.monitor(pid), self.monitor(pid), self.monitor(pid)];
      self.demonitor(first);
      void here.send(pid, "end");
      const message = await self.receive(
        (got) => got instanceof Down && got.ref.equals(third) ? got : undefined,
        IN_TIME,
      );
      assert.equal(message.reason, "normal");
      self.demonitor(second, { flush: true });
      await silence(self);
    },
  },
  {
    when: "a process sends, and then ends",
    then: "its messages come before its `Down` and `Exit`",
    async play(self, { here }, other) {
      self.trapExit = true;
      const pid = other.spawn();
      self.monitor(pid);
      self.link(pid);
      void here.send(pid, { tell: self.pid });
      for (let i = 0; i < 10; i++) assert.equal(await self.receive(IN_TIME), i);
      const last = [await self.receive(IN_TIME), await self.receive(IN_TIME)];
      assert.ok(last.some((got) => got instanceof Down) && last.some((got) => got instanceof Exit));
    },
  },
  // ---- nodes
  {
    when: "the connection is lost",
    then: 'monitors and links across it get `"noconnection"`, once, on both sides',
    needs: "cut",
    async play(self, stage, other) {
      self.trapExit = true;
      const pid = other.spawn({ trap: true });
      self.monitor(pid);
      self.link(pid);
      await settled(self, stage, pid);
      await stage.cut?.();
      const told = [await self.receive(IN_TIME), await self.receive(IN_TIME)];
      for (const kind of [Down, Exit]) {
        const message = told.find((got) => got instanceof kind) as Down | Exit;
        assert.equal(message?.reason, "noconnection");
      }
      while (!other.got.some((got) => got instanceof Exit)) {
        await self.receive({ timeoutMs: 20 }).catch(() => {});
      }
      const exits = other.got.filter((got): got is Exit => got instanceof Exit);
      assert.deepEqual(exits.map(({ reason }) => reason), ["noconnection"]);
      await silence(self);
    },
  },
  {
    when: "the connection is handed over to another",
    then: "monitors and links stay as they are",
    needs: "migrate",
    async play(self, stage, other) {
      self.trapExit = true;
      const pid = other.spawn({ trap: true });
      self.monitor(pid);
      self.link(pid);
      await settled(self, stage, pid);
      for (let i = 0; i < 3; i++) {
        await stage.migrate?.();
        await settled(self, stage, pid);
      }
      assert.ok(!other.got.some((got) => got instanceof Exit));
      await silence(self);
      void stage.here.send(pid, { exit: "boom" });
      const told = [await self.receive(IN_TIME), await self.receive(IN_TIME)];
      assert.deepEqual(told.map((got) => (got as Down | Exit).reason), ["boom", "boom"]);
    },
  },
  {
    when: "monitoring or linking a process of a node that cannot be reached",
    then: '`"noconnection"`',
    needs: "cut",
    async play(self, { here, there }) {
      self.trapExit = true;
      const { promise, resolve } = Promise.withResolvers<Pid>();
      // A pid of a node that nobody knows.
      const [name] = there.name.split("@");
      const { life, id } = there.spawn(() => {});
      const pid = new Pid(life.other(`${name}x@nowhere`, life.epoch), id);
      resolve(pid);
      self.monitor(await promise);
      assert.equal(await down(self), "noconnection");
      self.link(pid);
      assert.equal(await exit(self), "noconnection");
      self.monitorNode(`${name}x@nowhere`);
      assert.ok(await self.receive(IN_TIME) instanceof NodeDown);
      self.monitorNode(here.name);
      await silence(self);
    },
  },
  {
    when: "a pid of an earlier life of a node",
    then: '`"noproc"`',
    needs: "reborn",
    async play(self, stage, other) {
      self.trapExit = true;
      const pid = other.spawn();
      self.monitorNode(stage.there.name);
      await settled(self, stage, pid);
      const reborn = await stage.reborn?.() as Node;
      while (!(await self.receive(IN_TIME) instanceof NodeDown));
      const fresh = reborn.spawn(obedient([], false));
      await settled(self, stage, fresh);
      self.monitor(pid);
      assert.equal(await down(self), "noproc");
      self.link(pid);
      assert.equal(await exit(self), "noproc");
      // Those of its life now are not touched by that.
      self.monitor(fresh);
      void stage.here.send(pid, "hello");
      stage.here.exit(pid, "kill");
      await settled(self, stage, fresh);
      stage.here.exit(fresh, "kill");
      assert.equal(await down(self), "killed");
    },
  },
];
