import assert from "node:assert/strict";
import { createNode, defineServer } from "../../mod.ts";
import { realClock } from "../../src/base/real.ts";
import { seededRandom } from "../../src/base/random.ts";
import type { Authenticated } from "../../src/link/connector.ts";
import { layFoundation, makeWorld } from "../../src/node/foundation.ts";
import { createMemoryNetwork } from "../../src/transport/memory.ts";
import { FrameType } from "../../src/wire/frame_types.ts";
import { test } from "../harness.ts";

const Echo = defineServer({ init: () => 0, calls: { echo: (_ctx, text: string) => text } });

test("a member that sends garbage is cut off by name while honest peers go on", {
  timeoutMs: 60_000,
}, async () => {
  const random = seededRandom(2026);
  const network = createMemoryNetwork({ clock: realClock, random });
  const start = (name: string, contactNodes: readonly string[] = []) =>
    createNode({
      name: `${name}@mem`,
      listen: [`mem://${name}`],
      contactNodes,
      transports: [network.host(name).transport],
    });
  const server = await start("server");
  const honest = await start("honest", server.addresses);
  await honest.joined({ timeoutMs: 10_000 });
  // A member may end any process: give the one that answers a number that is not hit by chance.
  for (let i = 0; i < 20_000; i++) server.spawn(() => {});
  const echo = honest.client(Echo, await server.start(Echo, []));

  // A member that has proved who it is, and then writes what it likes.
  const options = {
    name: "liar@mem",
    listen: [],
    transports: [network.host("liar").transport],
  };
  const world = await makeWorld(options);
  const liar = await layFoundation(options, world);
  const good = [...Object.values(FrameType)];
  const frame = (): Uint8Array => {
    const body = random.bytes(random.uint32() % 60);
    const type = good[random.uint32() % good.length] as number;
    return Uint8Array.of(body.length + 1, type, ...body);
  };
  const attack = async ({ connection, control }: Authenticated, round: number) => {
    control.resume();
    const data = await connection.openPipe("bidirectional");
    data.onData = () => {};
    if (round % 2 === 0) {
      // The pipes of an ordinary link first, so that data frames are looked at.
      data.write(Uint8Array.of(4, FrameType.PREAMBLE, 1, 0, 1));
    }
    const target = round % 3 === 0 ? control.pipe : data;
    for (let i = 0; i < 20; i++) target.write(round % 5 === 0 ? random.bytes(100) : frame());
    connection.onPipe = (pipe) => pipe.destroy();
    // Most are cut off; what is harmless by chance is ended here.
    const timer = setTimeout(() => connection.close(9, "done"), 50);
    await connection.closed;
    clearTimeout(timer);
  };
  for (let round = 0; round < 300; round++) {
    await attack(await liar.connector.dial("mem://server"), round);
    if (round % 20 === 0) assert.equal(await echo.echo(`round ${round}`), `round ${round}`);
  }
  const refused = Object.entries(server.metrics.snapshot())
    .filter(([name]) => name.startsWith("barrel_frames_refused_total"));
  assert.ok(refused.length >= 3, `several rules were broken: ${refused.map(([name]) => name)}`);
  assert.equal(await echo.echo("still here"), "still here");
  assert.deepEqual(server.membership.activeView(), [honest.name]);
  assert.equal(server.membership.members().filter(({ status }) => status === "alive").length, 2);

  await liar.links.close();
  await liar.connector.close();
  world.clock.close();
  await honest.close();
  await server.close();
});
