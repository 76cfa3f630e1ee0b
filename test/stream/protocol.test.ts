import assert from "node:assert/strict";
import * as fc from "fast-check";
import { ProtocolError } from "../../src/base/errors.ts";
import { StreamProtocol } from "../../src/stream/protocol.ts";
import type { StreamEffect, StreamEvent } from "../../src/stream/protocol.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { test } from "../harness.ts";

const NOTHING = new Uint8Array(0);

/** Two ends whose frames wait until they are delivered, and what each told its user. */
function conversation() {
  const ends = [new StreamProtocol("opener"), new StreamProtocol("acceptor")] as const;
  const wires: StreamEvent[][] = [[], [
    { type: "frame", frame: FrameType.STREAM_ACCEPTED, body: NOTHING },
  ]];
  const told: string[][] = [[], []];
  const carryOut = (end: 0 | 1, effects: readonly StreamEffect[]) => {
    for (const effect of effects) {
      if (effect.type === "send") wires[end]?.push({ ...effect, type: "frame" });
      else told[end]?.push("reason" in effect ? `${effect.type} ${effect.reason}` : effect.type);
    }
  };
  return {
    ends,
    told,
    act: (end: 0 | 1, event: StreamEvent) => carryOut(end, ends[end].handle(event)),
    write(end: 0 | 1) {
      if (ends[end].isWriteOver) return;
      wires[end]?.push({ type: "frame", frame: FrameType.DATA, body: Uint8Array.of(1) });
    },
    /** Delivers one frame that `end` sent; whether there was one. */
    deliver(end: 0 | 1): boolean {
      const frame = wires[end]?.shift();
      if (frame === undefined) return false;
      const other = end === 0 ? 1 : 0;
      carryOut(other, ends[other].handle(frame));
      return true;
    },
  };
}

test("in whatever order two ends act, neither breaks the protocol, and both come to an end", () => {
  const actions = fc.array(
    fc.tuple(
      fc.constantFrom<0 | 1>(0, 1),
      fc.constantFrom("write", "finish", "reset", "stop", "deliver", "deliver"),
    ),
    { maxLength: 40 },
  );
  fc.assert(
    fc.property(actions, (steps) => {
      const talk = conversation();
      const hasEnded = [false, false];
      talk.deliver(1);
      for (const [end, action] of steps) {
        if (action === "deliver") talk.deliver(end);
        else if (action === "write") {
          if (!hasEnded[end]) talk.write(end);
        } else {
          if (action !== "stop") hasEnded[end] = true;
          talk.act(end, { type: action as "finish" | "reset" | "stop", reason: action });
        }
      }
      for (const end of [0, 1] as const) talk.act(end, { type: "finish" });
      while (talk.deliver(0) || talk.deliver(1));
      for (const end of [0, 1] as const) {
        const told = talk.told[end] as string[];
        assert.equal(told.filter((what) => what === "over").length, 1, told.join());
        assert.equal(told.at(-1), "over");
        assert.ok(talk.ends[end].isReadOver && talk.ends[end].isWriteOver);
        const readEnds = told.filter((what) => what === "readEnd" || what.startsWith("readReset"));
        assert.ok(readEnds.length <= 1);
      }
    }),
    { numRuns: 5_000 },
  );
});

test("each frame out of turn is refused by name", () => {
  const { STREAM_ACCEPTED, STREAM_FINISH, STREAM_FINISH_ACK, STREAM_RESET, STREAM_STOP, DATA } =
    FrameType;
  const one = Uint8Array.of(1);
  const cases: [string, "opener" | "acceptor", [number, Uint8Array<ArrayBuffer>][]][] = [
    ["bytes before ACCEPTED", "opener", [[DATA, one]]],
    ["accepted twice", "opener", [[STREAM_ACCEPTED, NOTHING], [STREAM_ACCEPTED, NOTHING]]],
    ["accepted by its opener", "acceptor", [[STREAM_ACCEPTED, NOTHING]]],
    ["no bytes", "acceptor", [[DATA, NOTHING]]],
    ["bytes behind the end", "acceptor", [[STREAM_FINISH, NOTHING], [DATA, one]]],
    ["two ends", "acceptor", [[STREAM_FINISH, NOTHING], [STREAM_RESET, NOTHING]]],
    ["an answer to nothing", "acceptor", [[STREAM_FINISH_ACK, NOTHING]]],
    ["two stops", "acceptor", [[STREAM_STOP, NOTHING], [STREAM_STOP, NOTHING]]],
    ["a long reason", "acceptor", [[STREAM_RESET, new Uint8Array(1_025)]]],
    ["a body where none belongs", "acceptor", [[STREAM_FINISH, one]]],
    ["a frame of another room", "acceptor", [[FrameType.SEND, one]]],
  ];
  for (const [what, role, frames] of cases) {
    const machine = new StreamProtocol(role);
    const last = frames.pop() as [number, Uint8Array<ArrayBuffer>];
    for (const [frame, body] of frames) machine.handle({ type: "frame", frame, body });
    assert.throws(
      () => machine.handle({ type: "frame", frame: last[0], body: last[1] }),
      (error) => error instanceof ProtocolError && error.reason === "bad_stream_frame",
      what,
    );
  }
});

test("a long reason is cut at a whole character", () => {
  const [effect] = new StreamProtocol("acceptor").handle({
    type: "reset",
    reason: "é".repeat(900),
  });
  assert.ok(effect?.type === "send" && effect.body.length <= 1_024);
  assert.equal(new TextDecoder("utf-8", { fatal: true }).decode(effect.body), "é".repeat(512));
});
