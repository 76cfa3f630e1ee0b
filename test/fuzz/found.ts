/** Seeds of `npm run fuzz` that once found something: every run repeats them. */
export const FOUND: readonly { readonly seed: number; readonly frames: number; what: string }[] = [
  { seed: 1, frames: 500, what: "an EXIT of a member ended the process that answers calls" },
];
