import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { INSTRUMENTS } from "../../src/metrics/catalogue.ts";
import { memoryMeter } from "../../src/metrics/meter.ts";
import { test } from "../harness.ts";

test("every instrument that the source counts is in the catalogue, and no other", () => {
  const source = new URL("../../src/", import.meta.url);
  const used = new Set<string>();
  for (const file of readdirSync(source, { recursive: true, encoding: "utf8" })) {
    if (!file.endsWith(".ts") || file.endsWith("catalogue.ts")) continue;
    const text = readFileSync(new URL(file.replaceAll("\\", "/"), source), "utf8");
    for (const [name] of text.matchAll(/(?<=")barrel_[a-z_]+(?=")/g)) used.add(name);
  }
  assert.deepEqual([...used].sort(), Object.keys(INSTRUMENTS).sort());
  for (const [name, { kind }] of Object.entries(INSTRUMENTS)) {
    assert.equal(name.endsWith("_total"), kind === "counter", name);
  }
});

test("a meter keeps label sets apart, whatever their order, and is bounded", () => {
  const meter = memoryMeter();
  meter.count("a_total", { x: "1", y: "2" });
  meter.count("a_total", { y: "2", x: "1" }, 2);
  meter.gauge("b", 5);
  meter.gauge("b", 4);
  assert.deepEqual(meter.snapshot(), { 'a_total{x="1",y="2"}': 3, b: 4 });
  for (let i = 0; i < 10_000; i++) meter.count("c_total", { i: String(i) });
  const snapshot = meter.snapshot();
  assert.ok(Object.keys(snapshot).length <= 4_100);
  assert.ok((snapshot['c_total{labels="other"}'] ?? 0) > 5_000);
});
