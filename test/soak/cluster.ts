/** `npm run soak`: a cluster of real processes, and what it makes of failures. */
import process from "node:process";
import { readOptions, refuse } from "../../examples/arguments.ts";
import { quantile } from "../../bench/quantile.ts";
import { components, Members } from "./members.ts";
import type { Member, Status } from "./members.ts";
import { makeWire } from "./network.ts";
import type { Wire } from "./network.ts";

const HELP = `npm run soak -- [options]

Starts nodes on Deno, Bun and Node in turn, each in a process of its own, over real QUIC. Stops some
for eight seconds, kills a third of them at once with SIGKILL, restarts those under their names, and
cuts the network into two halves for a minute. Each figure is printed beside its bound; the exit code
is 1 when one does not hold.

  --nodes N    how many (30)
  --split      cut the network, too: needs root and iproute2, makes two network namespaces
  --rest S     seconds of rest over which connections and messages are counted (20)
  --settle S   seconds until the overlay is taken to be at rest (200)
  --json       print the figures as one line of JSON at the end
  --help       this text
`;

const values = readOptions(HELP, { nodes: "30", rest: "20", settle: "200" }, ["split", "json"]);
const count = Number(values.nodes);
if (!Number.isSafeInteger(count) || count < 3) {
  refuse(`--nodes ${values.nodes}: three or more are needed`, HELP);
}

const ACTIVE_SIZE = 5;
const members = new Members();
let wire: Wire | undefined;
const figures: Record<string, number> = {};
let failures = 0;

const say = (text: string) => (values.json ? console.error(text) : console.log(text));
const wallNow = () => performance.timeOrigin + performance.now();
const rest = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Notes a figure; `bound` is what it may be at most. */
function figure(name: string, value: number, bound: number | undefined, unit = ""): void {
  figures[name] = value;
  const shown = Number.isInteger(value) ? String(value) : value.toFixed(2);
  if (bound === undefined) return say(`     ${name}: ${shown}${unit}`);
  const holds = value <= bound;
  if (!holds) failures++;
  say(`${holds ? "ok  " : "FAIL"} ${name}: ${shown}${unit} (at most ${bound})`);
}

/** Waits until it holds, and tells how long that took, milliseconds. */
async function until(what: string, holds: () => Promise<boolean>, limitMs: number) {
  const start = wallNow();
  while (!(await holds())) {
    if (wallNow() - start > limitMs) {
      for (const [name, { members: known, active }] of await members.statuses()) {
        const lost = Object.entries(known).filter(([, status]) => status !== "alive");
        console.error(
          `${name}: ${Object.keys(known).length} members, not alive ${JSON.stringify(lost)}, ` +
            `active ${active.join(" ")}`,
        );
      }
      throw new Error(`${what}: not within ${limitMs / 1000} s`);
    }
    await rest(250);
  }
  return wallNow() - start;
}

const everybodyKnows = (names: readonly string[]) => async () => {
  const statuses = await members.statuses();
  return [...statuses.values()].every(({ members: known }) =>
    Object.keys(known).length === names.length && names.every((name) => known[name] === "alive")
  ) && components(statuses) === 1;
};
const namesOf = (some: readonly Member[]) => some.map(({ name }) => name);

/** Verdicts on nodes that were alive; each is shown. */
function wrongVerdicts(onto: readonly Member[], since: number): number {
  const alive = new Set(namesOf(onto));
  let wrong = 0;
  for (const { name, told } of members.all) {
    for (const { type, node = "", reason, at } of told) {
      if (type !== "nodeDown" || at < since || !alive.has(node)) continue;
      wrong++;
      console.error(`${name} said ${node} is down (${reason}) after ${Math.round(at - since)} ms`);
    }
  }
  return wrong;
}

async function start(): Promise<void> {
  say(`starting ${count} nodes`);
  if (values.split) wire = await makeWire();
  const begun = wallNow();
  await members.start(count, wire?.places ?? [{ host: "127.0.0.1" }]);
  figure("seconds to start all processes", (wallNow() - begun) / 1000, undefined, " s");
  const ms = await until("one component", everybodyKnows(namesOf(members.all)), 120_000);
  figure("seconds until all know all", ms / 1000, 60, " s");
}

async function atRest(seconds: number): Promise<void> {
  say(`letting the overlay settle for ${values.settle} s`);
  await rest(Number(values.settle) * 1000);
  say(`at rest for ${seconds} s`);
  const before = await members.statuses();
  const looks: Status[] = [];
  for (let second = 0; second < seconds; second++) {
    await rest(1_000);
    looks.push(...(await members.statuses()).values());
  }
  const after = await members.statuses();
  const extra = looks.map(({ links, active }) => links - active.length);
  const mean = (numbers: readonly number[]) =>
    numbers.reduce((sum, one) => sum + one, 0) / numbers.length;
  figure("connections beside neighbours, mean", mean(extra), 1);
  figure(
    "connections, 99 of 100",
    quantile(looks.map(({ links }) => links), 0.99),
    ACTIVE_SIZE + 2,
  );
  figure("connections, most", Math.max(...looks.map(({ links }) => links)), undefined);
  const rates = [...after].map(([name, { messagesSent, at }]) => {
    const then = before.get(name) as Status;
    return (messagesSent - then.messagesSent) / (at - then.at) * 1000;
  });
  figure("messages a second a node, mean", mean(rates), 10);
  const memory = [...after].map(([name, { rss }]) => {
    const { runtime } = members.all.find((member) => member.name === name) as Member;
    return [runtime, rss / 2 ** 20] as const;
  });
  for (const runtime of ["deno", "bun", "node"]) {
    const own = memory.filter(([one]) => one === runtime).map(([, mib]) => mib);
    figure(`memory of a node on ${runtime}, median`, quantile(own, 0.5), undefined, " MiB");
  }
}

async function stall(): Promise<void> {
  const stalled = members.all.slice(1, 1 + Math.max(1, Math.floor(count / 10)));
  say(`stopping ${namesOf(stalled).join(", ")} for 8 s`);
  const since = wallNow();
  for (const member of stalled) member.signal("SIGSTOP");
  await rest(8_000);
  for (const member of stalled) member.signal("SIGCONT");
  const ms = await until(
    "all alive after the stall",
    everybodyKnows(namesOf(members.all)),
    60_000,
  );
  await rest(5_000);
  figure("wrong verdicts, some stalled", wrongVerdicts(members.all, since), 0);
  figure("seconds from the stall's end until all are alive", ms / 1000, 20, " s");
}

async function killThird(): Promise<Member[]> {
  const third = Math.max(1, Math.floor(count / 3));
  const killed = members.all.slice(-third);
  say(`killing ${third} at once`);
  const since = wallNow();
  await Promise.all(killed.map((member) => member.kill()));
  const survivors = members.running;
  const whole = await until(
    "the dead declared down everywhere",
    () =>
      Promise.resolve(
        survivors.every((member) =>
          killed.every(({ name }) => member.saw("nodeDown", name, since))
        ),
      ),
    120_000,
  );
  const detection = survivors.flatMap((member) =>
    killed.map(({ name }) => ((member.saw("nodeDown", name, since)?.at ?? NaN) - since) / 1000)
  );
  figure("detection, median", quantile(detection, 0.5), undefined, " s");
  figure("detection, 99 of 100", quantile(detection, 0.99), 15, " s");
  figure("detection everywhere", whole / 1000, 60, " s");
  const ms = await until("one component of survivors", everybodyKnows(namesOf(survivors)), 60_000);
  figure("seconds from then to one component", ms / 1000, 30, " s");
  figure("wrong verdicts, a third killed", wrongVerdicts(survivors, since), 0);
  return killed;
}

async function restart(killed: readonly Member[]): Promise<void> {
  say(`restarting ${killed.length} under their names`);
  const since = wallNow();
  const contact = members.running[0]?.address;
  for (const member of killed) await member.start(contact);
  const ms = await until("the restarted are alive", everybodyKnows(namesOf(members.all)), 120_000);
  figure("seconds from the last start until all are alive", ms / 1000, 30, " s");
  figure("wrong verdicts, restarts", wrongVerdicts(members.all, since + 1_000), 0);
}

async function split({ places, cut, mend }: Wire): Promise<void> {
  say("cutting the network in two for 60 s");
  const since = wallNow();
  await cut();
  await rest(60_000);
  const views = await members.statuses();
  const crossing = [...views].flatMap(([name, { active }]) => {
    const host = name.slice(name.indexOf("@"));
    return active.filter((other) => !other.endsWith(host));
  });
  figure("neighbours across the cut after a minute", crossing.length, 0);
  figure("verdicts across an even cut", wrongVerdicts(members.all, since), 0);
  await mend();
  const ms = await until("healed", everybodyKnows(namesOf(members.all)), 180_000);
  figure("seconds from the heal until all know all", ms / 1000, 60, " s");
  say(`${places.length} halves are one again`);
}

async function end(): Promise<void> {
  await members.stop();
  await wire?.remove();
}
let isInterrupted = false;
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]] as const) {
  process.on(signal, () => {
    isInterrupted = true;
    void end().finally(() => process.exit(code));
  });
}
try {
  await start();
  await atRest(Number(values.rest));
  await stall();
  await restart(await killThird());
  if (wire !== undefined) await split(wire);
  if (values.json) console.log(JSON.stringify({ nodes: count, failures, figures }));
  else say(failures === 0 ? "all bounds hold" : `${failures} bounds do not hold`);
  if (failures > 0) process.exitCode = 1;
} catch (error) {
  if (!isInterrupted) {
    console.error((error as Error).message);
    process.exitCode = 1;
  }
} finally {
  await end();
}
