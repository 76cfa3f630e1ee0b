/** The serving end of the links' measurement: prints its address, answers until its input ends. */
import process from "node:process";
import { FrameType } from "../src/wire/frame_types.ts";
import { Ask, startLinks } from "./links_peer.ts";
import { endWithParent } from "./node_peer.ts";

endWithParent();
const { links, self } = await startLinks(["quic://127.0.0.1:0"]);
const NOTHING = new Uint8Array(0);
let bytes = 0;
links.signals.onSignal = (_type, body, { name }) => {
  const answer = (payload: Uint8Array) =>
    void links.signals.send(name, 0, 1, FrameType.SEND, NOTHING, payload);
  const number = (value: number) => answer(new TextEncoder().encode(String(value)));
  bytes += body.length;
  switch (body[0]) {
    case Ask.ECHO:
      return answer(body);
    case Ask.TOTAL:
      number(bytes - body.length);
      return void (bytes = 0);
    case Ask.MEMORY:
      return number(process.memoryUsage().rss);
  }
};
console.log(`ready ${self.name} ${self.addresses[0]}`);
