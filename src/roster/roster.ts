/**
 * The roster: who is in the cluster, and who of them is alive. A pure machine.
 *
 * Three things are never mixed: that a link ended says nothing; *unreachable* means that somebody
 * accuses the node and it may yet refute; *down* is a verdict on one life of it. A verdict needs
 * min(2, other reachable members) accusers, or the node's own word that it leaves, or its next
 * life. Each node is watched by its neighbours in the overlay, and now and then by a random
 * member; suspicion asks further members to look for themselves (SWIM, Das et al., DSN 2002).
 *
 * Facts travel as rows of a replicated store that their authors sign, so that whoever comes late
 * sees the same and comes to the same verdict. An accusation stands until the accused answers it
 * with a higher incarnation: so every node that came to a verdict learns that it was wrong.
 */
import { encodeHex } from "@std/encoding/hex";
import type { Bytes } from "../base/bytes.ts";
import { equalBytes } from "../base/bytes.ts";
import { randomFraction, sample } from "../base/random.ts";
import type { Random } from "../base/random.ts";
import type { LinkDownReason, PeerIdentity } from "../link/ports.ts";
import type { NodeName } from "../wire/node_name.ts";
import { Accusations } from "./accusations.ts";
import type { Tally } from "./accusations.ts";
import { Brake } from "./brake.ts";
import { MemberTable } from "./member_table.ts";
import type { MemberState } from "./member_table.ts";
import type { Accusation, Evidence, MemberRecord, ProbeRequest } from "./messages.ts";
import type { LivenessOptions } from "./options.ts";

/** How a member stands. */
export type MemberStatus = "alive" | "unreachable" | "down";

/** One member of the cluster. */
export interface Member {
  readonly name: NodeName;
  readonly publicKey: Bytes;
  readonly epoch: number;
  readonly incarnation: number;
  readonly addresses: readonly string[];
  readonly ephemeral: boolean;
  readonly status: MemberStatus;
  /** Why it was declared down last. */
  readonly downReason: DownReason | undefined;
}

/** What the world learns: each transition once. */
export type RosterChange =
  | { readonly type: "nodeUp"; readonly node: NodeName }
  | { readonly type: "nodeUnreachable"; readonly node: NodeName }
  | { readonly type: "nodeDown"; readonly node: NodeName; readonly reason: DownReason };

/** Why a node was declared down. */
export type DownReason = "unreachable" | "left" | "restarted" | "forgotten";

/** What happens to the machine. */
export type RosterEvent =
  /** A node's row about itself. */
  | {
    readonly type: "record";
    readonly author: Bytes;
    readonly epoch: number;
    readonly record: MemberRecord;
  }
  | { readonly type: "accusation"; readonly author: Bytes; readonly accusation: Accusation }
  | { readonly type: "withdrawn"; readonly author: Bytes; readonly target: NodeName }
  | { readonly type: "neighbourUp" | "neighbourDown"; readonly peer: NodeName }
  | { readonly type: "linkUp"; readonly peer: PeerIdentity }
  | { readonly type: "linkDown"; readonly peer: PeerIdentity; readonly reason: LinkDownReason }
  | { readonly type: "probed"; readonly peer: NodeName; readonly result: "alive" | Evidence }
  | { readonly type: "probeRequest"; readonly request: ProbeRequest }
  /** `heard`: peers from which anything has come since the last tick. */
  | { readonly type: "tick"; readonly heard: readonly NodeName[] }
  | { readonly type: "leave" }
  /** We join again in the same life; nothing unless we left. All rows are told again after this. */
  | { readonly type: "rejoin" }
  /** Our own key, `self.publicKey`, has changed. */
  | { readonly type: "rekeyed" }
  /**
   * Goes on after an event that was left half done, or an effect that was not carried out. All
   * rows are told again after this, the accusations first.
   */
  | { readonly type: "resumed" }
  /** An operator's word: the node is gone. */
  | { readonly type: "forget"; readonly node: NodeName };

/** What the driver is to do. */
export type RosterEffect =
  | { readonly type: "publish"; readonly incarnation: number; readonly left: boolean }
  | { readonly type: "accuse"; readonly accusation: Accusation }
  | { readonly type: "withdraw"; readonly target: NodeName }
  /** Make the peer say something. */
  | { readonly type: "ping"; readonly peer: NodeName }
  /** Find out whether it lives; answer `probed`. `connect`: not only whether its host refuses. */
  | { readonly type: "probe"; readonly member: Member; readonly connect: boolean }
  | { readonly type: "askProbe"; readonly to: NodeName; readonly request: ProbeRequest }
  | { readonly type: "emit"; readonly change: RosterChange }
  /**
   * Others cannot reach it, and we have a link with it. `isCut`: so many are silent that the overlay
   * may be in two, and we are one of the few who are to mend it.
   */
  | { readonly type: "returned"; readonly member: Member; readonly isCut: boolean }
  /** A member goes on under another key: its rows under the old one are to go. */
  | { readonly type: "rekeyed"; readonly member: Member; readonly oldKey: Bytes }
  /** The rows of this life are to be hidden, shown again or dropped. */
  | { readonly type: "retire" | "restore" | "forget"; readonly member: Member };

interface Watch {
  lastHeard: number;
  suspectedAt: number | undefined;
  probedAt: number;
  /** Its host said that nothing is there. */
  refused: boolean;
}

/** What the machine is made of. */
export interface RosterOptions {
  readonly self: PeerIdentity;
  readonly liveness: LivenessOptions;
  readonly random: Random;
  /** Whether this key may speak for this name: false when another one is pinned. */
  readonly isAcceptable: (name: NodeName, publicKey: Bytes) => boolean;
  /** Whether the second key has followed the first as that of this name. */
  readonly hasFollowed: (name: NodeName, from: Bytes, to: Bytes) => boolean;
}

/** Ticks are this far apart, milliseconds; a later one means that we were stalled ourselves. */
export const TICK_MS = 500;
const LATE_TICK_MS = 2 * TICK_MS;
/** A neighbour that is silent for so long is asked to say something, milliseconds. */
const PING_AFTER_MS = 1_000;
/** A neighbour that did not answer for so long is looked for at its host, milliseconds. */
const PROBE_AFTER_MS = 2_000;
const PROBE_EVERY_MS = 1_000;
/** Members that are asked to look for themselves. */
const ASKED = 3;
/** A random member is probed so often on average, milliseconds. */
const RANDOM_PROBE_MS = 10_000;
/**
 * So long after it has found the cluster a node learns its history, and not in order: that a member
 * is there is held back until then, or until there is a link with it, lest the dead of the past are
 * told as alive, then as down.
 */
const CATCH_UP_MS = 3_000;
/** For so long after that a tick passes before a new name is told: the rest may come right behind. */
const NEWCOMER_MS = 60_000;
/** What is said in place of what: of an accusation, the first of its weight stands. */
const WEIGHT: Readonly<Record<Evidence, number>> = {
  suspected: 0,
  silent: 1,
  refused: 1,
  forgotten: 2,
};
/** Members kept at most: nobody may fill memory with made-up ones. */
const MAX_MEMBERS = 100_000;

/** What is not heard by who has left. */
const UNHEARD: ReadonlySet<RosterEvent["type"]> = new Set(
  ["record", "accusation", "withdrawn", "probed", "probeRequest", "tick", "forget"] as const,
);

/** See the module. */
export class Roster {
  readonly #options: RosterOptions;
  readonly #members = new MemberTable();
  // Members of which nothing has been told yet, and since when they are known.
  readonly #untold = new Map<MemberState, number>();
  #caughtUpAt = Infinity;
  readonly #accusations = new Accusations();
  readonly #ours = new Map<NodeName, Accusation>();
  readonly #neighbours = new Set<NodeName>();
  /** The lives that we have links with. */
  readonly #linked = new Map<NodeName, number>();
  readonly #watches = new Map<NodeName, Watch>();
  readonly #brake: Brake;
  #selfKey: string;
  #incarnation = 0;
  #hasLeft = false;
  #lastTick: number | undefined;
  #nextRandomProbe = RANDOM_PROBE_MS;
  // Kept until they are handed over, so that a mistake of ours loses none.
  #effects: RosterEffect[] = [];

  constructor(options: RosterOptions) {
    this.#options = options;
    this.#brake = new Brake(options.liveness.partitionHoldMs);
    this.#selfKey = encodeHex(options.self.publicKey);
  }

  /** Every member known that is not down, ourselves not among them; nobody once we have left. */
  members(): Member[] {
    if (this.#hasLeft) return [];
    return [...this.#members.all()].filter((member) => member.status !== "down");
  }

  /** One member, whatever its state. */
  member(name: NodeName): Member | undefined {
    return this.#members.get(name);
  }

  /** Takes one event. */
  handle(event: RosterEvent, now: number): RosterEffect[] {
    const effects = this.#effects;
    // What comes after we have left is of no interest until we are back: then all is read again.
    if (!this.#hasLeft || !UNHEARD.has(event.type)) this.#take(event, now, effects);
    this.#effects = [];
    return effects;
  }

  #take(event: RosterEvent, now: number, effects: RosterEffect[]): void {
    switch (event.type) {
      case "record":
        this.#record(event.author, event.epoch, event.record, now, effects);
        break;
      case "accusation":
        this.#accused(event.author, event.accusation, now, effects);
        break;
      case "withdrawn":
        this.#accusations.remove(event.target, encodeHex(event.author));
        this.#judge(event.target, now, effects);
        break;
      case "neighbourUp":
        this.#neighbours.add(event.peer);
        this.#caughtUpAt = Math.min(this.#caughtUpAt, now + CATCH_UP_MS);
        this.#watch(event.peer, now);
        break;
      case "neighbourDown":
        this.#neighbours.delete(event.peer);
        // A neighbour that was lost and not dropped is still suspected.
        if (this.#watches.get(event.peer)?.suspectedAt === undefined) {
          this.#watches.delete(event.peer);
        }
        break;
      case "linkUp":
        this.#linked.set(event.peer.name, event.peer.epoch);
        if (this.#hasLeft) break;
        if (!this.#isFormerLife(event.peer.name)) {
          this.#tell(this.#members.get(event.peer.name), effects);
        }
        this.#cleared(event.peer.name, now);
        this.#returned(event.peer, now, effects);
        break;
      case "linkDown":
        this.#linkDown(event.peer, event.reason, now, effects);
        break;
      case "probed":
        this.#probed(event.peer, event.result, now, effects);
        break;
      case "probeRequest":
        this.#asked(event.request, now, effects);
        break;
      case "tick":
        this.#tick(event.heard, now, effects);
        break;
      case "leave":
        this.#hasLeft = true;
        this.#caughtUpAt = Infinity;
        effects.push({ type: "publish", incarnation: this.#incarnation, left: true });
        break;
      case "rejoin":
        if (!this.#hasLeft) break;
        this.#hasLeft = false;
        this.#accusations.keepOnly(this.#selfKey);
        this.#nobodyWasSilent(now);
        // Our word that we left was believed: only a higher incarnation takes it back.
        this.#incarnation++;
        effects.push({ type: "publish", incarnation: this.#incarnation, left: false });
        break;
      case "rekeyed":
        this.#rekeyed(effects);
        break;
      case "resumed":
        this.#resume(now, effects);
        break;
      case "forget": {
        const member = this.#members.get(event.node);
        if (member === undefined || member.status === "down") break;
        this.#down(member, "forgotten", now, effects);
        // Others wait as we did: this counts as an accusation, and ends their waiting.
        this.#accuse(member, "forgotten", now, effects);
        break;
      }
    }
  }

  // Says again what we stand by, and drops what others said: they are heard again.
  #resume(now: number, effects: RosterEffect[]): void {
    effects.push({ type: "publish", incarnation: this.#incarnation, left: this.#hasLeft });
    for (const accusation of this.#ours.values()) effects.push({ type: "accuse", accusation });
    this.#accusations.keepOnly(this.#selfKey);
    for (const member of this.#members.notAlive) {
      if (member.status === "down") effects.push({ type: "retire", member: { ...member } });
    }
    this.#nobodyWasSilent(now);
  }

  // While we did not listen.
  #nobodyWasSilent(now: number): void {
    this.#lastTick = undefined;
    for (const peer of this.#neighbours) this.#watch(peer, now);
    for (const watch of this.#watches.values()) watch.lastHeard = now;
  }

  #record(
    author: Bytes,
    epoch: number,
    record: MemberRecord,
    now: number,
    effects: RosterEffect[],
  ): void {
    const { self, isAcceptable } = this.#options;
    const { name } = record;
    if (name === self.name || equalBytes(author, self.publicKey)) return;
    if (!isAcceptable(name, author)) return;
    const known = this.#members.get(name);
    if (known === undefined) {
      if (this.#members.size >= MAX_MEMBERS) return;
      const member: MemberState = {
        ...record,
        publicKey: author,
        epoch,
        status: record.left ? "down" : "alive",
        since: now,
        downReason: record.left ? "left" : undefined,
      };
      this.#members.add(member);
      if (record.left) effects.push({ type: "retire", member });
      else if (
        now < this.#caughtUpAt + NEWCOMER_MS &&
        (!this.#neighbours.has(name) || this.#isFormerLife(name))
      ) {
        this.#untold.set(member, now);
      } else effects.push({ type: "emit", change: { type: "nodeUp", node: name } });
      return this.#judge(name, now, effects);
    }
    const isNewLife = epoch > known.epoch;
    if (epoch < known.epoch) return;
    const oldKey = known.publicKey;
    const isNewKey = !equalBytes(author, oldKey);
    // The same life under another key: only by the word of the one before.
    if (isNewKey && !isNewLife && !this.#options.hasFollowed(name, oldKey, author)) return;
    if (!isNewLife && record.incarnation < known.incarnation) return;
    if (isNewLife) this.#down(known, "restarted", now, effects);
    const isRefuted = isNewLife || record.incarnation > known.incarnation;
    this.#members.setKey(known, author);
    if (isNewKey && !isNewLife) effects.push({ type: "rekeyed", member: { ...known }, oldKey });
    known.epoch = epoch;
    known.incarnation = record.incarnation;
    known.addresses = record.addresses;
    known.ephemeral = record.ephemeral;
    if (record.left) return this.#down(known, "left", now, effects);
    if (isRefuted) {
      this.#withdraw(name, effects);
      this.#cleared(name, now);
      if (known.status === "down") this.#revive(known, now, effects);
    }
    this.#judge(name, now, effects);
  }

  // Our accusations stand under the new key, and the new record must win over what the old one said.
  #rekeyed(effects: RosterEffect[]): void {
    const oldKey = this.#selfKey;
    this.#selfKey = encodeHex(this.#options.self.publicKey);
    this.#accusations.rename(oldKey, this.#selfKey);
    this.#incarnation++;
    effects.push({ type: "publish", incarnation: this.#incarnation, left: this.#hasLeft });
  }

  #accused(author: Bytes, accusation: Accusation, now: number, effects: RosterEffect[]): void {
    const { self } = this.#options;
    const { target, epoch, incarnation } = accusation;
    if (target === self.name) {
      // We live: a higher incarnation says so to everybody.
      if (epoch !== self.epoch || incarnation !== this.#incarnation || this.#hasLeft) return;
      this.#incarnation = incarnation + 1;
      effects.push({ type: "publish", incarnation: this.#incarnation, left: false });
      return;
    }
    if (!this.#accusations.put(encodeHex(author), accusation)) return;
    if (accusation.evidence === "suspected") return;
    const member = this.#members.get(target);
    const concernsUs = this.#neighbours.has(target) || this.#watches.has(target);
    if (member !== undefined && member.status !== "down" && concernsUs) {
      this.#suspect(member, now, effects, false);
    }
    this.#judge(target, now, effects);
  }

  #linkDown(
    peer: PeerIdentity,
    reason: LinkDownReason,
    now: number,
    effects: RosterEffect[],
  ): void {
    if (this.#linked.get(peer.name) === peer.epoch) this.#linked.delete(peer.name);
    // Who has left hears nothing of the others, and has no say about them.
    if (this.#hasLeft) return;
    const member = this.#members.get(peer.name);
    if (member === undefined || member.status === "down" || member.epoch !== peer.epoch) return;
    // Its own goodbye, over an authenticated link.
    if (reason === "left") return this.#down(member, "left", now, effects);
    if (reason === "lost" && this.#watches.has(peer.name)) {
      this.#suspect(member, now, effects, true);
    }
  }

  #probed(
    peer: NodeName,
    result: "alive" | Evidence,
    now: number,
    effects: RosterEffect[],
  ): void {
    const member = this.#members.get(peer);
    if (member === undefined || member.status === "down") return;
    if (result === "alive") return this.#cleared(peer, now);
    const watch = this.#watches.get(peer);
    if (result === "silent" && watch === undefined) {
      return this.#suspect(member, now, effects, true);
    }
    if (result !== "refused") return;
    const mine = this.#watch(peer, now);
    mine.refused = true;
    if (mine.suspectedAt === undefined) this.#suspect(member, now, effects, true);
    this.#accuse(member, "refused", now, effects);
  }

  // Another member suspects it: look for ourselves.
  #asked(request: ProbeRequest, now: number, effects: RosterEffect[]): void {
    const member = this.#members.get(request.target);
    if (member === undefined || member.status === "down" || member.epoch !== request.epoch) return;
    this.#suspect(member, now, effects, false);
  }

  #tick(heard: readonly NodeName[], now: number, effects: RosterEffect[]): void {
    const late = this.#lastTick === undefined ? 0 : now - this.#lastTick - TICK_MS;
    this.#lastTick = now;
    if (late > LATE_TICK_MS) {
      // We were stalled: nobody else was silent.
      for (const watch of this.#watches.values()) watch.lastHeard += late;
    }
    for (const peer of heard) this.#cleared(peer, now);
    for (const [member, since] of this.#untold) {
      // Whom others accuse when we first hear of it has not been there for us.
      if (member.status !== "alive" || now < this.#caughtUpAt || now - since < TICK_MS) continue;
      this.#tell(member, effects);
    }
    for (const [peer, watch] of this.#watches) this.#examine(peer, watch, now, effects);
    this.#probeSomebody(now, effects);
    this.#brake.count(this.#members, this.#suspected(), now);
    for (const name of this.#accusations.targets()) this.#judge(name, now, effects, true);
    for (const member of [...this.#members.notAlive]) {
      if (member.status !== "down") continue;
      if (now - member.since < this.#options.liveness.forgetAfterMs) continue;
      this.#members.delete(member);
      this.#accusations.forget(member.name);
      this.#withdraw(member.name, effects);
      effects.push({ type: "forget", member });
    }
  }

  #examine(peer: NodeName, watch: Watch, now: number, effects: RosterEffect[]): void {
    const member = this.#members.get(peer);
    if (member?.status === "down") {
      this.#watches.delete(peer);
      return;
    }
    const { silenceMs, suspicionMs } = this.#options.liveness;
    const silentMs = now - watch.lastHeard;
    if (silentMs >= PING_AFTER_MS) effects.push({ type: "ping", peer });
    if (member === undefined) return;
    if (silentMs >= suspicionMs) this.#suspect(member, now, effects, true);
    const isProbeDue = now - watch.probedAt >= PROBE_EVERY_MS;
    if (isProbeDue && (silentMs >= PROBE_AFTER_MS || watch.suspectedAt !== undefined)) {
      watch.probedAt = now;
      effects.push({ type: "probe", member, connect: watch.suspectedAt !== undefined });
    }
    if (watch.suspectedAt === undefined) return;
    if (watch.refused) return this.#accuse(member, "refused", now, effects);
    if (silentMs < suspicionMs) return;
    const { accusers, isRefused, isSuspected } = this.#accusersOf(member);
    // A host that refused somebody else, and silence towards us, are proof enough together.
    if (silentMs >= silenceMs || isRefused) this.#accuse(member, "silent", now, effects);
    // Told once is enough: it is for counting those who are silent.
    else if (accusers === 0 && !isSuspected) this.#accuse(member, "suspected", now, effects);
  }

  // Nodes whose neighbours all died at once are found by chance.
  #probeSomebody(now: number, effects: RosterEffect[]): void {
    if (now < this.#nextRandomProbe) return;
    // Spread, so that nodes which started together do not probe together.
    const spread = 0.5 + randomFraction(this.#options.random);
    this.#nextRandomProbe = now + RANDOM_PROBE_MS * spread;
    const others = this.members().filter(({ name }) => !this.#watches.has(name));
    for (const member of sample(this.#options.random, others, 1)) {
      effects.push({ type: "probe", member, connect: true });
    }
  }

  #suspect(member: Member, now: number, effects: RosterEffect[], ask: boolean): void {
    const watch = this.#watch(member.name, now);
    if (watch.suspectedAt !== undefined) return;
    watch.suspectedAt = now;
    watch.probedAt = now;
    effects.push({ type: "probe", member, connect: true });
    if (!ask) return;
    const others = this.members().filter(({ name }) => name !== member.name);
    for (const { name } of sample(this.#options.random, others, ASKED)) {
      const request = { target: member.name, epoch: member.epoch };
      effects.push({ type: "askProbe", to: name, request });
    }
  }

  #accuse(member: Member, evidence: Evidence, now: number, effects: RosterEffect[]): void {
    const { name, epoch, incarnation } = member;
    const ours = this.#ours.get(name);
    const isSaid = ours?.epoch === epoch && ours.incarnation >= incarnation;
    if (isSaid && WEIGHT[ours.evidence] >= WEIGHT[evidence]) return;
    const accusation: Accusation = { target: name, epoch, incarnation, evidence };
    this.#ours.set(name, accusation);
    effects.push({ type: "accuse", accusation });
    this.#accusations.put(this.#selfKey, accusation);
    this.#judge(name, now, effects);
  }

  #withdraw(name: NodeName, effects: RosterEffect[]): void {
    this.#accusations.remove(name, this.#selfKey);
    if (this.#ours.delete(name)) effects.push({ type: "withdraw", target: name });
  }

  // Compares what is accused with what is known and draws the conclusion. `isCounted`: it is known
  // now how many are silent.
  #judge(name: NodeName, now: number, effects: RosterEffect[], isCounted = false): void {
    const member = this.#members.get(name);
    if (member === undefined || member.status === "down") return;
    // The next life of it is linked with us, and its record will soon say so.
    if (this.#isFormerLife(name)) return;
    const { accusers, isRefused, isForgotten } = this.#accusersOf(member);
    if (accusers === 0) {
      if (member.status !== "unreachable") return;
      this.#members.setStatus(member, "alive");
      this.#brake.answered(now);
      if (this.#untold.has(member)) return;
      effects.push({ type: "emit", change: { type: "nodeUp", node: name } });
      return;
    }
    if (member.status === "alive") {
      this.#members.setStatus(member, "unreachable");
      member.since = now;
      if (!this.#untold.has(member)) {
        effects.push({ type: "emit", change: { type: "nodeUnreachable", node: name } });
      }
    }
    // Reachable members besides the accused, ourselves among them.
    const reachable = 1 + this.#members.alive;
    if (accusers < Math.min(2, reachable)) return;
    if (!isRefused && !isForgotten && this.#brake.concerns(this.#members)) {
      if (!isCounted || this.#brake.holds(member, now)) return;
    }
    this.#down(member, isForgotten ? "forgotten" : "unreachable", now, effects);
  }

  #accusersOf(member: Member): Tally {
    return this.#accusations.tally(member, this.#isVoter);
  }

  // The dead do not vote.
  readonly #isVoter = (key: string): boolean =>
    key === this.#selfKey || this.#members.isStanding(key);

  // How many of those that count as alive are suspected.
  #suspected(): number {
    let count = 0;
    for (const name of this.#accusations.targets()) {
      const member = this.#members.get(name);
      if (member?.status === "alive" && this.#accusersOf(member).isSuspected) count++;
    }
    return count;
  }

  #down(member: MemberState, reason: DownReason, now: number, effects: RosterEffect[]): void {
    if (member.status === "down") return;
    this.#members.setStatus(member, "down");
    member.since = now;
    member.downReason = reason;
    this.#watches.delete(member.name);
    // A copy: the state goes on to the next life.
    effects.push({ type: "retire", member: { ...member } });
    // It was down before we had said that it is there.
    if (this.#untold.delete(member)) return;
    effects.push({ type: "emit", change: { type: "nodeDown", node: member.name, reason } });
  }

  // Whether what we know of a member is of a life before the one that we have a link with.
  #isFormerLife(name: NodeName): boolean {
    const known = this.#members.get(name);
    return known !== undefined && known.epoch < (this.#linked.get(name) ?? 0);
  }

  // Says that a member is there, if that has been held back.
  #tell(member: MemberState | undefined, effects: RosterEffect[]): void {
    if (member === undefined || !this.#untold.delete(member)) return;
    const { name: node, status } = member;
    effects.push({ type: "emit", change: { type: "nodeUp", node } });
    if (status === "unreachable") {
      effects.push({ type: "emit", change: { type: "nodeUnreachable", node } });
    }
  }

  #returned(peer: PeerIdentity, now: number, effects: RosterEffect[]): void {
    const member = this.#members.get(peer.name);
    if (member === undefined || member.epoch !== peer.epoch || member.status === "alive") return;
    if (member.status === "down" && member.downReason !== "unreachable") return;
    // All meet somebody of the other side at once when a cut heals: a few bridges are enough.
    const isCut = this.#brake.seesCut &&
      randomFraction(this.#options.random) * this.#brake.standing < 1;
    this.#brake.answered(now);
    effects.push({ type: "returned", member: { ...member }, isCut });
  }

  #revive(member: MemberState, now: number, effects: RosterEffect[]): void {
    this.#members.setStatus(member, "alive");
    this.#brake.answered(now);
    effects.push({ type: "restore", member: { ...member } });
    effects.push({ type: "emit", change: { type: "nodeUp", node: member.name } });
  }

  #watch(name: NodeName, now: number): Watch {
    let watch = this.#watches.get(name);
    if (watch === undefined) {
      watch = { lastHeard: now, suspectedAt: undefined, probedAt: -Infinity, refused: false };
      this.#watches.set(name, watch);
    }
    return watch;
  }

  // It lives. Who is no neighbour need not be watched any longer.
  #cleared(name: NodeName, now: number): void {
    const watch = this.#watches.get(name);
    if (watch === undefined) return;
    watch.lastHeard = now;
    watch.suspectedAt = undefined;
    watch.refused = false;
    if (!this.#neighbours.has(name)) this.#watches.delete(name);
  }
}
