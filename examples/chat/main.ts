/** A chat without a server: rooms are actors, and outlive the node that made them. */
import process from "node:process";
import { createNode } from "../../mod.ts";
import type { Node } from "../../mod.ts";
import { commands, readOptions, refuse, runtime } from "../arguments.ts";
import type { Line } from "./room.ts";
import { openScreen } from "./screen.ts";
import { enter } from "./visit.ts";
import type { Visit, VisitEvent } from "./visit.ts";

const HELP = `A chat without a server, on Deno, Bun and Node.

Without --join it begins a new network; with --join it enters one, through any of its members.

  --nick NAME      what others call you (default: guest and a number)
  --room NAME      the room to enter (default: lobby)
  --join ADDRESS   somebody's address, such as quic://127.0.0.1:9000
  --host HOST      this machine, as others reach it (default: 127.0.0.1)
  --port PORT      UDP port to listen on (default: any)
  --help           this text

Type to talk; commands begin with a slash, /help lists them. Ctrl-C leaves.
`;

const COMMANDS: Readonly<Record<string, string>> = {
  "/join ROOM": "go to another room; it is made when there is none",
  "/who": "who is here, and where",
  "/rooms": "all rooms",
  "/invite": "how others get here",
  "/quit": "leave",
  "/help": "this list",
};

const options = readOptions(HELP, {
  nick: `guest${process.pid % 1_000}`,
  room: "lobby",
  join: undefined,
  host: "127.0.0.1",
  port: "0",
});
const { nick = "", room = "", join, host = "", port = "" } = options;
for (const [name, value] of Object.entries({ nick, room })) {
  if (!/^[\p{L}\p{N}_.-]{1,24}$/u.test(value)) {
    refuse(`--${name} has 1 to 24 letters, digits or _ . - in it, not ${value}`, HELP);
  }
}
if (!/^\d{1,5}$/.test(port)) refuse(`--port must be a number, not ${port}`, HELP);

let node: Node | undefined;
let visit: Visit | undefined;
let leaving = false;

const screen = openScreen({
  onLine: (line) => {
    handle(line).catch((error: Error) => screen.note(error.message));
  },
  onEnd: () => void quit(0),
  complete(word) {
    const words = word.startsWith("/")
      ? Object.keys(COMMANDS).map((usage) => usage.split(" ")[0] as string)
      : visit?.members().map((member) => member.nick) ?? [];
    return words.filter((one) => one.startsWith(word));
  },
});

async function quit(code: number): Promise<void> {
  if (leaving) return;
  leaving = true;
  // A room that does not answer must not keep us.
  const goodbye = visit?.leave().catch(() => {});
  await Promise.race([goodbye, new Promise((resolve) => setTimeout(resolve, 1_000))]);
  await node?.close();
  screen.close();
  process.exit(code);
}
process.on("SIGINT", () => void quit(0));
process.on("SIGTERM", () => void quit(0));

function show({ at, nick: from, text }: Line): void {
  screen.said(at, from, text, from === nick);
}

function happened(name: string, event: VisitEvent): void {
  switch (event.type) {
    case "entered": {
      const { members, history } = event.welcome;
      for (const line of history) show(line);
      const others = members.map((member) => member.nick).filter((one) => one !== nick);
      const company = others.length === 0 ? "you are the first" : `with ${others.join(", ")}`;
      screen.note(`you are in ${name}, ${company}`);
      return screen.prompt(name);
    }
    case "said":
      return show(event.line);
    case "joined":
      if (event.nick !== nick) screen.note(`${event.nick} has come`);
      return;
    case "left":
      return screen.note(`${event.nick} has left`);
    case "lost":
      return screen.note("the room's home has gone; looking for another");
    case "returned":
      return screen.note(`the room lives on ${event.host} now`);
    case "failed":
      return screen.note(`cannot enter ${name}: ${event.message}`);
  }
}

function visitRoom(name: string): void {
  visit = enter(node as Node, name, nick, (event) => {
    if (!leaving && visit?.room === name) happened(name, event);
  });
}

function invite(): void {
  screen.print("Others come in with one of\n");
  screen.print(`${commands("chat/main.ts", `--join ${node?.addresses[0]}`)}\n`);
}

async function handle(line: string): Promise<void> {
  if (line === "") return;
  if (!line.startsWith("/")) return visit?.say(line);
  const [command, argument = ""] = line.split(/\s+/);
  switch (command) {
    case "/join": {
      if (!/^[\p{L}\p{N}_.-]{1,24}$/u.test(argument)) return screen.note("/join ROOM");
      if (argument === visit?.room) return screen.note(`you are in ${argument}`);
      await visit?.leave().catch(() => {});
      return visitRoom(argument);
    }
    case "/who":
      for (const { nick: who, pid } of visit?.members() ?? []) screen.note(`${who} on ${pid.node}`);
      return screen.note(`the room lives on ${visit?.host() ?? "no node right now"}`);
    case "/rooms": {
      const prefix = "chat room ";
      const names = node?.registry.names().filter((name) => name.startsWith(prefix)) ?? [];
      return screen.note(names.map((name) => name.slice(prefix.length)).sort().join(", "));
    }
    case "/invite":
      return invite();
    case "/quit":
      return await quit(0);
    default:
      for (const [usage, what] of Object.entries(COMMANDS)) {
        screen.note(`${usage.padEnd(12)} ${what}`);
      }
  }
}

try {
  node = await createNode({
    name: `chat-${process.pid}-${Date.now() % 100_000}@${host}`,
    listen: [`quic://${host === "127.0.0.1" ? host : "0.0.0.0"}:${port}`],
    contactNodes: join === undefined ? [] : [join],
    cluster: "chat",
  });
  screen.print(`Hello ${nick}. This is a chat without a server, on ${runtime}.\n`);
  if (join === undefined) invite();
  else await node.joined({ timeoutMs: 15_000 });
  // The registry comes with the first neighbour; a moment more than it needs.
  visitRoom(room);
} catch (error) {
  screen.print((error as Error).message);
  await quit(1);
}
