/** Dials an echo server through quiche, says one thing, closes, and leaves the rest to the runtime. */
import process from "node:process";
import { quicheTransport } from "../../adapters/quic/quiche.ts";
import { collect, dial } from "../conformance/world.ts";

const connection = await dial(await quicheTransport(), process.argv[2] as string);
const pipe = await connection.openPipe("bidirectional");
const answer = collect(pipe);
pipe.write(new TextEncoder().encode("hello"));
pipe.end();
console.log(`echo ${new TextDecoder().decode((await answer).bytes)}`);
connection.close(1, "done");
console.log(`closed ${(await connection.closed).by}`);
