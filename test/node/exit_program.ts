/** Two nodes, one of which only dials: once they are closed, nothing keeps the process alive. */
import { createNode } from "../../mod.ts";

const listening = await createNode({ name: "listening@127.0.0.1", listen: ["quic://127.0.0.1:0"] });
const dialling = await createNode({
  name: "dialling@127.0.0.1",
  listen: [],
  contactNodes: listening.addresses,
});
await dialling.joined({ timeoutMs: 10_000 });
await dialling.close();
await listening.close();
console.log("closed");
