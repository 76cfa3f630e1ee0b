import assert from "node:assert/strict";
import { realClock } from "../../src/base/real.ts";
import { seededRandom } from "../../src/base/random.ts";
import { layFoundation, makeWorld } from "../../src/node/foundation.ts";
import type { Foundation } from "../../src/node/foundation.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { test } from "../harness.ts";

/** Nodes of nothing but links, and what each was told. */
function linkWorld() {
  const network = createMemoryNetwork({
    clock: realClock,
    random: seededRandom(3),
    latencyMs: [0, 3],
  });
  const started: Foundation[] = [];
  return {
    async start(name: string) {
      const options = {
        name: `${name}@mem`,
        listen: [`mem://${name}`],
        transports: [network.host(name).transport],
      };
      const foundation = await layFoundation(options, await makeWorld(options));
      started.push(foundation);
      const told: string[] = [];
      foundation.links.on((event) => {
        told.push(event.type === "linkUp" ? "up" : `down ${event.reason}`);
      });
      return { ...foundation, told };
    },
    async close() {
      for (const { links, connector, world } of started) {
        await links.close();
        await connector.close();
        world.clock.close();
      }
    },
  };
}

test("several dials to one node at once leave one link, and nobody is told that one went", async () => {
  const { start, close } = linkWorld();
  const server = await start("server");
  for (let round = 0; round < 10; round++) {
    const client = await start(`client${round}`);
    client.resolvers.push(() => server.self.addresses);
    const dials = [
      client.links.connectAddress("mem://server"),
      client.links.connect("server@mem"),
      client.links.connectAddress("mem://server"),
    ];
    for (const peer of await Promise.all(dials)) assert.equal(peer.name, "server@mem");
    await client.links.ping("server@mem", 5_000);
    assert.deepEqual(client.told, ["up"]);
    assert.equal(client.links.list().length, 1);
  }
  assert.deepEqual(server.told, Array(10).fill("up"));
  await close();
});

test("a goodbye is told on both ends by its reason", async () => {
  const { start, close } = linkWorld();
  const [a, b] = [await start("a"), await start("b")];
  await a.links.connectAddress("mem://b");
  await a.links.disconnect("b@mem");
  await a.links.connectAddress("mem://b");
  const left = new Promise<void>((resolve) => {
    b.links.on((event) => event.type === "linkDown" && event.reason === "left" && resolve());
  });
  await a.links.close();
  await left;
  assert.deepEqual(a.told, ["up", "down goodbye", "up", "down goodbye"]);
  assert.deepEqual(b.told, ["up", "down goodbye", "up", "down left"]);
  await close();
});
