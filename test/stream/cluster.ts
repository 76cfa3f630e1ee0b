import { createNode } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";
import { seededRandom } from "../../src/base/random.ts";
import { realClock } from "../../src/base/real.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";

/** Nodes over one network in memory, which know each other's addresses. */
export async function cluster(
  count: number,
  options: Partial<NodeOptions> = {},
): Promise<{ nodes: Node[]; a: Node; b: Node; close: () => Promise<void> }> {
  const network = createMemoryNetwork({ clock: realClock, random: seededRandom(7) });
  const nodes: Node[] = [];
  for (const name of "abcdef".slice(0, count)) {
    const node = await createNode({
      name: `${name}@mem`,
      listen: [`mem://${name}`],
      contactNodes: nodes.flatMap(({ addresses }) => [...addresses]),
      transports: [network.host(name).transport],
      ...options,
    });
    if (nodes.length > 0) await node.joined({ timeoutMs: 10_000 });
    nodes.push(node);
  }
  return {
    nodes,
    a: nodes[0] as Node,
    b: nodes[1] as Node,
    close: async () => void await Promise.all(nodes.map((node) => node.close())),
  };
}

/** `length` bytes that differ from place to place. */
export function pattern(length: number, seed = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) * 7 + seed) & 0xff;
  return bytes;
}

/** Everything that a stream brings, joined. */
export async function readAll(readable: ReadableStream<Uint8Array>): Promise<Uint8Array> {
  return new Uint8Array(
    await new Response(readable as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer(),
  );
}
