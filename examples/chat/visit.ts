/**
 * Being in a room: a process that enters it, passes its news on, and when the room is gone finds or
 * makes it again. Everybody keeps what was said last, so that whoever makes it again has it all.
 */
import { Down } from "../../mod.ts";
import type { Node, Pid, Self } from "../../mod.ts";
import { HISTORY, isSame, roomAt, serviceOf, startRoom } from "./room.ts";
import type { Line, Member, News, Welcome } from "./room.ts";

/** What the screen is told. */
export type VisitEvent =
  | { readonly type: "entered"; readonly welcome: Welcome; readonly isHost: boolean }
  | { readonly type: "said"; readonly line: Line }
  | { readonly type: "joined" | "left"; readonly nick: string }
  /** The room's node has gone; another will be its home. */
  | { readonly type: "lost" }
  | { readonly type: "returned"; readonly host: string }
  | { readonly type: "failed"; readonly message: string };

/** Somebody's stay in a room. */
export interface Visit {
  readonly room: string;
  say(text: string): void;
  members(): readonly Member[];
  /** The node where the room lives now. */
  host(): string | undefined;
  leave(): Promise<void>;
}

/** Those that come first make a lost room again; the others give them this long, each. */
const TURN_MS = 1_000;

/** Enters a room, which is made when there is none. */
export function enter(
  node: Node,
  room: string,
  nick: string,
  onEvent: (event: VisitEvent) => void,
): Visit {
  const service = serviceOf(room);
  let members: readonly Member[] = [];
  let history: Line[] = [];
  let home: Pid | undefined;
  const waiting: string[] = [];
  /** Homes that failed us: the registry may list them for some seconds more. */
  const dead = new Set<string>();
  const rooms = () =>
    node.registry.lookup(service).map(({ pid }) => pid).filter((pid) => !dead.has(String(pid)));

  const make = async (): Promise<Pid> => await startRoom(node, room, { history, rooms });

  const find = async (patienceMs: number): Promise<Pid> => {
    const end = Date.now() + patienceMs;
    for (;;) {
      const [known] = rooms();
      if (known !== undefined) return known;
      if (Date.now() >= end) return await make();
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };

  const arrive = async (self: Self<News>, target: Pid): Promise<Welcome> => {
    self.monitor(target);
    const welcome = await roomAt(node, target).join(nick, self.pid);
    home = target;
    members = welcome.members;
    if (welcome.history.length >= history.length) history = [...welcome.history];
    for (const text of waiting.splice(0)) say(text);
    return welcome;
  };

  const say = (text: string) => {
    if (home === undefined) waiting.push(text);
    else void roomAt(node, home).say(visitor, text);
  };

  // How long to leave it to others: whoever's node comes first is the new home.
  const patience = (lost: Pid): number => {
    const nodes = members.map(({ pid }) => pid.node).filter((name) => name !== lost.node).sort();
    return Math.max(0, nodes.indexOf(node.name)) * TURN_MS;
  };

  const follow = async (self: Self<News>, target: Pid): Promise<void> => {
    for (;;) {
      try {
        await arrive(self, target);
        return onEvent({ type: "returned", host: target.node });
      } catch {
        dead.add(String(target));
        target = await find(TURN_MS);
      }
    }
  };

  const stay = async (self: Self<News>): Promise<void> => {
    for (;;) {
      const message = await self.receive();
      if (message instanceof Down) {
        if (home === undefined || !home.equals(message.target)) continue;
        const lost = home;
        home = undefined;
        dead.add(String(lost));
        onEvent({ type: "lost" });
        await follow(self, await find(patience(lost)));
      } else if ("type" in message && message.type === "said") {
        // Told again by the room that this one has become part of.
        if (history.some((line) => isSame(line, message.line))) continue;
        history = [...history, message.line].slice(-HISTORY);
        onEvent(message);
      } else if ("type" in message && message.type === "moved") {
        home = undefined;
        await follow(self, message.to);
      } else if ("type" in message && "members" in message) {
        members = message.members;
        onEvent({ type: message.type, nick: message.nick });
      }
    }
  };

  const visitor = node.spawn<News>(async (self) => {
    try {
      const found = await node.registry.whereis(service, { retries: 2 });
      const welcome = await arrive(self, found ?? await make());
      onEvent({ type: "entered", welcome, isHost: home?.node === node.name });
    } catch (error) {
      if (self.signal.aborted) return;
      onEvent({ type: "failed", message: (error as Error).message });
      return;
    }
    await stay(self);
  });

  return {
    room,
    say,
    members: () => members,
    host: () => home?.node,
    async leave() {
      if (home !== undefined) await roomAt(node, home).leave(visitor);
      node.exit(visitor, "kill");
    },
  };
}
