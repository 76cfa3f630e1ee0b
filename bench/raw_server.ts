/** The server of the raw measurement: echoes or counts until its standard input ends. */
import process from "node:process";
import type { Pipe } from "../src/transport/contract.ts";
import { ECHO, MEMORY, rawOptions, transportNamed } from "./raw_transport.ts";

const [transport, address] = await transportNamed(process.argv[2] ?? "quic");
const listener = await transport.listen(address, {
  ...await rawOptions(),
  maxConnections: 1_000,
  onConnection: (connection) => void (connection.onPipe = serve),
});
console.log(`listening ${listener.address}`);
process.stdin.on("end", () => process.exit()).resume();

function serve(pipe: Pipe): void {
  let echoes: boolean | undefined;
  let count = 0;
  pipe.onData = (chunk) => {
    let data = chunk;
    if (echoes === undefined) {
      echoes = chunk[0] === ECHO;
      data = chunk.subarray(1);
      if (chunk[0] === MEMORY) pipe.write(new TextEncoder().encode(`${process.memoryUsage().rss}`));
    }
    count += data.length;
    if (echoes && data.length > 0) pipe.write(data);
  };
  pipe.onEnd = () => {
    if (!echoes) pipe.write(new TextEncoder().encode(String(count)));
    pipe.end();
  };
}
