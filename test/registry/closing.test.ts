import assert from "node:assert/strict";
import { Down } from "../../src/actor/messages.ts";
import type { Behaviour } from "../../src/actor/process.ts";
import { createSimulation } from "../../src/testing/simulation.ts";
import { describe, test } from "../harness.ts";

const idle: Behaviour<unknown> = async (self) => {
  for await (const _ of self.mailbox);
};

describe("a node that closes", () => {
  for (const seed of [1, 2]) {
    test(`ends its services for the reason that their processes ended, everywhere (seed ${seed})`, async () => {
      const sim = await createSimulation({ seed, nodes: 6, latencyMs: [5, 60] });
      try {
        const [first, ...others] = sim.nodes as [typeof sim.nodes[0], ...typeof sim.nodes];
        await sim.until(() => sim.nodes.every((node) => node.membership.members().length === 6));
        const pid = first.spawn(idle);
        await sim.run(first.registry.register("s", pid));
        await sim.until(() => others.every((node) => node.registry.lookup("s").length === 1));
        const events: string[][] = [];
        const downs: unknown[] = [];
        for (const node of others) {
          const told: string[] = [];
          events.push(told);
          node.registry.on(({ type, name, reason }) => told.push(`${type} ${name} ${reason}`));
          node.spawn(async (self) => {
            self.monitor("s");
            const down = await self.receive((message) =>
              message instanceof Down ? message : undefined
            );
            downs.push(down.reason);
          });
        }
        await sim.run({ forMs: 1_000 });
        await sim.run(first.close());
        await sim.until(() => others.every((node) => node.membership.members().length === 5));
        await sim.run({ forMs: 20_000 });
        assert.deepEqual(events, others.map(() => ["down s shutdown"]));
        assert.deepEqual(downs, others.map(() => "shutdown"));
      } finally {
        await sim.close();
      }
    });
  }
});
