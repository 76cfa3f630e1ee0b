/** What a stranger, and a member that lies, can send to a node's port. */
import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";
import { randomBelow } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import { FramedPipe } from "../../src/link/framed_pipe.ts";
import type { Foundation } from "../../src/node/foundation.ts";
import type { Transport } from "../../src/transport/contract.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { dial } from "../conformance/world.ts";
import type { RealFrame } from "./real_frames.ts";

const TYPES: readonly number[] = [...Object.values(FrameType), 0x00, 0x3f, 0x7f, 0xff];
const IGNORE = { onFrame() {}, onEnd() {}, onAbort() {}, onFailure() {}, onDrain() {} };

/** Random bytes, few or many. */
export function noise(random: Random, most: number): Uint8Array {
  return random.bytes(
    randomBelow(random, 2) === 0 ? randomBelow(random, 40) : randomBelow(random, most),
  );
}

/** A copy with some bytes changed, cut off or doubled. */
export function mutated(random: Random, packet: Uint8Array): Uint8Array {
  let copy = packet.slice();
  for (let i = randomBelow(random, 8); i >= 0 && copy.length > 0; i--) {
    copy[randomBelow(random, copy.length)] = randomBelow(random, 256);
  }
  if (randomBelow(random, 3) === 0) copy = copy.slice(0, randomBelow(random, copy.length + 1));
  if (randomBelow(random, 10) === 0) {
    const twice = new Uint8Array(copy.length * 2);
    twice.set(copy);
    twice.set(copy, copy.length);
    copy = twice.slice(0, 1_400);
  }
  return copy;
}

/** Packets of real connections to `port`, recorded on the way. */
export async function recorded(transport: Transport, port: number): Promise<Uint8Array[]> {
  const packets: Uint8Array[] = [];
  const front = createSocket("udp4"), back = createSocket("udp4");
  let client = 0;
  front.on("message", (packet, from) => {
    client = from.port;
    packets.push(new Uint8Array(packet));
    back.send(packet, port, "127.0.0.1");
  });
  back.on("message", (packet) => front.send(packet, client, "127.0.0.1"));
  await bound(front);
  await bound(back);
  const connection = await dial(transport, `quic://127.0.0.1:${front.address().port}`);
  const pipe = await connection.openPipe("bidirectional");
  for (let i = 0; i < 20; i++) {
    pipe.write(new Uint8Array(200).fill(i));
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  connection.close(1, "recorded");
  await connection.closed;
  await new Promise((resolve) => setTimeout(resolve, 50));
  front.close();
  back.close();
  return packets;
}

const bound = (socket: Socket) =>
  new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));

/** Sends `count` packets to a port of loopback, as fast as it takes them. */
export async function flood(
  port: number,
  count: number,
  make: () => Uint8Array,
  progress: (done: number) => void,
): Promise<void> {
  const socket = createSocket("udp4");
  await bound(socket);
  for (let i = 0; i < count; i++) {
    const packet = make();
    if (packet.length === 0) continue;
    await new Promise<void>((resolve) => socket.send(packet, port, "127.0.0.1", () => resolve()));
    // The honest node lives in this process, too.
    if (i % 32 === 31) await new Promise((resolve) => setTimeout(resolve, 0));
    if (i % 10_000 === 9_999) progress(i + 1);
  }
  socket.close();
}

/** A stranger that has a TLS connection, and sends nonsense or a changed handshake: frames sent. */
export async function strangerTalks(
  transport: Transport,
  address: string,
  random: Random,
  handshakes: readonly RealFrame[],
): Promise<number> {
  const connection = await dial(transport, address);
  const pipe = await connection.openPipe("bidirectional");
  let sent = 0;
  if (randomBelow(random, 2) === 0) {
    pipe.write(noise(random, 4_000));
    sent++;
  } else {
    const framed = new FramedPipe(pipe, IGNORE, { maxMessageBytes: 1_000_000, autoConsume: true });
    const isNearlyRight = randomBelow(random, 2) === 0;
    for (let i = randomBelow(random, 20); i >= 0; i--) {
      const { type, body } = isNearlyRight
        ? handshakes[randomBelow(random, handshakes.length)] as RealFrame
        : { type: TYPES[randomBelow(random, TYPES.length)] as number, body: noise(random, 5_000) };
      framed.send(0, type, isNearlyRight ? slightly(random, body) : body, new Uint8Array(0));
      sent++;
    }
  }
  await Promise.race([
    connection.closed,
    new Promise((resolve) => setTimeout(resolve, randomBelow(random, 30))),
  ]);
  connection.close(1, "enough");
  await connection.closed;
  return sent;
}

const STREAM_TYPES: readonly number[] = [
  FrameType.DATA,
  FrameType.STREAM_ACCEPTED,
  FrameType.STREAM_FINISH,
  FrameType.STREAM_FINISH_ACK,
  FrameType.STREAM_RESET,
  FrameType.STREAM_STOP,
];
/** Types below this ride the control pipe. */
const FIRST_DATA_TYPE = 0x30;
const MOST_DATA_PIPES = 4;

// Random bytes of any type, a real frame, or a changed copy of one.
function lie(random: Random, real: readonly RealFrame[]): RealFrame {
  const chance = randomBelow(random, 10);
  if (chance === 0) {
    const type = TYPES[randomBelow(random, TYPES.length)] as number;
    return { type, body: noise(random, 3_000) };
  }
  const frame = real[randomBelow(random, real.length)] as RealFrame;
  if (chance === 1) return frame;
  if (chance === 2) return { ...frame, type: TYPES[randomBelow(random, TYPES.length)] as number };
  return { ...frame, body: slightly(random, frame.body) };
}

// One change, mostly: a frame with many is refused at its first byte.
function slightly(random: Random, body: Uint8Array): Uint8Array {
  if (randomBelow(random, 4) === 0 || body.length === 0) return mutated(random, body);
  const copy = body.slice();
  const at = randomBelow(random, copy.length);
  const old = copy[at] as number;
  const edges = [0, 1, 0x7f, 0x80, 0xff, old + 1, old - 1, old ^ (1 << randomBelow(random, 8))];
  copy[at] = edges[randomBelow(random, edges.length)] as number;
  return copy;
}

/**
 * A member that has authenticated, and then sends changed copies of `real` frames on pipes like
 * those of honest links, and nonsense of every type: frames sent.
 */
export async function memberLies(
  { connector }: Foundation,
  address: string,
  random: Random,
  real: readonly RealFrame[],
): Promise<number> {
  const { connection, control } = await connector.dial(address);
  let isOver = false, sent = 0;
  void connection.closed.then(() => (isOver = true));
  connection.onPipe = (pipe) => pipe.destroy();
  control.resume();
  const open = async (preamble: Uint8Array) => {
    const pipe = new FramedPipe(await connection.openPipe("bidirectional"), IGNORE, {
      maxMessageBytes: 1_000_000,
      autoConsume: true,
    });
    pipe.send(0, FrameType.PREAMBLE, preamble, new Uint8Array(0));
    return pipe;
  };
  const data: FramedPipe[] = [];
  try {
    const total = 1 + randomBelow(random, MOST_DATA_PIPES);
    for (let index = 0; index < total; index++) {
      data.push(await open(Uint8Array.of(1, index, total)));
    }
    for (let left = 20 + randomBelow(random, 80); left > 0 && !isOver; left--) {
      const { type, body } = lie(random, real);
      let pipe = type < FIRST_DATA_TYPE ? control : data[randomBelow(random, total)] as FramedPipe;
      if (type === FrameType.PREAMBLE || STREAM_TYPES.includes(type)) {
        const opening = real.filter((one) => one.type === FrameType.PREAMBLE && one.body[0] !== 1);
        const preamble = opening[randomBelow(random, opening.length)]?.body ?? body;
        pipe = await open(type === FrameType.PREAMBLE ? body : preamble);
      } else if (randomBelow(random, 50) === 0) pipe = control;
      pipe.send(left, type, body, new Uint8Array(0));
      sent++;
      // So that what is refused ends the connection before all of the rest has left in vain.
      if (left % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    }
  } catch (error) {
    // It was cut off between two frames.
    if (!isOver) await Promise.race([connection.closed, pause(1_000)]);
    if (!isOver) throw error;
  }
  await Promise.race([connection.closed, pause(5 + randomBelow(random, 20))]);
  connection.close(1, "enough");
  await connection.closed;
  return sent;
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
