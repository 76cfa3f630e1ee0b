import assert from "node:assert/strict";
import { TransportError } from "../../src/base/errors.ts";
import type { NodeName } from "../../src/wire/node_name.ts";
import { describe, test } from "../harness.ts";
import { conversation, KEYS } from "./conversation.ts";
import { linkWorld, pair } from "./world.ts";
import type { LinkNode, LinkWorld } from "./world.ts";

const close = (world: LinkWorld, ...nodes: LinkNode[]) =>
  world.until(Promise.all(nodes.map(({ links }) => links.close())));

describe("a link handed over to a new connection", () => {
  for (const who of ["the dialler", "the other end", "both ends at once"]) {
    test(`by ${who} loses, doubles and reorders nothing, and nobody is told`, async () => {
      for (let seed = 1; seed <= 12; seed++) {
        const world = linkWorld(seed, { latencyMs: [1, 40], loss: 0.05 });
        const { a, b } = await pair(world);
        const there = conversation(a, b), back = conversation(b, a);
        const before = a.links.list()[0]?.address;
        const migrations: Promise<void>[] = [];
        for (let turn = 0; turn < 300; turn++) {
          there.send(turn % KEYS);
          back.send((turn * 3) % KEYS);
          if (turn === 100 + seed) {
            if (who !== "the other end") migrations.push(a.links.migrate(b.self.name, 60_000));
            if (who !== "the dialler") migrations.push(b.links.migrate(a.self.name, 60_000));
          }
          await world.run(1);
        }
        await world.until(Promise.all(migrations));
        await world.holds(() => there.isComplete && back.isComplete);
        there.check();
        back.check();
        // The end that was dialled takes the new connection up a moment after the dialler.
        if (who === "the other end") {
          await world.holds(() => a.links.list()[0]?.address !== before);
        }
        assert.deepEqual([a.told, b.told], [["up"], ["up"]], `seed ${seed}`);
        assert.equal(a.links.list().length, 1);
        assert.equal(b.links.list().length, 1);
        await close(world, a, b);
      }
    });
  }

  test("can be handed over again and again", async () => {
    const world = linkWorld(3);
    const { a, b } = await pair(world);
    const there = conversation(a, b);
    for (let round = 0; round < 10; round++) {
      for (let key = 0; key < KEYS; key++) there.send(key);
      const mover = round % 3 === 0 ? b : a, other = mover === a ? b : a;
      await world.until(mover.links.migrate(other.self.name, 5_000));
    }
    await world.holds(() => there.isComplete);
    there.check();
    assert.deepEqual([a.told, b.told], [["up"], ["up"]]);
    await close(world, a, b);
  });

  test("that dies before it has drained is told as lost: monitors must hear of it", async () => {
    const world = linkWorld(4, { latencyMs: [5, 5] });
    const { a, b } = await pair(world);
    conversation(b, a);
    const there = conversation(a, b);
    // More than the credit of a pipe, so that it cannot drain before the peer has read.
    for (let i = 0; i < 600; i++) there.send(3);
    const moved = a.links.migrate(b.self.name, 60_000).catch(() => {});
    await world.run(31);
    assert.equal(a.dialled.length, 2);
    a.dialled[0]?.close(3, "cut");
    await world.until(moved);
    await world.run(10_000);
    assert.deepEqual(a.told.slice(0, 3), ["up", "down lost", "up"]);
    await close(world, a, b);
  });

  test("is refused with a name when there is none, when it takes too long, when nobody answers", async () => {
    const world = linkWorld(5);
    const { a, b } = await pair(world);
    const refused = async (node: LinkNode, name: string, timeoutMs: number) => {
      const error = await world.until(
        node.links.migrate(name as NodeName, timeoutMs).then(() => undefined, (why) => why),
      );
      assert.ok(error instanceof TransportError);
      return error.reason;
    };
    assert.equal(await refused(a, "nobody@mem", 1_000), "not_connected");
    world.network.partition([a.host], [b.host]);
    assert.equal(await refused(a, b.self.name, 1_000), "timeout");
    world.network.heal();
    await world.run(20_000);
    b.resolvers.length = 0;
    assert.equal(await refused(b, a.self.name, 1_000), "unreachable");
    assert.deepEqual(a.told, ["up"]);
    await close(world, a, b);
  });

  test("is what is left when the peer forbids its connections to move, or no id is left", async () => {
    const world = linkWorld(6);
    const { a, b } = await pair(world);
    const refuses = (reason: string) => () => Promise.reject(new TransportError(reason, "no"));
    Object.assign(a.dialled[0] as object, { migrate: refuses("migration_disabled") });
    await world.until(a.links.migrate(b.self.name, 5_000));
    assert.equal(a.dialled.length, 2);
    assert.deepEqual(a.told, ["up"]);
    Object.assign(a.dialled[1] as object, { migrate: refuses("migration_disabled") });
    a.links.setConnectOptions(b.self.name, { address: "mem://nobody" });
    const reasonOf = (moving: Promise<void>) =>
      world.until(moving.then(() => "", (error: TransportError) => error.reason));
    assert.equal(await reasonOf(a.links.migrate(b.self.name, 5_000)), "peer_disable_migration");
    Object.assign(a.dialled[1] as object, { migrate: refuses("migration_impossible") });
    assert.notEqual(await reasonOf(a.links.migrate(b.self.name, 5_000)), "peer_disable_migration");
    assert.deepEqual(a.told, ["up"]);
    // The connection that was to move ends under way.
    const ended = () => {
      a.dialled[1]?.close(3, "cut");
      return Promise.reject(new TransportError("closed", "the connection has ended"));
    };
    Object.assign(a.dialled[1] as object, { migrate: ended });
    assert.equal(await reasonOf(a.links.migrate(b.self.name, 5_000)), "no_conn");
    await close(world, a, b);
  });
});

describe("a peer that has lost a link without our knowing", () => {
  for (let seed = 1; seed <= 4; seed++) {
    // Both orders of the two keys, and either end as the one that had dialled.
    test(`is let in again at once, and the users of the lost link are told (seed ${seed})`, async () => {
      const world = linkWorld(seed);
      const { a, b } = await pair(world);
      const [survivor, loser] = seed % 2 === 0 ? [a, b] : [b, a];
      loser.host.crash();
      const again = await world.revive(loser);
      again.resolvers.push(() => survivor.self.addresses);
      const since = world.now();
      await world.until(again.links.connect(survivor.self.name));
      await world.holds(() => survivor.told.length === 3);
      assert.deepEqual(survivor.told, ["up", "down lost", "up"]);
      assert.ok(world.now() - since < 3_000);
      assert.ok(await world.until(survivor.links.ping(again.self.name, 1_000)) > 0);
      await close(world, survivor, again);
    });
  }
});
