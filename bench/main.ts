/**
 * `npm run bench`: what a node does over real QUIC between processes on loopback, beside the bare
 * transport under it in the same run.
 */
import process from "node:process";
import { benchActors } from "./actors.ts";
import { Children } from "./children.ts";
import { benchLinks } from "./links.ts";
import { benchNodes } from "./nodes.ts";
import { parseOptions } from "./options.ts";
import { benchStreams } from "./streams.ts";

const options = parseOptions();
// Progress must not mix with figures that a program reads.
const children = new Children((line) => (options.json ? console.error(line) : console.log(line)));
let isInterrupted = false;
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  process.on(signal, () => {
    isInterrupted = true;
    void children.stop().finally(() => process.exit(code));
  });
}
try {
  const parts = {
    nodes: benchNodes,
    links: benchLinks,
    actors: benchActors,
    streams: benchStreams,
  };
  await parts[options.part](options, children);
} catch (error) {
  // The end of the children is a consequence then, no failure.
  if (!isInterrupted) {
    console.error(`the measurement failed: ${(error as Error).message}`);
    process.exitCode = 1;
  }
} finally {
  await children.stop();
}
