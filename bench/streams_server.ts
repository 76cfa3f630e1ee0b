/** The serving end of the streams' measurement: a node that counts, and a bare transport beside it. */
import { benchNode, endWithParent } from "./node_peer.ts";
import { startRawServer } from "./raw_transport.ts";
import { SINK_TAG } from "./streams_peer.ts";

endWithParent();
const bare = await startRawServer("quic");
const node = await benchNode("server");
node.streams.accept(SINK_TAG, async ({ readable, writable }) => {
  let count = 0;
  const reader = readable.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    count += value.length;
  }
  const writer = writable.getWriter();
  await writer.write(new TextEncoder().encode(String(count)));
  await writer.close();
});
console.log(`ready ${node.addresses[0]} ${bare}`);
