/** Members of a cluster in processes of their own, and what they have said. */
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { RUNTIMES, startProgram } from "../processes.ts";
import type { Program, RuntimeName } from "../processes.ts";

/** What a member answers to `status`. */
export interface Status {
  readonly members: Readonly<Record<string, "alive" | "unreachable">>;
  readonly active: readonly string[];
  readonly links: number;
  readonly bytesSent: number;
  readonly messagesSent: number;
  readonly rss: number;
  readonly at: number;
}

/** A transition that a member told, and when, wall-clock milliseconds. */
export interface Told {
  readonly type: string;
  readonly node?: string;
  readonly reason?: string;
  readonly at: number;
}

/** Where a member runs: an address of this machine, and a network namespace, if it is not the own. */
export interface Place {
  readonly host: string;
  readonly namespace?: string;
}

/** One member, by its latest process. */
export class Member {
  readonly name: string;
  readonly runtime: RuntimeName;
  readonly place: Place;
  readonly #folder: string;
  #program: Program | undefined;
  address = "";
  /** Everything that its processes have told. */
  readonly told: Told[] = [];
  isRunning = false;

  constructor(index: number, place: Place, folder: string) {
    this.name = `n${index}@${place.host}`;
    this.runtime = RUNTIMES[index % RUNTIMES.length] as RuntimeName;
    this.place = place;
    this.#folder = join(folder, `n${index}`);
  }

  /** Starts its process; a second time with the keys of the first. */
  async start(contact: string | undefined): Promise<void> {
    const options = {
      name: this.name,
      listen: [`quic://${this.place.host}:0`],
      dataDir: this.#folder,
      cluster: "soak",
      contactNodes: contact === undefined ? [] : [contact],
    };
    const program = startProgram(
      this.runtime,
      "test/soak/member_program.ts",
      [JSON.stringify(options)],
      this.place.namespace === undefined ? {} : { namespace: this.place.namespace },
    );
    this.#program = program;
    let seen = 0;
    program.child.stdout?.on("data", () => {
      // In a turn of its own, when the lines are there.
      setImmediate(() => {
        for (; seen < program.output.length; seen++) this.#take(program.output[seen] as string);
      });
    });
    const [, address = ""] = await program.line(/"type":"ready","address":"([^"]+)"/, 60_000);
    this.address = address;
    this.isRunning = true;
  }

  /** What it knows now. */
  async status(): Promise<Status> {
    const program = this.#program as Program;
    const at = performance.timeOrigin + performance.now();
    program.say("status");
    for (;;) {
      // An older answer may stand before the new one.
      const lines = program.output.filter((line) => line.startsWith(`{"type":"status"`));
      const last = lines.length === 0 ? undefined : JSON.parse(lines.at(-1) as string) as Status;
      if (last !== undefined && last.at >= at) return last;
      if (!this.isRunning) throw new Error(`${this.name} does not run`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  /** Transitions of one type about one node since a time. */
  saw(type: string, node: string, since: number): Told | undefined {
    return this.told.find((one) => one.type === type && one.node === node && one.at >= since);
  }

  signal(name: "SIGSTOP" | "SIGCONT"): void {
    process.kill((this.#program as Program).pid, name);
  }

  async kill(): Promise<void> {
    this.isRunning = false;
    await this.#program?.kill("SIGKILL");
  }

  #take(line: string): void {
    if (!line.startsWith("{")) return;
    const event = JSON.parse(line) as Told;
    if (event.type !== "status") this.told.push(event);
  }
}

/** The cluster: all members that were ever started. */
export class Members {
  readonly all: Member[] = [];
  #folder = "";

  /** Starts `count` members, in turn on the runtimes and the places. */
  async start(count: number, places: readonly Place[]): Promise<void> {
    this.#folder = await mkdtemp(join(tmpdir(), "barrel soak "));
    for (let index = 0; index < count; index++) {
      const place = places[index % places.length] as Place;
      this.all.push(new Member(index, place, this.#folder));
    }
    const [seed, ...others] = this.all as [Member, ...Member[]];
    await seed.start(undefined);
    // A few at a time: a machine that starts thirty processes at once does nothing else.
    for (let at = 0; at < others.length; at += 6) {
      await Promise.all(others.slice(at, at + 6).map((member) => member.start(seed.address)));
    }
  }

  get running(): Member[] {
    return this.all.filter(({ isRunning }) => isRunning);
  }

  async statuses(): Promise<Map<string, Status>> {
    const pairs = this.running.map(async (member) => {
      return [member.name, await member.status()] as const;
    });
    return new Map(await Promise.all(pairs));
  }

  async stop(): Promise<void> {
    await Promise.all(this.running.map((member) => member.kill()));
    if (this.#folder !== "") await rm(this.#folder, { recursive: true, force: true });
  }
}

/** How many components the active views of `statuses` form, taken as undirected edges. */
export function components(statuses: ReadonlyMap<string, Status>): number {
  const edges = new Map<string, Set<string>>();
  for (const name of statuses.keys()) edges.set(name, new Set());
  for (const [name, { active }] of statuses) {
    for (const other of active) {
      edges.get(name)?.add(other);
      edges.get(other)?.add(name);
    }
  }
  const seen = new Set<string>();
  let count = 0;
  for (const start of edges.keys()) {
    if (seen.has(start)) continue;
    count++;
    const queue = [start];
    for (let name = queue.pop(); name !== undefined; name = queue.pop()) {
      if (seen.has(name)) continue;
      seen.add(name);
      queue.push(...edges.get(name) ?? []);
    }
  }
  return count;
}
