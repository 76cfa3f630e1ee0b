/** E13: look-ups while views churn and nobody dies. */
import { equalBytes, utf8 } from "../../src/base/bytes.ts";
import { pick, randomBelow, sample, seededRandom } from "../../src/base/random.ts";
import type { Random } from "../../src/base/random.ts";
import type { Node as WholeNode } from "../../src/node/node.ts";
import type { Pid } from "../../src/wire/pid.ts";
import { World } from "../../test/replica/world.ts";
import type { Node } from "../../test/replica/world.ts";
import { mixed } from "../../test/trace.ts";
import type { Collected, Experiment, Limit } from "./experiment.ts";
import {
  ARRIVAL_MS,
  each,
  linkAll,
  meterOf,
  rememberedSha256,
  settle,
  TRAFFIC,
} from "./state_world.ts";
import { nameOf, NAMES_EACH, traceOf, wholeCluster } from "./whole_nodes.ts";
import type { Cluster } from "./whole_nodes.ts";

/** One edge of so many is torn in each second. */
const TORN_OF = 10;
/** What is torn is made anew elsewhere after this long, ms. */
const GAP_MS = 200;
/** Whole nodes at most. */
const WHOLE_NODES = 60;
const ROUNDS = 100;
const WHOLE_ROUNDS = 30;
const ASKED = 100;
const NONE: Limit = ["<=", 0, "each seed"];

type Edge<T> = readonly [T, T];

/**
 * Edges to tear, and those to make in their place: two torn ones, crosswise, so that nobody's number
 * of neighbours changes.
 */
function crossed(
  random: Random,
  edges: readonly Edge<Node>[],
): Record<"torn" | "made", Edge<Node>[]> {
  const keyOf = (a: Node, b: Node) =>
    a.name < b.name ? `${a.name} ${b.name}` : `${b.name} ${a.name}`;
  const there = new Set(edges.map(([a, b]) => keyOf(a, b)));
  const torn: Edge<Node>[] = [], made: Edge<Node>[] = [];
  const chosen = sample(random, edges, 2 * Math.ceil(edges.length / TORN_OF / 2));
  for (let i = 0; i + 1 < chosen.length; i += 2) {
    const [a, b] = chosen[i] as Edge<Node>;
    const [c, d] = chosen[i + 1] as Edge<Node>;
    if (new Set([a, b, c, d]).size < 4 || there.has(keyOf(a, c)) || there.has(keyOf(b, d))) {
      continue;
    }
    torn.push([a, b], [c, d]);
    for (const [x, y] of [[a, c], [b, d]] as const) {
      made.push([x, y]);
      there.add(keyOf(x, y));
    }
  }
  return { torn, made };
}

/** E13 of replicas alone, `rounds` seconds long; returns the trace. */
export function churnOfReplicas(
  count: number,
  rounds: number,
  seed: number,
  figures: Collected,
): number {
  const world = new World(
    seed,
    { loss: 0.01, duplication: 0, minDelayMs: 10, maxDelayMs: 50, inOrder: true },
    rememberedSha256(),
  );
  world.checks = false;
  const nodes = Array.from({ length: count }, () => world.addNode());
  const value = utf8("here");
  for (const [i, node] of nodes.entries()) world.put(node, `${i}:service_${i}`, value);
  world.run(100);
  linkAll(world, nodes, ARRIVAL_MS);
  settle(world, nodes);
  let wrong = 0, asked = 0, share = 0;
  const before = world.edges().length;
  const meter = meterOf(world);
  for (let round = 0; round < rounds; round++) {
    const edges = world.edges();
    const { torn, made } = crossed(world.random, edges);
    share += torn.length / edges.length;
    for (const [a, b] of torn) world.unlink(a, b);
    world.run(GAP_MS);
    for (const [a, b] of made) world.link(a, b);
    world.run(1_000 - GAP_MS);
    meter.read();
    for (let k = 0; k < ASKED; k++) {
      const i = randomBelow(world.random, count);
      const rows = world.state(pick(world.random, nodes) as Node).rowsOf(`${i}:service_${i}`);
      const { publicKey } = nodes[i] as Node;
      asked++;
      const isRight = rows.length === 1 &&
        rows.every((row) => equalBytes(row.author, publicKey) && equalBytes(row.value, value));
      if (!isRight) wrong++;
    }
  }
  figures.draw({ ...TRAFFIC, x: "second" }, "measured", meter.points);
  const of = `${count} replicas:`;
  figures.add(`${of} % of the edges torn in a second`, (100 * share) / rounds);
  figures.add(`${of} neighbours in the mean, before`, (2 * before) / count);
  figures.add(`${of} neighbours in the mean, after`, (2 * world.edges().length) / count);
  figures.add(`${of} rows looked for`, asked);
  figures.add(`${of} of those wrong`, wrong, { good: NONE, goal: NONE });
  return world.trace;
}

/** The edges of the overlay, by the names of their ends. */
function edgesOf(nodes: readonly WholeNode[]): Edge<string>[] {
  return nodes.flatMap(({ name, membership }) =>
    membership.activeView().filter((peer) => name < peer).map((peer) => [name, peer] as const)
  );
}

// Three of four end with a goodbye, and who is left looks for another neighbour. The fourth falls
// silent in both directions, which nobody is told of.
function tear({ sim, nodes }: Cluster, edges: readonly Edge<string>[]): void {
  const byName = new Map(nodes.map((node) => [node.name as string, node]));
  for (const [i, ends] of edges.entries()) {
    const [a, b] = ends.map((name) => byName.get(name)) as [WholeNode, WholeNode];
    if (i % 4 < 3) void a.links.disconnect(b.name);
    else {
      sim.halfOpen(a, b);
      sim.halfOpen(b, a);
    }
  }
}

/** E13 of whole nodes, `rounds` seconds long; returns the trace. */
export async function churnOfNodes(
  count: number,
  rounds: number,
  seed: number,
  figures: Collected,
): Promise<number> {
  const cluster = await wholeCluster({ seed, nodes: count, latencyMs: [10, 50], loss: 0.01 });
  const { sim, nodes, pids } = cluster;
  const random = seededRandom(seed);
  let downs = 0, changes = 0;
  for (const { membership } of nodes) {
    membership.on(({ type }) => {
      if (type === "nodeDown") downs++;
      if (type === "peerUp") changes++;
    });
  }
  await sim.run({ forMs: 20_000 });
  changes = 0;
  let wrong = 0, asked = 0, wrongNew = 0, torn = 0, neighbours = 0;
  for (let round = 0; round < rounds; round++) {
    const edges = edgesOf(nodes);
    neighbours += (2 * edges.length) / count;
    const chosen = sample(random, edges, Math.ceil(edges.length / TORN_OF));
    torn += chosen.length;
    tear(cluster, chosen);
    // Who asks cannot have heard of it: the question goes through the overlay.
    const owner = randomBelow(random, count);
    const asker = (owner + 1 + randomBelow(random, count - 1)) % count;
    const name = `new_${round}`;
    const { registry } = nodes[owner] as WholeNode;
    const written = registry.register(name, pids[owner] as Pid);
    const found = (nodes[asker] as WholeNode).registry.whereis(name, { retries: 3 });
    if (!isSame(await sim.run(found), pids[owner])) wrongNew++;
    await sim.run(written);
    await sim.run({ forMs: 1_000 });
    const answers = Array.from({ length: ASKED / 5 }, async () => {
      const of = randomBelow(random, count);
      const known = nameOf(of, randomBelow(random, NAMES_EACH));
      const { registry } = pick(random, nodes) as WholeNode;
      const instances = registry.lookup(known);
      const isRight = instances.length === 1 && isSame(instances[0]?.pid, pids[of]);
      return isRight && isSame(await registry.whereis(known), pids[of]);
    });
    const right = await sim.run(Promise.all(answers));
    asked += right.length;
    wrong += right.filter((isRight) => !isRight).length;
  }
  const whole = `${count} whole nodes:`;
  figures.add(`${whole} edges torn`, torn);
  figures.add(`${whole} neighbours in the mean`, neighbours / rounds);
  figures.add(`${whole} neighbours found anew, by both ends`, changes);
  figures.add(`${whole} names asked for, by lookup and whereis`, asked);
  figures.add(`${whole} of those wrong`, wrong, { good: NONE, goal: NONE });
  figures.add(`${whole} names asked for while they are registered`, rounds);
  figures.add(`${whole} of those not found by whereis`, wrongNew, { good: NONE, goal: NONE });
  figures.add(`${whole} told to be down`, downs, { good: NONE, goal: NONE });
  const trace = traceOf(sim);
  await sim.close();
  return trace;
}

function isSame(pid: Pid | undefined, expected: Pid | undefined): boolean {
  return pid !== undefined && expected !== undefined && pid.equals(expected);
}

/** E13. */
export const lookUps: Experiment = {
  id: "E13",
  title: "Look-ups while views churn and nobody dies",
  about:
    `Replicas: a tenth of the edges is torn each second for ${ROUNDS} seconds, and the ends of two ` +
    `torn ones are linked crosswise ${GAP_MS} ms later, so that nobody's number of neighbours ` +
    "changes; links lose 1 % of their frames, and each second random nodes look for 100 rows of " +
    `random others. Whole nodes, ${WHOLE_NODES} at most: a tenth of the links between neighbours is ` +
    `torn each second for ${WHOLE_ROUNDS} seconds, three of four with a goodbye and one that falls ` +
    "silent both ways; the overlay finds itself new neighbours. Each second 20 names are asked for at " +
    "random nodes, by lookup and by whereis, and one that another node registers at this moment, by " +
    "whereis, which asks through the overlay.",
  run: (settings) => {
    const nodes = settings.nodes ?? 200;
    return each(settings, nodes, async (seed, figures) => {
      const trace = churnOfReplicas(nodes, ROUNDS, seed, figures);
      settings.progress(`seed ${seed}: whole nodes`);
      const whole = Math.min(WHOLE_NODES, nodes);
      return mixed(trace, await churnOfNodes(whole, WHOLE_ROUNDS, seed, figures));
    });
  },
};
