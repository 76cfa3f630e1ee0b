/** The server of the raw measurement: echoes or counts until its standard input ends. */
import process from "node:process";
import { startRawServer } from "./raw_transport.ts";

console.log(`listening ${await startRawServer(process.argv[2] ?? "quic")}`);
process.stdin.on("end", () => process.exit()).resume();
