/**
 * One truth in real processes: nodes on the three runtimes write names and map entries, writers
 * are killed and restarted, the network is split and mended; afterwards every node must print the
 * same hash of its state. `npm run state -- --help` says how.
 */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { readOptions, refuse } from "../../examples/arguments.ts";
import { RUNTIMES, startProgram } from "../processes.ts";
import type { Program, RuntimeName } from "../processes.ts";
import { makeWire } from "../soak/network.ts";
import type { Wire } from "../soak/network.ts";

const HELP = `npm run state -- [options]

  --nodes N     nodes, in turn on Deno, Bun and Node (12)
  --names N     registered names, and as many map entries (2000)
  --split S     seconds that the network is split (15); needs root and iproute2; 0 for none
  --json        the figures as one line of JSON at the end
  --help        this text
`;

interface State {
  readonly hash: string;
  readonly names: number;
  readonly entries: number;
  /** Live nodes that it knows. */
  readonly members: number;
}

class Member {
  readonly name: string;
  readonly runtime: RuntimeName;
  readonly #host: string;
  readonly #namespace: string | undefined;
  readonly #folder: string;
  #program: Program | undefined;
  #asked = 0;
  address = "";

  constructor(index: number, wire: Wire | undefined, folder: string) {
    const place = wire?.places[index % 2];
    this.#host = place?.host ?? "127.0.0.1";
    this.#namespace = place?.namespace;
    this.name = `n${index}@${this.#host}`;
    // With two sides so that each runtime is on both.
    const turn = wire === undefined ? index : Math.floor(index / 2);
    this.runtime = RUNTIMES[turn % RUNTIMES.length] as RuntimeName;
    this.#folder = join(folder, `n${index}`);
  }

  async start(contacts: readonly string[]): Promise<void> {
    const options = {
      name: this.name,
      listen: [`quic://${this.#host}:0`],
      dataDir: this.#folder,
      cluster: "state",
      contactNodes: contacts,
    };
    const args = [JSON.stringify(options)];
    const program = "test/state/member_program.ts";
    this.#program = startProgram(
      this.runtime,
      program,
      args,
      this.#namespace === undefined ? {} : { namespace: this.#namespace },
    );
    const [, address = ""] = await this.#program.line(
      /"type":"ready","address":"([^"]+)"/,
      60_000,
    );
    this.address = address;
  }

  async command(line: string): Promise<void> {
    const program = this.#program as Program;
    program.say(line);
    const quoted = line.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    const [, type] = await program.line(
      new RegExp(`"type":"(done|failed)","line":"${quoted}"`),
      60_000,
    );
    if (type === "failed") throw new Error(`${this.name}: ${line}: ${program.output.at(-1)}`);
  }

  async state(): Promise<State> {
    const id = ++this.#asked;
    this.#program?.say(`hash ${id}`);
    const [line] = await (this.#program as Program).line(
      new RegExp(`^\\{"type":"hash","id":"${id}".*$`),
      60_000,
    );
    return JSON.parse(line) as State;
  }

  async kill(): Promise<void> {
    await this.#program?.kill("SIGKILL");
  }
}

async function agreed(
  members: readonly Member[],
  expected: Pick<State, "names" | "entries"> & Partial<State>,
  withinMs: number,
): Promise<number> {
  const start = performance.now();
  for (;;) {
    const states = await Promise.all(members.map((member) => member.state()));
    const hashes = new Set(states.map(({ hash }) => hash));
    const isWhole = states.every(({ names, entries, members }) =>
      names === expected.names && entries === expected.entries &&
      members >= (expected.members ?? 0)
    );
    if (hashes.size === 1 && isWhole) return (performance.now() - start) / 1000;
    if (performance.now() - start > withinMs) {
      const table = members.map(({ name, runtime }, i) => {
        const { hash, names, entries } = states[i] as State;
        return `${name} ${runtime} ${hash.slice(0, 12)} ${names} names ${entries} entries`;
      });
      throw new Error(
        `no agreement on ${JSON.stringify(expected)} in ${withinMs} ms:\n${table.join("\n")}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
}

async function main(): Promise<void> {
  const values = readOptions(HELP, { nodes: "12", names: "2000", split: "15" }, ["json"]);
  const count = Number(values.nodes);
  const total = Number(values.names);
  // Of those that do not divide evenly the first nodes write one more.
  const share = (index: number) => Math.floor(total / count) + (index < total % count ? 1 : 0);
  const splitMs = Number(values.split) * 1000;
  if (
    !(Number.isSafeInteger(count) && count >= 3 && Number.isSafeInteger(total) && total >= count &&
      splitMs >= 0)
  ) {
    refuse("three nodes or more, whole numbers, a name for each and seconds are wanted", HELP);
  }
  const say = (text: string) => void process.stdout.write(`${text}\n`);
  const figures: Record<string, number> = {};
  const note = (what: string, seconds: number) => {
    figures[what] = Math.round(seconds * 100) / 100;
    say(`${what.padEnd(52)} ${seconds.toFixed(2)} s`);
  };
  const folder = await mkdtemp(join(tmpdir(), "barrel state "));
  const wire = splitMs > 0 ? await makeWire() : undefined;
  const members = Array.from({ length: count }, (_, i) => new Member(i, wire, folder));
  const [seed] = members as [Member];
  const whole = (names: number) => ({ names, entries: names });
  try {
    await seed.start([]);
    for (let at = 1; at < count; at += 4) {
      const some = members.slice(at, at + 4);
      await Promise.all(some.map((member) => member.start([seed.address])));
    }
    await agreed(members, { ...whole(0), members: count }, 60_000);
    await Promise.all(members.map((member, i) => member.command(`write w${i}. ${share(i)}`)));
    note(
      `all agree on ${total} names and as many entries`,
      await agreed(
        members,
        whole(total),
        120_000,
      ),
    );
    // Half of what the second node wrote goes again; nothing of it may come back.
    const gone = Math.floor(share(1) / 2);
    await members[1]?.command(`delete w1. ${gone}`);
    if (wire !== undefined) await wire.cut();
    // Both sides write, new keys and the same ones.
    await Promise.all(members.map((member, i) => member.command(`write s${i}. 5`)));
    await members[0]?.command("write both. 5");
    await members[1]?.command("write both. 5");
    const writers = [members[count - 1], members[count - 2]] as [Member, Member];
    for (const writer of writers) await writer.kill();
    await new Promise((resolve) => setTimeout(resolve, splitMs));
    if (wire !== undefined) await wire.mend();
    const contacts = members.slice(0, 2).map(({ address }) => address);
    for (const writer of writers) await writer.start(contacts);
    for (const writer of writers) {
      const i = members.indexOf(writer);
      await writer.command(`write w${i}. ${share(i)}`);
      await writer.command(`write s${i}. 5`);
    }
    const entries = total - gone + 5 * count + 5;
    const names = entries + 5;
    note(
      "all agree after the split and the deaths",
      await agreed(members, { names, entries }, 180_000),
    );
    // Every process at once: what is left is what the disks have.
    for (const member of members) await member.kill();
    await seed.start([]);
    await Promise.all(members.slice(1).map((member) => member.start([seed.address])));
    note(
      "all agree on the entries after all were killed",
      await agreed(
        members,
        { names: 0, entries },
        120_000,
      ),
    );
    const { hash } = await seed.state();
    say(`state ${hash} on ${count} nodes, ${entries} entries`);
    if (values.json) say(JSON.stringify({ nodes: count, names, entries, figures }));
  } finally {
    for (const member of members) await member.kill();
    await wire?.remove();
    await rm(folder, { recursive: true, force: true });
  }
}

await main();
