import { realClock } from "../../src/base/real.ts";
import { seededRandom } from "../../src/base/random.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { conformance } from "./suite.ts";

const network = createMemoryNetwork({
  clock: realClock,
  random: seededRandom(1),
  latencyMs: [0, 2],
  loss: 0.01,
});
let hosts = 0;

conformance({
  name: "memory",
  create: () => network.host(`host${hosts++}`).transport,
  addresses: ["mem://server:0"],
  deadAddress: "mem://nobody",
  showsCertificate: true,
  freesPorts: true,
});
