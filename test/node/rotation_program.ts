/** `rotation_program.ts NAME CONTACT OTHER…`: reports in lines, rotates for each line that it reads. */
import process from "node:process";
import { createInterface } from "node:readline";
import { startRotating } from "./rotation_node.ts";

const [name = "", contact = "", ...others] = process.argv.slice(2);
const rotating = await startRotating(
  { name, listen: ["quic://127.0.0.1:0"], contactNodes: [contact] },
  others,
);
let rotations = 0;
setInterval(() => {
  const { answered, faults } = rotating;
  const least = Math.min(...others.map((other) => answered.get(other) ?? 0));
  console.log(`rotations ${rotations} answered ${least} faults ${faults.join("; ")}`);
}, 100);
for await (const line of createInterface({ input: process.stdin })) {
  if (line === "end") break;
  await rotating.rotate().catch((error) => rotating.faults.push(String(error)));
  rotations++;
  console.log(`rotated ${rotations} ${rotating.node.fingerprint}`);
}
await rotating.close();
process.exit(0);
