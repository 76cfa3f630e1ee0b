import { encodeHex } from "@std/encoding/hex";
import type { Bytes } from "../base/bytes.ts";
import type { NodeName } from "../wire/node_name.ts";
import type { DownReason, MemberStatus } from "./roster.ts";

/** What the roster keeps of one member. */
export interface MemberState {
  readonly name: NodeName;
  publicKey: Bytes;
  epoch: number;
  incarnation: number;
  addresses: readonly string[];
  ephemeral: boolean;
  /** Changed by {@link MemberTable.setStatus} only. */
  status: MemberStatus;
  /** When it became unreachable, or down. */
  since: number;
  downReason: DownReason | undefined;
}

/**
 * The members by name and by key, with those that are not alive set apart: in a large cluster they
 * are few, and all that a verdict has to look at.
 */
export class MemberTable {
  readonly #byName = new Map<NodeName, MemberState>();
  readonly #byKey = new Map<string, MemberState>();
  readonly #notAlive = new Set<MemberState>();

  get size(): number {
    return this.#byName.size;
  }

  /** How many are alive. */
  get alive(): number {
    return this.#byName.size - this.#notAlive.size;
  }

  /** Those that are unreachable or down. */
  get notAlive(): ReadonlySet<MemberState> {
    return this.#notAlive;
  }

  get(name: NodeName): MemberState | undefined {
    return this.#byName.get(name);
  }

  /** Whether a key, in hexadecimal, is that of a member which is not down. */
  isStanding(key: string): boolean {
    const member = this.#byKey.get(key);
    return member !== undefined && member.status !== "down";
  }

  all(): IterableIterator<MemberState> {
    return this.#byName.values();
  }

  add(member: MemberState): void {
    this.#byName.set(member.name, member);
    this.#byKey.set(encodeHex(member.publicKey), member);
    this.setStatus(member, member.status);
  }

  delete(member: MemberState): void {
    this.#byName.delete(member.name);
    this.#notAlive.delete(member);
    this.#forgetKey(member);
  }

  setStatus(member: MemberState, status: MemberStatus): void {
    member.status = status;
    if (status === "alive") this.#notAlive.delete(member);
    else this.#notAlive.add(member);
  }

  /** Its next life may have another key. */
  setKey(member: MemberState, publicKey: Bytes): void {
    this.#forgetKey(member);
    member.publicKey = publicKey;
    this.#byKey.set(encodeHex(publicKey), member);
  }

  #forgetKey(member: MemberState): void {
    const key = encodeHex(member.publicKey);
    if (this.#byKey.get(key) === member) this.#byKey.delete(key);
  }
}
