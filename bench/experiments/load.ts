/** E10, E11 and E18: churn, a join storm, and floods of messages and of lies. */
import { seededRandom } from "../../src/base/random.ts";
import { MAX_CACHED, MAX_CACHED_BYTES } from "../../src/broadcast/message_cache.ts";
import { MAX_IDS } from "../../src/broadcast/messages.ts";
import { MAX_MISSING } from "../../src/broadcast/missing.ts";
import { Plumtree } from "../../src/broadcast/plumtree.ts";
import type { Broadcast, SimNode } from "../../src/testing/overlay_sim.ts";
import { Collected } from "./experiment.ts";
import type { Experiment, Point } from "./experiment.ts";
import { shapeOf } from "./graph.ts";
import { CYCLE_MS, OurWorld } from "./worlds.ts";

/** E10. */
export const churn: Experiment = {
  id: "E10",
  title: "Churn",
  about:
    "Each second 1 % of the nodes stop and as many new ones join, for five minutes; one message " +
    "a second from a random node. Counted are the deliveries, within 5 s, to nodes that had a " +
    "neighbour when the message was sent and live 5 s later; a message whose sender stops within " +
    "these 5 s does not count.",
  run(settings) {
    const nodes = settings.nodes ?? 1_000;
    const collected = new Collected();
    const traces: number[] = [];
    const axes = { title: "Delivery under churn", x: "second", y: "% delivered" };
    for (const seed of settings.seeds) {
      const points: Point[] = [];
      const world = new OurWorld(nodes, { seed });
      world.join(nodes, 10, settings.progress);
      const { sim } = world;
      sim.run(15 * CYCLE_MS);
      const contact = sim.nodes[0] as SimNode;
      let due = 0, got = 0, orphans = 0;
      const under: { sent: Broadcast; sender: SimNode; there: SimNode[] }[] = [];
      for (let second = 0; second < 300; second++) {
        const live = sim.live;
        for (let i = 0; i < nodes / 100; i++) {
          const goer = sim.pick(live);
          if (goer !== contact && goer.alive) sim.crash(goer);
          sim.join(sim.add(), contact);
        }
        const there = sim.live.filter((node) => node.view.size > 0);
        const sender = sim.pick(there);
        under.push({ sent: sim.publish(sender), sender, there });
        sim.run(1_000);
        if (under.length < 5) continue;
        const ripe = under.shift();
        if (ripe === undefined) break;
        if (!ripe.sender.alive) {
          orphans++;
          continue;
        }
        const living = ripe.there.filter((node) => node.alive);
        const had = living.filter((node) => ripe.sent.delivered.has(node)).length;
        due += living.length;
        got += had;
        points.push([second, (100 * had) / living.length]);
        if (second % 60 === 59) settings.progress(`second ${second + 1} of 300`);
      }
      collected.add("% delivered within 5 s", (100 * got) / due, {
        good: [">=", 99],
        goal: [">=", 99.9],
      });
      collected.add("messages whose sender stopped", orphans);
      collected.draw(axes, "measured", points);
      traces.push(sim.trace);
    }
    return { nodes, metrics: collected.metrics, plots: collected.plots, traces };
  },
};

const DEGREES = {
  title: "Neighbours after a join storm",
  x: "seconds since the last joined",
  y: "% of the nodes",
};

/** E11. */
export const joinStorm: Experiment = {
  id: "E11",
  title: "A join storm",
  about:
    "All nodes join one seed within 10 s; the overlay 10 and 30 s after the last. An edge is " +
    "one-sided for as long as the word of it is under way; counted are those that still are after a " +
    "second. Two minutes later nobody moves edges any more, and none may be one-sided.",
  run(settings) {
    const nodes = settings.nodes ?? 1_000;
    const collected = new Collected();
    const traces: number[] = [];
    for (const seed of settings.seeds) {
      const world = new OurWorld(nodes, { seed });
      world.join(nodes, 10_000 / nodes, settings.progress);
      const { sim } = world;
      const since = sim.now;
      const { activeSize } = sim.membership;
      const all: Point[] = [], most: Point[] = [];
      const look = () => {
        const share = (least: number): Point => [
          (sim.now - since) / 1000,
          (100 * sim.live.filter(({ view }) => view.size >= least).length) / nodes,
        ];
        all.push(share(activeSize));
        most.push(share(activeSize - 1));
      };
      look();
      world.watch(10_000, 500, look);
      const sizes = sim.live.map((node) => node.view.size);
      collected.add("smallest degree at + 10 s", Math.min(...sizes), {
        goal: [">=", 4, "each seed"],
      });
      const full = sizes.filter((size) => size >= activeSize).length;
      collected.add("% of nodes at degree 5 at + 10 s", (100 * full) / nodes);
      world.watch(20_000, 500, look);
      collected.draw(DEGREES, `${activeSize} neighbours`, all);
      collected.draw(DEGREES, `at least ${activeSize - 1}`, most);
      const shape = shapeOf(world, 5, 5, seededRandom(seed));
      collected.add("components at + 30 s", shape.components, { good: ["<=", 1, "each seed"] });
      const oneSided = oneSidedEdges(sim);
      sim.run(1_000);
      const still = oneSidedEdges(sim);
      const lasting = [...oneSided].filter((edge) => still.has(edge)).length;
      collected.add("one-sided edges at + 30 s that last a second", lasting, {
        goal: ["<=", 0, "each seed"],
      });
      sim.run(119_000);
      collected.add("one-sided edges at + 150 s", oneSidedEdges(sim).size, {
        goal: ["<=", 0, "each seed"],
      });
      traces.push(world.trace);
      settings.progress(`seed ${seed} is done`);
    }
    return { nodes, metrics: collected.metrics, plots: collected.plots, traces };
  },
};

function oneSidedEdges(sim: OurWorld["sim"]): Set<string> {
  const edges = new Set<string>();
  for (const { name, view } of sim.live) {
    for (const peer of view) if (!sim.node(peer)?.view.has(name)) edges.add(`${name} ${peer}`);
  }
  return edges;
}

const KEPT = {
  title: "What floods leave behind",
  x: "messages, then lies, taken in",
  y: "kept or noted",
};

/** E18. */
export const floods: Experiment = {
  id: "E18",
  title: "A million messages, a million lies",
  about:
    "One machine takes in a million broadcasts of 64 bytes from 1,000 senders; then a neighbour " +
    "announces a million messages that do not exist, while another one sends honest ones. `--nodes` " +
    "is the number of messages and of lies.",
  run(settings) {
    const count = settings.nodes ?? 1_000_000;
    const collected = new Collected();
    const traces: number[] = [];
    for (const seed of settings.seeds) {
      const plumtree = new Plumtree(7, seededRandom(seed));
      for (const peer of ["honest@x", "liar@x", "third@x"]) {
        plumtree.handle({ type: "neighbourUp", peer }, 0);
      }
      let trace = 0, now = 0, delivered = 0;
      let cached = 0, bytes = 0, missing = 0;
      const kept: Point[] = [], noted: Point[] = [];
      const look = (taken: number) => {
        if (taken - (kept.at(-1)?.[0] ?? -Infinity) < count / 150) return;
        kept.push([taken, plumtree.sizes.cached]);
        noted.push([taken, plumtree.sizes.missing]);
      };
      const take = (event: Parameters<Plumtree["handle"]>[0]) => {
        for (const effect of plumtree.handle(event, now)) {
          trace = (Math.imul(trace, 31) + effect.type.length) >>> 0;
          if (effect.type === "deliver") delivered++;
        }
        const { sizes } = plumtree;
        cached = Math.max(cached, sizes.cached);
        bytes = Math.max(bytes, sizes.cachedBytes);
        missing = Math.max(missing, sizes.missing);
      };
      const honest = (origin: number, seq: number) => {
        const payload = new Uint8Array(64);
        const gossip = { origin, seq, tree: 0, hops: 1, topic: "t", payload };
        take({ type: "gossip", from: "honest@x", gossip });
      };
      const tick = () => {
        now += 1;
        if (plumtree.wakeAt <= now) take({ type: "tick" });
      };
      for (let i = 0; i < count; i++) {
        honest(1_000 + (i % 1_000), 1 + Math.floor(i / 1_000));
        if (i % 100 === 99) tick();
        look(i + 1);
      }
      settings.progress(`${count} messages taken in`);
      collected.add("% delivered of the messages", (100 * delivered) / count, {
        good: [">=", 100, "each seed"],
      });
      delivered = 0;
      let told = 0;
      for (let lies = 0; lies < count; lies += MAX_IDS) {
        const entries = Array.from(
          { length: MAX_IDS },
          (_, i) => ({ origin: 5_000_000 + lies + i, seq: 1, tree: 0 }),
        );
        take({ type: "control", from: "liar@x", message: { type: "ihave", entries } });
        honest(3, ++told);
        tick();
        look(count + lies + MAX_IDS);
      }
      collected.draw(KEPT, "messages kept", kept);
      collected.draw(KEPT, "missing ones noted", noted);
      collected.add("% delivered of the honest among lies", (100 * delivered) / told, {
        good: [">=", 100, "each seed"],
        goal: [">=", 100, "each seed"],
      });
      collected.add("messages kept, at most", cached, { good: ["<=", MAX_CACHED, "each seed"] });
      collected.add("bytes of payload kept, at most", bytes, {
        goal: ["<=", MAX_CACHED_BYTES, "each seed"],
      });
      collected.add("missing messages noted, at most", missing, {
        good: ["<=", MAX_MISSING, "each seed"],
      });
      traces.push(trace);
    }
    return { nodes: 1, metrics: collected.metrics, plots: collected.plots, traces };
  },
};

const TIMES = {
  title: "Delivery at all others",
  x: "message",
  y: "99th percentile, ms",
};

// Of no times it is Infinity.
function p99(times: readonly number[]): number {
  return times.toSorted((a, b) => a - b)[Math.floor(times.length * 0.99)] ?? Infinity;
}

/** E19. */
export const slowConsumer: Experiment = {
  id: "E19",
  title: "One slow consumer",
  about:
    "Every frame towards one node takes 3 s longer, the busiest of the tree. Messages 100 ms " +
    "apart; the 99th percentile of the time of delivery at all others, beside that before. After " +
    "10 s its links give it up, as they do with a peer whose queue has been full for so long.",
  limits:
    "Whoever is below the slow node in the tree gets the first messages late: they wait for the tree " +
    "a little (120 to 240 ms), ask another neighbour, and are pushed the later ones. That is four of " +
    "the fifty messages for a tenth of the nodes or more in clusters below a few hundred, which the " +
    "99th percentile shows: with five seeds 1.9 times that before with 50 nodes, 1.9 with 100, 1.6 " +
    "with 400. To wait less would make honest lateness cost payloads twice: with 40 ms the redundancy " +
    "of E5 is 0.05.",
  run(settings) {
    const nodes = settings.nodes ?? 1_000;
    const collected = new Collected();
    const traces: number[] = [];
    for (const seed of settings.seeds) {
      const world = new OurWorld(nodes, { seed });
      world.join(nodes, 10, settings.progress);
      const { sim } = world;
      sim.run(15 * CYCLE_MS);
      const sender = sim.nodes[0] as SimNode;
      for (let i = 0; i < 20; i++) {
        sim.publish(sender);
        sim.run(1_000);
      }
      const fanOut = (node: SimNode) =>
        [0, 1, 2, 3].reduce((sum, tree) => sum + node.plumtree.eagerPeers(tree).length, 0);
      const slow = sim.nodes.filter((node) => node !== sender)
        .reduce((most, node) => fanOut(node) > fanOut(most) ? node : most);
      let count = 0;
      const phase = (name: string): number => {
        const sent: Broadcast[] = [];
        for (let i = 0; i < 50; i++) {
          sent.push(sim.publish(sender));
          sim.run(100);
        }
        sim.run(10_000);
        const others = sim.live.filter((node) => node !== slow && node !== sender);
        const times = sent.map(({ at, delivered }) =>
          others.map((node) => (delivered.get(node)?.at ?? Infinity) - at)
        );
        collected.draw(TIMES, name, times.map((one): Point => [++count, p99(one)]));
        return p99(times.flat());
      };
      const before = phase("before");
      slow.lagMs = 3_000;
      const during = phase("beside the slow one");
      for (const name of slow.view) {
        sim.membershipEvent(sim.node(name) as SimNode, { type: "slowConsumer", peer: slow.name });
      }
      sim.run(10_000);
      const after = phase("once it is given up");
      collected.add("others' p99 before, ms", before);
      collected.add("others' p99 beside it, times", during / before, {
        good: ["<=", 2],
        goal: ["<=", 1.2],
      });
      collected.add("others' p99 once it is given up, times", after / before, {
        good: ["<=", 2],
        goal: ["<=", 1.2],
      });
      traces.push(sim.trace);
    }
    return { nodes, metrics: collected.metrics, plots: collected.plots, traces };
  },
};
