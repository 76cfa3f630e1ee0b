/**
 * What a replicated store may hold and a peer may send. All are cluster-wide: a delta that breaks
 * one is refused by every node alike, so no two nodes differ about an author for ever.
 */

/** A key, in UTF-8 bytes. */
export const MAX_KEY_BYTES: number = 512;
/** A value, in bytes. */
export const MAX_VALUE_BYTES: number = 8 * 1024;
/** A store's name, in UTF-8 bytes. */
export const MAX_STORE_NAME_BYTES: number = 96;
/** Live rows of one author in one store. The strength of `SetHash` is computed for this cap. */
export const MAX_ROWS_PER_ORIGIN: number = 65_536;
/** Keys, values and {@link ROW_OVERHEAD_BYTES} of one author's rows in one store. */
export const MAX_ORIGIN_BYTES: number = 16 << 20;
/** What a row costs beside its key and value, for {@link MAX_ORIGIN_BYTES}. */
export const ROW_OVERHEAD_BYTES: number = 32;
/** The most that one row counts. */
export const MAX_ROW_BYTES: number = MAX_KEY_BYTES + MAX_VALUE_BYTES + ROW_OVERHEAD_BYTES;
/** Authors in one store. */
export const MAX_ORIGINS: number = 16_384;
/**
 * Of those, the ones that no member is known to be: who makes keys up must leave room for those who
 * are there. Nodes that learn of members in another order may differ about strangers for a while.
 */
export const MAX_STRANGERS: number = MAX_ORIGINS / 2;
/** Rows put, or dots removed or kept, in one message. */
export const MAX_OPS: number = 4096;
/** What the rows of one batch of writes, and of one data message, count: fits a frame. */
export const MAX_BATCH_BYTES: number = 40 * 1024;
/** Stores of rows about their authors: the roster, the registry, and room for later versions. */
export const MAX_OWN_STORES: number = 8;
/** Shared stores, such as maps, that are open on one node. */
export const MAX_OPEN_STORES: number = 32;
/** Shared stores that only others opened and that one node passes on. */
export const MAX_RELAYED_STORES: number = 32;
/** Stores on one node. */
export const MAX_STORES: number = MAX_OWN_STORES + MAX_OPEN_STORES + MAX_RELAYED_STORES;
/** Rows that are held for others only, in all such stores, in bytes. */
export const MAX_RELAYED_BYTES: number = 64 << 20;
/** Origins in one VECTOR. */
export const MAX_VECTOR: number = 1024;
/** Origins in one PULL. */
export const MAX_PULL: number = 512;
/** Buckets that the origins of a store fall into. */
export const BUCKETS: number = 64;
/** One data message or broadcast, in bytes: a batch, its head and its dots. */
export const MAX_MESSAGE_BYTES: number = 128 * 1024;
/** Deltas of one origin that wait for an earlier one. */
export const MAX_GAPS_PER_ORIGIN: number = 16;
/** Rows of deltas that wait for an earlier one, in one store, in bytes. */
export const MAX_GAP_BYTES: number = 4 << 20;
/** Rows that wait for a signature to be verified, in bytes, beside the first that waits. */
export const MAX_VERIFYING_BYTES: number = 32 << 20;
/** Heads whose signatures are being verified at once. */
export const MAX_VERIFYING: number = 1024;
