/** Frames as honest nodes send them, of every protocol: what a lying member changes. */
import { createNode, defineServer } from "../../mod.ts";
import { encodeControl } from "../../src/broadcast/messages.ts";
import { FramedPipe } from "../../src/link/framed_pipe.ts";
import { encodeRouter } from "../../src/registry/router_messages.ts";
import { encodeProbeRequest } from "../../src/roster/messages.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { nodeName } from "../../src/wire/node_name.ts";
import { waitFor } from "../harness.ts";

/** One frame of a link. */
export interface RealFrame {
  readonly type: number;
  readonly body: Uint8Array;
}

/** Frames kept of each type and kind: beyond, they differ little. */
const KEPT_OF_A_KIND = 12;
const MAX_BODY = 16_384;

const HANDSHAKE: readonly number[] = [
  FrameType.HELLO,
  FrameType.PROOF,
  FrameType.READY,
  FrameType.REFUSE,
  FrameType.SEALED,
  FrameType.SEALED_PIPE,
];

/** Types that the nodes below send in any case. */
const SPOKEN: readonly number[] = Object.entries(FrameType)
  // The first group is written by the pipe itself; the others are of failures and of rotations.
  .filter(([name, type]) => type >= 0x08 && !HANDSHAKE.includes(type) && name !== "SUCCESSION")
  .map(([, type]) => type);

/**
 * Lets nodes of this process join at `contact` and use all that a node offers, and returns what they
 * sent, every type of `SPOKEN` among it.
 *
 * @throws Error naming the types that were not spoken
 */
export async function realFrames(contact: string): Promise<RealFrame[]> {
  const kept = new Map<number, RealFrame[]>();
  const keep = (type: number, ...parts: Uint8Array[]) => {
    const body = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      body.set(part, at);
      at += part.length;
    }
    if (body.length > MAX_BODY) return;
    const kind = type * 256 + (body[0] ?? 0);
    const frames = kept.get(kind) ?? [];
    if (frames.length < KEPT_OF_A_KIND) frames.push({ type, body });
    kept.set(kind, frames);
  };
  // What small and steady clusters seldom say.
  const origin = 0x1234_5678_9abc;
  keep(FrameType.PLUMTREE_CONTROL, encodeControl({ type: "reshape", trees: 0b1011 }));
  for (let tree = 0; tree < 4; tree++) {
    const shape = { tree, term: 3, root: origin + tree, wave: 9, hops: 2 };
    keep(FrameType.PLUMTREE_CONTROL, encodeControl({ type: "shape", shapes: [shape] }));
  }
  const ids = [{ origin, seq: 1 }, { origin, seq: 2 }];
  keep(FrameType.PLUMTREE_CONTROL, encodeControl({ type: "graft", trees: 1, ids }));
  keep(FrameType.PLUMTREE_CONTROL, encodeControl({ type: "prune", trees: 0b1111 }));
  const id = new Uint8Array(8).fill(7);
  const node = nodeName("witness1@127.0.0.1");
  for (
    const message of [
      { type: "query", id, ttl: 3, name: "echo" },
      { type: "found", id, node },
      { type: "ask", request: 1, name: "echo" },
      { type: "answer", request: 1, process: 3 },
    ] as const
  ) keep(FrameType.ROUTER, encodeRouter(message));
  keep(FrameType.LIVENESS, encodeProbeRequest({ target: node, epoch: 1 }));
  keep(FrameType.CREDIT, Uint8Array.of(0x44, 0x00));
  keep(FrameType.FRAGMENT, Uint8Array.of(1, 0, 2, FrameType.SEND, 9, 9, 9));
  keep(FrameType.ABORT, Uint8Array.of(3), new TextEncoder().encode("enough"));
  const missing = () =>
    SPOKEN.filter((type) => ![...kept.keys()].some((kind) => kind >> 8 === type));
  const stop = listen(keep);
  try {
    await useEverything(contact, async () => {
      await waitFor(() => missing().length === 0, { what: "frames of every type" }).catch(() => {});
    });
  } finally {
    stop();
  }
  if (missing().length > 0) {
    throw new Error(`no frames of type ${missing().map((type) => type.toString(16)).join(", ")}`);
  }
  return [...kept.values()].flat();
}

// Everything that pipes of this process are given to send, whoever sends it.
function listen(keep: (type: number, ...parts: Uint8Array[]) => void): () => void {
  const pipes = FramedPipe.prototype;
  const { send, sendFree, sendWhole } = pipes;
  pipes.send = function (this: FramedPipe, key, type, head, payload) {
    keep(type, head, payload);
    send.call(this, key, type, head, payload);
  };
  pipes.sendFree = function (this: FramedPipe, type, body) {
    keep(type, body);
    sendFree.call(this, type, body);
  };
  pipes.sendWhole = function (this: FramedPipe, type, payload) {
    keep(type, payload);
    sendWhole.call(this, type, payload);
  };
  return () => Object.assign(pipes, { send, sendFree, sendWhole });
}

const Adder = defineServer({
  init: () => 0,
  calls: {
    add: (_ctx, value: number) => value + 1,
    wait: () => new Promise<number>(() => {}),
  },
});

interface Api {
  add(value: number): Promise<number>;
  count(to: number): AsyncIterable<number>;
}

async function useEverything(contact: string, heardAll: () => Promise<void>): Promise<void> {
  const start = async (name: string) => {
    const node = await createNode({
      name: `${name}@127.0.0.1`,
      listen: ["quic://127.0.0.1:0"],
      contactNodes: [contact],
    });
    await node.joined({ timeoutMs: 20_000 });
    return node;
  };
  const one = await start("witness1");
  const map = await one.maps.open<string>("fuzzed");
  for (let i = 0; i < 8; i++) await map.set(`key${i}`, "value".repeat(i));
  // It comes late: it has to ask for the rows.
  const two = await start("witness2");
  try {
    one.links.setConnectOptions(two.name, { address: two.addresses[0] as string });
    await one.links.connect(two.name);
    // the overlay, broadcasts, replicated rows, names
    const copy = await two.maps.open<string>("fuzzed");
    await waitFor(() => copy.get("key7") !== undefined, { what: "the last key" });
    two.broadcast.subscribe("fuzz", () => {});
    for (let i = 0; i < 8; i++) {
      await one.broadcast.publish("fuzz", new Uint8Array(20 + i));
      await map.set(`later${i}`, "value".repeat(i));
    }
    const adder = await two.start(Adder, [], { register: "adder" });
    await one.registry.whereis("adder", { retries: 20 });
    await one.registry.whereis("nobody", { retries: 2 });
    // calls, and one that is given up
    const client = one.client(Adder, adder);
    await client.add(1);
    await client.with({ timeoutMs: 200 }).wait().catch(() => {});
    // monitors, links, exits, messages by name and by process
    const idle = () =>
      two.spawn(async (self) => {
        self.trapExit = true;
        for await (const message of self.mailbox) if (message === "end") return;
      });
    const [first, second] = [idle(), idle()];
    const done = Promise.withResolvers<void>();
    one.spawn(async (self) => {
      self.trapExit = true;
      self.demonitor(self.monitor(second), { flush: true });
      self.monitor(first);
      self.link(second);
      self.unlink(second);
      self.link(second);
      await one.send(first, "end");
      await self.mailbox[Symbol.asyncIterator]().next();
      done.resolve();
    });
    await done.promise;
    one.exit(second, "bye");
    // procedures
    two.rpc.expose("api", {
      add: (value: number) => value + 1,
      async *count(to: number) {
        for (let i = 0; i < to; i++) yield i;
      },
    });
    const api = one.rpc.client<Api>(two.name, "api");
    await api.add(1);
    for await (const value of api.count(500)) if (value === 300) break;
    // streams
    two.streams.accept(
      "tag",
      async ({ readable, writable }) => void await readable.pipeTo(writable),
    );
    const stream = await one.streams.open("tag", two.name);
    const writer = stream.writable.getWriter();
    await writer.write(new Uint8Array(3_000));
    await writer.close();
    for await (const _chunk of stream.readable);
    const broken = await one.streams.open("tag", two.name);
    await broken.writable.abort(new Error("no more")).catch(() => {});
    await broken.readable.cancel("no more").catch(() => {});
    await heardAll();
  } finally {
    await two.close();
    await one.close();
  }
}
