/**
 * A member of the cluster whose failures are measured: `node_member.ts NAME [CONTACT]`. Prints its
 * address, how many members it knows, and each node that is down with the wall-clock time at which
 * it learnt it.
 */
import process from "node:process";
import { benchNode, endWithParent } from "./node_peer.ts";

endWithParent();
const [, , name = "", contact] = process.argv;
const node = await benchNode(name, contact);
node.membership.on((event) => {
  if (event.type === "nodeDown") {
    const at = performance.timeOrigin + performance.now();
    console.log(`down ${event.node} ${at} ${event.reason}`);
  }
  if (event.type === "nodeUp") tellMembers();
});
console.log(`ready ${node.addresses[0]}`);
tellMembers();

function tellMembers(): void {
  console.log(`members ${node.membership.members().length}`);
}
