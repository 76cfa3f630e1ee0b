/** A node that tells what it logs and counts: `relay_program.ts CONTACT TARGET_NAME TARGET_KEY?`. */
import process from "node:process";
import { decodeHex, encodeHex } from "@std/encoding/hex";
import { createNode } from "../../mod.ts";
import type { Bytes } from "../../src/base/bytes.ts";

const [contact = "", target = "", key = ""] = process.argv.slice(2);
const node = await createNode({
  name: "other@127.0.0.1",
  listen: ["quic://127.0.0.1:0"],
  // With the target's key the dial is pinned, and by name.
  contactNodes: contact === "" || key !== "" ? [] : [contact],
  logger: { log: (level, message) => console.log(`${level} ${message}`) },
});
if (key !== "") {
  await node.trust.pin(target, decodeHex(key) as Bytes);
  node.links.setConnectOptions(target, { address: contact });
  node.links.connect(target).then(
    () => console.log("connected"),
    (error) => console.log(`failed ${error}`),
  );
}
console.log(`listening ${node.addresses[0]} ${encodeHex(node.publicKey)}`);
setInterval(() => {
  for (const [name, value] of Object.entries(node.metrics.snapshot())) {
    if (name.includes("handshake")) console.log(`metric ${name} ${JSON.stringify(value)}`);
  }
  console.log(`links ${node.links.list().length} pins ${node.trust.list().length}`);
}, 300);
