import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createNode } from "../../mod.ts";
import type { Node, NodeOptions } from "../../mod.ts";
import { fastCrypto } from "../../src/testing/fast_crypto.ts";
import { createSimulation } from "../../src/testing/mod.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { realClock, realRandom } from "../../src/base/real.ts";
import { describe, test } from "../harness.ts";
import { obedient, RULES } from "./rules.ts";
import type { Rule, Stage } from "./rules.ts";

/** Plays a rule in a process of the first node; resolves when it has been shown. */
function play(rule: Rule, stage: Stage): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const got: unknown[] = [];
  stage.here.spawn(async (self) => {
    const other = {
      got,
      spawn: ({ trap = false, name }: { trap?: boolean; name?: string } = {}) =>
        stage.there.spawn(obedient(got, trap), name === undefined ? {} : { name }),
    };
    await rule.play(self, stage, other).then(resolve, reject);
  });
  return promise;
}

const title = ({ when, then }: Rule) => `${when}: ${then}`.replaceAll("`", "");

test("every rule of the documentation has a test, and every test is documented", () => {
  const page = readFileSync(new URL("../../docs/actors.md", import.meta.url), "utf8");
  const table = /\| what happens .*\n\|[- |]+\|\n((?:\|.*\n)+)/.exec(page)?.[1] ?? "";
  const rows = table.trim().split("\n").map((row) =>
    row.split("|").slice(1, 3).map((cell) => cell.trim())
  );
  assert.deepEqual(rows, RULES.map(({ when, then }) => [when, then]));
});

describe("on one node", () => {
  for (const rule of RULES) {
    if (rule.needs !== undefined) continue;
    test(title(rule), async () => {
      await using node = await createNode({ name: "a@here", listen: [], transports: [] });
      await play(rule, {
        here: node,
        there: node,
        cut: undefined,
        migrate: undefined,
        reborn: undefined,
      });
    });
  }
});

describe("between two nodes", () => {
  for (const rule of RULES) {
    test(title(rule), async () => {
      const network = createMemoryNetwork({ clock: realClock, random: realRandom });
      const start = (name: string, more: Partial<NodeOptions> = {}) =>
        createNode({
          name: `${name}@here`,
          listen: [`mem://${name}`],
          transports: [network.host(`${name} ${++hosts}`).transport],
          crypto: fastCrypto(realRandom),
          ...more,
        });
      let hosts = 0;
      const here = await start("a");
      let there = await start("b", { contactNodes: here.addresses });
      await there.joined({ timeoutMs: 10_000 });
      await here.joined({ timeoutMs: 10_000 });
      const earlier: Node[] = [];
      await play(rule, {
        here,
        there,
        cut: () => here.links.disconnect(there.name),
        migrate: () => here.links.migrate(there.name),
        async reborn() {
          await there.close();
          earlier.push(there);
          there = await start("b", { contactNodes: here.addresses });
          await there.joined({ timeoutMs: 10_000 });
          return there;
        },
      });
      await Promise.all([here.close(), there.close()]);
    });
  }
});

describe("in a simulation", () => {
  for (const rule of RULES) {
    test(title(rule), async () => {
      const sim = await createSimulation({ seed: 6, nodes: 2, latencyMs: [1, 5], loss: 0.02 });
      const [here, there] = [sim.node(0), sim.node(1)];
      await sim.until(() => [here, there].every((node) => node.membership.members().length === 2));
      await sim.run(play(rule, {
        here,
        there,
        cut: () => Promise.resolve(sim.partition([here], [there])),
        migrate: () => here.links.migrate(there.name),
        reborn: async () => {
          const next = await sim.restart(there);
          return next;
        },
      }));
      await sim.close();
    });
  }
});
