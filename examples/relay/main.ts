/** A node that can be reached through a relay only: the other one dials it there. */
import process from "node:process";
import { createNode, defineServer } from "../../mod.ts";
import { commands, readOptions } from "../arguments.ts";
import { throughRelay } from "./datagrams.ts";
import { startRelay } from "./relay.ts";

const HELP =
  `Two nodes and a relay of datagrams between them. The node "inside" takes calls; "outside" is told
to dial it through the relay, which sees ciphertext only. Needs @infisical/quic, on every runtime: the
runtimes' own QUIC sends from sockets of its own.

${commands("relay/main.ts", "")}

  --port N   the relay's port (a free one)
  --help     this text
`;

const { port = "0" } = readOptions(HELP, { port: "0" });

const Greeter = defineServer({
  init: () => null,
  calls: { greet: (_ctx, name: string) => `hello, ${name}` },
});

const inside = await createNode({ name: "inside@127.0.0.1", listen: ["quic://127.0.0.1:0"] });
const greeter = await inside.start(Greeter, []);
const [address = ""] = inside.addresses;
const target = address.replace("quic://", "");

const relay = await startRelay("127.0.0.1", Number(port), [target]);
console.log(`the relay at 127.0.0.1:${relay.port} passes packets on to ${target}`);

const outside = await createNode({ name: "outside@127.0.0.1", listen: [] });
process.once("SIGINT", () => {
  void Promise.all([outside.close(), inside.close()]).then(() => process.exit(130));
});
outside.links.setConnectOptions("inside@127.0.0.1", {
  address,
  datagrams: () => throughRelay("127.0.0.1", relay.port, target),
});
await outside.links.connect("inside@127.0.0.1");
const client = outside.client(Greeter, greeter);
console.log(await client.greet("through the relay"));
for (let i = 0; i < 50; i++) await client.greet(String(i));
console.log(`${relay.passed} packets went through the relay`);

await outside.close();
await inside.close();
relay.close();
