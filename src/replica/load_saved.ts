/**
 * What a store takes up from the disk, and what becomes of rows that do not add up to their head
 * there: a disk was damaged, since rows and heads reach it together.
 *
 * What is left of such a life is shown, and stays on the disk, until its own signed word comes from
 * others, no older than what is left. Nobody signed what is left, so it is not passed on: to sign it,
 * where it is ours, would take from others what they have and we lost. Our life is over then, since
 * others may know more of it than we do. So each row stays the row that it was, whoever replaced or
 * deleted it meanwhile, and nothing comes back.
 */
import { equalBytes } from "../base/bytes.ts";
import type { Bytes } from "../base/bytes.ts";
import type { PatientWrite } from "../storage/patient_writer.ts";
import { isUnsigned, unsignedHead } from "./head.ts";
import type { Put } from "./origin_rows.ts";
import { erased, erasedRows, savedAgain, savedMove, wholeDelta } from "./saved_rows.ts";
import type { Saved, SavedOrigin } from "./saved_rows.ts";
import type { LeftLife, StoreState } from "./store_state.ts";

/** What was found damaged, and was not known to be. */
export interface Damage {
  /** Lives of ours, and what is left of their rows. */
  readonly own: { lives: number; left: number };
  /** Lives of others, and what is left of theirs. */
  readonly others: { lives: number; left: number };
  /** Entries that cannot be read. */
  readonly strays: number;
}

/** A life of which something is left. */
export interface Left {
  readonly life: LeftLife;
  readonly puts: readonly Put[];
}

/** What came of {@link loadSaved}. */
export interface Loaded {
  /** What the disk is to do. */
  readonly writes: readonly PatientWrite[];
  /** Undefined when all adds up. */
  readonly damage: Damage | undefined;
  /** For {@link StoreState.loadLeft}, once the store goes on as another life. */
  readonly left: readonly Left[];
}

/** Takes up what is right of what was saved. `publicKey` is ours. */
export function loadSaved(state: StoreState, saved: Saved, publicKey: Bytes): Loaded {
  const { origin: ownOrigin } = state.self;
  const writes: PatientWrite[] = [...saved.strays];
  const own = { lives: 0, left: 0 };
  const others = { lives: 0, left: 0 };
  const left: Left[] = [];
  for (const one of saved.origins) {
    const { origin, head, puts, unproven } = one;
    const isNamed = head !== undefined && state.originOf(head.author, head.epoch) === origin;
    if (isNamed && state.load(wholeDelta(head, puts))) {
      // The head speaks for them.
      writes.push(...savedAgain(state.name, origin, unproven));
      continue;
    }
    const found = origin === ownOrigin || (isNamed && equalBytes(head.author, publicKey))
      ? own
      : others;
    if (state.kind !== "kept" || (!isNamed && origin !== ownOrigin)) {
      found.lives++;
      writes.push(...erased(state.name, one));
      continue;
    }
    const epoch = isNamed ? head.epoch : state.self.epoch;
    const author = isNamed ? head.author : publicKey;
    const kept = keptOf(one, { author, epoch });
    const isKnown = isNamed && isUnsigned(head);
    if (!isKnown) {
      found.lives++;
      found.left += kept.puts.length;
    }
    if (kept.puts.length === 0) {
      writes.push(...erased(state.name, one));
      continue;
    }
    left.push(kept);
    const keeps = new Set(kept.puts);
    writes.push(...erasedRows(state.name, origin, puts.filter((put) => !keeps.has(put))));
    // So that the next start knows whose they are, and that this was told.
    if (!isKnown) writes.push(...savedMove(state.name, origin, unsignedHead(kept.life), NOTHING));
  }
  const strays = saved.strays.length;
  const isDamaged = own.lives + others.lives + strays > 0;
  return { writes, left, damage: isDamaged ? { own, others, strays } : undefined };
}

const NOTHING = { gone: [], added: [] };

// Of rows that nothing speaks for any may be the wrong one.
function keptOf(
  { head, puts, unproven }: SavedOrigin,
  life: { readonly author: Bytes; readonly epoch: number },
): Left {
  const byKey = new Map<string, Put>();
  for (const put of puts) if (!unproven.has(put)) byKey.set(put.key, put);
  const kept = [...byKey.values()].sort((a, b) => a.seq - b.seq);
  return { life: { ...life, seq: Math.max(head?.seq ?? 0, kept.at(-1)?.seq ?? 0) }, puts: kept };
}
