/** Framed pipes over a real adapter: a service for one end, and what the other end asks of it. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { EMPTY, fromUtf8, utf8 } from "../../src/base/bytes.ts";
import { FramedPipe } from "../../src/link/framed_pipe.ts";
import type { FramedPipeHandler } from "../../src/link/framed_pipe.ts";
import type { Connection, Pipe } from "../../src/transport/contract.ts";
import { FrameType } from "../../src/wire/frame_types.ts";

const SETTINGS = { maxMessageBytes: 1 << 20, autoConsume: true };
const { DATA, PREAMBLE } = FrameType;

/**
 * Serves framed pipes whose first frame is a command:
 *
 * - `echo`: sends each frame back, and ends when the client does;
 * - `stall NAME`: reads nothing until another pipe says `resume NAME`, then answers with the digest;
 * - `refuse`: aborts at the first byte;
 * - `watch`: says on a pipe of its own how the client's direction ended.
 */
export function serveFramed(connection: Connection): void {
  const stalled = new Map<string, FramedPipe>();
  connection.onPipe = (pipe) => serveFramedPipe(connection, pipe, stalled);
}

function serveFramedPipe(
  connection: Connection,
  pipe: Pipe,
  stalled: Map<string, FramedPipe>,
): void {
  let [command = "", name = ""]: string[] = [];
  let bytes = 0;
  const digest = createHash("sha256");
  const over = (how: string) => {
    if (command === "watch") void tell(connection, `${how}, after ${bytes} bytes`);
  };
  const framed = new FramedPipe(pipe, {
    onFrame(type, body) {
      if (type === PREAMBLE) {
        [command = "", name = ""] = fromUtf8(body).split(" ");
        if (command === "stall") {
          stalled.set(name, framed);
          framed.pause();
        }
        if (command === "resume") stalled.get(name)?.resume();
        return;
      }
      bytes += body.length;
      if (command === "stall") digest.update(body);
      if (command === "echo") framed.send(0, DATA, body, EMPTY);
      if (command === "refuse") framed.abort(77, "no more of that");
    },
    onEnd() {
      over("end");
      if (command === "stall") framed.send(0, DATA, utf8(digest.digest("hex")), EMPTY);
      framed.end();
    },
    onAbort(code, reason) {
      over(`abort ${code} ${reason}`);
      framed.destroy();
    },
    onFailure(error) {
      over(`failure ${error.reason}`);
      framed.destroy();
    },
    onDrain() {},
  }, SETTINGS);
}

async function tell(connection: Connection, text: string): Promise<void> {
  const pipe = await connection.openPipe("unidirectional");
  const framed = new FramedPipe(pipe, SILENT, SETTINGS);
  framed.send(0, PREAMBLE, utf8(text), EMPTY);
  framed.end();
}

const SILENT: FramedPipeHandler = {
  onFrame() {},
  onEnd() {},
  onAbort() {},
  onFailure() {},
  onDrain() {},
};

/** One framed pipe of ours. */
export interface Talk {
  readonly framed: FramedPipe;
  /** All frames that have come, joined. */
  heard(): string;
  /** How the peer's direction ended: `end`, `abort CODE REASON`, `failure NAME`. */
  readonly over: Promise<string>;
  /** Settles when the pipe takes more. */
  drained(): Promise<void>;
}

/** Opens a framed pipe and gives it a command. */
export async function talk(connection: Connection, command: string): Promise<Talk> {
  const parts: Uint8Array[] = [];
  const over = Promise.withResolvers<string>();
  let drained = () => {};
  const framed = new FramedPipe(await connection.openPipe("bidirectional"), {
    onFrame: (_type, body) => void parts.push(body),
    onEnd: () => over.resolve("end"),
    onAbort: (code, reason) => over.resolve(`abort ${code} ${reason}`),
    onFailure: (error) => over.resolve(`failure ${error.reason}`),
    onDrain: () => drained(),
  }, SETTINGS);
  framed.send(0, PREAMBLE, utf8(command), EMPTY);
  return {
    framed,
    heard: () => parts.map((part) => fromUtf8(part)).join(""),
    over: over.promise,
    drained: () => new Promise((resolve) => (drained = resolve)),
  };
}

/** What the service says on pipes of its own. */
export function listenToWatch(connection: Connection): Promise<string> {
  return new Promise((resolve) => {
    connection.onPipe = (pipe) => {
      void new FramedPipe(pipe, {
        ...SILENT,
        onFrame: (_type, body) => resolve(fromUtf8(body)),
      }, SETTINGS);
    };
  });
}

/** Bytes of one frame in {@link offer}. */
const OFFERED_FRAME = 32 * 1024;

/**
 * Offers `bytes` to a reader that stalls, and sees that no more than the credit leaves; the reader
 * then goes on and must have got every byte. `whileStalled` runs in between.
 */
export async function offer(
  connection: Connection,
  bytes: number,
  whileStalled: () => void | Promise<void>,
): Promise<void> {
  const writer = await talk(connection, "stall it");
  const digest = createHash("sha256");
  let offered = 0;
  const write = () => {
    while (offered < bytes && writer.framed.hasRoom(OFFERED_FRAME)) {
      const frame = new Uint8Array(OFFERED_FRAME);
      for (let i = 0; i < frame.length; i += 512) frame[i] = (offered + i) >> 9;
      new DataView(frame.buffer).setUint32(0, offered);
      digest.update(frame);
      writer.framed.sendWhole(DATA, frame);
      offered += frame.length;
    }
  };
  write();
  // A round trip on another pipe: what could leave has left, and other pipes do not wait for it.
  for (let round = 0; round < 20; round++) {
    const other = await talk(connection, "echo");
    other.framed.send(0, DATA, utf8(`round ${round}`), EMPTY);
    other.framed.end();
    assert.equal(await other.over, "end");
    assert.equal(other.heard(), `round ${round}`);
    write();
  }
  assert.ok(offered <= 1 << 20, `${offered} bytes have left towards a reader that reads nothing`);
  await whileStalled();
  const resume = await talk(connection, "resume it");
  resume.framed.end();
  while (offered < bytes) {
    if (!writer.framed.hasRoom(OFFERED_FRAME)) await writer.drained();
    write();
  }
  writer.framed.end();
  assert.equal(await writer.over, "end");
  assert.equal(writer.heard(), digest.digest("hex"));
}
