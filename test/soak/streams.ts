/** `npm run soak:streams`: a gibibyte over a tagged stream between each pair of runtimes. */
import process from "node:process";
import { readOptions, refuse } from "../../examples/arguments.ts";
import { table } from "../../bench/table.ts";
import { RUNTIMES, startProgram } from "../processes.ts";

const HELP = `npm run soak:streams -- [options]

Sends bytes over a tagged stream with pipeTo between each of the nine pairs of runtimes, writer first,
each end in a process of its own, and compares the checksums. The exit code is 1 when one differs, or
when a process has ever held more than 512 MiB.

  --mib N   how much over each stream (1024)
  --help    this text
`;

const { mib = "" } = readOptions(HELP, { mib: "1024" });
if (!(Number.isSafeInteger(Number(mib)) && Number(mib) >= 1)) {
  refuse(`--mib ${mib}: a whole number from 1 up is wanted`, HELP);
}
// Bun collects late: what it holds beyond some 100 MiB is garbage.
const MAX_RSS_MIB = 512;
const rows: string[][] = [];
for (const from of RUNTIMES) {
  for (const to of RUNTIMES) {
    const server = startProgram(to, "test/stream/stream_program.ts");
    try {
      const [, address = ""] = await server.line(/^ready (\S+)$/);
      const client = startProgram(from, "test/stream/stream_program.ts", [address, mib]);
      const [, verdict = "", seconds = "", sender = ""] = await client.line(
        /^sent (\S+) (\S+) (\d+)$/,
        600_000,
      );
      server.say("peak");
      const [, receiver = ""] = await server.line(/^peak (\d+)$/);
      const isWell = verdict === "whole" && Number(sender) <= MAX_RSS_MIB &&
        Number(receiver) <= MAX_RSS_MIB;
      if (!isWell) process.exitCode = 1;
      const rate = (Number(mib) / Number(seconds)).toFixed(0);
      console.log(`${isWell ? "ok  " : "FAIL"} ${from}-${to}: ${verdict}, ${rate} MiB/s`);
      rows.push([`${from}-${to}`, verdict, Number(seconds).toFixed(1), rate, sender, receiver]);
      await client.exited;
    } finally {
      await server.kill();
    }
  }
}
const head = ["writer-reader", "checksum", "s", "MiB/s", "writer RSS MiB", "reader RSS MiB"];
console.log(table(head, rows));
