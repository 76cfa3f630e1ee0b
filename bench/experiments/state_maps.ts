/** Rows and maps against trivially correct models, and a map with one clock an hour off. */
import { randomBelow } from "../../src/base/random.ts";
import { maps } from "../../test/map/story.ts";
import { MapWorld } from "../../test/map/world.ts";
import type { Node } from "../../test/map/world.ts";
import { search } from "../../test/model_search.ts";
import type { Found } from "../../test/model_search.ts";
import { rows } from "../../test/replica/story.ts";
import { mixed } from "../../test/trace.ts";
import { Collected } from "./experiment.ts";
import type { Experiment, Settings } from "./experiment.ts";

const HOUR_MS = 3_600_000;

function linkAll(nodes: readonly Node[], world: MapWorld): void {
  for (const a of nodes) for (const b of nodes) world.link(a, b);
}

/** E20, with one clock that is so far off; returns the trace. */
export function clocks(seed: number, skewMs: number, figures: Collected): number {
  const world = new MapWorld(seed, { loss: 0.05, duplication: 0.05, maxDelayMs: 50 });
  const nodes = Array.from({ length: 7 }, (_, i) => world.addNode(false, i === 0 ? skewMs : 0));
  linkAll(nodes, world);
  const honest = nodes.slice(1);
  let late = 0;
  let lost = 0;
  let written = 0;
  for (let i = 0; i < 200; i++) {
    const key = `k${i % 20}`;
    if (i % 5 === 0) world.set(nodes[0] as Node, `k${randomBelow(world.random, 20)}`);
    else {
      const writer = honest[randomBelow(world.random, honest.length)] as Node;
      world.set(writer, key);
      const id = world.writes.length - 1;
      world.run(60_000);
      written++;
      // The last write of an honest node: all must show it. Who lost the broadcast and then, of each
      // peer it asked, a frame of the answer, asks those again after a minute.
      const lacking = () => honest.filter((node) => node.shown.get(key) !== id).length;
      late += lacking();
      for (let minute = 0; minute < 4 && lacking() > 0; minute++) world.run(60_000);
      lost += lacking();
    }
  }
  let driftMs = 0;
  for (const node of honest) {
    driftMs = Math.max(driftMs, node.hlc.now().wallMs - world.wall(node));
  }
  const how = `${skewMs > 0 ? "+" : "-"}1 h:`;
  figures.add(`${how} honest clocks drift, ms`, driftMs, {
    good: ["<=", 5_000, "each seed"],
    goal: ["<=", 5_000, "each seed"],
  });
  figures.add(`${how} writes of honest nodes`, written);
  figures.add(`${how} of those unknown to a node after a minute`, late);
  figures.add(`${how} of those lost somewhere`, lost, {
    good: ["<=", 0, "each seed"],
    goal: ["<=", 0, "each seed"],
  });
  return world.trace;
}

/** E20. */
export const oneClockOff: Experiment = {
  id: "E20",
  title: "A map, and one clock an hour ahead or behind",
  about:
    "Seven nodes write the same 20 keys, one of them with a clock that is an hour off. Every " +
    "write of an honest node must be what all honest nodes show, most within a minute and all " +
    "within five: 5 % of the frames are lost, which no real link does.",
  run({ seeds, progress }: Settings) {
    const figures = new Collected();
    const traces: number[] = [];
    for (const seed of seeds) {
      progress(`seed ${seed}`);
      traces.push(mixed(clocks(seed, HOUR_MS, figures), clocks(seed, -HOUR_MS, figures)));
    }
    return { nodes: 7, metrics: figures.metrics, plots: [], traces };
  },
};

/** E21. */
export const models: Experiment = {
  id: "E21",
  title: "Rows and maps against models that are right by inspection",
  about:
    "Random histories of 3 to 7 replicas: loss, doubling, reordering, splits, crashes, restarts " +
    "(of maps from disk and from nothing, with clocks 2 s apart; of rows and of presence maps, " +
    "which are half of the maps, with verdicts on their authors, right and wrong). Now and then " +
    "all but one crash after a deletion. --nodes is the number of histories of a seed, of rows " +
    "and of maps each; all are played, also after one diverged, and the first that did is printed, " +
    "shrunk. At the end all must show what the model says, and nobody ever what it knew to be " +
    "replaced or what its author did not sign; fingerprints must be equal where the rows are.",
  run({ nodes: runs = 1_000, seeds, progress }: Settings) {
    const figures = new Collected();
    const traces: number[] = [];
    const count = (what: string, { failed, script }: Found) => {
      figures.add(`histories of ${what}`, runs);
      figures.add(`${what}: of those that diverged`, failed.length, {
        good: ["<=", 0, "each seed"],
        goal: ["<=", 0, "each seed"],
      });
      if (script === undefined) return;
      progress(`${what}: number ${failed.join(", ")} of ${runs} diverged; the first, shrunk:`);
      progress(`\n${script}`);
    };
    for (const seed of seeds) {
      progress(`seed ${seed}`);
      const ofRows = search(rows, runs, seed);
      count("rows", ofRows);
      const ofMaps = search(maps, runs, seed);
      count("maps", ofMaps);
      traces.push(mixed(ofRows.trace, ofMaps.trace));
    }
    return { nodes: 7, metrics: figures.metrics, plots: [], traces };
  },
};
