/** A node that calls every other one all the time, and rotates its key when it is told to. */
import { createNode, defineServer } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";

const Echo = defineServer({
  init: () => 0,
  calls: { echo: (_ctx, text: string) => text },
});

/** What the test sees of it. */
export interface RotatingNode {
  readonly node: Node;
  /** What went wrong so far. */
  readonly faults: string[];
  /** Calls that were answered, by node. */
  readonly answered: Map<string, number>;
  /** New key, and new connections to all others. */
  rotate(): Promise<void>;
  close(): Promise<void>;
}

/** Starts it; it calls the nodes that `others` names. */
export async function startRotating(
  options: NodeOptions,
  others: readonly string[],
): Promise<RotatingNode> {
  const faults: string[] = [];
  const answered = new Map<string, number>();
  const node = await createNode({
    ...options,
    logger: {
      log: (level, message) => {
        if (level === "error" || /refused/.test(message)) faults.push(`${level} ${message}`);
      },
    },
  });
  await node.start(Echo, [], { register: `echo ${node.name}` });
  let isOver = false;
  const call = async (name: string) => {
    const service = `echo ${name}`;
    while (!isOver && node.registry.lookup(service).length === 0) await pause();
    // One pid for good: it must hold through every rotation.
    const pid = await node.registry.whereis(service);
    while (!isOver && pid !== undefined) {
      try {
        await node.client(Echo, pid).echo("hello");
        answered.set(name, (answered.get(name) ?? 0) + 1);
      } catch (error) {
        if (!isOver) faults.push(`call to ${name}: ${error}`);
      }
      await pause();
    }
  };
  node.membership.on((event) => {
    if (event.type === "nodeDown" && !isOver) faults.push(`down ${event.node}`);
  });
  const calls = others.map(call);
  return {
    node,
    faults,
    answered,
    async rotate() {
      await node.identity.rotate();
      for (const name of others) await node.links.migrate(name);
    },
    async close() {
      isOver = true;
      await Promise.all(calls);
      await node.close();
    },
  };
}

const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
