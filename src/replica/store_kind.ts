/**
 * What a store's name says of it to every node, also to one that never opened it.
 *
 * - `own`: rows about their author, such as names and addresses; a new life of the author replaces
 *   all that the last one wrote.
 * - `kept`: shared rows that outlive their author, such as the entries of a map.
 * - `live`: shared rows that are hidden and go when the life that wrote them is declared over.
 */
export type StoreKind = "own" | "kept" | "live";

/** The kind of the store with this name. */
export function kindOf(name: string): StoreKind {
  if (name.startsWith("kept/")) return "kept";
  return name.startsWith("live/") ? "live" : "own";
}

/** The name of a shared store: `use` keeps the maps apart from what users merge themselves. */
export function sharedName(kind: "kept" | "live", use: string, name: string): string {
  return `${kind}/${use}/${name}`;
}
