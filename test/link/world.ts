import { seededRandom } from "../../src/base/random.ts";
import { memoryFiles } from "../../src/base/secret_files.ts";
import type { SecretFiles } from "../../src/base/secret_files.ts";
import { layFoundation, makeWorld } from "../../src/node/foundation.ts";
import type { Foundation } from "../../src/node/foundation.ts";
import type { NodeOptions } from "../../src/node/options.ts";
import { fastCrypto } from "../../src/testing/fast_crypto.ts";
import { createVirtualClock } from "../../src/testing/virtual_clock.ts";
import type { Connection, Transport } from "../../src/transport/contract.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import type { MemoryHost, MemoryNetwork } from "../../src/transport/memory.ts";

/** A node of nothing but links, and what it was told of them. */
export interface LinkNode extends Foundation {
  readonly host: MemoryHost;
  readonly told: string[];
  /** The connections it dialled, oldest first. */
  readonly dialled: Connection[];
  readonly files: SecretFiles;
}

/** Nodes of nothing but links on virtual time. */
export interface LinkWorld {
  readonly network: MemoryNetwork;
  now(): number;
  start(name: string, options?: Partial<NodeOptions>, files?: SecretFiles): Promise<LinkNode>;
  /** The same life of a crashed node again, as if only its connections had been lost. */
  revive(node: LinkNode): Promise<LinkNode>;
  run(forMs: number): Promise<void>;
  until<T>(promise: Promise<T>): Promise<T>;
  /** Lets time pass until the condition holds. */
  holds(condition: () => boolean): Promise<void>;
}

/** Makes a world; `seed` decides keys, latencies and losses. */
export function linkWorld(
  seed: number,
  { latencyMs = [1, 5], loss = 0 }: { latencyMs?: [number, number]; loss?: number } = {},
): LinkWorld {
  const time = createVirtualClock();
  const network = createMemoryNetwork({
    clock: time.view().clock,
    random: seededRandom(seed),
    latencyMs,
    loss,
  });
  let lives = 0;
  const begin = async (
    name: string,
    options: Partial<NodeOptions>,
    files: SecretFiles,
    wallOffsetMs: number,
  ): Promise<LinkNode> => {
    const host = network.host(`${name}.${lives}`);
    const random = seededRandom(seed * 1_000 + ++lives);
    const { clock } = time.view({ wallOffsetMs });
    const dialled: Connection[] = [];
    const transport: Transport = {
      ...host.transport,
      async dial(address, dialOptions) {
        const connection = await host.transport.dial(address, dialOptions);
        dialled.push(connection);
        return connection;
      },
    };
    const all: NodeOptions = {
      name: `${name}@mem`,
      listen: [`mem://${name}:${lives}`],
      ...options,
      storage: files,
      clock,
      random,
      crypto: fastCrypto(random),
      transports: [transport],
    };
    const foundation = await time.until(
      makeWorld(all).then((world) => layFoundation(all, world)),
      60_000,
    );
    const told: string[] = [];
    foundation.links.on((event) => {
      told.push(event.type === "linkUp" ? "up" : `down ${event.reason}`);
    });
    return { ...foundation, host, told, dialled, files };
  };
  return {
    network,
    now: () => time.now(),
    start: (name, options = {}, files = memoryFiles()) => begin(name, options, files, 0),
    async revive(node) {
      const { name, epoch } = node.self;
      // A life is its epoch; without one on disk it is the wall clock's.
      await node.files.remove("keys/epoch");
      const offset = epoch - time.view().clock.wall();
      const revived = await begin(name.slice(0, name.indexOf("@")), {}, node.files, offset);
      if (revived.self.epoch !== epoch) throw new Error("another life");
      return revived;
    },
    run: (forMs) => time.run(forMs),
    until: (promise) => time.until(promise, 600_000),
    async holds(condition) {
      const end = time.now() + 600_000;
      while (!condition()) {
        if (time.now() > end) throw new Error("did not hold within ten minutes of virtual time");
        await time.run(50);
      }
    },
  };
}

/** Two nodes that know each other's address, and a link from `a` to `b` that stays. */
export async function pair(world: LinkWorld): Promise<{ a: LinkNode; b: LinkNode }> {
  const [a, b] = [await world.start("a"), await world.start("b")];
  a.resolvers.push((name) => name === b.self.name ? b.self.addresses : []);
  b.resolvers.push((name) => name === a.self.name ? a.self.addresses : []);
  await world.until(a.links.connect(b.self.name));
  await world.holds(() => b.links.list().length === 1);
  a.links.keep(b.self.name);
  return { a, b };
}
