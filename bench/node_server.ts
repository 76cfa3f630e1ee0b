/**
 * The serving end of a pair: a node with an echo server and a process that counts, and beside it
 * bare QUIC that echoes and counts. Prints the addresses of both.
 */
import type { Pid } from "../mod.ts";
import { benchNode, COUNTER_NAME, Echo, ECHO_NAME, endWithParent } from "./node_peer.ts";
import { startRawServer } from "./raw_transport.ts";

endWithParent();
const bare = await startRawServer("quic");
const node = await benchNode("server");
await node.start(Echo, [], { register: ECHO_NAME });
// Counts messages; a pid asks for their number and sets it to zero.
const counter = node.spawn<Uint8Array | Pid<number>>(async (self) => {
  let count = 0;
  for await (const message of self.mailbox) {
    if (message instanceof Uint8Array) count++;
    else {
      void (message as Pid<number>).send(count);
      count = 0;
    }
  }
});
await node.registry.register(COUNTER_NAME, counter);
console.log(`ready ${node.addresses[0]} ${bare}`);
