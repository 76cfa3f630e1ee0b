/** What a node that changes its network talks to: procedures, streams and a process that counts. */
import process from "node:process";
import { createNode } from "../../mod.ts";
import { digestOf } from "../stream/noise.ts";

const node = await createNode({ name: "server@127.0.0.1", listen: ["quic://127.0.0.1:0"] });
let count = 0;
let fault = "";
const counter = node.spawn(async (self) => {
  for await (const message of self.mailbox) {
    if (message !== count) fault ||= `${message} came where ${count} was due`;
    count++;
  }
});
node.rpc.expose("server", {
  add: (a: number, b: number) => a + b,
  counter: () => counter,
  counted: () => fault || count,
});
node.streams.accept("digest", async ({ readable, writable }) => {
  const writer = writable.getWriter();
  await writer.write(new TextEncoder().encode(await digestOf(readable)));
  await writer.close();
});
console.log(`ready ${node.addresses[0]}`);
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
