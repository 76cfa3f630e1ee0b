/** What `kill_program.ts` does to its map, change by change. */

/** The key that holds the number of the last change. */
export const LAST = "last";
const KEYS = 7;

/** What change `i`, from 1 on, does beside setting {@link LAST}. */
export function changeOf(i: number): { readonly key: string; readonly isDeleted: boolean } {
  return { key: `key ${i % KEYS}`, isDeleted: i % 4 === 0 };
}

/** The map after `count` changes. */
export function mapAfter(count: number): Record<string, number> {
  const map: Record<string, number> = count > 0 ? { [LAST]: count } : {};
  for (let i = Math.max(1, count - KEYS + 1); i <= count; i++) {
    const { key, isDeleted } = changeOf(i);
    if (!isDeleted) map[key] = i;
  }
  return map;
}
