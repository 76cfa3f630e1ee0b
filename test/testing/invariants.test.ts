import assert from "node:assert/strict";
import { Emitter } from "../../src/base/events.ts";
import type { NodeEvent } from "../../src/node/events.ts";
import type { Node } from "../../src/node/node.ts";
import { watchNode } from "../../src/testing/invariants.ts";
import type { Watch } from "../../src/testing/invariants.ts";
import { describe, test } from "../harness.ts";

/** A node whose views and events are what the test says. */
function fake(): {
  views: { active: string[]; passive: string[] };
  watch: Watch;
  gauges: Record<string, number>;
  tell: Tell;
} {
  const gauges: Record<string, number> = {};
  const views = { active: [] as string[], passive: [] as string[] };
  const events = new Emitter<NodeEvent>((error) => {
    throw error;
  });
  const membership = {
    activeView: () => views.active,
    passiveView: () => views.passive,
    on: (listener: (event: NodeEvent) => void) => events.on(listener),
  };
  const node = { name: "me@t", membership } as unknown as Node;
  return {
    views,
    watch: watchNode(node, { read: (name) => gauges[name] ?? 0 }),
    gauges,
    tell: (event) => events.emit(event),
  };
}
type Tell = (event: NodeEvent) => void;

describe("what is checked after every step", () => {
  test("holds for a view that its events tell of", () => {
    const { views, watch, tell } = fake();
    tell({ type: "peerUp", node: "a@t" });
    tell({ type: "nodeUp", node: "a@t" });
    views.active.push("a@t");
    views.passive.push("b@t");
    watch.check();
    tell({ type: "nodeUnreachable", node: "a@t" });
    tell({ type: "nodeUp", node: "a@t" });
    tell({ type: "nodeDown", node: "a@t", reason: "unreachable" });
    tell({ type: "peerDown", node: "a@t", reason: "down" });
    views.active.pop();
    watch.check();
  });

  test("finds views that are too large, or hold somebody twice or the node itself", () => {
    const names = ["a@t", "b@t", "c@t", "d@t", "e@t", "f@t"];
    const large = fake();
    for (const node of names) large.tell({ type: "peerUp", node });
    large.views.active.push(...names);
    assert.throws(large.watch.check, /me@t: 6 neighbours, 5 at most/);
    const many = fake();
    many.views.passive.push(...Array.from({ length: 31 }, (_, i) => `n${i}@t`));
    assert.throws(many.watch.check, /31 passive, 30 at most/);
    const both = fake();
    both.tell({ type: "peerUp", node: "a@t" });
    both.views.active.push("a@t");
    both.views.passive.push("a@t");
    assert.throws(both.watch.check, /somebody twice/);
    const self = fake();
    self.views.passive.push("me@t");
    assert.throws(self.watch.check, /itself in its views/);
  });

  test("finds a cache of broadcast beyond its cap", () => {
    const most = { kept: 4_096, kept_bytes: 16 * 1024 * 1024, missing: 16_384, waiting: 5 * 1_024 };
    for (const [name, cap] of Object.entries(most)) {
      const { watch, gauges } = fake();
      gauges[`barrel_broadcast_${name}`] = cap;
      watch.check();
      gauges[`barrel_broadcast_${name}`] = cap + 1;
      assert.throws(watch.check, new RegExp(`me@t: .*${cap + 1} `));
    }
  });

  test("finds a transition that was told twice, or never", () => {
    const never = fake();
    never.views.active.push("a@t");
    assert.throws(never.watch.check, /the view is a@t/);
    const twice: NodeEvent[][] = [
      [{ type: "peerUp", node: "a@t" }, { type: "peerUp", node: "a@t" }],
      [{ type: "peerDown", node: "a@t", reason: "lost" }],
      [{ type: "nodeUp", node: "a@t" }, { type: "nodeUp", node: "a@t" }],
      [{ type: "nodeUnreachable", node: "a@t" }],
      [{ type: "nodeDown", node: "a@t", reason: "left" }],
    ];
    for (const events of twice) {
      const { watch, tell } = fake();
      events.forEach(tell);
      assert.throws(watch.check, /^Error: me@t: a@t/);
    }
  });
});
