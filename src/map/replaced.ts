/**
 * What is known to be replaced, by key and origin: until the origin's own word says that it is
 * gone, also when the row that replaced it goes first and before the replaced row has come; and for
 * a while longer, so that the next write still tells those whose copy of the origin is behind.
 */
import type { Bytes } from "../base/bytes.ts";
import { ORIGIN_BYTES, originBytes, toOrigin } from "../replica/head.ts";
import type { OriginId } from "../replica/head.ts";
import { ByteWriter } from "../wire/byte_writer.ts";
import { ByteReader } from "../wire/varint.ts";

/** An origin's rows of a key up to `seq` are replaced, whoever still holds them. */
export interface Replaced {
  readonly key: string;
  readonly origin: OriginId;
  readonly seq: number;
}

/** What is remembered in all; beyond, it may be seen again until its origin's word comes. */
const MAX_REPLACED = 65_536;
/** What is remembered because of what one replica wrote, and nobody has confirmed. */
const MAX_PER_AUTHOR = 8_192;
/** How long after the origin's word it is told on, in milliseconds. */
const GRACE_MS = 600_000;

interface Known {
  readonly seq: number;
  /** Whose row said so first; undefined once it is confirmed, and for what the disk held. */
  author: OriginId | undefined;
  /** When the origin's word was first known here, by our wall clock. */
  settledAt: number | undefined;
}

/** All of it, of one map. */
export class ReplacedDots {
  readonly #keys = new Map<string, Map<OriginId, Known>>();
  readonly #authored = new Map<OriginId, number>();
  /** What was settled when it was last looked at, by when that began: the first goes for room. */
  readonly #settled = new Map<Known, Pick<Replaced, "key" | "origin">>();
  #count = 0;

  /** Notes what a row of `author` says: `"more"` than of that origin before, `"full"` when there is no room. */
  add({ key, origin, seq }: Replaced, author?: OriginId): "new" | "more" | "known" | "full" {
    const origins = this.#keys.get(key) ?? new Map<OriginId, Known>();
    const known = origins.get(origin);
    if (known !== undefined && known.seq >= seq) return "known";
    if (known === undefined) {
      if (this.#count >= MAX_REPLACED) return "full";
      const authored = author === undefined ? 0 : this.#authored.get(author) ?? 0;
      if (authored >= MAX_PER_AUTHOR) return "full";
      if (author !== undefined) this.#authored.set(author, authored + 1);
      this.#count++;
    }
    const by = known === undefined ? author : known.author;
    if (known !== undefined) this.#settled.delete(known);
    this.#keys.set(key, origins.set(origin, { seq, author: by, settledAt: undefined }));
    return known === undefined ? "new" : "more";
  }

  /** The last replaced dot of an origin under a key; 0 without one. */
  seqOf(key: string, origin: OriginId): number {
    return this.#keys.get(key)?.get(origin)?.seq ?? 0;
  }

  /** All under a key. */
  *of(key: string): IterableIterator<readonly [OriginId, number]> {
    for (const [origin, { seq }] of this.#keys.get(key) ?? []) yield [origin, seq];
  }

  /** The keys that there is something of. */
  keys(): IterableIterator<string> {
    return this.#keys.keys();
  }

  /** How many keys there is something of. */
  get size(): number {
    return this.#keys.size;
  }

  /** Forgets what has been settled for long enough; returns whose it was. */
  settle(
    key: string,
    wallMs: number,
    isSettled: (origin: OriginId, seq: number) => boolean,
  ): OriginId[] {
    const forgotten: OriginId[] = [];
    const origins = this.#keys.get(key);
    if (origins === undefined) return forgotten;
    for (const [origin, known] of origins) {
      if (!isSettled(origin, known.seq)) {
        known.settledAt = undefined;
        this.#settled.delete(known);
        continue;
      }
      if (known.settledAt === undefined) {
        known.settledAt = wallMs;
        this.#settled.set(known, { key, origin });
        // It was true: nobody's allowance is used up by that.
        this.#unauthor(known);
      }
      if (wallMs - known.settledAt < GRACE_MS) continue;
      this.forget(key, origin);
      forgotten.push(origin);
    }
    return forgotten;
  }

  /**
   * Forgets, where there is no more room in all, what has been settled for longest; returns what that
   * was.
   */
  makeRoom(): Pick<Replaced, "key" | "origin"> | undefined {
    if (this.#count < MAX_REPLACED) return undefined;
    for (const oldest of this.#settled.values()) {
      this.forget(oldest.key, oldest.origin);
      return oldest;
    }
    return undefined;
  }

  /** Forgets what is known of an origin under a key. */
  forget(key: string, origin: OriginId): void {
    const origins = this.#keys.get(key);
    const known = origins?.get(origin);
    if (origins === undefined || known === undefined) return;
    origins.delete(origin);
    if (origins.size === 0) this.#keys.delete(key);
    this.#count--;
    this.#settled.delete(known);
    this.#unauthor(known);
  }

  #unauthor(known: Known): void {
    const { author } = known;
    if (author === undefined) return;
    known.author = undefined;
    const left = (this.#authored.get(author) as number) - 1;
    if (left === 0) this.#authored.delete(author);
    else this.#authored.set(author, left);
  }
}

/** One as an entry on disk, `<origin>/<key>`; without a value when nothing is to be remembered. */
export function saveReplaced(
  { key, origin, seq }: Replaced,
): { readonly key: string; readonly value: Bytes | undefined } {
  const writer = new ByteWriter();
  writer.raw(originBytes(origin));
  writer.varint(seq);
  const hex = Array.from(originBytes(origin), (byte) => byte.toString(16).padStart(2, "0"));
  return { key: `${hex.join("")}/${key}`, value: seq === 0 ? undefined : writer.finish() };
}

/** Reads {@link saveReplaced}; undefined when it is none. */
export function readReplaced(key: string, value: Bytes): Replaced | undefined {
  try {
    const reader = new ByteReader(value);
    const origin = toOrigin(reader.take(ORIGIN_BYTES));
    return { key: key.slice(2 * ORIGIN_BYTES + 1), origin, seq: reader.varint() };
  } catch {
    return undefined;
  }
}
