/**
 * A room: a server that knows who is in it, tells everybody what is said, and watches each of them.
 * It ends when the last one has gone. Where it lives is nobody's business but the registry's.
 */
import { defineServer, Down } from "../../mod.ts";
import type { Node, Pid, Ref } from "../../mod.ts";

/** Something that was said. */
export interface Line {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly nick: string;
  readonly text: string;
}

/** Somebody in a room. */
export interface Member {
  readonly nick: string;
  /** Where the room's news go. */
  readonly pid: Pid<News>;
}

/** What a room tells its members. */
export type News =
  | { readonly type: "said"; readonly line: Line }
  | {
    readonly type: "joined" | "left";
    readonly nick: string;
    readonly members: readonly Member[];
  }
  /** There is another room of this name: that one stays. */
  | { readonly type: "moved"; readonly to: Pid };

/** What a newcomer is told. */
export interface Welcome {
  readonly members: readonly Member[];
  readonly history: readonly Line[];
}

/** What a room is made of; given by the node that starts it. */
export interface RoomSetup {
  /** What was said before, where the room had another home. */
  readonly history: readonly Line[];
  /** All rooms of this name that the registry knows. */
  readonly rooms: () => readonly Pid[];
}

/** Whether it is the same thing said. */
export const isSame = (a: Line, b: Line): boolean =>
  a.at === b.at && a.nick === b.nick && a.text === b.text;

/** Name of a room in the registry. */
export const serviceOf = (room: string): string => `chat room ${room}`;

/** Lines that a newcomer is shown. */
export const HISTORY = 50;
const MAX_TEXT = 2_000;
/** How often a room looks for another one of its name. */
const LOOK_AROUND_MS = 1_000;
/** A room that nobody has entered for so long ends. */
const EMPTY_MS = 10_000;

interface State extends RoomSetup {
  /** Gives another room what was said here. */
  readonly handOver: (to: Pid, lines: readonly Line[]) => void;
  history: Line[];
  readonly members: Map<string, Member & { readonly ref: Ref }>;
  emptySince: number;
}

/** What can be asked of a room. */
export interface RoomClient {
  join(nick: string, pid: Pid<News>): Promise<Welcome>;
  say(pid: Pid, text: string): void | Promise<void>;
  leave(pid: Pid): void | Promise<void>;
  /** What was said in another room of this name, which ends. */
  absorb(lines: readonly Line[]): void | Promise<void>;
}

/** Makes a room on this node. */
export function startRoom(node: Node, room: string, setup: RoomSetup): Promise<Pid> {
  const handOver = (to: Pid, lines: readonly Line[]) => void roomAt(node, to).absorb(lines);
  return node.start(Room, [{ ...setup, handOver }], { register: serviceOf(room) });
}

/** Talks to a room, wherever it lives. */
export function roomAt(node: Node, pid: Pid): RoomClient {
  return node.client(Room, pid);
}

const Room = defineServer({
  init: (ctx, setup: RoomSetup & Pick<State, "handOver">): State => {
    ctx.self.sendAfter(LOOK_AROUND_MS, ctx.self.pid, "look around");
    return { ...setup, history: [...setup.history], members: new Map(), emptySince: Date.now() };
  },
  calls: {
    join: (ctx, nick: string, pid: Pid<News>): Welcome => {
      const { members, history } = ctx.state;
      const known = members.get(String(pid));
      if (known === undefined) {
        members.set(String(pid), { nick, pid, ref: ctx.self.monitor(pid) });
        tell(ctx.state, { type: "joined", nick, members: present(ctx.state) });
      }
      return { members: present(ctx.state), history };
    },
  },
  casts: {
    say: (ctx, pid: Pid, text: string) => {
      const member = ctx.state.members.get(String(pid));
      if (member === undefined) return;
      const line: Line = { at: Date.now(), nick: member.nick, text: text.slice(0, MAX_TEXT) };
      ctx.state.history = [...ctx.state.history, line].slice(-HISTORY);
      tell(ctx.state, { type: "said", line });
    },
    absorb: (ctx, lines: readonly Line[]) => {
      const { state } = ctx;
      const news = lines.filter((line) => !state.history.some((known) => isSame(known, line)));
      state.history = [...state.history, ...news].sort((a, b) => a.at - b.at).slice(-HISTORY);
      for (const line of news) tell(state, { type: "said", line });
    },
    leave: (ctx, pid: Pid) => {
      gone(ctx.state, String(pid), (ref) => ctx.self.demonitor(ref, { flush: true }));
      if (ctx.state.members.size === 0) ctx.stop();
    },
  },
  info: (ctx, message) => {
    const { state, self } = ctx;
    if (message instanceof Down) {
      gone(state, String(message.target), () => {});
      if (state.members.size === 0) ctx.stop();
    } else if (message === "look around") {
      if (state.members.size > 0) state.emptySince = Date.now();
      if (Date.now() - state.emptySince > EMPTY_MS) return ctx.stop();
      // Two halves of a cluster may each have made one. Both see the same order: the first stays.
      const first = [...state.rooms(), self.pid].sort((a, b) => (order(a) < order(b) ? -1 : 1))[0];
      if (first !== undefined && !first.equals(self.pid)) {
        state.handOver(first, state.history);
        tell(state, { type: "moved", to: first });
        return ctx.stop();
      }
      self.sendAfter(LOOK_AROUND_MS, self.pid, "look around");
    }
  },
});

function present({ members }: State): Member[] {
  return [...members.values()].map(({ nick, pid }) => ({ nick, pid }));
}

function tell({ members }: State, news: News): void {
  for (const { pid } of members.values()) void pid.send(news);
}

function gone(state: State, key: string, forget: (ref: Ref) => void): void {
  const member = state.members.get(key);
  if (member === undefined) return;
  state.members.delete(key);
  forget(member.ref);
  tell(state, { type: "left", nick: member.nick, members: present(state) });
}

const order = (pid: Pid): string => `${pid.node} ${pid.epoch} ${pid.id}`;
